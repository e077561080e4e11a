"""Rows with fields of any kind, such as chats and labels, where a document has only texts.

The same files, folders and tables as `as_documents` takes; of a folder that `read` left, the fields in `meta` too.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biollm.documents import Documents
from biollm.errors import BiollmError, InputError
from biollm.manifest import InputRecord
from biollm.readers.coercion import as_documents
from biollm.readers.files import SourceFile, find_files
from biollm.readers.lines import bounded_lines
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog, Rejected
from biollm.readers.streams import StreamReader

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Row", "Rows", "open_rows"]


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        fields: name → value, as JSON or Arrow has it.
        file: path or URL it came from; of data in memory, what that is.
        number: in its file, counted from 0, blank lines not counted.
        in_lines: whether the file holds a row a line.
    """

    fields: Mapping[str, Any]
    file: str
    number: int
    in_lines: bool = False

    @property
    def id(self) -> str:
        """Its `id`; without one, `file:number`."""
        given = self.fields.get("id")
        return f"{self.file}:{self.number}" if given is None else str(given)

    def get(self, name: str) -> Any:
        """The field `name`; `None` where there is none, or it is null."""
        if (value := self.fields.get(name)) is not None:
            return value
        return self._meta.get(name)

    @property
    def line(self) -> int | None:
        """Of a text file of this machine, its line there, counted from 1 and blank ones too; `None` of anything else.

        It is found by reading the file again: for errors.
        """
        if not self.in_lines or not Path(self.file).is_file():
            return None
        try:
            blanks = _blank_lines(self.file, os.stat(self.file).st_mtime_ns)
        except BiollmError:  # the file is damaged further on
            return None
        return self.number + 1 + bisect_right(blanks, self.number)

    def error(self, message: str, *, field: str | None = None, value: object = None) -> InputError:
        """An error that names the row."""
        path = self.file if Path(self.file).exists() else None
        place = f"row {self.number}" if path else f"{self.file}, row {self.number}"
        return InputError(f"{place}: {message}", path=path, line=self.line, row=self.number, field=field, value=value)

    @property
    def _meta(self) -> Mapping[str, Any]:
        text = self.fields.get("meta")
        if not isinstance(text, str):
            return {}
        try:
            meta = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return meta if isinstance(meta, dict) else {}


@dataclass
class Rows:
    """The rows of a source, to be passed over once.

    Attributes:
        skip: whether a bad row is set aside, not raised.
        rejected: rows set aside so far.
        records: what was read, for the manifest; complete after the pass.
        description: what to call the source in messages.
    """

    skip: bool
    description: str
    _pass: Callable[[Rows], Iterator[Row]]
    rejected: list[Rejected] = field(default_factory=list)
    records: list[InputRecord] = field(default_factory=list)

    def __iter__(self) -> Iterator[Row]:
        return self._pass(self)

    def reject(self, row: Row, error: BiollmError) -> None:
        """Sets a row aside, or raises what is wrong with it.

        Args:
            row: which.
            error: what; of a kind that `Row.error` does not make, it is put into words that name the row.

        Raises:
            InputError: rows are not skipped.
        """
        if not self.skip:
            raise row.error(error.message, field=error.field, value=error.value) from error
        self.rejected.append(Rejected(row.file, error.message, line=row.line, row=row.number))


