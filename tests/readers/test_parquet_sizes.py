"""Parquet of every writer and coding reads as before, in batches of a bounded size."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from biollm.errors import LimitError
from biollm.readers import as_documents
from biollm.readers.parquet_sizes import BATCH_BYTES

DRAW = random.Random(3)
TEXTS = ["".join(DRAW.choices("abcdefgh ", k=DRAW.randrange(400))) for _ in range(6000)]
TABLE = pa.table(
    {
        "text": TEXTS,
        "journal": pa.array([f"Journal {i % 30}" for i in range(6000)]).dictionary_encode(),
        "year": pa.array([1990 + i % 30 if i % 5 else None for i in range(6000)], pa.int32()),
        "day": pa.array(list(range(6000)), pa.date32()),
        "share": pa.array([i / 7 for i in range(6000)]),
        "open": pa.array([i % 3 == 0 for i in range(6000)]),
        "digest": pa.array([bytes([i % 256]) * 16 for i in range(6000)], pa.binary(16)),
        "authors": pa.array([[f"A{i % 90}", "B"][: i % 3] if i % 4 else None for i in range(6000)]),
        "scores": pa.array([[i / 3] * (i % 5) for i in range(6000)], pa.list_(pa.float32())),
        "where": pa.array([{"city": f"C{i % 9}", "at": {"x": i}} for i in range(6000)]),
        "nothing": pa.nulls(6000),
    }
)


def check(path: Path, expected: pa.Table = TABLE) -> None:
    found = as_documents(path).to_table()
    assert found.column("text").to_pylist() == expected.column("text").to_pylist()
    for name in expected.column_names[1:]:
        assert found.column(name).to_pylist() == expected.column(name).to_pylist(), name


@pytest.mark.parametrize(
    "options",
    [
        *({"compression": codec} for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")),
        {"data_page_version": "2.0"},
        {"use_dictionary": False},
        {"row_group_size": 7},
        {"row_group_size": 1000, "dictionary_pagesize_limit": 1000, "data_page_size": 2000},
        {"write_page_index": True, "write_page_checksum": True, "write_statistics": True},
        {"version": "1.0"},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY", "year": "DELTA_BINARY_PACKED"}},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY", "share": "BYTE_STREAM_SPLIT"}},
        {"store_schema": False},
    ],
    ids=str,
)
def test_every_coding(options: dict[str, Any], tmp_path: Path) -> None:
    table = TABLE if options.get("row_group_size") != 7 else TABLE.slice(0, 500)
    if options.get("store_schema") is False or options.get("version") == "1.0":
        table = table.drop_columns(["day", "where", "nothing"])
    pq.write_table(table, tmp_path / "a.parquet", **options)
    check(tmp_path / "a.parquet", table)


@pytest.mark.parametrize("compression", ["zstd", "lz4", "snappy", "gzip", "brotli", "uncompressed"])
def test_what_polars_writes(compression: Any, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    path = tmp_path / "a.parquet"
    table = TABLE.select(["text", "journal", "year", "authors", "where"])
    polars.from_arrow(table).write_parquet(path, compression=compression, row_group_size=1500)
    check(path, table)


def test_tables_without_rows_or_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE.slice(0, 0), path)
    check(path, TABLE.slice(0, 0))
    with pq.ParquetWriter(path, TABLE.schema):
        pass
    check(path, TABLE.slice(0, 0))


@pytest.mark.parametrize("dictionary", [True, False])
def test_long_documents_come_in_smaller_batches(dictionary: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    long = [f"{i} " * 100_000 if i % 50 == 0 else "short" for i in range(2000)]
    pq.write_table(pa.table({"text": long}), path, use_dictionary=dictionary, compression="zstd")
    batches = list(as_documents(path).reader())
    assert [text for batch in batches for text in batch.column("text").to_pylist()] == long
    assert max(batch.nbytes for batch in batches) <= BATCH_BYTES + (1 << 20)
    assert len(batches) < 200


def test_the_limit_is_raised_by_its_option(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * (70 << 20)]}), path, use_dictionary=False, compression="zstd")
    with pytest.raises(
        LimitError, match=r"row group 0: the pages up to column 'text' take .* raise max_document_bytes"
    ):
        as_documents(path, max_document_bytes=1 << 20).to_table()
    assert as_documents(path).to_table().num_rows == 1
