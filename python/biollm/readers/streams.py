"""Text files (JSON Lines, a document a line or a file, compressed or not) through the native reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from biollm import _native
from biollm.columns import string_array
from biollm.errors import BiollmError, FileError
from biollm.manifest import InputRecord
from biollm.readers.files import SourceFile, file_record
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog, Rejected

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["StreamReader", "stream_schema"]

#: Bytes handed to the native reader at a time, where it does not read the file itself.
BLOCK_BYTES: Final = 1 << 20


def stream_schema(file: SourceFile) -> pa.Schema:
    """The columns that a text file gives: `source` and `meta` (the other fields, as one JSON object) of JSON Lines."""
    import pyarrow as pa

    names = ("id", "text", "source", "meta") if file.format == "jsonl" else ("id", "text")
    return pa.schema([pa.field(name, pa.large_string()) for name in names])


@dataclass
class StreamReader:
    """One pass over one text file.

    Attributes:
        file: which.
        options: how.
        record: of the file, once the pass has ended: its checksum is made while it is read.
    """

    file: SourceFile
    options: ReadOptions
    record: InputRecord | None = None

    def batches(self, log: PassLog, progress: Progress | None) -> Iterator[pa.RecordBatch]:
        """The file's documents.

        Raises:
            FileError: it cannot be opened or read.
            FormatError: it is damaged, cut off, or a record is bad (`line`, `field`).
            LimitError: a line or document is longer than `max_document_bytes` (`line`).
        """
        pushed = self.file.remote is not None or not self.file.regular
        before = None if pushed else file_record(self.file.path)
        reader = _native.DocumentReader(
            None if pushed else self.file.path,
            name=self.file.path,
            format=self.file.format,
            compression=self.file.compression,
            text=list(self.options.text_names),
            id=self.options.id,
            source=self.options.source,
            id_prefix=f"{self.file.name}:",
            max_document_bytes=self.options.limit_bytes,
            skip=self.options.skip,
        )
        if pushed:
            yield from self._pushed(reader, log, progress)
        else:
            yield from self._drained(reader, log, progress)
        self.record = self._record(reader, before)

    def _drained(
        self, reader: _native.DocumentReader, log: PassLog, progress: Progress | None
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        schema = stream_schema(self.file)
        while (batch := reader.next_batch(progress)) is not None:
            rows, ids, texts, (offsets, data, validity), metas, rejected = batch
            for line, reason in rejected:
                log.reject(Rejected(self.file.path, reason, line=line))
            arrays = [string_array(*ids), string_array(*texts)]
            if self.file.format == "jsonl":
                buffers = [pa.py_buffer(validity), pa.py_buffer(offsets), pa.py_buffer(data)]
                arrays += [pa.Array.from_buffers(pa.large_string(), rows, buffers), string_array(*metas)]
            if rows:
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _pushed(
        self, reader: _native.DocumentReader, log: PassLog, progress: Progress | None
    ) -> Iterator[pa.RecordBatch]:
        try:
            with self._open() as stream:
                while block := stream.read(BLOCK_BYTES):
                    reader.push(block)
                    yield from self._drained(reader, log, None)
                    if progress is not None:
                        progress(reader.bytes_read, self.file.size_bytes)
        except OSError as error:
            if isinstance(error, BiollmError):
                raise
            raise FileError.from_os_error(error, self.file.path) from error
        reader.finish()
        yield from self._drained(reader, log, None)

    def _open(self) -> BinaryIO:
        if self.file.remote is not None:
            return self.file.remote.open()
        return open(self.file.path, "rb", buffering=0)

    def _record(self, reader: _native.DocumentReader, before: InputRecord | None) -> InputRecord:
        if before is not None:
            return replace(before, xxh3_128=reader.xxh3_128)
        kind = "file" if self.file.remote is None else "url"
        return InputRecord(self.file.path, kind, reader.xxh3_128, reader.bytes_read)
