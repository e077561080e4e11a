"""What every method finds: which documents go together, and the pairs that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from biollm.deduplication.cutting import Spans

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from biollm.deduplication.options import DedupOptions
    from biollm.results import Progress

__all__ = ["AtOnce", "Clusterer", "Clusters"]


@dataclass(frozen=True)
class Clusters:
    """The clusters of n documents.

    Attributes:
        cluster_id: int64, (n,): the smallest row of each document's cluster.
        representative: int64, (n,): the row kept for it.
        pairs: `a`, `b` (int64 rows, a < b), `jaccard` (float64; null where it was not looked at), by (a, b).
        copies: rows whose key (shingle set, text, URL) an earlier row has.
        histogram: candidates by similarity, where there are any.
        spans: what is to be cut, where the method looks at pieces of documents. pieces: those that it has looked at.
    """

    cluster_id: npt.NDArray[np.int64]
    representative: npt.NDArray[np.int64]
    pairs: pa.Table
    copies: int
    histogram: tuple[int, ...] = ()
    spans: Spans | None = None
    pieces: int = 0


class AtOnce:
    """What a `Clusterer` that looks at no document before all are there begins with.

    Args:
        options: checked ones.
        progress: called with documents done and documents in all.
    """

    def __init__(self, options: DedupOptions, progress: Progress | None) -> None:
        self._options = options
        self._progress = progress

    def add(self, block: pa.Table) -> None:
        """Nothing is to be done before all are there (`block` is not looked at)."""


class Clusterer(Protocol):
    """A method at work: takes documents as they come, and gives their clusters."""

    def add(self, block: pa.Table) -> None:
        """Takes a `block` of the next documents, with all their columns."""

    def clusters(self, texts: pa.ChunkedArray) -> Clusters:
        """The clusters of all `texts`, which are those of the blocks that were added."""
