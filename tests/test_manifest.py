from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from biollm.atomic import atomic_path, make_folder, write_bytes, write_json
from biollm.errors import FileError, FormatError
from biollm.manifest import InputRecord, Manifest, match_key
from biollm.results import Sample, Series, Summary, Table


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "verb": "dedup",
        "kind": "documents",
        "algorithm_version": 1,
        "options": {"threshold": 0.8},
        "inputs": (InputRecord("a.jsonl", "file", "0" * 32, 10, 1, 2, 3),),
        "counts": {"rows_in": 5},
        "outputs": {"documents/0.parquet": "f" * 32},
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    assert Manifest.read(tmp_path) == manifest()
    assert Manifest.read(tmp_path).hash == manifest().hash


def test_what_makes_a_stage_run_again() -> None:
    key = manifest().match_key
    assert manifest(wall_s=9.0, versions={"python": "4"}, counts={}, outputs={}).match_key == key
    for change in (
        {"verb": "select"},
        {"algorithm_version": 2},
        {"options": {"threshold": 0.7}},
        {"inputs": (InputRecord("a.jsonl", "file", "1" * 32, 10, 1, 2, 3),)},
        {"inputs": ()},
    ):
        assert manifest(**change).match_key != key
    # The same bytes under other times, or another name, are the same input.
    moved = InputRecord("b.jsonl", "file", "0" * 32, 10, 7, 8, 9)
    assert match_key("dedup", 1, {"threshold": 0.8}, (moved,)) == key


def test_file_records(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    record = InputRecord.of_file(path)
    assert record.unchanged_file(path)
    assert record.same_content(InputRecord.of_file(path))
    os.utime(path, ns=(1, 1))
    assert not record.unchanged_file(path)
    assert record.same_content(InputRecord.of_file(path))
    path.write_bytes(b"two")
    assert not record.same_content(InputRecord.of_file(path))
    path.unlink()
    assert not record.unchanged_file(path)
    with pytest.raises(FileError) as caught:
        InputRecord.of_file(path)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a biollm manifest"),
        ('{"format": "other"}', "not a biollm manifest"),
        ('{"format": "biollm-manifest", "version": 99}', "version 99"),
        ('{"format": "biollm-manifest", "version": 1}', "lacks or misnames"),
        ('{"format": "biollm-manifest", "version": 1, "inputs": [{"x": 1}]}', "lacks or misnames"),
    ],
)
def test_foreign_manifests_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(FormatError, match=message) as caught:
        Manifest.read(tmp_path)
    assert caught.value.path == str(tmp_path / "manifest.json")


def test_a_missing_manifest_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        Manifest.read(tmp_path)


def test_nothing_torn_is_left_when_writing_fails(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError, match="midway"), atomic_path(tmp_path / "a") as file:
        file.path.write_bytes(b"half")
        raise RuntimeError("midway")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_atomic_writes_give_checksums_and_typed_errors(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "a", b"") == "99aa06d3014798d86001c324468d497f"
    write_json(tmp_path / "b", {"é": 1})
    assert json.loads((tmp_path / "b").read_bytes()) == {"é": 1}
    with pytest.raises(FileError) as caught:
        write_bytes(tmp_path / "absent" / "a", b"")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(FileError):
        make_folder(tmp_path / "a" / "below a file")
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "c", float("nan"))
    assert not (tmp_path / "c").exists()


def test_summaries_round_trip_through_json() -> None:
    summary = Summary(
        "dedup",
        {"rows": 3, "rate": 0.5, "note": None},
        (Table("clusters", ("size", "count"), ((2, 1), (3, 1))),),
        (Series("loss", "step", "nats", (1, 2), (3.0, 2.5), name="train"),),
        (Sample("removed", "text\n"),),
    )
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary
    assert "clusters" in str(summary)
    assert "rows: 3" in str(summary)
