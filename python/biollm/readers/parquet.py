"""Parquet files, through pyarrow: a batch at a time, and no more memory than a limit, whatever the file says of itself.

Before pyarrow decodes anything by the numbers in a file, `parquet_sizes` has looked at the footer and at the header of
every page of the row group.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from biollm.errors import BiollmError, FileError, FormatError
from biollm.readers.columns import ColumnMapper
from biollm.readers.files import SourceFile
from biollm.readers.options import ReadOptions
from biollm.readers.parquet_sizes import RowGroups, check_footer
from biollm.readers.source import PassLog

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from biollm.results import Progress

__all__ = ["parquet_batches", "parquet_schema"]

#: Rows of row groups that are read in one go.
SPAN_ROWS: Final = 1 << 16
#: Bytes read from the file at a time; without it a column of a row group is read whole before it is decoded.
BUFFER_BYTES: Final = 1 << 20


def parquet_schema(file: SourceFile, options: ReadOptions) -> pa.Schema:
    """The columns of the documents that a file gives; reads its footer.

    Args:
        file: which.
        options: which columns are what.

    Raises:
        FileError: it cannot be read. FormatError: it is not Parquet. InputError: a named column is missing.
        LimitError: its footer is made to take more memory than `max_document_bytes`, or nests too deep.
    """
    with _opened(file, options, _handle(file)) as parquet:
        return _mapper(file, parquet, options).schema


def parquet_batches(
    file: SourceFile, options: ReadOptions, log: PassLog, progress: Progress | None
) -> Iterator[pa.RecordBatch]:
    """The file's documents. One in a store is copied to a temporary file first.

    Args:
        file: which.
        options: which columns are what, and the limit.
        log: of the pass.
        progress: called with the share of the file's bytes that the rows read so far make up, and the bytes in all.

    Raises:
        BiollmError: as `parquet_schema`, `RowGroups.batch_rows` and `ColumnMapper.map`.
    """
    with _local(file) as path, _opened(file, options, _open(path, file)) as parquet:
        mapper = _mapper(file, parquet, options)
        groups = RowGroups(path, file.path, parquet, options.limit_bytes)
        rows, total = 0, max(parquet.metadata.num_rows, 1)
        for span, batch_rows in _spans(parquet, groups):
            batches = parquet.iter_batches(batch_size=batch_rows, row_groups=span)
            while (batch := _next(batches, file)) is not None:
                groups.count(span[-1], batch)
                yield mapper.map(batch, log)
                rows += len(batch)
                if progress is not None and file.size_bytes is not None:
                    progress(file.size_bytes * rows // total, file.size_bytes)


def _spans(parquet: pq.ParquetFile, groups: RowGroups) -> Iterator[tuple[list[int], int]]:
    """Row groups to read in one go, each looked at before, and how many rows a batch of them may have."""
    span: list[int] = []
    rows = held = 0
    for group in range(parquet.metadata.num_row_groups):
        batch_rows, count = groups.batch_rows(group), parquet.metadata.row_group(group).num_rows
        if span and (batch_rows != held or rows + count > SPAN_ROWS):
            yield span, held
            span, rows = [], 0
        span.append(group)
        rows, held = rows + count, batch_rows
    if span:
        yield span, held


def _mapper(file: SourceFile, parquet: pq.ParquetFile, options: ReadOptions) -> ColumnMapper:
    return ColumnMapper(parquet.schema_arrow, options, file=file.path, id_prefix=f"{file.name}:")


@contextmanager
def _local(file: SourceFile) -> Iterator[str]:
    """The file's path on this machine: its own, or that of a copy."""
    if file.remote is None:
        yield file.path
        return
    with tempfile.NamedTemporaryFile(prefix="biollm-", suffix=".parquet") as copy:
        try:
            with file.remote.open() as stream:
                shutil.copyfileobj(stream, copy, BUFFER_BYTES)
            copy.flush()
        except OSError as error:
            if isinstance(error, BiollmError):
                raise
            raise FileError.from_os_error(error, file.path) from error
        yield copy.name


def _handle(file: SourceFile) -> Any:
    import pyarrow as pa

    if file.remote is None:
        return _open(file.path, file)
    try:
        handle = file.remote.handle()
    except OSError as error:
        raise _refused(error, file) from error
    return handle if isinstance(handle, pa.NativeFile) else pa.PythonFile(handle, mode="r")


def _open(path: str, file: SourceFile) -> pa.NativeFile:
    import pyarrow as pa

    try:
        return pa.OSFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _refused(error, file) from error


@contextmanager
def _opened(file: SourceFile, options: ReadOptions, handle: pa.NativeFile) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with handle:
        try:
            check_footer(handle, file.path, options.limit_bytes)
            parquet = pq.ParquetFile(handle, buffer_size=BUFFER_BYTES)
        except (OSError, pa.ArrowException) as error:
            raise _refused(error, file) from error
        with parquet:
            yield parquet


def _next(batches: Iterator[pa.RecordBatch], file: SourceFile) -> pa.RecordBatch | None:
    import pyarrow as pa

    try:
        return next(batches, None)
    except (OSError, pa.ArrowException) as error:
        raise _refused(error, file) from error


def _refused(error: Exception, file: SourceFile) -> BiollmError | MemoryError:
    if isinstance(error, (BiollmError, MemoryError)):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return FileError.from_os_error(error, file.path)
    return FormatError(f"not a sound Parquet file: {error}", path=file.path)
