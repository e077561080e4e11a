from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from biollm.cli.app import app
from biollm.errors import FileError, FormatError, InputError
from biollm.manifest import InputRecord, Resumption
from biollm.report import Comparison, compare
from biollm.report.comparison import Difference, side_names
from biollm.report.folders import read_run
from biollm.results import Scalar, Series
from report_folders import Page, file_input, write_model_run, write_record, write_stage


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "first", tmp_path / "second"
    write_model_run(a)
    set_ = {"path": "/recipes/r.toml", "text": "a = 1\nb = 3\n", "set": ["train.steps=80"]}
    write_model_run(b, steps=80, loss=3.2, recipe=set_, resumptions=(Resumption("steps", 40, 44),))
    return a, b


def pair(comparison: Comparison, name: str) -> dict[str, object]:
    return next(stage for stage in comparison.to_dict()["stages"] if stage["name"] == name)


@pytest.mark.parametrize(
    ("a", "b", "same", "change", "relative", "ratio"),
    [
        (200, 150, False, -50, -0.25, 0.75),
        (0, 5, False, 5, None, None),
        (-2.0, -1.0, False, 1.0, 0.5, None),
        (1.0, 1, True, 0, 0, 1),
        (True, 1, False, None, None, None),
        ("x", "x", True, None, None, None),
        (None, 3, False, None, None, None),
        (float("nan"), float("nan"), True, None, None, None),
        (float("inf"), 1.0, False, None, None, None),
        (10**400, 1, False, None, None, None),
    ],
)
def test_a_difference(
    a: Scalar, b: Scalar, same: bool, change: float | None, relative: float | None, ratio: float | None
) -> None:
    found = Difference("n", a, b)
    assert (found.same, found.change, found.relative, found.ratio) == (same, change, relative, ratio)
    json.dumps(found.to_dict(), allow_nan=False)


def test_two_runs(runs: tuple[Path, Path]) -> None:
    found = compare(*runs)
    assert found.path == runs[1] / "compare-first.html"
    train, read = pair(found, "train"), pair(found, "read")
    assert train["options"] == [{"name": "steps", "a": 100, "b": 80, "change": -20, "relative": -0.2}]
    counts = {count["name"]: count for count in train["counts"]}  # type: ignore[attr-defined]
    assert counts["train_tokens"] == {"name": "train_tokens", "a": 1000, "b": 800, "change": -200, "relative": -0.2}
    assert train["resumptions"] == [[], [{"unit": "steps", "kept": 40, "done": 44, "repeated": 4}]]
    assert (read["files_same"], train["files_same"]) == (True, False)
    assert read["inputs"] == []
    assert found.recipe == ("@@ -1,2 +1,2 @@", " a = 1", "-b = 2", "+b = 3")
    assert found.set == ((), ("train.steps=80",))
    assert found.only_a == found.only_b == ()


def test_the_page(runs: tuple[Path, Path]) -> None:
    page = Page.read(compare(*runs).path or Path())
    for words in (
        "first and second",
        "Validation: loss 0.200 nats a token higher",
        "One run a side",
        "−200",
        "−20.0 %",
        "× 0.80",
        "went on from 40 of 44 steps (4 done again)",
        "+b = 3",
        "train.steps=80",
        "A train",
        "B interpolated bigram",
        "Bits per byte of validation text",
        "Rates",
    ):
        assert words in page.text, words
    assert page.tags.count("polyline") == 4
    assert {"c0", "c1", "d1"} <= set(page.classes)


def test_inputs_are_compared_by_content(tmp_path: Path) -> None:
    same, memory = file_input("same.txt", "s"), InputRecord("data", "memory")
    for side, (name, content) in {"A": ("old.txt", "1"), "B": ("new.txt", "2")}.items():
        inputs = [
            file_input(f"{side}/moved.txt", "m"),
            same,
            file_input("x.txt", content),
            file_input(name, "n" + side),
        ]
        write_stage(tmp_path / side / "read", "read", "documents", inputs=[*inputs, memory])
    found = pair(compare(tmp_path / "A", tmp_path / "B"), "read")
    assert found["inputs_same"] == 2
    assert found["inputs"] == [
        {"name": "/data/x.txt", "how": "changed", "note": ""},
        {"name": "/data/old.txt", "how": "only in A", "note": ""},
        {"name": "data", "how": "not known", "note": "its content was not hashed"},
        {"name": "/data/new.txt", "how": "only in B", "note": ""},
    ]


def test_the_order_of_inputs_counts(tmp_path: Path) -> None:
    files = [file_input("1.txt", "1"), file_input("2.txt", "2")]
    write_stage(tmp_path / "A", "read", "documents", inputs=files)
    write_stage(tmp_path / "B", "read", "documents", inputs=files[::-1])
    found = pair(compare(tmp_path / "A", tmp_path / "B"), "A / B")
    assert found["inputs"] == [{"name": "all", "how": "changed", "note": "the same inputs in another order"}]


