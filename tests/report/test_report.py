from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from biollm.errors import FileError, FormatError, InputError
from biollm.recipe import run
from biollm.report import write_report
from biollm.results import Summary
from report_folders import Page
from toy_stages import STAGES, example_summary

RECIPE = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["a.txt"]
prefix = "<&>"

[[stage]]
name = "two"
verb = "fit"
inputs = ["one"]
steps = 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "r.toml").write_text(RECIPE)
    (folder / "a.txt").write_text("alpha\n")
    run(folder / "r.toml", output=folder / "RUN", set=["two.steps=3"], stages=STAGES)
    return folder / "RUN"


def page(folder: Path) -> Page:
    return Page.read(folder / "report.html")


def test_the_report_is_one_well_formed_file(place: Path) -> None:
    text = (place / "report.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not re.search(r"url\(|@import|https?://", text)
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_the_report_holds_what_it_should(place: Path) -> None:
    text = page(place).text
    for words in (
        "3 lines",  # what came in
        "1,234",  # a fact
        "Words <by> count",
        "a & b",
        "Cluster sizes",
        "too short",
        "Loss",
        "validation",
        "line one",
        "Seconds per stage",
        'prefix = "<&>"',  # the recipe
        "two.steps=3",
        "numpy",
        "a.txt",
    ):
        assert words in text, words


def test_text_from_documents_cannot_become_markup(place: Path) -> None:
    raw = (place / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" in page(place).text
    assert "<script" not in raw
    assert "onerror" in raw
    assert "<img" not in raw
    assert "\u202e" not in raw
    assert "\x00" not in raw


def test_a_report_of_one_stage(place: Path) -> None:
    path = write_report(place / "one")
    assert path == place / "one" / "report.html"
    parsed = page(place / "one")
    assert "Cluster sizes" in parsed.text
    assert "recipe" not in parsed.ids
    path.unlink()


def test_a_report_of_stage_folders_without_a_run(place: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("manifest.json", "summary.json"):
            (tmp_path / name / file).write_bytes((place / name / file).read_bytes())
    write_report(tmp_path)
    assert {"stage-one", "stage-two"} <= set(page(tmp_path).ids)


def test_extra_sections_are_kept_for_later_reports(place: Path) -> None:
    write_report(place, extra=[Summary("Against the truth", facts={"recall": 0.995})])
    assert "Against the truth" in page(place).text
    write_report(place)
    assert "0.995" in page(place).text
    write_report(place, extra=())
    assert "Against the truth" not in page(place).text
    assert not (place / "report_extra.json").exists()


def test_folders_that_cannot_be_reported(tmp_path: Path, place: Path) -> None:
    with pytest.raises(InputError, match="nothing to report"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        write_report(tmp_path / "missing")
    with pytest.raises(FileError, match="name too long"):
        write_report("x" * 5000)
    (tmp_path / "run.json").write_text('{"format": "other"}')
    with pytest.raises(FormatError, match="not the record of a biollm run"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text('{"format": "biollm-run", "stages": [{}]}')
    with pytest.raises(FormatError, match="lacks or misnames"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(FormatError, match="not JSON"):
        write_report(tmp_path)


def test_a_stage_whose_summary_is_broken_is_said_to_be_so(place: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((place / "one" / "manifest.json").read_bytes())
    (tmp_path / "summary.json").write_text("{}")
    write_report(tmp_path)
    assert "cannot be shown" in page(tmp_path).text


def test_a_summary_that_is_none_is_refused() -> None:
    good = json.loads(json.dumps(example_summary("x").to_dict()))
    for part, wrong in (
        ("title", 3),
        ("facts", []),
        ("facts", {"a": [1]}),
        ("tables", [{"title": "t", "columns": ["a"], "rows": [[1, 2]]}]),
        ("series", [{**good["series"][0], "y": [None] * 500}]),
        ("series", [{**good["series"][0], "x": [1]}]),
        ("series", [{**good["series"][0], "kind": "pie"}]),
        ("series", [{**good["series"][3], "low": [0.0, 0.0]}]),
        ("series", [{**good["series"][3], "low": [0.0], "high": [1.0]}]),
        ("series", [{**good["series"][3], "low": [0.0, "0"], "high": [1.0, 1.0]}]),
        ("samples", [{"title": "t", "text": None}]),
    ):
        with pytest.raises((TypeError, ValueError)):
            Summary.from_dict({**good, part: wrong})


def test_summaries_survive_json() -> None:
    summary = example_summary("x")
    with_interval = replace(summary.series[3], low=(6.0, 0.5), high=(8.0, 1.5))
    for each in (summary, replace(summary, series=(with_interval,))):
        assert Summary.from_dict(json.loads(json.dumps(each.to_dict()))) == each
