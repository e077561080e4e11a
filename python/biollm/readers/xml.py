"""PubMed and JATS XML (plain, compressed, in a tar) through the native reader, which takes no copy of what it gives.

Of PubMed, the records that count depend on all files of a source: see `biollm.readers.versions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from biollm import _native
from biollm.columns import string_array
from biollm.errors import BiollmError, FileError, FormatError, InputError
from biollm.manifest import InputRecord
from biollm.readers.files import SourceFile, file_record
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog, Rejected

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["XmlReader", "local_copy", "xml_schema"]

PARTS: Final = ("title", "abstract", "body")
IDS: Final = ("pmid", "pmc", "doi")

#: Bytes taken from a URL or pipe at a time.
BLOCK_BYTES: Final = 1 << 20


def xml_schema(file: SourceFile, options: ReadOptions) -> pa.Schema:
    """The columns that PubMed and JATS give alike.

    Raises:
        InputError: an option names what these files do not have (`field`, `value`).
    """
    import pyarrow as pa

    _native_options(file, options)
    text = pa.large_string()
    section = pa.struct([("title", text), ("start_byte", pa.int64()), ("end_byte", pa.int64())])
    return pa.schema(
        [
            ("id", text),
            ("text", text),
            ("source", text),
            ("title", text),
            ("year", pa.int32()),
            ("languages", pa.list_(text)),
            ("publication_types", pa.list_(text)),
            ("journal", text),
            ("pmid", text),
            ("pmc", text),
            ("doi", text),
            ("sections", pa.list_(section)),
        ]
    )


@dataclass
class XmlReader:
    """One pass over one XML file, or over all XML files of a tar.

    Attributes:
        file: which.
        path: where its bytes lie on this machine: its own path, or that of a copy.
        options: how.
        left_out: a bit a record, 1 where a later one replaces or deletes it; `None`: all count.
        before: the file at `path` as it was when `left_out` was made.
        record: of the file, once the pass has ended: its checksum is made while it is read.
    """

    file: SourceFile
    path: str
    options: ReadOptions
    left_out: _native.Buffer | None
    before: InputRecord
    record: InputRecord | None = None

    def batches(self, log: PassLog, progress: Progress | None) -> Iterator[pa.RecordBatch]:
        """The file's documents.

        Raises:
            FileError: it cannot be opened or read.
            FormatError: it is damaged, cut off, not well-formed, or of another kind; a tar holds no XML; or a record is
                bad (`line`).
            LimitError: a record is longer than `max_document_bytes`, or nested too deep (`line`).
            InputError: the file has changed since `before`.
        """
        import pyarrow as pa

        if file_record(self.path) != self.before:
            raise InputError("the file changed while it was read: read it again", path=self.file.path)
        schema = xml_schema(self.file, self.options)
        reader = _native.XmlReader(
            self.path,
            name=self.file.path,
            compression=self.file.compression,
            tar=self.file.tar,
            **_native_options(self.file, self.options),
            id_prefix=f"{self.file.name}:",
            max_document_bytes=self.options.limit_bytes,
            skip=self.options.skip,
            left_out=self.left_out,
        )
        skipped = 0
        while (batch := reader.next_batch(progress)) is not None:
            rows, columns, rejected = batch
            skipped += len(rejected)
            for line, reason in rejected:
                log.reject(Rejected(self.file.path, reason, line=line))
            if rows:
                arrays = [_array(kind, rows, buffers) for _, kind, buffers in columns]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        if reader.kind is None and not skipped:
            raise FormatError("no file in this tar ends in .xml or .nxml", path=self.file.path)
        if self.path == self.file.path:
            self.record = replace(self.before, xxh3_128=reader.xxh3_128)
        else:
            kind = "file" if self.file.remote is None else "url"
            self.record = InputRecord(self.file.path, kind, reader.xxh3_128, reader.bytes_read)


def local_copy(file: SourceFile, folder: Path, progress: Progress | None) -> str:
    """Copies a URL or a pipe into `folder`, so that it can be read twice; gives the copy's path.

    Args:
        file: which.
        folder: on this machine, empty.
        progress: called at every block; what it raises ends the copying.

    Raises:
        FileError: it cannot be read, or there is no room for it.
    """
    path = folder / "copy"
    try:
        with _opened(file) as stream, path.open("wb") as copy:
            while block := stream.read(BLOCK_BYTES):
                copy.write(block)
                if progress is not None:
                    progress(0, file.size_bytes)
    except OSError as error:
        if isinstance(error, BiollmError):
            raise
        raise FileError.from_os_error(error, file.path) from error
    return str(path)


def _opened(file: SourceFile) -> BinaryIO:
    if file.remote is not None:
        return file.remote.open()
    return open(file.path, "rb", buffering=0)


def _native_options(file: SourceFile, options: ReadOptions) -> dict[str, Any]:
    """`text`, `id` and `source` as the native reader takes them; "id" and "source" are what it gives anyway."""
    names = options.text_names
    if names != ("text",) and not set(names) <= set(PARTS):
        wrong = next(name for name in names if name not in PARTS)
        message = f"text is {wrong!r}: of PubMed and JATS files give text (all of it), or some of {', '.join(PARTS)}"
        raise InputError(message, path=file.path, field="text", value=wrong)
    identifier = None if options.id == "id" else options.id
    if identifier is not None and identifier not in IDS:
        message = f"id is {identifier!r}: of PubMed and JATS files give one of {', '.join(IDS)}, or none"
        raise InputError(message, path=file.path, field="id", value=identifier)
    if options.source not in (None, "source", "journal"):
        message = f"source is {options.source!r}: of PubMed and JATS files give source or journal, or none"
        raise InputError(message, path=file.path, field="source", value=options.source)
    return {"text": list(names), "id": identifier, "source": options.source}


def _array(kind: str, rows: int, buffers: tuple[_native.Buffer, ...]) -> pa.Array:
    """An Arrow array over native buffers."""
    import pyarrow as pa

    held = [pa.py_buffer(buffer) for buffer in buffers]
    if kind == "text":
        return pa.Array.from_buffers(pa.large_string(), rows, [None, *held])
    if kind == "optional_text":
        offsets, data, validity = held
        return pa.Array.from_buffers(pa.large_string(), rows, [validity, offsets, data])
    if kind == "int32":
        numbers, validity = held
        return pa.Array.from_buffers(pa.int32(), rows, [validity, numbers])
    child = string_array(*buffers[1:3])
    if kind == "sections":
        ranges = [pa.Array.from_buffers(pa.int64(), len(child), [None, numbers]) for numbers in held[3:]]
        child = pa.StructArray.from_arrays([child, *ranges], ["title", "start_byte", "end_byte"])
    return pa.Array.from_buffers(pa.list_(child.type), rows, [None, held[0]], children=[child])
