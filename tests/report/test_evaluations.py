"""Evaluations of one run side by side: only what several of them measured, with its interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from biollm.atomic import write_json
from biollm.manifest import InputRecord
from biollm.report import write_report
from biollm.results import Series, Summary, Table
from report_folders import Page, write_record, write_stage


def write_evaluation(folder: Path, model: str, accuracy: float, domains: dict[str, float]) -> None:
    write_stage(folder, "evaluate", "evaluation", inputs=[InputRecord(model, "stage", "0" * 32)])
    low, high = (accuracy - 0.1,), (accuracy + 0.1,)
    columns = ("task", "asked", "items", "accuracy", "95 %", "majority")
    of_domain = tuple((name, 9, value, f"[{value - 1:.3f}, {value + 1:.3f}]") for name, value in domains.items())
    names, values = tuple(domains), tuple(domains.values())
    summary = Summary(
        "evaluate",
        tables=(
            Table("Perplexity by domain", ("domain", "documents", "perplexity", "95 %"), of_domain),
            Table("Questions", columns, (("quiz", "0-shot", 40, accuracy, "[0.1, 0.9]", 0.3),)),
        ),
        series=(
            Series("Accuracy", "task", "share", ("quiz, 0-shot",), (accuracy,), "bar", "accuracy", low, high),
            Series("Accuracy", "task", "share", ("quiz, 0-shot",), (0.3,), "bar", "most frequent answer"),
            Series("Bits a byte", "domain", "bits", names, values, "bar"),
        ),
    )
    write_json(folder / "summary.json", summary.to_dict())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_evaluation(tmp_path / "before", "pretrain", 0.25, {"abstracts": 4.0, "answers": 900.0})
    write_evaluation(tmp_path / "after", "int4", 0.75, {"abstracts": 5.0, "letters": 7.0})
    write_record(tmp_path, [{"name": name, "verb": "evaluate"} for name in ("before", "after")])
    return tmp_path


def section(folder: Path) -> str:
    page = write_report(folder).read_text("utf-8")
    Page(page)
    _, found, rest = page.partition('<section id="evaluations">')
    return rest.partition("</section>")[0] if found else ""


def test_what_both_measured_stands_side_by_side(run: Path) -> None:
    text = section(run)
    for words in ("before (pretrain)", "after (int4)", "0.25 [0.1, 0.9]", "0.75 [0.1, 0.9]", "accuracy, quiz, 0-shot"):
        assert words in text, words
    assert ">0.5<" in text, "last less first"
    assert "4 [3.000, 5.000]" in text
    assert "perplexity, answers" not in text, "only one of them measured it"
    assert "most frequent answer" not in text
    assert text.count("<figure") == 2
    assert 'class="whisker"' in text


def test_one_evaluation_or_two_of_different_things_are_not_compared(run: Path) -> None:
    write_evaluation(run / "after", "int4", 0.75, {"letters": 7.0})
    summary = Summary("evaluate", tables=(Table("Questions", ("task", "asked", "accuracy"), (("x", "0-shot", 0.5),)),))
    write_json(run / "after" / "summary.json", summary.to_dict())
    assert section(run) == ""
    write_record(run, [{"name": "before", "verb": "evaluate"}])
    assert section(run) == ""


def test_an_evaluation_that_cannot_be_read_is_left_out(run: Path) -> None:
    (run / "after" / "summary.json").write_text("{}")
    assert section(run) == ""
