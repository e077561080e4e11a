"""Runs from one stage on, and of one stage alone; work that was cut off is gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from biollm.errors import BiollmError, ConfigError, InputError
from biollm.manifest import Manifest, Resumption
from biollm.recipe import RunResult, run
from toy_stages import STAGES

RECIPE = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["*.txt"]
prefix = "> "

[[stage]]
name = "side"
verb = "gather"
inputs = ["*.txt"]

[[stage]]
name = "two"
verb = "gather"
inputs = ["one"]

[[stage]]
name = "three"
verb = "fit"
inputs = ["two"]
steps = 8

[[stage]]
name = "four"
verb = "fit"
inputs = ["side", "three"]
steps = 1
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "a.txt").write_text("alpha\n")
    return tmp_path


def go(place: Path, *overrides: str, **asked: Any) -> RunResult:
    return run(place / "r.toml", output=place / "RUN", set=overrides, stages=STAGES, **asked)


def statuses(result: RunResult) -> str:
    """One letter a stage: c(omplete), m(atched), k(ept) or s(kipped)."""
    return "".join(stage.status[0] for stage in result.stages)


def record(place: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((place / "RUN" / "run.json").read_text())
    return loaded


def test_from_runs_a_stage_that_matches_and_those_below_only_where_they_do_not(place: Path) -> None:
    go(place)
    again = go(place, from_="two")
    assert statuses(again) == "mmcmm"
    assert again.stages[2].reason == "asked for by --from"
    assert record(place)["from"] == "two"
    assert record(place)["only"] is None
    assert statuses(go(place, "two.prefix=+", from_="two")) == "mmccc"


def test_from_takes_the_stages_above_as_they_stand(place: Path) -> None:
    go(place)
    result = go(place, "one.prefix=+", "three.steps=3", from_="three")
    assert statuses(result) == "kmmcc"
    kept = result.stages[0]
    assert kept.reason == 'options changed: prefix "> " → "+"'
    assert kept.manifest is not None
    assert kept.manifest.options["prefix"] == "> "
    warning = f"one: taken as it stands, but it no longer matches ({kept.reason})"
    assert result.warnings == (warning,)
    written = record(place)
    assert written["warnings"] == [warning]
    assert (written["stages"][0]["status"], written["stages"][0]["reason"]) == ("kept", kept.reason)
    (place / "a.txt").write_text("beta\n")
    assert statuses(go(place, "three.steps=3", from_="three")) == "kkmcm"
    assert statuses(go(place, "three.steps=3")) == "ccccc"


@pytest.mark.parametrize(("asked", "missing"), [("from_", "one"), ("only", "two")])
def test_what_stands_above_must_be_finished(place: Path, asked: str, missing: str) -> None:
    option = asked.rstrip("_")
    with pytest.raises(ConfigError, match=f"--{option} three .*{missing!r} is not finished.*--from {missing}, or"):
        go(place, **{asked: "three"})
    assert not (place / "RUN").exists()
    with pytest.raises(InputError):
        go(place, "two.fail=x")
    with pytest.raises(ConfigError, match="'two' is not finished"):
        go(place, **{asked: "three"})


def test_only_runs_one_stage_and_says_what_is_out_of_date(place: Path) -> None:
    go(place)
    before = Manifest.read(place / "RUN" / "four")
    result = go(place, "two.prefix=+", only="two")
    assert statuses(result) == "mmcss"
    assert result.stages[3].out_of_date == "the input 'two' changed"
    assert result.stages[4].out_of_date == "its input 'three' is out of date"
    assert result.stages[4].manifest is None
    assert Manifest.read(place / "RUN" / "four") == before
    assert [stage["out_of_date"] for stage in record(place)["stages"]][3:] == [
        "the input 'two' changed",
        "its input 'three' is out of date",
    ]
    assert statuses(go(place, "two.prefix=+")) == "mmmcc"
    assert [stage.out_of_date for stage in go(place, "two.prefix=+", only="two").stages] == [""] * 5


def test_only_needs_no_more_than_its_own_inputs(place: Path) -> None:
    go(place, only="one")
    result = go(place, only="two")
    assert statuses(result) == "mscss"
    assert result.stages[1].out_of_date == ""
    assert not (place / "RUN" / "side").exists()
    assert "two" in result.report.read_text()


def test_names_that_are_wrong(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"--from thre: the recipe has no such stage.*three") as caught:
        go(place, from_="thre")
    assert (caught.value.field, caught.value.value) == ("from", "thre")
    with pytest.raises(ConfigError, match="exclude each other"):
        go(place, from_="one", only="one")
    assert not (place / "RUN").exists()


def test_a_folder_of_another_verb_is_not_taken(place: Path) -> None:
    go(place)
    (place / "r.toml").write_text(RECIPE.replace('verb = "gather"\ninputs = ["*.txt"]\n\n', 'verb = "fit"\n', 1))
    for name in ("manifest.json", "data.json", "summary.json"):
        (place / "RUN" / "one" / name).write_bytes((place / "RUN" / "three" / name).read_bytes())
    (place / "r.toml").write_text(RECIPE)
    with pytest.raises(ConfigError, match="'one' is to be taken as it stands, but its folder was made by fit"):
        go(place, from_="two")


@pytest.mark.parametrize("asked", [{}, {"from_": "three"}, {"only": "three"}])
def test_a_stage_that_was_cut_off_is_gone_on_with(place: Path, asked: dict[str, str]) -> None:
    with pytest.raises(InputError, match="step 5 fails"):
        go(place, "three.fail_at=5")
    partial = place / "RUN" / "three" / ".partial"
    assert partial.is_dir()
    result = go(place, **asked)
    manifest = result.stages[3].manifest
    assert manifest is not None
    assert manifest.resumptions == (Resumption("steps", kept=4, done=5),)
    assert not partial.exists()
    assert record(place)["stages"][3]["resumptions"] == [{"unit": "steps", "kept": 4, "done": 5, "repeated": 1}]
    assert record(place)["stages"][0]["resumptions"] == []
    with pytest.raises(InputError):
        go(place, "three.mode=slow", "three.fail_at=5")
    other = go(place, "three.mode=fast").stages[3].manifest  # work of other options is no help
    assert other is not None
    assert other.resumptions == ()


def test_a_stage_asked_for_anew_begins_at_its_beginning(place: Path) -> None:
    go(place)
    with pytest.raises(InputError):
        go(place, "three.fail_at=3", from_="three")
    result = go(place)
    manifest = result.stages[3].manifest
    assert statuses(result) == "mmmcm"
    assert manifest is not None
    assert manifest.resumptions == (Resumption("steps", kept=2, done=3),)


def test_old_unfinished_work_in_a_folder_that_matches_goes(place: Path) -> None:
    go(place)
    for name in ("one", "three"):
        (place / "RUN" / name / ".partial").mkdir()
        (place / "RUN" / name / ".partial" / "piece.bin").write_bytes(b"left")
    assert statuses(go(place)) == "mmmmm"
    assert not list((place / "RUN").rglob(".partial"))


def test_what_killed_runs_left_in_the_folder_of_the_run_goes(place: Path) -> None:
    go(place)
    for name in (".run.json.77.tmp", ".report.html.77.tmp"):
        (place / "RUN" / name).write_text("{")
    (place / "RUN" / ".mine.tmp").write_text("precious")
    go(place)
    assert sorted(path.name for path in (place / "RUN").glob(".*")) == [".mine.tmp"]


def test_a_change_that_keeps_size_and_times_is_found(place: Path) -> None:
    go(place)
    file = place / "a.txt"
    before = file.stat()
    file.write_text("ALPHA\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = go(place)  # the time of the last change of the inode cannot be set back
    assert statuses(result)[:2] == "cc"
    assert result.stages[0].reason == f"the file {file} changed"


def test_verify_finds_a_change_that_nothing_else_shows(place: Path) -> None:
    go(place)
    file = place / "a.txt"
    file.write_text("ALPHA\n")
    now = file.stat()
    for name in ("one", "side"):  # as if all that the system says of the file were as it was
        path = place / "RUN" / name / "manifest.json"
        data = json.loads(path.read_text())
        data["inputs"][0] |= {"mtime_ns": now.st_mtime_ns, "ctime_ns": now.st_ctime_ns, "inode": now.st_ino}
        path.write_text(json.dumps(data))
    assert statuses(go(place)) == "mmmmm"
    assert statuses(go(place, verify=True)) == "ccccc"


def test_times_and_memory_are_recorded(place: Path) -> None:
    with pytest.raises(BiollmError):
        go(place, "three.fail_at=5")
    go(place)
    stages = record(place)["stages"]
    assert [stage["started"] <= stage["finished"] for stage in stages] == [True] * 5
    assert [stage["peak_rss_bytes"] is not None for stage in stages] == [False, False, False, True, True]
    assert all(stage["cpu_s"] >= 0 for stage in stages)
    assert record(place)["machine"]["cpus"] >= 1
    assert record(place)["machine"]["memory_bytes"] > 1 << 28
