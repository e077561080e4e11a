"""`Classifier`: a classifier's checkpoint ready to tell the classes of texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from biollm.errors import ConfigError, InputError, require
from biollm.inference.llm import OnDisk, folder_of, place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Classification", "Classifier"]

BATCH_ROWS: Final = 32


@dataclass(frozen=True)
class Classification:
    """The class of one text.

    Attributes:
        label: of the likeliest class.
        probabilities: label → probability, in the order of the checkpoint's classes; they sum to 1.
        truncated: whether only the beginning of the text was looked at, as much as the context holds.
    """

    label: str
    probabilities: dict[str, float]
    truncated: bool


class Classifier:
    """A classifier's checkpoint, loaded to be asked.

    Args:
        path: a folder that `train` made with objective "classify", what it returned, or a `transformers` folder of
            `LlamaForSequenceClassification` or the like.
        device: "cpu", "cuda", "cuda:1", …; "auto" is cuda where there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16" or "float64"; "auto" is bfloat16 on cuda, float32 on the CPU.

    Attributes:
        path, device, dtype: as given, "auto" decided.
        model: the `LlamaClassifier`, in evaluation mode.
        labels: names of the classes.
        tokenizer: of the folder.

    Raises:
        MissingExtra: torch or safetensors is not installed.
        ConfigError: it is no classifier; its tokenizer names no EOS token; a device or dtype that is not there.
        FileError, FormatError: as `models.load_classifier`, and for the tokenizer.
    """

    def __init__(self, path: str | os.PathLike[str] | OnDisk, *, device: str = "auto", dtype: str = "auto") -> None:
        require("torch", extra="train")
        require("safetensors", extra="train")
        from biollm.models.classifier import load_classifier
        from biollm.tokenization import Tokenizer

        self.path = folder_of(path)
        self.device, self.dtype = place(device, dtype)
        self.model = load_classifier(self.path, device=self.device, dtype=self.dtype).requires_grad_(False).eval()
        self.labels = self.model.labels
        self.tokenizer = Tokenizer.from_file(self.path)
        if self.tokenizer.eos_id is None:
            message = "the tokenizer names no EOS token, which each text ends with"
            raise ConfigError(message, path=self.path / "tokenizer_config.json", field="eos_token")

    def classify(self, texts: str | Sequence[str]) -> list[Classification]:
        """The class of each text.

        Texts are batched by length; in fp32 the class of a text does not depend on what it is batched with.

        Args:
            texts: one or several; a longer one than the context is cut at its end.

        Returns:
            One a text, in the order given.

        Raises:
            TypeError: a text is not a str.
            InputError: a text is empty, or no valid Unicode.
        """
        given = [texts] if isinstance(texts, str) else list(texts)
        for row, text in enumerate(given):
            if not isinstance(text, str):
                raise TypeError(f"text {row} is {type(text).__name__}, not str")
            if not text.strip():
                raise InputError(f"text {row} is empty: it has no class", row=row, field="texts")
        encoded = list(self.tokenizer.encode_batch(given, add_special=False)) if given else []
        shortest_first = sorted(range(len(given)), key=lambda row: len(encoded[row]))
        found: dict[int, Classification] = {}
        for begin in range(0, len(given), BATCH_ROWS):
            batch = shortest_first[begin : begin + BATCH_ROWS]
            rows = [encoded[row][: self.model.config.max_seq_len - 1] for row in batch]
            for row, ids, shares in zip(batch, rows, self._probabilities(rows), strict=True):
                by_label = {label: float(share) for label, share in zip(self.labels, shares, strict=True)}
                best = max(by_label, key=by_label.__getitem__)
                found[row] = Classification(best, by_label, truncated=len(ids) < len(encoded[row]))
        return [found[row] for row in range(len(given))]

    def _probabilities(self, rows: Sequence[NDArray[np.uint32]]) -> Any:
        """(rows, classes) of texts by their ids, padded on the right, which a causal model does not see."""
        import torch

        lengths = torch.tensor([len(ids) for ids in rows])  # the place of the EOS of each
        tokens = torch.full((len(rows), int(lengths.max()) + 1), self.tokenizer.eos_id or 0)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = torch.tensor(ids.tolist())
        with torch.no_grad():
            logits = self.model(tokens.to(self.device))[torch.arange(len(rows)), lengths.to(self.device)]
        return logits.float().softmax(-1).cpu().numpy()

    def __repr__(self) -> str:
        return f"Classifier({str(self.path)!r}, labels={list(self.labels)!r})"
