"""Spans of texts, and the sources without them, each in the type that came in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biollm.documents import Documents
from biollm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Spans", "cut_source"]


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of texts, by (row, start), none over another; int64 each, one a span.

    Attributes:
        row: of the document. start, end: first byte of UTF-8, and the byte behind the last.
        first_row: the document that has the same first.
    """

    row: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    first_row: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def table(self) -> pa.Table:
        """Columns `row`, `start_byte`, `end_byte`."""
        import pyarrow as pa

        columns = {"row": self.row, "start_byte": self.start, "end_byte": self.end}
        return pa.table({name: pa.array(column) for name, column in columns.items()})

    def of_rows(self, begin: int, end: int) -> slice:
        """Where the spans of rows `begin` to `end` stand."""
        import numpy as np

        first, last = np.searchsorted(self.row, [begin, end]).tolist()
        return slice(first, last)

    def cut(self, texts: pa.Array | pa.ChunkedArray, first_row: int = 0) -> pa.ChunkedArray:
        """`texts`, of which the first is that of `first_row`, without the spans; of the type they have.

        Raises:
            InputError: the spans do not fit the texts.
        """
        import pyarrow as pa

        kind = texts.type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        chunked = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([texts], type=kind)
        pieces, row = [], first_row
        for chunk in chunked.cast(value).cast(pa.large_string()).chunks:
            pieces.append(self._cut_chunk(chunk, row))
            row += len(chunk)
        return pa.chunked_array(pieces, type=pa.large_string()).cast(value).cast(kind)

    def _cut_chunk(self, chunk: pa.LargeStringArray, first_row: int) -> pa.LargeStringArray:
        import numpy as np
        import pyarrow as pa

        at = self.of_rows(first_row, first_row + len(chunk))
        if at.start == at.stop:
            return chunk
        _, offset_buffer, data_buffer = chunk.buffers()
        offsets = np.frombuffer(offset_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
        offsets = offsets - offsets[0]
        rows = self.row[at] - first_row
        if (self.end[at] > np.diff(offsets)[rows]).any():
            message = "the source has not the rows and texts the result was made of: pass the same source"
            raise InputError(message, field="source")
        # Spans lie apart, or end where the next begins: +1 and -1 there make nothing of each other.
        steps = np.zeros(len(data) + 1, np.int8)
        np.add.at(steps, offsets[rows] + self.start[at], 1)
        np.add.at(steps, offsets[rows] + self.end[at], -1)
        kept = data[np.cumsum(steps[:-1], dtype=np.int8) == 0]
        lengths = np.diff(offsets)
        np.subtract.at(lengths, rows, self.end[at] - self.start[at])
        new_offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        buffers = [None, pa.py_buffer(new_offsets), pa.py_buffer(kept)]
        return pa.Array.from_buffers(pa.large_string(), len(chunk), buffers)


def cut_source(source: Any, spans: Spans, text: str, *, open_documents: Callable[[Any], Documents]) -> Any:
    """All rows of `source` without the `spans`, in the type it has (as `filtering.filter_rows` gives it back).

    Args:
        source: as a verb takes it.
        spans: of its texts.
        text: the column of the text.
        open_documents: makes `Documents` of paths and streams, as the verb did.

    Raises:
        InputError: the source has no such column, or other texts. For a stream it is raised as it is read.
    """
    import pyarrow as pa

    paths = isinstance(source, (str, os.PathLike)) or (
        isinstance(source, (list, tuple)) and any(isinstance(item, os.PathLike) for item in source)
    )
    if isinstance(source, pa.RecordBatchReader):
        return _cut_reader(source, spans, text)
    if isinstance(source, (list, tuple)) and not paths:
        return type(source)(spans.cut(pa.array(source, pa.large_string())).to_pylist())
    if isinstance(source, pa.Table):
        return _cut_table(source, spans, text)
    if isinstance(source, pa.RecordBatch):
        return _one_batch(_cut_table(pa.Table.from_batches([source]), spans, text))
    if isinstance(source, pa.ChunkedArray):
        return spans.cut(source)
    if isinstance(source, pa.Array):
        return spans.cut(source).combine_chunks()
    package = type(source).__module__.partition(".")[0]
    if package == "polars" and hasattr(source, "height"):
        import polars as pl

        return source.with_columns(pl.Series(text, spans.cut(source[text].to_arrow()), dtype=source[text].dtype))
    if package == "pandas":
        column = source[text]
        cut = spans.cut(pa.array(column, pa.large_string())).to_pylist()
        return source.assign(**{text: type(column)(cut, index=column.index, dtype=column.dtype)})
    if package == "datasets" and hasattr(source, "select"):
        return source.map(_CutRows(spans, text), with_indices=True, batched=True, load_from_cache_file=False)
    documents = source if isinstance(source, Documents) else open_documents(source)
    name = text if isinstance(source, Documents) else "text"
    return Documents(
        lambda: _cut_reader(documents.reader(), spans, name),
        documents.schema,
        one_shot=documents.one_shot,
        inputs=lambda: documents.inputs,
        description=f"{documents.description}, cut",
    )


@dataclass(frozen=True, eq=False)
class _CutRows:
    """What `datasets.Dataset.map` calls with a batch and its row numbers, which rise by one."""

    spans: Spans
    text: str

    def __call__(self, batch: Any, rows: list[int]) -> dict[str, list[str]]:
        import pyarrow as pa

        return {self.text: self.spans.cut(pa.array(batch[self.text], pa.large_string()), rows[0]).to_pylist()}


def _cut_table(table: pa.Table, spans: Spans, text: str, first_row: int = 0) -> pa.Table:
    index = table.schema.get_field_index(text)
    if index < 0:
        raise InputError(f"the source has no column {text!r}: pass the one the result was made of", field="source")
    return table.set_column(index, table.schema.field(index), spans.cut(table.column(index), first_row))


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def _cut_reader(reader: pa.RecordBatchReader, spans: Spans, text: str) -> pa.RecordBatchReader:
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in reader:
            yield _one_batch(_cut_table(pa.Table.from_batches([batch]), spans, text, row))
            row += len(batch)

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