def test_stages_are_matched_by_name_then_by_verb(tmp_path: Path) -> None:
    for side, names in {"A": ("clean", "later", "extra"), "B": ("again", "clean", "odd")}.items():
        for name in names:
            verb = "train" if name == "odd" else "dedup"
            write_stage(tmp_path / side / name, verb, "documents", options={"side": side})
        stages = [{"name": n, "verb": "train" if n == "odd" else "dedup"} for n in names]
        write_record(tmp_path / side, stages)
    found = compare(tmp_path / "A", tmp_path / "B")
    assert [(p.name, p.matched_by) for p in found.pairs] == [("clean", "name"), ("later / again", "verb")]
    assert [s.name for s in found.only_a] == ["extra"]
    assert [s.name for s in found.only_b] == ["odd"]
    page = Page.read(found.path or Path())
    assert "only in A" in page.text
    assert "matched by verb" in page.text


def test_options_that_change_no_output_are_compared_too(tmp_path: Path) -> None:
    for side, threads in (("A", None), ("B", 2)):
        write_stage(tmp_path / side / "s", "dedup", "documents", options={"threshold": 0.8, "keep": ["x"]})
        write_record(tmp_path / side, [{"name": "s", "verb": "dedup", "options": {"threads": threads}}])
    options = compare(tmp_path / "A", tmp_path / "B").pairs[0].options
    assert options == (Difference("threads", None, 2),)


def test_two_stage_folders(runs: tuple[Path, Path]) -> None:
    found = compare(runs[0] / "train", runs[1] / "train")
    assert found.path == runs[1] / "train" / "compare-first-train.html"
    assert "Validation: loss 0.200 nats a token higher in B" in " ".join(found.verdict)
    assert side_names(found.a, found.b) == ("first/train", "second/train")
    assert "first/train and second/train" in Page.read(found.path).text


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write_model_run(tmp_path / place / "RUN")
    sides = (read_run(tmp_path / place / "RUN") for place in ("x", "y"))
    assert side_names(*sides) == ("x/RUN", "y/RUN")


def test_versions_and_machines_that_differ(runs: tuple[Path, Path]) -> None:
    write_stage(runs[1] / "read", "read", "documents", versions={"python": "3.11.7", "numpy": "2.1"})
    record = json.loads((runs[1] / "run.json").read_bytes())
    machine = {"cpus": 64, "memory_bytes": 10**11}
    (runs[1] / "run.json").write_text(json.dumps({**record, "machine": machine, "profile": True}))
    found = compare(*runs)
    assert "on another machine" not in found.verdict[-1], "A does not say where it ran"
    record = json.loads((runs[0] / "run.json").read_bytes())
    (runs[0] / "run.json").write_text(json.dumps({**record, "machine": {"cpus": 2}}))
    found = compare(*runs)
    assert "B ran under the profiler" in found.verdict[-1]
    assert found.pairs[0].versions == (Difference("numpy", "2.0", "2.1"),)
    assert "on another machine" in found.verdict[-1]
    assert "64 CPUs, 100 GB of memory" in Page.read(found.path or Path()).text


def test_steps_of_other_sizes_are_said_to_be_so(tmp_path: Path) -> None:
    for side, tokens in (("A", 1000), ("B", 2000)):
        curve = Series("Loss", "step", "nats", (1, 10), (6.0, float(len(side) + tokens)), name="train")
        counts = {"steps": 10, "train_tokens": tokens}
        write_stage(tmp_path / side, "train", "checkpoint", counts=counts, series=[curve])
    page = Page.read(compare(tmp_path / "A", tmp_path / "B", tmp_path / "c.html").path or Path())
    assert "A step is 100 tokens in A and 200 in B." in page.text


def test_what_cannot_be_compared(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="not a folder"):
        compare(runs[0], tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to report"):
        compare(tmp_path / "empty", runs[0])
    with pytest.raises(FileError):
        compare(*runs, tmp_path / "missing" / "page.html")
    (tmp_path / "empty" / "run.json").write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        compare(tmp_path / "empty", runs[0])


def test_broken_pieces_are_said_to_be_so(runs: tuple[Path, Path]) -> None:
    (runs[0] / "train" / "summary.json").write_text("[")
    (runs[1] / "read" / "manifest.json").unlink()
    found = compare(*runs)
    text = Page.read(found.path or Path()).text
    assert "A: summary.json cannot be shown" in text
    assert "B: its folder holds no manifest.json any more" in text


def test_the_command(runs: tuple[Path, Path], tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["report", *map(str, runs)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("A = first, B = second\n- The same input files")
    assert result.stdout.endswith(f"→ {runs[1] / 'compare-first.html'}\n")
    target = tmp_path / "page.html"
    result = runner.invoke(app, ["report", *map(str, runs), "-o", str(target), "--json"])
    value = json.loads(result.stdout)
    assert (value["ok"], value["report"], len(value["stages"])) == (True, str(target), 3)
    assert target.exists()
    result = runner.invoke(app, ["report", str(runs[0]), "-o", str(target)])
    assert result.exit_code == 2
    assert "goes with two folders" in result.stderr
    assert runner.invoke(app, ["report", str(runs[0]), "nowhere"]).exit_code == 1
