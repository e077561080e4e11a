"""`Documents`: a stream of documents that can be opened again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from biollm.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.manifest import InputRecord

__all__ = ["Documents"]


class Documents:
    """An Arrow stream with the columns `id` and `text` (both large_string) first, and any others behind them.

    Args:
        open_reader: gives a fresh `pyarrow.RecordBatchReader` at each call.
        schema: the schema of every reader.
        one_shot: whether the stream can be opened only once (it came from a reader or a foreign stream).
        inputs: what the documents were made of, for the manifest; a function where it is best asked after a pass.
        description: what to call them in messages.

    `__arrow_c_stream__` makes it an Arrow stream for polars, duckdb, pandas and pyarrow.
    """

    def __init__(
        self,
        open_reader: Callable[[], pa.RecordBatchReader],
        schema: pa.Schema,
        *,
        one_shot: bool = False,
        inputs: tuple[InputRecord, ...] | Callable[[], tuple[InputRecord, ...]] = (),
        description: str = "documents",
    ) -> None:
        for name in ("id", "text"):
            if name not in schema.names:
                raise InputError(f"{description} have no column {name!r}: {schema.names}", field=name)
        self._open = open_reader
        self.schema = schema
        self.one_shot = one_shot
        self._inputs = inputs
        self.description = description
        self._opened = False

    @classmethod
    def from_table(
        cls, table: pa.Table, *, inputs: tuple[InputRecord, ...] = (), description: str = "documents"
    ) -> Documents:
        """Documents over a `table` in memory; `inputs` and `description` as in `Documents`."""
        return cls(table.to_reader, table.schema, inputs=inputs, description=description)

    @property
    def inputs(self) -> tuple[InputRecord, ...]:
        """What the documents were made of. Free after a whole pass; before one, files are hashed here."""
        return self._inputs() if callable(self._inputs) else self._inputs

    def reader(self) -> pa.RecordBatchReader:
        """A fresh reader from the first row.

        Raises:
            InputError: the stream yields once and was opened before.
        """
        if self.one_shot and self._opened:
            raise InputError(f"{self.description} can be read only once: call .materialize() before the first pass")
        self._opened = True
        return self._open()

    def to_table(self) -> pa.Table:
        """All documents as one table in memory."""
        return self.reader().read_all()

    def materialize(self) -> Documents:
        """The same documents held in memory, to be read as often as wanted."""
        return Documents.from_table(self.to_table(), inputs=self.inputs, description=self.description)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        return self.reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"Documents({self.description}, columns={self.schema.names}, one_shot={self.one_shot})"
