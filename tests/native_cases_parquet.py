"""What a Parquet file says of its sizes."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations, scratch

Chunk = tuple[int, int, int]


def _file() -> tuple[Path, list[Chunk]]:
    """A file of many small pages, and where its columns lie."""
    path = scratch("pages.parquet")
    table = pa.table({"text": [f"text {i % 50}" for i in range(4000)], "n": range(4000)})
    pq.write_table(table, path, data_page_size=64, write_batch_size=8)
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(i) for i in range(2)]
    places = [(c.dictionary_page_offset or c.data_page_offset, c.total_compressed_size, c.num_values) for c in columns]
    return path, places


def _footer() -> bytes:
    data = _file()[0].read_bytes()
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


def _prepare_pages(size: int) -> Call:
    path, chunks = _file()

    def call() -> list[Any]:
        found = _native.parquet_pages(path, chunks * size)
        return [(dictionary, bytes(pages)) for dictionary, pages in found[:4]]

    return call


def _malformed_pages(rng: random.Random) -> Iterator[Call]:
    path, chunks = _file()
    data = path.read_bytes()
    for value in ODD_VALUES:
        yield partial(_native.parquet_pages, value, chunks)
        yield partial(_native.parquet_pages, path, value)
        yield partial(_native.parquet_pages, path, [(value, 1, 1)])
        yield partial(_native.parquet_pages, path, [(4, value, 1)])
        yield partial(_native.parquet_pages, path, [(4, 100, value)])
    for i, damaged in enumerate(mutations(data[:3000], rng, 200)):
        other = scratch(f"damaged-{i % 2}.parquet")

        def call(other: Path = other, damaged: bytes = damaged) -> object:
            other.write_bytes(damaged + data[3000:])
            return _native.parquet_pages(other, chunks)

        yield call


def _malformed_footer(rng: random.Random) -> Iterator[Call]:
    for value in ODD_VALUES:
        yield partial(_native.parquet_footer, value)
    for data in mutations(_footer(), rng, 300):
        yield partial(_native.parquet_footer, data)


def _prepare_longest(size: int) -> Call:
    values = min(size, 1000)
    page = b"".join(struct.pack("<I", i % 7) + b"x" * (i % 7) for i in range(values))
    return partial(_native.parquet_longest_value, page, values)


def _malformed_longest(rng: random.Random) -> Iterator[Call]:
    page = struct.pack("<I", 3) + b"abc"
    for value in ODD_VALUES:
        yield partial(_native.parquet_longest_value, value, 1)
        yield partial(_native.parquet_longest_value, page, value)
    for data in mutations(page * 20, rng, 200):
        yield partial(_native.parquet_longest_value, data, 20)


PARQUET_CASES = [
    NativeCase("parquet_pages", "long", _prepare_pages, _malformed_pages),
    NativeCase("parquet_footer", "short", lambda size: partial(_native.parquet_footer, _footer()), _malformed_footer),
    NativeCase("parquet_longest_value", "short", _prepare_longest, _malformed_longest),
]
