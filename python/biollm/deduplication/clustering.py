"""From texts to clusters of near-duplicates; with work in progress, what is found out of each group of documents is
kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from biollm import _native
from biollm.columns import large_string, text_chunks, values
from biollm.deduplication.clusters import Clusters
from biollm.deduplication.options import DedupOptions
from biollm.document_files import at_row
from biollm.errors import BiollmError
from biollm.partial import Partial, reporting

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["GROUP_BYTES", "FuzzyClusterer"]

#: Arrow bytes of the texts whose signatures are kept together: what a killed run signs again, at most.
GROUP_BYTES: Final = 128 << 20
#: Signatures are handed back for a multiple of these rows.
_SIGNED_ROWS: Final = 128
_SIGNATURES: Final = "signatures"
_CLUSTERS: Final = "clusters"


@dataclass(frozen=True)
class _Found:
    """What `dedup_fuzzy` gives: buffers, and a count.

    Attributes:
        cluster_id, representative: int64, a row each.
        a, b: int64, a pair each. jaccard: float64, likewise.
        histogram: uint64, 20 bins.
        copies: rows whose shingle set an earlier row has.
    """

    cluster_id: Any
    representative: Any
    a: Any
    b: Any
    jaccard: Any
    histogram: Any
    copies: int

    @property
    def buffers(self) -> tuple[Any, ...]:
        """All but the count."""
        return (self.cluster_id, self.representative, self.a, self.b, self.jaccard, self.histogram)

    def clusters(self) -> Clusters:
        """The same as arrays."""
        import pyarrow as pa

        kinds = {"a": "int64", "b": "int64", "jaccard": "float64"}
        return Clusters(
            cluster_id=values(self.cluster_id, "int64"),
            representative=values(self.representative, "int64"),
            pairs=pa.table({name: pa.array(values(getattr(self, name), kind)) for name, kind in kinds.items()}),
            copies=self.copies,
            histogram=tuple(values(self.histogram, "uint64").tolist()),
        )


class FuzzyClusterer:
    """Takes texts as they come, and gives their clusters.

    Without work in progress all is done at the end, in one call. With it, full groups of documents are signed as they
    come and their signatures kept; so are the clusters, where there was such a group.

    Args:
        options: checked ones.
        partial: work in progress.
        progress: called with documents done and, once they are known, documents in all.
        log: told from where an earlier run is gone on with.
    """

    def __init__(
        self, options: DedupOptions, partial: Partial | None, progress: Progress | None, log: logging.Logger
    ) -> None:
        self._options = options
        self._partial = partial
        self._progress = progress
        self._found: _Found | None = None
        self._signatures: list[Any] = []
        self._signed = 0
        self._came = 0
        self._waiting: list[pa.Array] = []
        self._waiting_bytes = 0
        if partial is not None and partial.resumed:
            self._take_up(partial)
            partial.resume(self._signed, "documents", log)

    def add(self, block: pa.Table) -> None:
        """Takes a `block` of the next documents.

        Raises:
            LimitError: a document is too long (`row`).
        """
        if self._partial is None:
            return
        texts = block.column("text")
        signed = min(len(texts), max(0, self._signed - self._came))
        self._came += len(texts)
        for chunk in large_string(texts).slice(signed).chunks:
            self._waiting.append(chunk)
            self._waiting_bytes += chunk.nbytes
        if self._waiting_bytes >= GROUP_BYTES:
            self._sign(self._partial)

    def clusters(self, texts: pa.ChunkedArray) -> Clusters:
        """The clusters of all `texts`, which are those that were added.

        Raises:
            LimitError: as `add`.
        """
        return (self._found or self._find(texts)).clusters()

    def _find(self, texts: pa.ChunkedArray) -> _Found:
        options = self._options
        found = _Found(
            *_native.dedup_fuzzy(
                text_chunks(texts),
                threshold=options.threshold,
                keep=options.keep,
                signatures=self._signatures,
                progress=None if self._partial is None and self._progress is None else self._report,
                **self._signing(),
            )
        )
        if self._partial is not None and self._signatures:
            self._partial.keep(_CLUSTERS, found.buffers, copies=found.copies, rows=len(texts))
        return found

    def _sign(self, partial: Partial) -> None:
        """Signs as many of the waiting texts as can be handed back."""
        import pyarrow as pa

        waiting = pa.chunked_array(self._waiting, type=pa.large_string())
        rows = len(waiting) - len(waiting) % _SIGNED_ROWS
        if not rows:
            return
        halved = None if self._progress is None else _Halved(self._progress)
        try:
            signatures = _native.dedup_signatures(
                text_chunks(waiting.slice(0, rows)),
                progress=reporting(partial, halved, self._signed),
                **self._signing(),
            )
        except BiollmError as error:
            raise at_row(error, self._signed) from None
        partial.keep(f"{_SIGNATURES}-{len(self._signatures):05}", [signatures], first_row=self._signed, rows=rows)
        self._signatures.append(signatures)
        self._signed += rows
        self._waiting = waiting.slice(rows).chunks
        self._waiting_bytes = sum(chunk.nbytes for chunk in self._waiting)

    def _signing(self) -> dict[str, Any]:
        """The options that both native calls take."""
        options = self._options
        return {
            "unit": options.unit,
            "ngram": options.words_in_shingle,
            "num_perm": options.num_perm,
            "bands": options.bands,
            "seed": options.seed,
            "max_document_bytes": options.max_document_bytes,
            "threads": options.threads,
        }

    def _report(self, done: int, total: int | None) -> None:
        """Progress of the last call, which counts two units a document: for its signature and its verification."""
        if self._partial is not None and total is not None:
            self._partial.reached(min(done, total // 2))
        if self._progress is not None:
            _Halved(self._progress)(done, total)

    def _take_up(self, partial: Partial) -> None:
        """What an earlier run has found out."""
        if (piece := partial.kept(_CLUSTERS)) is not None:
            cluster_id, representative, a, b, jaccard, histogram = piece.parts
            self._found = _Found(cluster_id, representative, a, b, jaccard, histogram, piece.facts["copies"])
            self._signed = piece.facts["rows"]
            return
        for piece in partial.kept_run(_SIGNATURES):
            if piece.facts["first_row"] != self._signed:
                break
            self._signatures.append(piece.parts[0])
            self._signed += piece.facts["rows"]


@dataclass(frozen=True)
class _Halved:
    """Reports half of what is done, for what counts two units a document."""

    progress: Progress

    def __call__(self, done: int, total: int | None, /) -> None:
        self.progress(done // 2, total // 2 if total is not None else None)
