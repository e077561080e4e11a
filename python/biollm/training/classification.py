"""How well a classifier does on documents it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from biollm.results import Scalar, Table
from biollm.training.batches import IGNORED, Stream
from biollm.training.placement import Placement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.training.examples import Sides


@dataclass(frozen=True)
class Scores:
    """``confusion`` (classes, classes): documents of class i that were given class j. ``majority``: the class with the
    most train documents.
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    majority: int

    @property
    def accuracy(self) -> float:
        """Share of the documents that were given their class."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def f1(self) -> NDArray[np.float64]:
        """(classes,) harmonic mean of precision and recall; 0 of a class that no document has or is given."""
        both = self.confusion.sum(0) + self.confusion.sum(1)
        scores: NDArray[np.float64] = 2.0 * np.diag(self.confusion) / np.maximum(both, 1)
        return scores

    def facts(self) -> dict[str, Scalar]:
        """For the summary."""
        of_majority = self.confusion[self.majority].sum() / self.confusion.sum()
        return {
            "accuracy": self.accuracy,
            "macro_f1": float(self.f1.mean()),
            "majority_accuracy": float(of_majority),
            "majority_label": self.labels[self.majority],
        }

    def tables(self) -> tuple[Table, ...]:
        """By class, and which is taken for which."""
        given, there = self.confusion.sum(0), self.confusion.sum(1)
        right = np.diag(self.confusion)
        rows: tuple[tuple[Scalar, ...], ...] = tuple(
            (
                label,
                int(there[i]),
                float(right[i] / max(1, given[i])),
                float(right[i] / max(1, there[i])),
                float(self.f1[i]),
            )
            for i, label in enumerate(self.labels)
        )
        confused: tuple[tuple[Scalar, ...], ...] = tuple(
            (label, *map(int, row)) for label, row in zip(self.labels, self.confusion, strict=True)
        )
        return (
            Table("Held-out documents by label", ("label", "documents", "precision", "recall", "F1"), rows),
            Table("Label (row) and what was given (column)", ("label", *self.labels), confused),
        )


@torch.no_grad()
def examine(model: nn.Module, stream: Stream, sides: Sides, *, rows: int, placement: Placement) -> Scores:
    """The classes that a model gives the documents of an ending stream, against those they have."""
    classes = len(sides.labels)
    confusion = np.zeros((classes, classes), np.int64)
    model.eval()
    try:
        for batch in stream.batches(rows):
            arrays = (batch.tokens, batch.positions, batch.document_ids)
            tokens, positions, document_ids = (torch.from_numpy(array).to(placement.device) for array in arrays)
            with placement.precision():
                logits = model(tokens, positions=positions, document_ids=document_ids)  # (rows, seq, classes)
            asked = batch.targets != IGNORED
            given = logits.float().argmax(-1).cpu().numpy()[asked]
            np.add.at(confusion, (batch.targets[asked], given), 1)
    finally:
        model.train()
    assert sides.train.labels is not None
    return Scores(sides.labels, confusion, int(np.bincount(sides.train.labels, minlength=classes).argmax()))
