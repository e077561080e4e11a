from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from biollm.cli import verbs
from biollm.cli.app import app
from biollm.cli.console import StageBars, Voice, reporting
from biollm.errors import InputError
from biollm.recipe import graph
from toy_stages import FIT, GATHER

RECIPE = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["a.txt"]

[[stage]]
name = "two"
verb = "fit"
inputs = ["one"]
steps = 2
"""
COMMAND = [sys.executable, "-c", "from biollm.cli import main; main()"]
runner = CliRunner()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe of toy verbs, which are made known to the runner."""
    monkeypatch.setitem(sys.modules, "toy_gather", SimpleNamespace(STAGE=GATHER))
    monkeypatch.setitem(sys.modules, "toy_fit", SimpleNamespace(STAGE=FIT))
    monkeypatch.setattr(graph, "VERBS", {"gather": "toy_gather", "fit": "toy_fit"})
    for name in ("SENTENCES", "_EXAMPLES"):
        monkeypatch.setattr(verbs, name, MappingProxyType({"gather": "Gather lines.", "fit": "Fit."}))
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "a.txt").write_text("alpha\nbeta\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verb(name: str, *arguments: str) -> Any:
    """Runs a toy verb's command, alone in an app."""
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(verbs.verb_command(name))
    return runner.invoke(alone, list(arguments))


def test_help_lists_every_verb() -> None:
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for word in (*graph.VERBS, "run", "report", "demo", "130"):
        assert word in result.stdout
    assert set(verbs.SENTENCES) == set(verbs._EXAMPLES) == set(graph.VERBS)


def test_version() -> None:
    import biollm

    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"biollm {biollm.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dedpu"], "No such command 'dedpu'. Did you mean 'dedup'?"),
        (["run"], "Missing argument"),
        (["run", "r.toml"], "Missing option '--output'"),
        (["report", ".", "--colour"], "No such option"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], words: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_run_for_people_and_again(place: Path) -> None:
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"→ {place / 'RUN' / 'report.html'}"
    assert "one: runs (not finished before)" in result.stderr
    again = runner.invoke(app, ["run", "r.toml", "--output", "RUN", "--quiet"])
    assert "one  not run again: nothing changed" in again.stdout
    assert again.stderr == ""


def test_run_as_json(place: Path) -> None:
    result = runner.invoke(
        app, ["run", "r.toml", "-o", "RUN", "--set", "one.prefix=x", "--set", "two.steps=3", "--json"]
    )
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    assert value["ok"] is True
    assert [(s["name"], s["status"]) for s in value["stages"]] == [("one", "complete"), ("two", "complete")]
    assert value["report"] == str(place / "RUN" / "report.html")
    assert (place / "RUN" / "one" / "data.json").read_text() == "xalpha\nxbeta\n"


def test_from_and_only(place: Path) -> None:
    run = ["run", "r.toml", "-o", "RUN", "--json"]
    assert runner.invoke(app, run).exit_code == 0
    value = json.loads(runner.invoke(app, [*run, "--set", "one.prefix=x", "--only", "one"]).stdout)
    assert [(s["status"], s["out_of_date"]) for s in value["stages"]] == [
        ("complete", None),
        ("skipped", "the input 'one' changed"),
    ]
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--from", "two"])
    assert "warning: one: taken as it stands, but it no longer matches" in result.stderr
    assert 'one  taken as it stands, though it no longer matches: options changed: prefix "x"' in result.stdout
    assert "two: runs (asked for by --from)" in result.stderr
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--only", "one"])
    assert "two  not run; out of date: the input 'one' changed" in result.stdout
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--only", "tow"])
    assert result.exit_code == 1
    assert "--only tow: the recipe has no such stage: did you mean 'two'?" in result.stderr


