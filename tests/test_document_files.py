"""Folders of documents: parts, blocks, and what may be overwritten."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from biollm import _native, document_files
from biollm.document_files import begin_folder, blocks, document_writer, write_parquet
from biollm.errors import FileError, InputError
from biollm.manifest import Manifest


def table(rows: int) -> pa.Table:
    ids = pa.array([str(i) for i in range(rows)], pa.large_string())
    return pa.table({"id": ids, "text": pa.array(["x" * (i % 9) for i in range(rows)], pa.large_string())})


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_parts_hold_all_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_files, "ROWS_PER_FILE", 10)
    with document_writer(tmp_path, table(0).schema) as writer:
        for start in range(0, 28, 4):
            writer.write(table(28).slice(start, 4))
        assert len(writer.outputs) == 3
    assert writer.rows == 28
    names = [f"documents/part-{i:05}.parquet" for i in range(4)]
    assert files(tmp_path) == names
    assert writer.outputs == {name: _native.hash_file(tmp_path / name) for name in names}
    assert pq.read_table(tmp_path / "documents").equals(table(28))


def test_no_rows_are_one_part_with_the_columns(tmp_path: Path) -> None:
    with document_writer(tmp_path, table(0).schema):
        pass
    assert pq.read_table(tmp_path / "documents").schema.names == ["id", "text"]


def test_a_failure_leaves_no_torn_part(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="enough"), document_writer(tmp_path, table(0).schema) as writer:
        writer.write(table(5))
        raise RuntimeError("enough")
    assert files(tmp_path) == []


def test_a_full_disk_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    with pytest.raises(FileError), document_writer(tmp_path, table(0).schema) as writer:
        writer.write(table(5))
        # What the system would say at the next write.
        raise OSError(28, "No space left on device")
    assert files(tmp_path) == []


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_blocks_are_as_large_as_wanted(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_files, "BLOCK_ROWS", 10)
    given = list(blocks(table(47).to_reader(max_chunksize=chunk)))
    assert pa.concat_tables(given).equals(table(47))
    assert all(len(block) < 10 + chunk for block in given)
    assert len(given) <= 6
    monkeypatch.setattr(document_files, "BLOCK_BYTES", 60)
    small = list(blocks(table(47).to_reader(max_chunksize=chunk)))
    assert len(small) > len(given)
    assert pa.concat_tables(small).equals(table(47))
    assert list(blocks(table(0).to_reader())) == []


def test_a_folder_of_ours_is_emptied(tmp_path: Path) -> None:
    folder = begin_folder(tmp_path / "new" / "out")
    name = "decisions.parquet"
    outputs = {name: write_parquet(folder / name, table(3)), "custom.json": "0" * 32}
    (folder / "custom.json").write_text("{}")
    (folder / "documents").mkdir()
    (folder / "documents" / "part-00007.parquet").write_bytes(b"left behind")
    (folder / "documents" / ".part-00008.parquet.1.tmp").write_bytes(b"torn")
    Manifest("select", "documents", 1, outputs=outputs).write(folder)
    with pytest.raises(InputError, match="written by select"):
        begin_folder(folder, verb="dedup")
    assert len(files(folder)) == 5
    begin_folder(folder, verb="select")
    assert files(folder) == []


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match=r"notes\.txt"):
        begin_folder(tmp_path)
    assert files(tmp_path) == ["notes.txt", "summary.json"]
    with pytest.raises(FileError):
        begin_folder(tmp_path / "notes.txt")


def test_the_source_may_not_lie_in_the_output(tmp_path: Path) -> None:
    inside = tmp_path / "a.jsonl"
    inside.write_text("{}")
    for sources in (
        inside,
        str(inside),
        [tmp_path / "elsewhere" / ".." / "a.jsonl"],
        tmp_path,
        str(tmp_path / "*.jsonl"),
    ):
        with pytest.raises(InputError, match="holds the source"):
            begin_folder(tmp_path, sources)
    begin_folder(tmp_path / "out", inside)
    begin_folder(tmp_path / "out", ["a text", str(tmp_path / "out")])
