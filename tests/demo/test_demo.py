"""`biollm demo --size tiny` as a user runs it, held to its bars; and the same folder a second time."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from biollm.demo.run import demo

STAGES = ("read", "dedup", "select", "tokenize", "train", "generate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny demo, made by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-c", "from biollm.cli import main; main()"]
    done = subprocess.run(
        [*command, "demo", "--size", "tiny", "--output", str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def summary(folder: Path, stage: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / stage / "summary.json").read_text("utf-8"))["facts"]
    return facts


@pytest.mark.slow
def test_it_leaves_what_it_says(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"sample", "recipe.toml", "report.html", "score.json", *STAGES} <= names
    assert all((folder / stage / "manifest.json").is_file() for stage in STAGES)


@pytest.mark.slow
def test_deduplication_meets_its_bars(folder: Path) -> None:
    dedup = json.loads((folder / "score.json").read_text("utf-8"))["dedup"]
    assert dedup["planted_pairs"] >= 300
    assert dedup["recall"] >= 0.99
    assert dedup["precision"] == 1.0
    assert dedup["hard_negatives"] >= 50
    assert dedup["hard_negatives_merged"] == 0


@pytest.mark.slow
def test_selection_finds_what_statistics_can_find(folder: Path) -> None:
    select = json.loads((folder / "score.json").read_text("utf-8"))["select"]
    assert select["good_kept"] >= 0.9
    for defect in select["defects"]:
        if defect["defect"] != "legal_notice":  # fluent prose
            assert defect["removed"] >= 0.9 * defect["documents"], defect


@pytest.mark.slow
def test_the_model_learns_more_than_word_frequencies(folder: Path) -> None:
    facts = summary(folder, "train")
    assert facts["nats_below_unigram"] >= 1.0
    assert facts["validation_loss_nats"] == pytest.approx(facts["unigram_entropy_nats"] - facts["nats_below_unigram"])
    completions = [json.loads(line) for line in (folder / "generate" / "completions.jsonl").read_bytes().splitlines()]
    assert len(completions) == 3
    assert all(len(completion["text"].split()) > 20 for completion in completions)


@pytest.mark.slow
def test_the_truth_stays_outside_the_stages(folder: Path) -> None:
    """No stage has read it, and no column of what is kept tells of it."""
    for stage in STAGES:
        manifest = (folder / stage / "manifest.json").read_text("utf-8")
        assert "truth" not in manifest
    kept = pq.read_table(folder / "select" / "documents")
    assert not {"kind", "how", "original", "jaccard", "pairs"} & set(kept.column_names)


@pytest.mark.slow
def test_the_report_stands_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "Against the planted truth" in page
    assert all(f'id="stage-{stage}"' in page for stage in STAGES)
    assert not re.search(r"""\b(?:src|href)=(?!["']?#)""", page)
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.slow
def test_a_second_call_runs_nothing_again(folder: Path) -> None:
    before = {stage: (folder / stage / "manifest.json").read_bytes() for stage in STAGES}
    result = demo(folder, size="tiny")
    assert [outcome.status for outcome in result.run.stages] == ["matched"] * len(STAGES)
    assert {stage: (folder / stage / "manifest.json").read_bytes() for stage in STAGES} == before
    assert result.score.dedup.precision == 1.0
    assert "Against the planted truth" in result.report.read_text("utf-8")
