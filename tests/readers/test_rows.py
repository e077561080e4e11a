"""Rows with fields of any kind."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
from biollm.errors import FileError, InputError
from biollm.readers.rows import open_rows

CHAT = [{"role": "user", "content": "x"}]
ROWS: list[dict[str, Any]] = [{"id": 7, "messages": CHAT, "score": 0.5}, {"question": "q", "tags": ["a", "b"]}]


def lines(path: Path, *rows: Any) -> Path:
    opened = gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w")
    with opened as file:
        file.write("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.ndjson"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    file = lines(tmp_path / name, ROWS[0], "\n", ROWS[1])
    for source in (file, str(file), [file], str(tmp_path / "rows.*")):
        rows = open_rows(source)
        found = list(rows)
        assert [dict(row.fields) for row in found] == ROWS
        assert [row.number for row in found] == [0, 1]
        assert [row.id for row in found] == ["7", f"{file}:1"]
        (record,) = rows.records
        assert (record.name, record.kind) == (str(file), "file")
        assert record.xxh3_128 is not None


def test_tables_lists_and_parquet(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"question": "q", "messages": CHAT}, {"question": "r", "messages": None}])
    pq.write_table(table, tmp_path / "rows.parquet")
    for source in (table, table.to_pylist(), tmp_path / "rows.parquet"):
        found = list(open_rows(source))
        assert [row.get("messages") for row in found] == [CHAT, None]
        assert [row.get("question") for row in found] == ["q", "r"]
        assert [row.get("nothing") for row in found] == [None, None]


def test_a_folder_of_documents_gives_what_is_in_meta(tmp_path: Path) -> None:
    file = lines(tmp_path / "rows.jsonl", {"id": "a", "answer": "y", "question": "x", "messages": CHAT})
    biollm.read(file, text="answer", output=tmp_path / "read")
    rows = open_rows(tmp_path / "read")
    (row,) = rows
    assert [row.get(name) for name in ("text", "question", "messages", "id")] == ["y", "x", CHAT, "a"]
    assert [record.kind for record in rows.records] == ["stage"]


def test_bad_rows_are_raised_or_set_aside(tmp_path: Path) -> None:
    file = lines(tmp_path / "rows.jsonl", {"a": 1}, "{\n", "[1]\n", "7\n", "[" * 100_000 + "\n", {"b": 2})
    with pytest.raises(InputError, match="row 1: not JSON") as caught:
        list(open_rows(file))
    assert (caught.value.path, caught.value.row) == (str(file), 1)
    rows = open_rows(file, on_error="skip")
    assert [dict(row.fields) for row in rows] == [{"a": 1}, {"b": 2}]
    assert [record.row for record in rows.rejected] == [1, 2, 3, 4]
    assert rows.rejected[1].reason == "not an object, but list"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_line_is_counted_with_the_blank_ones(tmp_path: Path, name: str) -> None:
    file = lines(tmp_path / name, "\n", {"a": 1}, "  \n", "\n", {"b": 2}, "{\n", {"c": 3})
    assert [(row.number, row.line) for row in open_rows(file, on_error="skip")] == [(0, 2), (1, 5), (3, 7)]
    rows = open_rows(file, on_error="skip")
    found = list(rows)
    assert [(record.line, record.row) for record in rows.rejected] == [(6, 2)]
    assert found[1].error("bad").line == 5
    assert str(found[1].error("bad")).startswith(f"{file}:5: ")
    pq.write_table(pa.Table.from_pylist([{"text": "a"}]), tmp_path / "rows.parquet")
    for other in ([{"a": 1}], tmp_path / "rows.parquet"):
        assert [row.line for row in open_rows(other)] == [None]


def test_what_holds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"rows are read from \.jsonl and \.parquet files"):
        open_rows(tmp_path / "a.txt")
    with pytest.raises(FileError):
        open_rows(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="matches no file"):
        open_rows(str(tmp_path / "*.jsonl"))
    for wrong in (7, None, {"a": 1}, [1, 2]):
        with pytest.raises(TypeError, match="holds no rows"):
            open_rows(wrong)
