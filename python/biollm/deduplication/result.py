"""What `dedup` gives: clusters, the keep mask, and why."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from biollm.deduplication.cutting import Spans, cut_source
from biollm.deduplication.options import PIECE_METHODS
from biollm.errors import InputError
from biollm.filtering import RowDecisions, filter_rows

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
        representative: row kept for it; -1 where all of it is cut.
        links: verified pairs from the document to its representative, fewest first found; empty where it is kept.
        method: of the deduplication.
        cut: pieces cut from it, by the row that has them first.
    """

    row: int
    id: str
    keep: bool
    cluster_id: int
    cluster_size: int
    representative: int
    links: tuple[Link, ...]
    method: str = "fuzzy"
    cut: Mapping[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.method in PIECE_METHODS:
            return f"row {self.row}, id {self.id}: {'kept' if self.keep else 'nothing is left'}, {self._cut_words()}"
        if self.keep:
            others = f"for {self.cluster_size} alike" if self.cluster_size > 1 else "nothing like it"
            return f"row {self.row}, id {self.id}: kept, {others}"
        way = ", ".join(map(self._words, self.links))
        return f"row {self.row}, id {self.id}: {way}, which is kept"

    def _cut_words(self) -> str:
        if not self.cut:
            return "nothing is cut"
        number = sum(self.cut.values())
        rows = ", ".join(f"{count} that row {row} has" for row, count in self.cut.items())
        return f"{number} {self.method}{'s' if number > 1 else ''} cut: {rows}"

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
        representative: int64, (n,): the row kept for it; -1 of a document of which cutting pieces leaves nothing.
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
    _spans: Spans | None = field(default=None)
    _source: Any = field(default=None)
    _open_documents: Callable[[Any], Documents] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.cluster_id)

    def __repr__(self) -> str:
        counts = self.manifest.counts
        found = f"{counts.get('clusters', 0):,} clusters"
        if self._spans is not None:
            found = f"{len(self._spans):,} {self.method}s cut"
        return f"DedupResult({counts['documents_kept']:,} of {len(self):,} documents kept, {found})"

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
            cut=self._cut_of(row),
        )

    def decisions(self) -> pa.Table:
        """One row a document: `id`, `keep`, `cluster_id`, `representative` (a row), `reason` (null where it stays); of
        methods that cut pieces also `pieces_cut`, before `reason`.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        keep = pa.array(self.keep_mask)
        columns = {
            "id": self.ids,
            "keep": keep,
            "cluster_id": pa.array(self.cluster_id),
            "representative": pa.array(self.representative),
        }
        words, blank, none = (pa.scalar(value, pa.large_string()) for value in ("duplicate of", " ", None))
        if self._spans is not None:
            columns["pieces_cut"] = pa.array(np.bincount(self._spans.row, minlength=len(self)))
            reason = pc.if_else(keep, none, pa.scalar("nothing is left", pa.large_string()))
        else:
            kept_ids = self.ids.take(pa.array(self.representative))
            reason = pc.if_else(keep, none, pc.binary_join_element_wise(words, kept_ids, blank))
        return pa.table(columns | {"reason": reason})

    def spans(self) -> pa.Table:
        """What is cut, by (row, start): `row`, `start_byte`, `end_byte` (int64), bytes of UTF-8 in the row's text.

        Raises:
            InputError: the method cuts nothing.
        """
        if self._spans is None:
            raise InputError(f"method {self.method!r} cuts nothing: there are no spans", field="method")
        return self._spans.table()

    def filter(self, source: Any = None) -> Any:
        """The documents that stay, in the type the source has (see `biollm.filtering.filter_rows`), without what is
        cut from them.

        Args:
            source: needed again where it can be read only once (a reader, an Arrow stream); else that of the call.

        Raises:
            InputError: the source is needed again, or has another number of rows.
        """
        source = self._source_again(source)
        if self._spans is not None:
            text = str(self.manifest.options["text"])
            source = cut_source(source, self._spans, text, open_documents=self._documents)
        return filter_rows(source, self.keep_mask, open_documents=self._documents)

    def cut(self, table: pa.Table, first_row: int = 0) -> pa.Table:
        """Documents without what is cut from them.

        Args:
            table: documents with a column `text`.
            first_row: of the result that the table begins with.
        """
        if self._spans is None:
            return table
        index = table.schema.get_field_index("text")
        return table.set_column(index, table.schema.field(index), self._spans.cut(table.column(index), first_row))

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

    def _cut_of(self, row: int) -> Mapping[int, int]:
        if self._spans is None:
            return {}
        return Counter(self._spans.first_row[self._spans.of_rows(row, row + 1)].tolist())

    def _links(self, row: int, kept: int) -> tuple[Link, ...]:
        """A shortest way from `row` to `kept` over verified pairs, which connect their cluster."""
        if row == kept or kept < 0:
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
