from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from biollm.errors import ConfigError, FileError, InputError, InternalError
from biollm.manifest import Manifest
from biollm.recipe import RunResult, run
from biollm.recipe.folder import prepare_folder
from biollm.stages import Stage
from toy_stages import FIT, GATHER, GATHER_2, STAGES

RECIPE = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["*.txt"]
prefix = "> "

[[stage]]
name = "two"
verb = "gather"
inputs = ["one"]

[[stage]]
name = "three"
verb = "fit"
inputs = ["two"]
steps = 2
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "a.txt").write_text("alpha\n")
    (tmp_path / "b.txt").write_text("beta\n")
    return tmp_path


def go(place: Path, *overrides: str, verify: bool = False, stages: dict[str, Stage] | None = None) -> RunResult:
    return run(place / "r.toml", output=place / "RUN", set=overrides, verify=verify, stages=stages or STAGES)


def statuses(result: RunResult) -> str:
    """One letter a stage: c(omplete) or m(atched)."""
    return "".join(stage.status[0] for stage in result.stages)


def reasons(result: RunResult) -> list[str]:
    return [stage.reason for stage in result.stages]


def record(place: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((place / "RUN" / "run.json").read_text())
    return loaded


def test_a_run_and_the_same_again(place: Path) -> None:
    first = go(place)
    assert statuses(first) == "ccc"
    assert (place / "RUN" / "two" / "data.json").read_text() == "> alpha\n> beta\n"
    assert first.report == place / "RUN" / "report.html"
    assert first.report.is_file()
    assert record(place)["status"] == "complete"
    names = ["log.jsonl", "one", "report.html", "run.json", "three", "two"]
    assert sorted(p.name for p in (place / "RUN").iterdir()) == names
    before = (place / "RUN" / "one" / "manifest.json").stat().st_mtime_ns
    again = go(place)
    assert statuses(again) == "mmm"
    assert reasons(again) == ["", "", ""]
    assert (place / "RUN" / "one" / "manifest.json").stat().st_mtime_ns == before
    assert [stage.manifest for stage in again.stages] == [stage.manifest for stage in first.stages]


def test_a_changed_option_runs_its_stage_and_those_it_changes(place: Path) -> None:
    go(place)
    changed = go(place, "one.prefix=>> ")
    assert statuses(changed) == "ccc"
    assert reasons(changed)[0] == 'options changed: prefix "> " → ">>"'
    assert reasons(changed)[1] == "the input 'one' changed"
    last = go(place, "one.prefix=>> ", "three.steps=3")
    assert statuses(last) == "mmc"


def test_an_option_that_leaves_the_output_equal_stops_there(place: Path) -> None:
    go(place)
    # weight is an option of the match but changes no byte; the manifest's hash holds options, so what follows runs.
    assert statuses(go(place, "two.weight=0.75")) == "mcc"


def test_options_outside_the_match_run_nothing(place: Path) -> None:
    go(place)
    assert statuses(go(place, "one.threads=4", "two.threads=2")) == "mmm"


def test_a_raised_algorithm_version_runs_the_stage(place: Path) -> None:
    go(place)
    result = go(place, stages={**STAGES, "gather": GATHER_2})
    assert statuses(result)[0] == "c"
    assert reasons(result)[0] == "the algorithm of gather changed (version 1 → 2)"


def test_inputs_are_known_by_their_content(place: Path) -> None:
    go(place)
    os.utime(place / "a.txt", ns=(1, 1))
    manifest = place / "RUN" / "one" / "manifest.json"
    assert statuses(go(place)) == "mmm"
    renewed = Manifest.read(manifest.parent)
    assert renewed.inputs[0].mtime_ns == 1  # so that it is not hashed again next time
    assert statuses(go(place)) == "mmm"
    (place / "a.txt").write_text("gamma\n")
    result = go(place)
    assert statuses(result) == "ccc"
    assert reasons(result)[0] == f"the file {place / 'a.txt'} changed"
    (place / "c.txt").write_text("new\n")
    result = go(place)
    assert statuses(result) == "ccc"
    assert reasons(result)[0] == "the number of inputs changed (2 → 3)"
    (place / "c.txt").rename(place / "d.txt")
    assert "became" in reasons(go(place))[0]


def test_verify_hashes_what_looks_unchanged(place: Path) -> None:
    go(place)
    data = place / "RUN" / "two" / "data.json"
    data.write_text("> ALPHA\n> beta\n")
    assert statuses(go(place)) == "mmm"
    result = go(place, verify=True)
    assert statuses(result) == "mcm"  # made again equal, so what follows stands
    assert reasons(result)[1] == "its output data.json is not what was written"


def test_a_missing_output_or_a_broken_manifest_runs_the_stage(place: Path) -> None:
    go(place)
    (place / "RUN" / "two" / "data.json").unlink()
    assert statuses(go(place)) == "mcm"
    (place / "RUN" / "two" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="files that no stage wrote"):
        go(place)


def test_a_failure_leaves_what_stands_above_and_is_taken_up_again(place: Path) -> None:
    with pytest.raises(InputError, match="no luck") as caught:
        go(place, "two.fail=no luck")
    assert caught.value.__notes__ == [f"in stage 'two' (gather) of {place / 'r.toml'}"]
    written = record(place)
    assert written["status"] == "failed"
    assert written["error"] == "InputError: no luck"
    assert [s["status"] for s in written["stages"]] == ["complete", "failed", "waiting"]  # type: ignore[attr-defined]
    assert written["unfinished"] == ["two"]
    assert "no luck" in (place / "RUN" / "report.html").read_text()
    assert (place / "RUN" / "two" / "part.json").exists()
    # A run that fails earlier must not forget the folder that was left half done.
    with pytest.raises(InputError, match="worse"):
        go(place, "one.fail=worse")
    assert record(place)["unfinished"] == ["one", "two"]
    assert statuses(go(place)) == "ccc"
    assert record(place)["unfinished"] == []
    assert not (place / "RUN" / "two" / "part.json").exists()


def test_an_interrupted_run_says_so_and_is_taken_up_again(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(place, "three.steps=1", "two.fail=interrupt")
    assert record(place)["status"] == "interrupted"
    assert (place / "RUN" / "report.html").is_file()
    assert statuses(go(place)) == "mcc"


@pytest.mark.parametrize("name", ["notes.txt", "mine/data.bin", ".hidden"])
@pytest.mark.parametrize("finished", [True, False])
def test_foreign_files_are_never_removed(place: Path, name: str, finished: bool) -> None:
    if finished:
        go(place)
    else:
        with pytest.raises(InputError):
            go(place, "two.fail=x")
    foreign = place / "RUN" / "two" / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("precious")
    before = sorted(p.name for p in (place / "RUN" / "two").iterdir())
    with pytest.raises(InputError, match="files that no stage wrote") as caught:
        go(place, "two.weight=3")
    assert name in str(caught.value)
    assert sorted(p.name for p in (place / "RUN" / "two").iterdir()) == before
    # Nor does the refusal make the folder ours.
    with pytest.raises(InputError, match="files that no stage wrote"):
        go(place, "two.weight=3")


def test_a_folder_or_link_in_the_way_is_refused(place: Path) -> None:
    (place / "RUN").mkdir()
    (place / "elsewhere").mkdir()
    (place / "RUN" / "one").symlink_to(place / "elsewhere")
    with pytest.raises(InputError, match="a folder of its own"):
        go(place)
    (place / "RUN" / "one").unlink()
    (place / "RUN" / "one").mkdir()
    (place / "RUN" / "one" / "thesis.json").write_text("{}")
    with pytest.raises(InputError, match=r"thesis\.json"):
        go(place)


def test_prepare_folder_lists_only_some_foreign_files(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("")
    with pytest.raises(InputError, match=r"0\.txt, 1\.txt, 2\.txt and 6 more"):
        prepare_folder(tmp_path)


def test_inputs_inside_a_stage_folder_must_be_named_as_stage(place: Path) -> None:
    go(place)
    for name in ("RUN/one/data.json", "RUN/one"):
        (place / "r.toml").write_text(RECIPE.replace('inputs = ["one"]', f'inputs = ["{name}"]'))
        with pytest.raises(ConfigError, match="lies in the folder of stage 'one': name the stage instead"):
            go(place)


def test_nothing_is_made_for_a_wrong_recipe(place: Path) -> None:
    with pytest.raises(ConfigError):
        go(place, "three.stepps=1")
    assert not (place / "RUN").exists()


def test_a_stage_that_leaves_no_manifest_is_a_fault(place: Path) -> None:
    bad = Stage("fit", FIT.options, FIT.takes, "checkpoint", 1, frozenset(), lambda context, options: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(InternalError, match="without a manifest"):
        go(place, stages={"gather": GATHER, "fit": bad})


def test_a_run_without_a_disk_to_write_to(place: Path) -> None:
    (place / "RUN").write_text("a file")
    with pytest.raises(FileError):
        go(place)


def test_a_changed_package_version_is_a_warning(place: Path) -> None:
    go(place)
    path = place / "RUN" / "one" / "manifest.json"
    data = json.loads(path.read_text())
    data["versions"]["numpy"] = "0.1"
    path.write_text(json.dumps(data))
    result = go(place)
    assert statuses(result) == "mmm"
    assert any(w.startswith("one: made with numpy 0.1, now ") for w in result.warnings)


HOLD = """
import sys
from pathlib import Path
from biollm.recipe.folder import lock
with lock(Path(sys.argv[1]) / ".lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_one_folder_is_refused(place: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(place / "RUN")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileError, match=f"another run is at work in this folder .process {holder.pid}") as caught:
            go(place)
        assert caught.value.errno == errno.EWOULDBLOCK
        assert not (place / "RUN" / "one").exists()
        holder.send_signal(signal.SIGKILL)  # what is left of its lock must not stop the next
    assert (place / "RUN" / ".lock").exists()
    assert statuses(go(place)) == "ccc"
    assert not (place / "RUN" / ".lock").exists()


def test_progress_is_told_of_every_stage(place: Path) -> None:
    told: list[str] = []

    class Told:
        def begin(self, name: str, verb: str, position: int, total: int, /) -> object:
            told.append(f"begin {name} {verb} {position}/{total}")
            return lambda done, whole: told.append(f"{done} of {whole}")

        def end(self, name: str, status: str, wall_s: float, /) -> None:
            told.append(f"end {name} {status}")

    run(place / "r.toml", output=place / "RUN", stages=STAGES, progress=Told())  # type: ignore[arg-type]
    assert told[:4] == ["begin one gather 0/3", "1 of 2", "2 of 2", "end one complete"]
    assert told[-1] == "end three complete"
