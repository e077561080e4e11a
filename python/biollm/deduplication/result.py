"""What `dedup` gives: clusters, the keep mask, and why."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from biollm.filtering import RowDecisions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from biollm.documents import Documents
    from biollm.manifest import Manifest
    from biollm.results import Summary

__all__ = ["Decision", "DedupResult", "Link", "RemovedPair"]


@dataclass(frozen=True)
class Link:
    """A verified pair on the way from a document to the one kept for it: the next `row`, its `id`, and `jaccard`, the
    similarity of the two (`None` of documents of one URL, whose texts are not compared).
    """

    row: int
    id: str
    jaccard: float | None


@dataclass(frozen=True)
class Decision:
    """Why one document stays or goes.

    Attributes:
        row, id: of the document.
        keep: whether it stays.
        cluster_id: smallest row of its cluster. cluster_size: documents in it.
        representative: row kept for it.
        links: verified pairs from the document to its representative, fewest first found; empty where it is kept.
        method: of the deduplication.
    """

    row: int
    id: str
    keep: bool
    cluster_id: int
    cluster_size: int
    representative: int
    links: tuple[Link, ...]
    method: str = "fuzzy"

    def __str__(self) -> str:
        if self.keep:
            others = f"for {self.cluster_size} alike" if self.cluster_size > 1 else "nothing like it"
            return f"row {self.row}, id {self.id}: kept, {others}"
        way = ", ".join(map(self._words, self.links))
        return f"row {self.row}, id {self.id}: {way}, which is kept"

    def _words(self, link: Link) -> str:
        other = f"row {link.row}, id {link.id}"
        if self.method == "fuzzy":
            return f"like {other} (Jaccard {link.jaccard:.4g})"
        return f"of the same {'URL' if self.method == 'url' else 'text'} as {other}"


@dataclass(frozen=True)
class RemovedPair:
    """A removed document beside the one it was found to be like, from where they differ; kept to be shown."""

    title: str
    text: str


@dataclass(frozen=True, eq=False, repr=False)
class DedupResult(RowDecisions):
    """The clusters of n documents, in source order.

    Attributes:
        ids: large_string, (n,).
        cluster_id: int64, (n,): the smallest row of each document's cluster; its own where it is alone.
        representative: int64, (n,): the row kept for it.
        sources: the documents' `source` column where they have one, (n,).
        histogram: candidates by Jaccard similarity, 20 bins of 0.05 (the last with 1.0); empty but for `fuzzy`.
            Documents whose shingle set an earlier one has are not among them, nor candidates that a bound shows to be
            below the threshold.
        removed: a few removed documents beside what they are like.
        manifest: of the run.
    """

    ids: pa.ChunkedArray
    cluster_id: npt.NDArray[np.int64]
    representative: npt.NDArray[np.int64]
    sources: pa.ChunkedArray | None
    histogram: tuple[int, ...]
    removed: tuple[RemovedPair, ...]
    manifest: Manifest
    _pairs: pa.Table
    _source: Any = field(default=None)
    _open_documents: Callable[[Any], Documents] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.cluster_id)

    def __repr__(self) -> str:
        kept, clusters = (self.manifest.counts[name] for name in ("documents_kept", "clusters"))
        return f"DedupResult({kept:,} of {len(self):,} documents kept, {clusters:,} clusters)"

    @property
    def method(self) -> str:
        """What made two documents duplicates."""
        return str(self.manifest.options.get("method", "fuzzy"))

    @cached_property
    def keep_mask(self) -> npt.NDArray[np.bool_]:
        """Whether each document stays; bool, (n,)."""
        import numpy as np

        mask: npt.NDArray[np.bool_] = self.representative == np.arange(len(self))
        return mask

    def pairs(self) -> pa.Table:
        """The verified pairs that made the clusters: `a`, `b` (int64 rows, a < b), `jaccard` (float64), by (a, b).

        They are a document whose shingle set an earlier one has, with the first of these (1.0), and the candidates at
        or above the threshold. Not all such pairs are here: what LSH did not bring together, and pairs whose documents
        were joined already by others when their turn came. They connect every cluster.

        Of `exact` and `url` they are each document with the first of its cluster; `jaccard` is 1.0 for equal texts, and
        null for equal URLs.
        """
        return self._pairs

    def why(self, row_or_id: int | str) -> Decision:
        """Why one document stays or goes.

        Args:
            row_or_id: an int is a row, counted from 0; a str is an id.

        Returns:
            The decision; `str()` of it says it in words.

        Raises:
            InputError: there is no such row or id, or several documents have the id.
        """
        row = self._row(row_or_id)
        cluster, kept = int(self.cluster_id[row]), int(self.representative[row])
        return Decision(
            row=row,
            id=self.ids[row].as_py(),
            keep=row == kept,
            cluster_id=cluster,
            cluster_size=int((self.cluster_id == cluster).sum()),
            representative=kept,
            links=self._links(row, kept),
            method=self.method,
        )

    def decisions(self) -> pa.Table:
        """One row a document: `id`, `keep`, `cluster_id`, `representative` (a row), `reason` (null where it stays)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        keep = pa.array(self.keep_mask)
        kept_ids = self.ids.take(pa.array(self.representative))
        words, blank, none = (pa.scalar(value, pa.large_string()) for value in ("duplicate of", " ", None))
        reason = pc.if_else(keep, none, pc.binary_join_element_wise(words, kept_ids, blank))
        columns = {
            "id": self.ids,
            "keep": keep,
            "cluster_id": pa.array(self.cluster_id),
            "representative": pa.array(self.representative),
            "reason": reason,
        }
        return pa.table(columns)

    def summary(self) -> Summary:
        """Counts, cluster sizes, largest clusters, each source's share, similarities, examples of what is removed."""
        from biollm.deduplication.summary import summarize

        return summarize(self)

    def write(self, path: str | os.PathLike[str], /, source: Any = None) -> None:
        """Writes the folder `dedup(..., output=path)` leaves: kept documents with a column `cluster_id`,
        `decisions.parquet`, `summary.json`, and `manifest.json` last.

        Args:
            path: a folder; made where it is missing, and emptied where a verb wrote it.
            source: as in `filter`.

        Raises:
            InputError: as `filter`, or the folder holds other files. FileError: the system refused.
        """
        from biollm.deduplication.folder import write_documents
        from biollm.document_files import begin_folder, blocks, finish_folder

        source = self._source_again(source)
        documents = self._documents(source)
        folder = begin_folder(path, source, verb="dedup")
        outputs = write_documents(self, folder, documents.schema, blocks(documents.reader()))
        finish_folder(self, folder, outputs)

    def _links(self, row: int, kept: int) -> tuple[Link, ...]:
        """A shortest way from `row` to `kept` over verified pairs, which connect their cluster."""
        if row == kept:
            return ()
        import pyarrow as pa

        in_cluster = pa.array(self.cluster_id[self._pairs.column("a").to_numpy()] == self.cluster_id[row])
        neighbours: dict[int, list[tuple[int, float | None]]] = {}
        for pair in self._pairs.filter(in_cluster).to_pylist():
            neighbours.setdefault(pair["a"], []).append((pair["b"], pair["jaccard"]))
            neighbours.setdefault(pair["b"], []).append((pair["a"], pair["jaccard"]))
        came_from: dict[int, tuple[int, float | None]] = {kept: (kept, 1.0)}
        queue = deque([kept])
        while queue and row not in came_from:
            at = queue.popleft()
            for other, jaccard in neighbours.get(at, ()):
                if other not in came_from:
                    came_from[other] = (at, jaccard)
                    queue.append(other)
        links = []
        while row != kept:
            row, jaccard = came_from[row]
            links.append(Link(row, self.ids[row].as_py(), jaccard))
        return tuple(links)
