"""Sources in memory: lists of texts, Arrow tables and streams, frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from biollm.columns import text_array
from biollm.errors import InputError
from biollm.manifest import InputRecord
from biollm.readers.columns import ColumnMapper
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog, Source

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["dataset_source", "generated_source", "stream_source", "table_source", "texts_source", "texts_table"]

#: Texts of a generator, and rows of a table, that go into one batch.
BATCH_ROWS: Final = 4096


def texts_source(texts: list[Any] | tuple[Any, ...], options: ReadOptions) -> Source:
    """Texts, each one document; its id is its row number.

    Raises:
        TypeError: an entry is not a str. InputError: one is not valid Unicode (`row`).
    """
    import pyarrow as pa

    table = pa.table({"text": text_array(list(texts))})
    return table_source(table, _texts_only(options), description=f"{len(texts):,} texts")


def texts_table(column: pa.Array | pa.ChunkedArray, options: ReadOptions) -> Source:
    """The texts of one Arrow column.

    Raises:
        InputError: it is not of text.
    """
    import pyarrow as pa

    return table_source(pa.table({"text": column}), _texts_only(options), description="an Arrow column")


def generated_source(texts: Iterator[Any], options: ReadOptions) -> Source:
    """Texts that an iterator yields once, taken as they are asked for."""
    import pyarrow as pa

    schema = pa.schema([pa.field("text", pa.large_string())])

    def batches() -> Iterator[pa.RecordBatch]:
        while chunk := list(islice(texts, BATCH_ROWS)):
            yield pa.RecordBatch.from_arrays([text_array(chunk)], schema=schema)

    return _mapped(schema, batches, _texts_only(options), "texts of an iterator", one_shot=True)


def table_source(table: pa.Table, options: ReadOptions, *, description: str) -> Source:
    """The rows of a table."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()

    return _mapped(table.schema, batches, options, description, one_shot=False)


def stream_source(data: Any, options: ReadOptions, *, one_shot: bool) -> Source:
    """The rows of anything that exports an Arrow stream (`__arrow_c_stream__`).

    Raises:
        TypeError: the stream is not one of records.
    """
    import pyarrow as pa

    description = f"{type(data).__module__.partition('.')[0]} {type(data).__name__}"
    first: list[pa.RecordBatchReader] = []

    def open_stream() -> pa.RecordBatchReader:
        try:
            return pa.RecordBatchReader.from_stream(data)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TypeError(f"{description} is not a stream of records: {error}") from error

    # The schema costs one opening; a stream that opens once must be read by that one.
    first.append(open_stream())
    schema = first[0].schema

    def batches() -> Iterator[pa.RecordBatch]:
        reader = first.pop() if first else open_stream()
        yield from reader

    return _mapped(schema, batches, options, description, one_shot=one_shot)


def dataset_source(data: Any, options: ReadOptions) -> Source:
    """The rows of a `datasets.Dataset` or `IterableDataset`, which export no Arrow stream.

    Raises:
        TypeError: an iterable one does not know its features.
    """
    import pyarrow as pa

    description = f"datasets {type(data).__name__}"
    if data.features is None:
        raise TypeError(f"{description} does not know its features: give them to cast(), or load it whole")
    schema = pa.schema(list(data.features.arrow_schema))

    def batches() -> Iterator[pa.RecordBatch]:
        for table in data.with_format("arrow").iter(batch_size=BATCH_ROWS):
            yield from table.cast(schema).to_batches()

    return _mapped(schema, batches, options, description, one_shot=False)


def _mapped(
    schema: pa.Schema,
    batches: Callable[[], Iterator[pa.RecordBatch]],
    options: ReadOptions,
    description: str,
    *,
    one_shot: bool,
) -> Source:
    def mapped(log: PassLog) -> Iterator[pa.RecordBatch]:
        mapper = ColumnMapper(schema, options, file=description)
        for batch in batches():
            # Mapping copies what it casts; slices keep that to one part of a large batch at a time.
            for start in range(0, len(batch), BATCH_ROWS):
                yield mapper.map(batch.slice(start, BATCH_ROWS), log)

    out = ColumnMapper(schema, options, file=description).schema
    record = InputRecord(description, "memory")
    return Source(out, mapped, lambda: (record,), description, one_shot)


def _texts_only(options: ReadOptions) -> ReadOptions:
    """Plain texts have one column, whatever the columns of other sources are called."""
    if options.id is not None or options.source is not None:
        name = options.id or options.source
        raise InputError(f"a list of texts has no column {name!r}: pass a table for ids and sources", field="id")
    return ReadOptions(on_error=options.on_error, max_document_bytes=options.max_document_bytes)
