"""Files and folders of documents, one behind the other, as one source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biollm.errors import FormatError, InputError
from biollm.manifest import InputRecord, Manifest
from biollm.readers.files import SourceFile, find_files
from biollm.readers.options import ReadOptions
from biollm.readers.parquet import parquet_batches, parquet_schema
from biollm.readers.source import PassLog, Source
from biollm.readers.streams import StreamReader, stream_schema
from biollm.readers.versions import XmlFiles
from biollm.readers.xml import XmlReader, xml_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["paths_source"]


def paths_source(paths: list[str | Path], options: ReadOptions) -> Source:
    """The documents of files, globs, URLs, and folders that `read`, `dedup` or `select` left.

    Raises:
        FileError: one is missing or cannot be read. FormatError: a Parquet file is damaged.
        InputError: a glob matches nothing, the format is not known, a folder is of another kind, a column is missing.
    """
    parts = _parts(paths, options)
    schemas = [part.schema(options) for part in parts]
    schema = _unified(schemas, [part.file.path for part in parts])
    records: dict[int, InputRecord] = {}
    xml = XmlFiles({i: part.file for i, part in enumerate(parts) if part.file.format == "xml"}, options)

    def batches(log: PassLog) -> Iterator[pa.RecordBatch]:
        # XML files are passed over once before they are read.
        sizes = [*(part.file.size_bytes for part in parts), xml.size_bytes]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        with xml.opened(log, _shifted(log.progress, 0, total)) as readers:
            done = xml.size_bytes or 0
            for i, (part, own_schema) in enumerate(zip(parts, schemas, strict=True)):
                if i < log.passed_files:
                    done += part.file.size_bytes or 0
                    continue
                passed = log.passed_rows if i == log.passed_files else 0
                log.begin(part.file.path)
                progress = _shifted(log.progress, done, total)
                if part.file.format == "parquet":
                    batches = parquet_batches(part.file, options, log, progress)
                else:
                    reader = readers[i] if i in readers else StreamReader(part.file, options)
                    batches = _recorded(reader, log, progress, records, i)
                for batch in batches:
                    log.count(part.file.path, len(batch))
                    if passed:
                        past = min(passed, len(batch))
                        passed, batch = passed - past, batch.slice(past)
                        if not len(batch):
                            continue
                    yield batch if own_schema == schema else _conformed(batch, schema)
                done += part.file.size_bytes or 0

    def inputs() -> tuple[InputRecord, ...]:
        known: list[InputRecord] = []
        for i, part in enumerate(parts):
            if part.folder is None:
                if i not in records:
                    records[i] = part.record()
                known.append(records[i])
            elif part.first_of_folder:
                known.append(part.folder)
        return tuple(known)

    description = str(paths[0]) if len(paths) == 1 else f"{len(parts):,} files"
    return Source(schema, batches, inputs, description, any(not part.file.regular for part in parts))


@dataclass(frozen=True)
class _Part:
    """One file of the source.

    Attributes:
        folder: the record of the stage's folder it lies in, which stands for all its files.
        first_of_folder: whether the record is to be counted here.
    """

    file: SourceFile
    folder: InputRecord | None = None
    first_of_folder: bool = False

    def schema(self, options: ReadOptions) -> pa.Schema:
        """The columns of the documents it gives."""
        if self.file.format == "parquet":
            return parquet_schema(self.file, options).remove_metadata()
        return xml_schema(self.file, options) if self.file.format == "xml" else stream_schema(self.file)

    def record(self) -> InputRecord:
        """The file as the manifest names it, where no pass has made its record."""
        if self.file.remote is None and self.file.regular:
            return InputRecord.of_file(self.file.path)
        return InputRecord(self.file.path, "url" if self.file.remote else "file", None, self.file.size_bytes)


def _recorded(
    reader: StreamReader | XmlReader,
    log: PassLog,
    progress: Progress | None,
    records: dict[int, InputRecord],
    position: int,
) -> Iterator[pa.RecordBatch]:
    """The documents of a file; what is then known of it goes to `records[position]`."""
    yield from reader.batches(log, progress)
    if reader.record is not None:
        records[position] = reader.record


def _parts(paths: list[str | Path], options: ReadOptions) -> list[_Part]:
    """Files in the order of the paths. Those of one call are named together, so that their names are not equal."""
    folders = {i: Path(path) for i, path in enumerate(paths) if _is_stage(path)}
    parts: list[_Part] = []
    run: list[str | Path] = []
    for i, path in enumerate(paths):
        if i in folders:
            parts.extend(_Part(file) for file in find_files(run, lines=options.lines))
            run = []
            parts.extend(_folder_parts(folders[i]))
        else:
            run.append(path)
    parts.extend(_Part(file) for file in find_files(run, lines=options.lines))
    return parts


def _is_stage(path: str | Path) -> bool:
    try:
        return (Path(path) / "manifest.json").is_file()
    except (OSError, ValueError):
        return False


def _folder_parts(folder: Path) -> Iterator[_Part]:
    manifest = Manifest.read(folder)
    if manifest.kind != "documents":
        message = f"a folder of {manifest.kind}, made by {manifest.verb}: documents are needed"
        raise InputError(message, path=folder, value=manifest.kind)
    names = [name for name in manifest.outputs if name.startswith("documents/") and name.endswith(".parquet")]
    if not names:
        raise FormatError("the manifest lists no files of documents", path=folder, field="outputs")
    record = InputRecord(os.fspath(folder), "stage", manifest.hash)
    for i, file in enumerate(find_files([folder / name for name in names], lines=False)):
        yield _Part(file, record, i == 0)


def _unified(schemas: list[pa.Schema], names: list[str]) -> pa.Schema:
    import pyarrow as pa

    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = f"the files ({', '.join(names[:3])}, …) have columns of one name and different types: {error}"
        raise InputError(message, path=names[0]) from error


def _conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the columns of all files: those it lacks are null."""
    import pyarrow as pa

    def column(field: Any) -> pa.Array:
        position = batch.schema.get_field_index(field.name)
        return pa.nulls(len(batch), field.type) if position < 0 else batch.column(position).cast(field.type)

    return pa.RecordBatch.from_arrays([column(field) for field in schema], schema=schema)


def _shifted(progress: Progress | None, done: int, total: int | None) -> Progress | None:
    """The progress of one file as that of all of them."""
    if progress is None:
        return None
    report: Callable[[int, int | None], None] = progress
    return lambda bytes_read, _: report(done + bytes_read, total)
