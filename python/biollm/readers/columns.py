"""From any table's columns to a document's: `id` and `text` first, then `source`, then all others as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from biollm.errors import BiollmError, InputError, LimitError
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog, Rejected

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ColumnMapper"]

_OURS: Final = ("id", "text", "source")


@dataclass(frozen=True)
class _Problem:
    """What is wrong with a row."""

    row: int
    reason: str
    field: str
    error: type[BiollmError] = InputError
    value: int | None = None
    limit: int | None = None


class ColumnMapper:
    """Makes documents of the record batches of one table, batch after batch.

    Args:
        schema: of the table.
        options: which columns are what.
        file: path of the table or what to call it, for messages.
        id_prefix: what stands before the row number in an id that is made up.

    Raises:
        InputError: a named column is missing or is not of text.
    """

    def __init__(self, schema: pa.Schema, options: ReadOptions, *, file: str, id_prefix: str = "") -> None:
        import pyarrow as pa

        self._options = options
        self._file = file
        self._id_prefix = id_prefix
        self._row = 0
        # Columns nobody named are taken where they fit, as from JSON Lines.
        fits = schema.names.count("id") == 1 and _is_scalar(schema.field("id").type)
        self._id = options.id or ("id" if fits else None)
        self._id_required = options.id is not None
        given_source = options.source or ("source" if "source" in schema.names else None)
        self._source = given_source if given_source not in options.text_names else None
        if self._id in options.text_names and not self._id_required:
            self._id = None
        taken = [*options.text_names, *(name for name in (self._id, self._source) if name is not None)]
        for name in taken:
            if schema.names.count(name) != 1:
                times = "there is none" if name not in schema.names else "there are several"
                message = f"{file}: no one column {name!r} ({times}; columns: {', '.join(schema.names)})"
                raise InputError(message, field=name, value=name)
        self._others = [i for i, name in enumerate(schema.names) if name not in taken]
        fields = [pa.field("id", pa.large_string()), pa.field("text", pa.large_string())]
        if self._source is not None:
            kind = schema.field(self._source).type
            fields.append(pa.field("source", pa.large_string() if _is_scalar(kind) else kind))
        for i in self._others:
            field = schema.field(i)
            # A column of ours made from another one does not overwrite what had its name.
            name = f"original_{field.name}" if field.name in _OURS else field.name
            fields.append(field.with_name(name))
        self.schema = pa.schema(fields)

    def map(self, batch: pa.RecordBatch, log: PassLog) -> pa.RecordBatch:
        """The documents of the next batch of the table; bad rows are left out where the options say so.

        Raises:
            InputError: a text or a named id is null, or is not text (`row`).
            LimitError: a text is longer than `max_document_bytes` (`row`).
        """
        try:
            return self._map(batch, log)
        except InputError as error:
            if error.row is not None:
                raise
            raise InputError(f"{self._file}: {error.message}", field=error.field) from None

    def _map(self, batch: pa.RecordBatch, log: PassLog) -> pa.RecordBatch:
        import pyarrow as pa

        first = self._row
        self._row += len(batch)
        problems: dict[int, _Problem] = {}
        text = self._text(batch, problems)
        ids = self._ids(batch, first, problems)
        columns = [ids, text]
        if self._source is not None:
            column = batch.column(self._source)
            columns.append(_cast(column, self._source) if _is_scalar(column.type) else column)
        columns.extend(batch.column(i) for i in self._others)
        mapped = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        if not problems:
            return mapped
        for row in sorted(problems):
            self._settle(problems[row], first, log)
        keep = pa.array([row not in problems for row in range(len(batch))])
        return mapped.filter(keep)

    def _settle(self, problem: _Problem, first: int, log: PassLog) -> None:
        row = first + problem.row
        if self._options.skip:
            log.reject(Rejected(self._file, problem.reason, row=row))
            return
        details: dict[str, Any] = {"row": row, "field": problem.field}
        if problem.limit is not None:
            details |= {"value": problem.value, "limit": problem.limit}
        raise problem.error(f"{self._file}, row {row}: {problem.reason}", **details)

    def _text(self, batch: pa.RecordBatch, problems: dict[int, _Problem]) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = self._options.text_names
        columns = [_text_column(batch.column(name), name) for name in names]
        if len(columns) == 1:
            (text,) = columns
            if text.null_count:
                for row in pc.indices_nonzero(pc.is_null(text)).to_pylist():
                    problems[row] = _Problem(row, f"column {names[0]!r} is null", names[0])
                text = pc.fill_null(text, "")
        else:
            # A null or an empty part is left out, with its blank line.
            empty = pa.scalar(None, pa.large_string())
            parts = [pc.if_else(pc.equal(column, ""), empty, column) for column in columns]
            text = pc.binary_join_element_wise(*parts, pa.scalar("\n\n", pa.large_string()), null_handling="skip")
        limit = self._options.limit_bytes
        lengths = pc.binary_length(text)
        for row in pc.indices_nonzero(pc.greater(lengths, limit)).to_pylist():
            found = lengths[row].as_py()
            reason = f"bytes of the document is {found}, over the limit of {limit}: raise max_document_bytes"
            problems.setdefault(row, _Problem(row, reason, "text", LimitError, found, limit))
        return text

    def _ids(self, batch: pa.RecordBatch, first: int, problems: dict[int, _Problem]) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._id is None:
            return self._made_up(first, len(batch))
        ids = _cast(batch.column(self._id), self._id)
        if not ids.null_count:
            return ids
        if self._id_required:
            for row in pc.indices_nonzero(pc.is_null(ids)).to_pylist():
                problems.setdefault(row, _Problem(row, f"column {self._id!r} is null", self._id))
            return pc.fill_null(ids, "")
        return pc.if_else(pc.is_null(ids), self._made_up(first, len(batch)), ids).cast(pa.large_string())

    def _made_up(self, first: int, rows: int) -> pa.Array:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        numbers = pa.array(np.arange(first, first + rows, dtype=np.int64)).cast(pa.large_string())
        if not self._id_prefix:
            return numbers
        empty, prefix = (pa.scalar(text, pa.large_string()) for text in ("", self._id_prefix))
        return pc.binary_join_element_wise(prefix, numbers, empty)


def _is_scalar(kind: pa.DataType) -> bool:
    """Whether values of this type have one plain way to be written as text."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    return any(check(kind) for check in (*checks, pa.types.is_boolean, pa.types.is_floating, pa.types.is_null))


def _cast(column: pa.Array, name: str) -> pa.Array:
    if not _is_scalar(column.type):
        raise InputError(f"column {name!r} is {column.type}, not text or a number", field=name)
    return _checked(column, name)


def _text_column(column: pa.Array, name: str) -> pa.Array:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    textual = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(check(kind) for check in textual):
        raise InputError(f"column {name!r} is {column.type}, not text: cast it to string", field=name)
    return _checked(column, name)


def _checked(column: pa.Array, name: str) -> pa.Array:
    """As large_string; bytes that are not UTF-8 are found here, not in some kernel."""
    import pyarrow as pa

    if not pa.types.is_large_string(column.type):
        column = column.cast(pa.large_string())
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError(f"column {name!r} does not read as text: {error}", field=name) from None
    return column
