"""Disks that are full, cut writes short, do not flush, do not rename; folders that may not be written to.

Each fault at each verb: one message that names the file and says why, exit code 1, nothing torn in sight, and the same
command gives the whole result once the fault is gone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from commands import Commands
from small_run import VERBS
from whole_files import torn_files

TRAIN = ["--size", "tiny", "--steps", "3", "--seq-len", "32", "--batch-size", "2", "--threads", "1"]
FULL = "No space left on device"
BROKEN = "Input/output error"


def command(verb: str, sound: Path, output: Path) -> list[str | Path]:
    """The command that makes a stage of the sound run again, elsewhere."""
    before = {"read": sound / "documents.jsonl"}
    before |= {verb: sound / "RUN" / VERBS[i] for i, verb in enumerate(VERBS[1:])}
    options: dict[str, list[str]] = {
        "select": ["--rules", "gopher_repetition"],
        "tokenize": ["--vocab-size", "300", "--validation-fraction", "0.25"],
        "train": [*TRAIN, "--checkpoint-every", "1"],
        "generate": ["--prompts", "asthma in", "--max-tokens", "4", "--compile", "false"],
    }
    return [verb, before[verb], "-o", output, *options.get(verb, [])]


def result(folder: Path) -> dict[str, Any]:
    """What a finished folder holds, without what it notes of time."""
    outputs = json.loads((folder / "manifest.json").read_bytes())["outputs"]
    if (folder / "completions.jsonl").exists():
        lines = (folder / "completions.jsonl").read_text().splitlines()
        rows = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
        return {"completions": rows, "names": sorted(outputs)}
    return dict(outputs)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_fills_up(verb: str, sound: Path, commands: Commands, tmp_path: Path) -> None:
    whole = size(sound / "RUN" / verb)
    for number, share in enumerate((0.0, 0.4, 0.99)):
        output = tmp_path / f"out-{number}"
        done = commands(*command(verb, sound, output), prefix=output, budget=int(whole * share))
        assert done.code == 1, done.stderr
        assert len(done.errors) == 1, done.stderr
        assert FULL in done.errors[0], done.stderr
        assert str(output) in done.errors[0], done.stderr
        assert torn_files(output) == []
        assert not (output / "manifest.json").exists()
        again = commands(*command(verb, sound, output))
        assert again.code == 0, again.stderr
        assert result(output) == result(sound / "RUN" / verb)
        assert torn_files(output) == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_neither_flushes_nor_renames(verb: str, sound: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for fault in ({"fsync": 1}, {"rename": "manifest.json"}):
        done = commands(*command(verb, sound, output), prefix=output, **fault)
        assert done.code == 1, done.stderr
        assert len(done.errors) == 1, done.stderr
        assert BROKEN in done.errors[0], done.stderr
        assert str(output) in done.errors[0], done.stderr
        assert torn_files(output) == []
        assert not (output / "manifest.json").exists()
    again = commands(*command(verb, sound, output))
    assert again.code == 0, again.stderr
    assert result(output) == result(sound / "RUN" / verb)


@pytest.mark.parametrize("verb", VERBS)
def test_writes_that_are_cut_short_lose_nothing(verb: str, sound: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = commands(*command(verb, sound, output), prefix=output, short=1)
    assert done.code == 0, done.stderr
    assert result(output) == result(sound / "RUN" / verb)
    assert torn_files(output) == []


def test_a_run_whose_disk_fills_up(sound: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "RUN"
    room = size(sound / "RUN" / "read") + size(sound / "RUN" / "dedup") + 60_000
    done = commands("run", sound / "recipe.toml", "-o", output, prefix=output, budget=room)
    assert done.code == 1, done.stderr
    assert len(done.errors) == 1, done.stderr
    assert FULL in done.errors[0]
    assert torn_files(output) == []
    finished = {name: (output / name / "manifest.json").read_bytes() for name in ("read", "dedup")}
    again = commands("run", sound / "recipe.toml", "-o", output, "--json")
    assert again.code == 0, again.stderr
    statuses = {stage["name"]: stage["status"] for stage in json.loads(again.stdout)["stages"]}
    assert statuses["read"] == statuses["dedup"] == "matched"
    assert "complete" in statuses.values()
    for name in VERBS:
        assert result(output / name) == result(sound / "RUN" / name)
    assert all((output / name / "manifest.json").read_bytes() == data for name, data in finished.items())


@pytest.mark.parametrize("name", ["run.json", "report.html"])
def test_a_record_or_report_that_cannot_be_renamed(name: str, sound: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "RUN"
    shutil.copytree(sound / "RUN", output, copy_function=shutil.copy2)
    before = (output / name).read_bytes()
    arguments = ["report", output] if name == "report.html" else ["run", sound / "recipe.toml", "-o", output]
    done = commands(*arguments, prefix=output, rename=name)
    assert done.code == 1, done.stderr
    assert len(done.errors) == 1, done.stderr
    assert name in done.errors[0], done.stderr
    assert (output / name).read_bytes() == before
    assert torn_files(output) == []
    assert commands(*arguments).code == 0


def test_a_report_on_a_full_disk(sound: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "RUN"
    shutil.copytree(sound / "RUN", output, copy_function=shutil.copy2)
    before = (output / "report.html").read_bytes()
    done = commands("report", output, prefix=output, budget=1000)
    assert (done.code, len(done.errors)) == (1, 1), done.stderr
    assert FULL in done.errors[0]
    assert (output / "report.html").read_bytes() == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_may_not_be_written_to(verb: str, sound: Path, commands: Commands, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir(mode=0o555)
    done = commands(*command(verb, sound, output), unprivileged=True)
    assert done.code == 1, done.stderr
    assert len(done.errors) == 1, done.stderr
    assert "Permission denied" in done.errors[0], done.stderr
    assert str(output) in done.errors[0], done.stderr
    assert list(output.iterdir()) == []