def open_rows(data: Any, *, on_error: Literal["raise", "skip"] = "raise") -> Rows:
    """The rows of what a caller has.

    Args:
        data: a list of dicts; a path, glob or URL of .jsonl (.gz, .zst) or .parquet files, a folder of documents, or a
            list of these; `Documents`, an Arrow table or stream, a polars or pandas frame.
        on_error: "raise" at the first bad row, or "skip" it and count it.

    Raises:
        TypeError: `data` is none of these.
        InputError: a glob matches nothing; the format is unknown. FileError: a file is missing.
    """
    skip = on_error == "skip"
    if isinstance(data, str | os.PathLike):
        data = [Path(data) if not isinstance(data, str) else data]
    elif isinstance(data, list | tuple) and all(isinstance(item, Mapping) for item in data):
        return Rows(skip, "rows in memory", lambda rows: _listed(data))
    if isinstance(data, list | tuple) and all(isinstance(item, str | os.PathLike) for item in data):
        parts = [_opened(path) for path in data]
        name = str(data[0]) if len(data) == 1 else f"{len(data)} sources"
        return Rows(skip, name, lambda rows: (row for part in parts for row in part(rows)))
    if isinstance(data, Documents):
        return Rows(skip, data.description, lambda rows: _of_documents(data, rows))
    if hasattr(data, "__arrow_c_stream__"):
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_stream(data)
        return Rows(skip, "an Arrow stream", lambda rows: _of_batches(reader, "an Arrow stream"))
    raise TypeError(f"{type(data).__name__} holds no rows: pass paths, a list of dicts, an Arrow table, or Documents")


def _listed(rows: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    return (Row(row, "rows in memory", number) for number, row in enumerate(rows))


def _opened(path: str | os.PathLike[str]) -> Callable[[Rows], Iterator[Row]]:
    if (Path(path) / "manifest.json").is_file():
        documents = as_documents(Path(path))
        return lambda rows: _of_documents(documents, rows)
    files = find_files([path if isinstance(path, str) else Path(path)], lines=False)
    for file in files:
        if file.format not in ("jsonl", "parquet"):
            message = "rows are read from .jsonl and .parquet files, and from folders of documents: `read` makes one"
            raise InputError(message, path=file.path, value=file.format)
    return lambda rows: (row for file in files for row in _of_file(file, rows))


def _of_file(file: SourceFile, rows: Rows) -> Iterator[Row]:
    if file.format == "parquet":
        name = _some_text(file)
        for row in _of_documents(as_documents(Path(file.path), text=name), rows, file.path):
            yield row if name == "text" else replace(row, fields={**row.fields, name: row.fields["text"]})
        return
    # The native reader finds the lines; what they hold is not only text.
    reader = StreamReader(replace(file, format="lines"), ReadOptions(on_error="skip" if rows.skip else "raise"))
    log = PassLog()
    number = 0
    for batch in reader.batches(log, None):
        for line in batch.column("text").to_pylist():
            row = Row({}, file.path, number, in_lines=True)
            number += 1
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                rows.reject(row, InputError(f"not JSON: {error}"))
                continue
            if not isinstance(value, dict):
                rows.reject(row, InputError(f"not an object, but {type(value).__name__}"))
                continue
            yield replace(row, fields=value)
    rows.rejected.extend(log.rejected)
    if reader.record is not None:
        rows.records.append(reader.record)


@lru_cache(maxsize=8)
def _blank_lines(path: str, _modified: int) -> tuple[int, ...]:
    """Of each blank line of a file how many rows stand before it, in order."""
    blanks, rows = [], 0
    for _, line in bounded_lines(Path(path)):
        if line.strip():
            rows += 1
        else:
            blanks.append(rows)
    return tuple(blanks)


def _some_text(file: SourceFile) -> str:
    """A column that the reader of documents may take for the text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file.path)
    except (pa.ArrowInvalid, OSError):
        return "text"  # the reader says what is wrong with it
    texts: list[str] = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if "text" in texts or not texts:
        return "text"
    return next((name for name in texts if name not in ("id", "source", "meta")), texts[0])


def _of_documents(documents: Documents, rows: Rows, name: str | None = None) -> Iterator[Row]:
    yield from _of_batches(documents.reader(), name or documents.description)
    rows.records.extend(documents.inputs)


def _of_batches(reader: pa.RecordBatchReader, name: str) -> Iterator[Row]:
    number = 0
    for batch in reader:
        for row in batch.to_pylist():
            yield Row(row, name, number)
            number += 1
