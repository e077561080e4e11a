"""From texts or URLs to clusters of documents that are the same as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biollm import _native
from biollm.columns import text_chunks, values
from biollm.deduplication.clusters import AtOnce, Clusters
from biollm.deduplication.options import DedupOptions
from biollm.deduplication.urls import url_column

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["ExactClusterer", "UrlClusterer"]


class ExactClusterer(AtOnce):
    """Clusters of equal texts: as they are, or once normalised. The arguments are those of `AtOnce`."""

    def clusters(self, texts: pa.ChunkedArray) -> Clusters:
        """The clusters of all `texts`.

        Raises:
            LimitError: a document is too long (`row`).
        """
        steps = self._options.steps
        found = _native.dedup_exact(
            text_chunks(texts),
            nfc="nfc" in steps,
            case="case" in steps,
            space="space" in steps,
            **_common(self._options, self._progress),
        )
        return _clusters(*found, jaccard=1.0)


class UrlClusterer(AtOnce):
    """Clusters of documents of one URL. The arguments are those of `AtOnce`."""

    def __init__(self, options: DedupOptions, progress: Progress | None) -> None:
        super().__init__(options, progress)
        self._urls: list[pa.Array] = []
        self._rows = 0

    def add(self, block: pa.Table) -> None:
        """Takes the URLs of a `block` of the next documents.

        Raises:
            InputError: there is no such column or field, or it holds something else than text.
        """
        self._urls.extend(url_column(block, self._options.url, first_row=self._rows).chunks)
        self._rows += len(block)

    def clusters(self, texts: pa.ChunkedArray) -> Clusters:
        """The clusters of all documents, whose `texts` say which is longest.

        Raises:
            LimitError: a document or URL is too long (`row`).
        """
        import pyarrow as pa

        urls = pa.chunked_array(self._urls, type=pa.large_string())
        options = _common(self._options, self._progress)
        return _clusters(*_native.dedup_url(text_chunks(urls), text_chunks(texts), **options), jaccard=None)


def _common(options: DedupOptions, progress: Progress | None) -> dict[str, Any]:
    """What both native calls take beside their columns."""

    def halved(done: int, total: int | None) -> None:
        if progress is not None:
            progress(done // 2, total // 2 if total is not None else None)

    return {
        "keep": options.keep,
        "max_document_bytes": options.max_document_bytes,
        "threads": options.threads,
        "progress": None if progress is None else halved,
    }


def _clusters(cluster_id: Any, representative: Any, copies: int, *, jaccard: float | None) -> Clusters:
    """Clusters of which each row but the first makes a pair with the first."""
    import numpy as np
    import pyarrow as pa

    cluster = values(cluster_id, "int64")
    b = (cluster != np.arange(len(cluster))).nonzero()[0]
    b = b[np.argsort(cluster[b], kind="stable")]
    columns = {
        "a": pa.array(cluster[b]),
        "b": pa.array(b),
        "jaccard": pa.nulls(len(b), pa.float64()) if jaccard is None else pa.array(np.full(len(b), jaccard)),
    }
    return Clusters(cluster, values(representative, "int64"), pa.table(columns), copies)
