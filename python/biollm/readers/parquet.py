"""Parquet files, through pyarrow: a batch at a time, so that memory is bounded by a row group's pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from biollm.errors import BiollmError, FileError, FormatError
from biollm.readers.columns import ColumnMapper
from biollm.readers.files import SourceFile
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from biollm.results import Progress

__all__ = ["parquet_batches", "parquet_schema"]

#: Rows a batch: small enough that long articles do not fill the memory.
BATCH_ROWS: Final = 4096


def parquet_schema(file: SourceFile, options: ReadOptions) -> pa.Schema:
    """The columns of the documents that a file gives; reads its footer.

    Raises:
        FileError: it cannot be read. FormatError: it is not Parquet. InputError: a named column is missing.
    """
    with _opened(file) as parquet:
        return _mapper(file, parquet, options).schema


def parquet_batches(
    file: SourceFile, options: ReadOptions, log: PassLog, progress: Progress | None
) -> Iterator[pa.RecordBatch]:
    """The file's documents.

    Raises:
        BiollmError: as `parquet_schema` and `ColumnMapper.map`.
    """
    with _opened(file) as parquet:
        mapper = _mapper(file, parquet, options)
        batches = parquet.iter_batches(batch_size=BATCH_ROWS)
        rows, total = 0, max(parquet.metadata.num_rows, 1)
        while (batch := _next(batches, file)) is not None:
            yield mapper.map(batch, log)
            rows += len(batch)
            if progress is not None and file.size_bytes is not None:
                progress(file.size_bytes * rows // total, file.size_bytes)


def _mapper(file: SourceFile, parquet: pq.ParquetFile, options: ReadOptions) -> ColumnMapper:
    return ColumnMapper(parquet.schema_arrow, options, file=file.path, id_prefix=f"{file.name}:")


@contextmanager
def _opened(file: SourceFile) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    handle: Any = None
    try:
        handle = file.remote.handle() if file.remote is not None else pa.OSFile(file.path)
        parquet = pq.ParquetFile(handle)
    except (OSError, pa.ArrowException) as error:
        if handle is not None:
            handle.close()
        raise _refused(error, file) from error
    with handle, parquet:
        yield parquet


def _next(batches: Iterator[pa.RecordBatch], file: SourceFile) -> pa.RecordBatch | None:
    import pyarrow as pa

    try:
        return next(batches, None)
    except (OSError, pa.ArrowException) as error:
        raise _refused(error, file) from error


def _refused(error: Exception, file: SourceFile) -> BiollmError | MemoryError:
    if isinstance(error, MemoryError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return FileError.from_os_error(error, file.path)
    return FormatError(f"not a sound Parquet file: {error}", path=file.path)
