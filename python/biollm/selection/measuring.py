"""Measures documents block by block; with work in progress, the scores of finished groups of blocks are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from biollm import _native
from biollm.columns import text_chunks, values
from biollm.document_files import at_row
from biollm.errors import BiollmError
from biollm.partial import Partial, reporting
from biollm.selection.options import SelectOptions
from biollm.selection.statistics import STATISTICS, Statistic

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["GROUP_BYTES", "Measurer", "scores_table"]

#: Arrow bytes of the blocks whose scores are kept together: what a killed run does again, at most.
GROUP_BYTES: Final = 128 << 20
_PIECE: Final = "scores"


class Measurer:
    """The scores of documents that come block by block.

    Attributes:
        rows: documents that came so far.

    Args:
        options: checked ones.
        partial: work in progress: takes the scores of finished groups, and gives those of an earlier run.
        progress: called with the documents done.
        log: told from where an earlier run is gone on with.
    """

    def __init__(
        self, options: SelectOptions, partial: Partial | None, progress: Progress | None, log: logging.Logger
    ) -> None:
        self.rows = 0
        self._options = options
        self._partial = partial
        self._progress = progress
        self._group: list[pa.Table] = []
        self._group_bytes = 0
        self._pieces = 0
        self._kept = scores_table([], options.groups())
        if partial is not None and partial.resumed:
            self._kept = self._kept_scores(partial)
            partial.resume(len(self._kept), "documents", log)

    def scores(self, block: pa.Table) -> pa.Table:
        """The scores of the next documents.

        Raises:
            LimitError: a document is too long (`row`).
        """
        end = self.rows + len(block)
        if end <= len(self._kept):
            scores = self._kept.slice(self.rows, len(block))
            if self._progress is not None:
                self._progress(end, None)
        else:
            scores = self._measured(block)
            self._group.append(scores)
            self._group_bytes += block.nbytes
        self.rows = end
        if self._partial is not None and self._group_bytes >= GROUP_BYTES:
            self._keep(self._partial)
        return scores

    def _measured(self, block: pa.Table) -> pa.Table:
        groups = self._options.groups()
        try:
            columns = _native.gopher_statistics(
                text_chunks(block.column("text")),
                quality="quality" in groups,
                repetition="repetition" in groups,
                max_document_bytes=self._options.max_document_bytes,
                threads=self._options.threads,
                progress=reporting(self._partial, self._progress, self.rows),
            )
        except BiollmError as error:
            raise at_row(error, self.rows) from None
        return scores_table(columns, groups)

    def _keep(self, partial: Partial) -> None:
        import pyarrow as pa

        group = pa.concat_tables(self._group)
        columns = [column.to_numpy() for column in group.columns]
        partial.keep(f"{_PIECE}-{self._pieces:05}", columns, first_row=self.rows - len(group))
        self._pieces += 1
        self._group, self._group_bytes = [], 0

    def _kept_scores(self, partial: Partial) -> pa.Table:
        """What an earlier run has measured, from the first row on."""
        import pyarrow as pa

        statistics = measured_statistics(self._options.groups())
        tables, rows = [scores_table([], self._options.groups())], 0
        for piece in partial.kept_run(_PIECE):
            if piece.facts["first_row"] != rows:
                break
            columns = zip(statistics, piece.parts, strict=True)
            tables.append(scores_table([(s.name, s.dtype, part) for s, part in columns], self._options.groups()))
            rows += len(tables[-1])
            self._pieces += 1
        return pa.concat_tables(tables)


def measured_statistics(groups: Iterable[str]) -> list[Statistic]:
    """The statistics of some groups, in the order of their columns."""
    return [statistic for statistic in STATISTICS.values() if statistic.group in ("common", *groups)]


def scores_table(columns: Sequence[tuple[str, str, Any]], groups: Iterable[str]) -> pa.Table:
    """A table of native columns (name, type, buffer); without any, an empty one with the statistics of the groups."""
    import pyarrow as pa

    names = [name for name, _, _ in columns] or [statistic.name for statistic in measured_statistics(groups)]
    arrays = [pa.array(values(buffer, dtype)) for _, dtype, buffer in columns]
    fields = []
    for name in names:
        statistic = STATISTICS[name]
        metadata = {"variant": statistic.variant, "definition": statistic.definition}
        fields.append(pa.field(name, pa.type_for_alias(statistic.dtype), nullable=False, metadata=metadata))
    schema = pa.schema(fields)
    return pa.Table.from_arrays(arrays, schema=schema) if columns else schema.empty_table()
