"""Work in progress: kept for the same key, gone for another, and honest about what was repeated."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import interrupted
from biollm import _native
from biollm.document_files import begin_folder
from biollm.manifest import Manifest, Resumption
from biollm.partial import open_partial, reporting, work_key
from biollm.recipe.folder import clear, refuse_foreign


def test_what_was_left_is_found_again_under_the_same_key(tmp_path: Path) -> None:
    first = open_partial(tmp_path, "key")
    assert first is not None
    assert not first.resumed
    (first.path / "piece.json").write_text("{}")
    (first.path / ".torn.json.17.tmp").write_text("{")
    first.reached(137)
    del first  # as a kill would: nothing is tidied up
    second = open_partial(tmp_path, "key")
    assert second is not None
    assert second.resumed
    assert (second.path / "piece.json").read_text() == "{}"
    assert not list(second.path.glob(".*.tmp"))
    assert second.resume(120, "steps") == Resumption("steps", kept=120, done=137)
    assert second.resumptions[0].repeated == 17
    del second
    third = open_partial(tmp_path, "key")
    assert third is not None
    third.reached(150)
    third.close()
    fourth = open_partial(tmp_path, "key")
    assert fourth is not None
    fourth.resume(140, "steps")
    assert [(item.kept, item.done) for item in fourth.resumptions] == [(120, 137), (140, 150)]
    fourth.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["another key", None])
def test_what_was_left_goes_under_another_key(tmp_path: Path, other: str | None) -> None:
    first = open_partial(tmp_path, "key")
    assert first is not None
    (first.path / "piece.json").write_text("{}")
    second = open_partial(tmp_path, other)
    assert second is None or not second.resumed
    assert not (tmp_path / ".partial" / "piece.json").exists()


def test_a_broken_key_is_another_key(tmp_path: Path) -> None:
    for broken in (b"", b"{", b"[]", b'{"format": "biollm-partial", "version": 2, "key": "key"}'):
        partial = open_partial(tmp_path, "key")
        assert partial is not None
        (partial.path / "key.json").write_bytes(broken)
        again = open_partial(tmp_path, "key")
        assert again is not None
        assert not again.resumed


def test_a_run_that_had_done_nothing_is_no_resumption(tmp_path: Path) -> None:
    open_partial(tmp_path, "key")
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    assert partial.resume(0, "steps") is None
    assert partial.resumptions == ()


def test_folders_made_ready_leave_it_alone(tmp_path: Path) -> None:
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    (partial.path / "deep").mkdir()
    (partial.path / "deep" / "piece.json").write_text("{}")
    begin_folder(tmp_path, verb="dedup")
    refuse_foreign(tmp_path)
    clear(tmp_path)
    assert (partial.path / "deep" / "piece.json").is_file()


def test_the_key_is_of_all_that_the_work_depends_on() -> None:
    base = work_key("dedup", 1, {"threshold": 0.8}, [["a.jsonl", 10]])
    assert base == work_key("dedup", 1, {"threshold": 0.8}, [["a.jsonl", 10]])
    assert work_key("dedup", 1, {}, None) is None
    others = [
        work_key("select", 1, {"threshold": 0.8}, [["a.jsonl", 10]]),
        work_key("dedup", 2, {"threshold": 0.8}, [["a.jsonl", 10]]),
        work_key("dedup", 1, {"threshold": 0.7}, [["a.jsonl", 10]]),
        work_key("dedup", 1, {"threshold": 0.8}, [["a.jsonl", 11]]),
        work_key("dedup", 1, {"threshold": 0.8}, []),
    ]
    assert len({base, *others}) == 6


def test_manifests_keep_resumptions_and_older_ones_have_none(tmp_path: Path) -> None:
    manifest = Manifest("train", "checkpoint", 1, resumptions=(Resumption("steps", 120, 137),))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert manifest.hash == Manifest("train", "checkpoint", 1).hash
    data = json.loads((tmp_path / "manifest.json").read_bytes())
    del data["resumptions"]
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    assert Manifest.read(tmp_path).resumptions == ()


def test_pieces_come_back_as_they_were_kept(tmp_path: Path) -> None:
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    counts = np.arange(5, dtype=np.uint64)
    partial.keep("words", [counts, b"abc", bytearray(), _native.hash_texts([], seed=0)], rows=3, name="ä")
    piece = partial.kept("words")
    assert piece is not None
    assert [bytes(part) for part in piece.parts] == [counts.tobytes(), b"abc", b"", b""]
    assert piece.facts == {"rows": 3, "name": "ä"}
    assert np.frombuffer(piece.parts[0], np.uint64).flags.aligned
    partial.keep("words", [], rows=4)
    piece = partial.kept("words")
    assert piece is not None
    assert (piece.parts, piece.facts) == ((), {"rows": 4})
    partial.drop("words")
    partial.drop("words")
    assert partial.kept("words") is None


def test_damaged_pieces_are_none(tmp_path: Path) -> None:
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    partial.keep("piece", [b"x" * 100, b"y" * 28], rows=3)
    file = partial.path / "piece.piece"
    whole = file.read_bytes()
    damaged = [whole[:n] for n in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    damaged += [whole + b"\0", b"\0" + whole, b"9" * 60, b"", b"-" * 20 + b"0" * 40]
    for data in damaged:
        file.write_bytes(data)
        assert partial.kept("piece") is None
    file.unlink()
    file.mkdir()
    assert partial.kept("piece") is None


def test_a_run_of_pieces_ends_before_the_first_bad_one(tmp_path: Path) -> None:
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    for number in (0, 1, 3):
        partial.keep(f"rows-{number:05}", [], number=number)
    assert [piece.facts["number"] for piece in partial.kept_run("rows")] == [0, 1]
    interrupted.damage(partial.path / "rows-00000.piece")
    assert list(partial.kept_run("rows")) == []


@pytest.mark.parametrize("links", [True, False])
def test_files_are_placed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr("os.link", refuse)
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    (partial.path / "documents").mkdir()
    for name in ("a.tokens", "documents/part-00000.parquet"):
        (partial.path / name).write_bytes(b"new")
    (tmp_path / "a.tokens").write_bytes(b"old")
    partial.place(["a.tokens", "documents/part-00000.parquet"])
    assert (tmp_path / "a.tokens").read_bytes() == b"new"
    assert (tmp_path / "documents" / "part-00000.parquet").read_bytes() == b"new"
    assert (partial.path / "a.tokens").exists() == links
    partial.discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tokens", "documents"]


def test_progress_is_noted(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert reporting(None, None, 5) is None
    report = reporting(None, lambda done, total: seen.append((done, total)), 5)
    assert report is not None
    report(2, 10)
    partial = open_partial(tmp_path, "key")
    assert partial is not None
    report = reporting(partial, None, 5, earlier=100)
    assert report is not None
    report(3, 10)
    assert seen == [(7, None)]
    again = open_partial(tmp_path, "key")
    assert again is not None
    assert again.resume(90, "documents") == Resumption("documents", kept=90, done=108)


def test_going_on_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = open_partial(tmp_path, "key")
    assert first is not None
    first.reached(137)
    second = open_partial(tmp_path, "key")
    assert second is not None
    caplog.set_level(logging.INFO, "biollm.test")
    second.resume(120, "documents", logging.getLogger("biollm.test"))
    (record,) = caplog.records
    assert record.getMessage() == "going on from 120 of 137 documents that an interrupted run had done"
    assert record.biollm_event == "resumed"
    assert record.biollm_fields == {"unit": "documents", "kept": 120, "done": 137, "repeated": 17}


def test_another_version_of_the_library_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    key = work_key("dedup", 1, {}, [])
    monkeypatch.setattr(_native, "__version__", "0.0.0")
    assert work_key("dedup", 1, {}, []) != key
