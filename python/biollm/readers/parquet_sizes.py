"""How much memory decoding a Parquet file would take, known from its footer and page headers before it is taken.

A few hundred bytes of Parquet can stand for any amount of data: a page is compressed, a dictionary's value is repeated
by run lengths, a list holds as many values as it says. So of each row group the headers are read first (natively), and
from them come upper bounds: of what a page holds, of what so many rows in succession hold, of what the file holds.
Sizes and formats: the Parquet format, https://github.com/apache/parquet-format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from biollm import _native
from biollm.errors import FileError, FormatError, LimitError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "RowGroups", "check_footer"]

#: Rows a batch may have, the most first: the first that stays below `BATCH_BYTES` is taken.
BATCH_ROWS: Final = (4096, 1024, 256, 64, 16, 4, 1)
BATCH_BYTES: Final = 32 << 20
#: Pages and footers up to this size are read whatever `max_document_bytes` is: they hold many documents.
LEAST_LIMIT: Final = 64 << 20
#: A file may hold so many times its own bytes, and a column of lists in a row group so many times its own;
#: beside them, what `max_document_bytes` allows (of a file, four times that).
MOST_EXPANSION: Final = 1000
MOST_LIST_EXPANSION: Final = 64
#: Groups in groups of a schema.
MAX_DEPTH: Final = 64

_DICTIONARY_CODED: Final = (2, 8)  # PLAIN_DICTIONARY, RLE_DICTIONARY
_PREFIX_CODED: Final = 7  # DELTA_BYTE_ARRAY: a value may repeat all of the one before
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_GROUPS_AT_ONCE: Final = 16
_OVERHEAD: Final = 9  # an int64 offset, and validity
_LEVELS: Final = 4
#: As pyarrow calls them in a footer, and to decompress. LZ4 as Hadoop frames it is neither.
_CODECS: Final = {"SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "ZSTD": "zstd", "LZ4": "lz4_raw"}


def check_footer(handle: pa.NativeFile, path: str, limit: int) -> None:
    """Looks through a footer before a parser makes objects of it.

    Args:
        handle: the opened file.
        path: what to call it.
        limit: bytes that a document may have; a footer may take as many, or 64 MiB.

    Raises:
        FormatError: it is broken.
        LimitError: it takes more memory, or its schema nests deeper than 64 groups.
    """
    size, limit = handle.size(), max(limit, LEAST_LIMIT)
    tail = handle.read_at(8, size - 8) if size >= 12 else b""
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - 8:
        return  # whatever else it is, the parser refuses it
    hint = "raise max_document_bytes if the file is sound"
    if length > limit:
        raise LimitError(f"its footer has {length:,} bytes: {hint}", path=path, value=length, limit=limit)
    try:
        memory, depth = _native.parquet_footer(handle.read_at(length, size - 8 - length))
    except FormatError as error:
        raise FormatError(f"not a sound Parquet file: {error.message}", path=path) from error
    if memory > limit:
        message = f"its footer takes about {memory:,} bytes of memory, over the limit of {limit:,}: {hint}"
        raise LimitError(message, path=path, value=memory, limit=limit)
    if depth > MAX_DEPTH:
        message = f"its schema nests {depth:,} groups deep, over the limit of {MAX_DEPTH}"
        raise LimitError(message, path=path, value=depth, limit=MAX_DEPTH)


@dataclass(frozen=True)
class _Bounds:
    """Upper bounds of a column chunk, a page each, float64 (n_pages,): they may be past any integer.

    Attributes:
        rows: values of a page; of a column without lists, rows.
        value: bytes of its largest value.
        page: bytes of all its values.
        loose: whether values are coded by their prefixes, so that these bounds may be far too high: any of a page
            could hold all of it.
    """

    rows: NDArray[np.float64]
    value: NDArray[np.float64]
    page: NDArray[np.float64]
    loose: bool = False

    def of_rows(self, rows: int) -> float:
        """Bytes of any `rows` rows in succession."""
        if not len(self.rows):
            return 0.0
        ends = np.cumsum(self.rows)
        within = np.minimum(self.page, np.minimum(self.rows, rows) * self.value)
        sums = np.concatenate([[0.0], np.cumsum(within)])
        # The worst begins with the last row of some page.
        last = np.minimum(np.searchsorted(ends, ends - 1 + rows), len(ends) - 1)
        return float(np.max(sums[last + 1] - sums[:-1]))


#: The dictionary page of a chunk (offset, bytes compressed, bytes uncompressed, values), and its data pages.
_Pages = tuple[tuple[int, int, int, int] | None, Any]


class RowGroups:
    """The row groups of one file, looked at one after the other.

    Args:
        path: of the file on this machine.
        name: what to call it.
        parquet: the opened file.
        limit: bytes that a document may have.
    """

    def __init__(self, path: str, name: str, parquet: pq.ParquetFile, limit: int) -> None:
        self._path = path
        self._name = name
        self._metadata = parquet.metadata
        self._columns = [parquet.schema.column(i) for i in range(parquet.metadata.num_columns)]
        self._limit = max(limit, LEAST_LIMIT)
        try:
            self._size = os.stat(path).st_size
        except OSError as error:
            raise FileError.from_os_error(error, name) from error
        self._pages_of: dict[int, list[_Pages]] = {}
        self._bytes_claimed = 0
        self._bytes_decoded = 0.0
        self._counts_batches = False

    def batch_rows(self, group: int) -> int:
        """Looks at the next row group; gives the rows that a batch of it may have.

        Args:
            group: its number; they are looked at in order.

        Raises:
            FileError: the file cannot be read.
            FormatError: chunks outside the file or one above the other, broken page headers, numbers of values that
                differ from the footer's.
            LimitError: its pages, a column of lists in it, or the file so far would take too much memory.
        """
        chunks = [self._metadata.row_group(group).column(i) for i in range(len(self._columns))]
        if group not in self._pages_of:
            self._look(group)
        found = self._pages_of.pop(group)
        bounds: list[_Bounds] = []
        held = 0
        for i, (dictionary, data) in enumerate(found):
            pages = np.frombuffer(data, np.uint32).reshape(-1, 4).astype(np.float64)
            largest = int(pages[:, :2].max(initial=0))
            held += largest + (max(dictionary[1:3]) if dictionary is not None else 0)
            if held > self._limit:
                what = f"the pages up to column {self._columns[i].path!r} take {held:,} bytes at a time"
                raise self._over(group, what, held, i)
            bounds.append(self._bounds(group, i, chunks[i], dictionary, pages))
        self._check_lists(group, chunks, bounds)
        self._counts_batches |= any(bound.loose for bound in bounds)
        self._hold(group, sum(float(bound.page.sum()) for bound in bounds if not bound.loose))
        flat = [b for b, column in zip(bounds, self._columns, strict=True) if not column.max_repetition_level]
        return next((n for n in BATCH_ROWS if sum(bound.of_rows(n) for bound in flat) <= BATCH_BYTES), 1)

    def count(self, group: int, batch: pa.RecordBatch) -> None:
        """Notes a batch that was decoded of the row groups up to `group`.

        What texts that are coded by their prefixes hold is known only then; its batches are small meanwhile.

        Args:
            group: the last that was looked at.
            batch: what came.

        Raises:
            LimitError: the file so far would take too much memory.
        """
        if self._counts_batches:
            self._hold(group, float(batch.nbytes))

    def _hold(self, group: int, size: float) -> None:
        """Adds to what the file holds so far."""
        self._bytes_decoded += size
        most = MOST_EXPANSION * self._size + 4 * self._limit
        if self._bytes_decoded > most:
            what = f"a file of {self._size:,} bytes that holds up to {self._bytes_decoded:,.0f}"
            raise self._over(group, what, int(min(self._bytes_decoded, 2.0**62)), None, most)

    def _look(self, first: int) -> None:
        """Reads the page headers of some row groups, the footer's numbers having been held against each other."""
        groups = range(first, min(first + _GROUPS_AT_ONCE, self._metadata.num_row_groups))
        places = [place for group in groups for place in self._places(group)]
        try:
            found = _native.parquet_pages(self._path, places)
        except FormatError as error:
            message = f"not a sound Parquet file: row groups {groups[0]} to {groups[-1]}: {error.message}"
            raise FormatError(message, path=self._name) from error
        width = len(self._columns)
        self._pages_of = {group: found[n * width : (n + 1) * width] for n, group in enumerate(groups)}

    def _places(self, group: int) -> list[tuple[int, int, int]]:
        """Where the column chunks of a row group begin, their bytes and values."""
        places = []
        row_group = self._metadata.row_group(group)
        for i, column in enumerate(self._columns):
            chunk = row_group.column(i)
            first, dictionary = chunk.data_page_offset, chunk.dictionary_page_offset
            if dictionary is not None and 0 < dictionary < first:
                first = dictionary
            place = (first, chunk.total_compressed_size, chunk.num_values)
            if min(place) < 0 or (not column.max_repetition_level and chunk.num_values != row_group.num_rows):
                message = f"row group {group}, column {column.path!r}: {place[2]} values for {row_group.num_rows} rows"
                raise FormatError(f"not a sound Parquet file: {message}", path=self._name)
            places.append(place)
            self._bytes_claimed += place[1]
        if self._bytes_claimed > self._size:
            message = f"row groups up to {group} have {self._bytes_claimed:,} bytes, the file {self._size:,}"
            raise FormatError(f"not a sound Parquet file: {message}", path=self._name)
        return places

    def _bounds(
        self, group: int, i: int, chunk: Any, dictionary: tuple[int, int, int, int] | None, pages: NDArray[np.float64]
    ) -> _Bounds:
        column = self._columns[i]
        plain, rows, encoding = pages[:, 1], pages[:, 2], pages[:, 3]
        loose = False
        if column.physical_type != "BYTE_ARRAY":
            width = _WIDTHS.get(column.physical_type) or max(32, column.length)
            value = np.full(len(rows), float(width + _OVERHEAD))
            page = rows * value
        else:
            coded = np.isin(encoding, _DICTIONARY_CODED)
            longest = 0.0
            if dictionary is not None:
                longest = float(dictionary[2])
                if longest * float(rows[coded].sum()) > BATCH_BYTES // 4:
                    longest = float(self._longest(group, i, chunk.compression, dictionary))
            value = np.where(coded, longest, plain) + _OVERHEAD
            prefixed = encoding == _PREFIX_CODED
            loose = bool(prefixed.any())
            whole = np.where(coded | prefixed, rows * value, plain)
            page = np.minimum(whole, rows * value) + rows * _OVERHEAD
        if column.max_repetition_level:
            page = page + rows * _LEVELS
        return _Bounds(rows, value, page, loose)

    def _longest(self, group: int, i: int, codec: str, dictionary: tuple[int, int, int, int]) -> int:
        """Bytes of the longest value of a dictionary, which is decompressed for it."""
        import pyarrow as pa

        offset, compressed, uncompressed, values = dictionary
        if codec not in ("UNCOMPRESSED", *_CODECS):
            return uncompressed
        try:
            with open(self._path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), compressed, offset)
        except OSError as error:
            raise FileError.from_os_error(error, self._name) from error
        try:
            if codec != "UNCOMPRESSED":
                data = pa.Codec(_CODECS[codec]).decompress(data, uncompressed, asbytes=True)
            return _native.parquet_longest_value(data, values)
        except (OSError, pa.ArrowException, FormatError) as error:
            message = f"row group {group}, column {self._columns[i].path!r}: its dictionary is broken: {error}"
            raise FormatError(f"not a sound Parquet file: {message}", path=self._name) from error

    def _check_lists(self, group: int, chunks: list[Any], bounds: list[_Bounds]) -> None:
        """A row may hold all values of a column of lists, so the column must fit as a whole."""
        for i, (chunk, bound) in enumerate(zip(chunks, bounds, strict=True)):
            most = max(self._limit, MOST_LIST_EXPANSION * chunk.total_compressed_size)
            size = float(bound.page.sum())
            if self._columns[i].max_repetition_level and size > most:
                what = f"the lists of column {self._columns[i].path!r} hold up to {size:,.0f} bytes"
                raise self._over(group, what, int(min(size, 2.0**62)), i, most)

    def _over(self, group: int, what: str, value: int, i: int | None, limit: int | None = None) -> LimitError:
        limit = self._limit if limit is None else limit
        message = f"row group {group}: {what}, over the limit of {limit:,}: raise max_document_bytes if it is sound"
        field = self._columns[i].path if i is not None else None
        return LimitError(message, path=self._name, field=field, value=value, limit=limit)
