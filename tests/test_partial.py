"""Work in progress: kept for the same key, gone for another, and honest about what was repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biollm.document_files import begin_folder
from biollm.manifest import Manifest, Resumption
from biollm.partial import open_partial, work_key
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
