"""Parquet: every text type, bounded batches, damage."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from biollm.errors import BiollmError, FormatError, InputError
from biollm.readers import as_documents
from native_case import mutations

TEXTS = [f"text {i} é" for i in range(10_000)]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_text_type(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array(TEXTS).cast(kind), "n": range(10_000)}), path, row_group_size=3000)
    documents = as_documents(path)
    table = documents.to_table()
    assert documents.schema.field("text").type == pa.large_string()
    assert table.column("text").to_pylist() == TEXTS
    assert table.column("id")[9_999].as_py() == "a.parquet:9999"
    assert table.column("n").to_pylist() == list(range(10_000))
    assert max(len(batch) for batch in documents.reader()) <= 4096


def test_columns_that_are_missing_or_double(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["a"]}), path)
    with pytest.raises(InputError, match=r"no one column 'text' \(there is none; columns: body\)"):
        as_documents(path)
    assert as_documents(path, text="body").to_table().column("text").to_pylist() == ["a"]
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path)
    with pytest.raises(InputError, match="there are several"):
        as_documents(path)


def test_damage_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content in (b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\xff" * 100 + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(FormatError) as caught:
            as_documents(path)
        assert caught.value.path == str(path)


def test_mutated_files_raise_only_our_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXTS[:200]}), path, write_page_checksum=True)
    whole = path.read_bytes()
    refused = 0
    # Damage behind the pages only: pyarrow's own decoders are not what is tested here.
    for data in mutations(whole[:500], random.Random(5), 60):
        path.write_bytes(data + whole[500:])
        try:
            as_documents(path).to_table()
        except (BiollmError, MemoryError):
            refused += 1
    assert refused > 10