def test_a_dry_run_for_people_and_as_json(place: Path) -> None:
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--dry-run"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["stage", "input", "output", "memory", "time"]
    assert lines[1].split() == ["one", "runs", "11", "B", "?", "?", "?"]
    assert "one: not finished before" in lines
    assert not (place / "RUN").exists()
    runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--set", "two.steps=4", "--set", "two.fail_at=3"])
    value = json.loads(runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--dry-run", "--json"]).stdout)
    assert value["ok"] is True
    assert [(s["action"], s["reached"]) for s in value["stages"]] == [("matches", None), ("runs", None)]
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--dry-run", "--set", "two.steps=4"])
    assert "goes on (from 3)" in result.stdout
    assert runner.invoke(app, ["run", "r.toml", "-o", "RUN"]).exit_code == 0
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--dry-run"])
    assert result.stdout.splitlines()[-2].startswith("disk: 0 B needed, ")
    assert result.stdout.splitlines()[-2].endswith(" free: enough")


def test_sizes_for_people() -> None:
    from biollm.cli.plan import size

    assert [size(value) for value in (None, 0, 999, 1e3, 12_345, 999_400, 2.5e6, 3e9, 4.2e13)] == [
        "?",
        "0 B",
        "999 B",
        "1 kB",
        "12.3 kB",
        "999 kB",
        "2.5 MB",
        "3 GB",
        "42 TB",
    ]


def test_the_level_of_what_is_logged(place: Path) -> None:
    said = {
        level: runner.invoke(app, ["run", "r.toml", "-o", f"R-{level}", "--log-level", level]).stderr
        for level in ("debug", "info", "error")
    }
    assert "step 2\n" in said["debug"]
    assert "complete in" in said["debug"]
    assert said["info"].splitlines() == ["one: runs (not finished before)", "two: runs (not finished before)"]
    assert said["error"] == ""
    assert runner.invoke(app, ["run", "r.toml", "-o", "R", "--log-level", "loud"]).exit_code == 2
    assert verb("gather", "a.txt", "-o", "out", "--log-level", "warning").exit_code == 0


def test_profile_is_written(place: Path) -> None:
    assert runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--profile", "-q"]).exit_code == 0
    assert sorted(path.name for path in (place / "RUN" / "profile").iterdir()) == [
        "one.json",
        "one.prof",
        "two.json",
        "two.prof",
    ]


def test_an_error_is_one_message_and_exit_code_1(place: Path) -> None:
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--set", "one.fail=no luck", "--json"])
    assert result.exit_code == 1
    assert "error: no luck\n  in stage 'one' (gather) of r.toml\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads(result.stdout) == {"ok": False, "error": {"type": "InputError", "message": "no luck", "row": 3}}
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--set", "one.fail=no luck", "--debug"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stdout == ""


def test_an_interruption_exits_with_130(place: Path) -> None:
    result = runner.invoke(app, ["run", "r.toml", "-o", "RUN", "--set", "one.fail=interrupt"])
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted\n")


def test_a_fault_is_not_hidden(place: Path) -> None:
    with pytest.raises(ZeroDivisionError), reporting(Voice()):
        print(1 // 0)
    assert logging.getLogger("biollm").handlers == []


def test_report_renders_again(place: Path) -> None:
    assert runner.invoke(app, ["run", "r.toml", "-o", "RUN", "-q"]).exit_code == 0
    (place / "RUN" / "report.html").unlink()
    result = runner.invoke(app, ["report", "RUN", "--json"])
    assert json.loads(result.stdout) == {"ok": True, "report": str(place / "RUN" / "report.html")}
    assert (place / "RUN" / "report.html").is_file()
    assert runner.invoke(app, ["report", "nowhere"]).exit_code == 1


def test_a_verb_runs_its_stage(place: Path) -> None:
    result = verb("gather", "a.txt", "-o", "out", "--prefix", "> ", "--weight", "2", "--limits", "1", "--limits", "2")
    assert result.exit_code == 0, result.output
    assert (place / "out" / "data.json").read_text() == "> alpha\n> beta\n"
    options = json.loads((place / "out" / "manifest.json").read_text())["options"]
    assert options == {"prefix": "> ", "weight": 2.0, "limits": [1, 2], "tail": "end", "fail": ""}
    assert result.stdout.startswith("gather\n  documents  1,234\n")
    assert result.stdout.endswith("→ out\n")
    assert sorted(p.name for p in place.iterdir()) == ["a.txt", "out", "r.toml"]


def test_a_verb_as_json(place: Path) -> None:
    value = json.loads(verb("gather", "*.txt", "-o", "out", "--json").stdout)
    assert value["output"] == str(place / "out")
    assert value["summary"]["facts"]["documents"] == 1234


def test_a_verb_takes_the_folder_of_another(place: Path) -> None:
    assert verb("gather", "a.txt", "-o", "out").exit_code == 0
    result = verb("fit", "out", "-o", "model", "--steps", "3")
    assert result.exit_code == 0, result.output
    inputs = json.loads((place / "model" / "manifest.json").read_text())["inputs"]
    assert [(i["name"], i["kind"]) for i in inputs] == [("out", "stage")]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fit", "a.txt", "-o", "m", "--steps", "1"], 1, "but fit takes documents (1 or more)"),
        (["fit", "a.txt", "-o", "m"], 2, "Missing option '--steps'"),
        (["gather", "b.txt", "-o", "m"], 1, "no such file, and no file matches: b.txt"),
        (["gather", "a.txt", "-o", "m", "--weight", "heavy"], 2, "--weight"),
        (["gather", "a.txt", "-o", "m", "--limits", "x"], 1, "limits is"),
        (["gather", "a.txt", "-o", "."], 1, "the output folder holds files"),
        (["gather", "a.txt", "-o", ".", "--overwrite"], 1, "lies in the output folder"),
        (["gather", "a.txt"], 2, "Missing option '--output'"),
    ],
)
def test_verbs_refuse(place: Path, arguments: list[str], code: int, words: str) -> None:
    result = verb(*arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert sorted(p.name for p in place.iterdir()) == ["a.txt", "r.toml"]


def test_overwriting_removes_only_what_was_written(place: Path) -> None:
    assert verb("gather", "a.txt", "-o", "out").exit_code == 0
    result = verb("gather", "a.txt", "-o", "out")
    assert result.exit_code == 1
    assert "holds the result of an earlier run: choose another, or give --overwrite" in result.stderr
    assert verb("gather", "a.txt", "-o", "out", "--overwrite", "--prefix", "+").exit_code == 0
    assert (place / "out" / "data.json").read_text() == "+alpha\n+beta\n"
    (place / "out" / "notes.md").write_text("mine")
    result = verb("gather", "a.txt", "-o", "out", "--overwrite")
    assert result.exit_code == 1
    assert "notes.md" in result.stderr


def test_a_verb_that_was_cut_off_is_gone_on_with(place: Path) -> None:
    (place / "out" / ".partial").mkdir(parents=True)
    (place / "out" / "data.json").write_text("half")
    assert verb("gather", "a.txt", "-o", "out").exit_code == 0
    assert (place / "out" / "data.json").read_text() != "half"
    assert sorted(path.name for path in (place / "out").iterdir()) == ["data.json", "manifest.json", "summary.json"]
    assert verb("gather", "a.txt", "-o", "out").exit_code == 1  # finished: nothing to go on with


def test_a_verb_that_failed_is_gone_on_with_and_one_that_wrote_nothing_leaves_nothing(place: Path) -> None:
    assert verb("gather", "a.txt", "-o", "out", "--fail", "no luck").exit_code == 1
    assert sorted(path.name for path in (place / "out").iterdir()) == [".partial", "part.json"]
    assert verb("gather", "a.txt", "-o", "out").exit_code == 0
    result = verb("fit", "out", "-o", "model", "--steps", "8", "--fail-at", "5")
    assert result.exit_code == 1
    again = verb("fit", "out", "-o", "model", "--steps", "8")
    assert again.exit_code == 0, again.output
    cuts = json.loads((place / "model" / "manifest.json").read_text())["resumptions"]
    assert cuts == [{"unit": "steps", "kept": 4, "done": 5}]
    assert not (place / "model" / ".partial").exists()


def test_options_become_command_line_options() -> None:
    @dataclass(frozen=True)
    class Options:
        """Options.

        size: how `large`
        """

        size: int | None = 3
        exact: bool = False
        mode: bool | Literal["auto"] = "auto"
        names: tuple[str, ...] = ()
        table: dict[str, float] | None = None

    from biollm.recipe.options import describe

    found = {option.name: option for option in describe(Options)}
    types = {name: verbs._command_type(option.annotation) for name, option in found.items()}
    assert types["size"] == (int, None)
    assert types["exact"] == (bool, None)
    assert types["mode"] == (str, "[true|false|auto]")
    assert types["names"] == (list[str], "TEXT")
    assert types["table"] == (str, "TOML")
    assert verbs._value(found["mode"], "true") is True
    assert verbs._value(found["mode"], "auto") == "auto"
    assert verbs._value(found["names"], ["1", "b"]) == ["1", "b"]
    assert verbs._value(found["table"], "{ a = 1 }") == {"a": 1}


def test_bars_show_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    import io

    from rich.console import Console

    from biollm.cli.console import _bars

    screen = io.StringIO()
    with _bars(Console(file=screen, force_terminal=True, width=120)) as bars:
        shown = StageBars(bars)
        advance = shown.begin("one", "gather", 0, 2)
        assert advance is not None
        advance(5, 10)
        shown.end("one", "complete", 0.1)
        shown.begin("two", "fit", 1, 2)
        shown.end("two", "matched", 0.0)
    text = screen.getvalue()
    assert "1/2 one (gather)" in text
    assert "/s" in text
    assert "two (fit) – not run again" in text
    assert StageBars(None).begin("one", "gather", 0, 1) is None


def test_errors_keep_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(Voice()):
        raise InputError("not JSON", path="a.jsonl", line=3)
    assert capsys.readouterr().err == "error: a.jsonl:3: not JSON\n"


def biollm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_dedup_on_a_file_in_a_process_of_its_own(tmp_path: Path) -> None:
    text = "the quick brown fox jumps over the lazy dog and runs through the wide green forest until night falls"
    rows = [{"id": "a", "text": text}, {"id": "b", "text": "something else entirely"}, {"id": "c", "text": text}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = biollm("dedup", "in.jsonl", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"] == str(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert (tmp_path / "out" / "decisions.parquet").is_file()


INTERRUPTED = """
import sys, time
from types import SimpleNamespace
from dataclasses import replace
from biollm.recipe import graph
from toy_stages import GATHER
sys.modules["toy"] = SimpleNamespace(STAGE=replace(GATHER, run=lambda context, options: time.sleep(60)))
graph.VERBS = {"gather": "toy"}
from biollm.cli import main
main()
"""


def test_ctrl_c_ends_a_process_with_130(place: Path) -> None:
    (place / "r.toml").write_text(RECIPE.partition("\n\n")[0] + "\n")
    command = [sys.executable, "-c", INTERRUPTED, "run", "r.toml", "-o", "RUN"]
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True, env=path) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "one: runs (not finished before)\n"
        while json.loads((place / "RUN" / "run.json").read_text())["stages"][0]["status"] != "running":
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "interrupted\n"
        assert process.wait(timeout=30) == 130
    assert json.loads((place / "RUN" / "run.json").read_text())["status"] == "interrupted"
    assert "interrupted" in (place / "RUN" / "report.html").read_text()


def test_help_and_errors_in_a_process_of_its_own_import_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from biollm.cli.app import app\n"
        "try:\n    app(['dedup', '--help'] if sys.argv[1] == 'help' else ['run', 'no.toml', '-o', 'x'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'pyarrow', 'rich.progress'} & set(sys.modules)))\n"
    )
    for argument, expected in (("help", "0 []"), ("run", "1 []")):
        command = [sys.executable, "-c", code, argument]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
        assert done.stdout.splitlines()[-1] == expected, done.stderr
