"""From texts to the lines, paragraphs or sentences that an earlier document has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biollm import _native
from biollm.columns import text_chunks, values
from biollm.deduplication.clusters import AtOnce, Clusters
from biollm.deduplication.cutting import Spans

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PieceFinder"]


class PieceFinder(AtOnce):
    """Finds repeated pieces; each document is a cluster of its own. The arguments are those of `AtOnce`."""

    def clusters(self, texts: pa.ChunkedArray) -> Clusters:
        """The spans to be cut from `texts`; a document of which nothing is left has the representative -1.

        Raises:
            LimitError: a document is too long (`row`), or there are too many pieces.
        """
        import numpy as np
        import pyarrow as pa

        documents, progress = len(texts), self._progress

        def of_documents(done: int, total: int | None) -> None:
            if progress is not None:
                progress(documents * done // total if total else 0, documents)

        steps = self._options.steps
        row, start, end, first_row, keep, pieces = _native.dedup_pieces(
            text_chunks(texts),
            unit=self._options.method,
            min_length=self._options.min_length,
            nfc="nfc" in steps,
            case="case" in steps,
            space="space" in steps,
            max_document_bytes=self._options.max_document_bytes,
            threads=self._options.threads,
            progress=None if progress is None else of_documents,
        )
        if progress is not None:
            progress(documents, documents)
        spans = Spans(*(values(column, "int64") for column in (row, start, end, first_row)))
        rows = np.arange(documents)
        none = pa.array([], pa.int64())
        return Clusters(
            cluster_id=rows,
            representative=np.where(values(keep, "uint8") == 1, rows, -1),
            pairs=pa.table({"a": none, "b": none, "jaccard": pa.array([], pa.float64())}),
            copies=0,
            spans=spans,
            pieces=pieces,
        )
