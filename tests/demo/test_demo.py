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
from biollm.manifest import Manifest
from biollm.models.checkpoints import read_config

DATA = ("read", "dedup", "select", "tokenize")
CHECKPOINTS = ("pretrain", "instruct", "align", "int8", "int4")
STAGES = (*DATA, "pretrain", "continue", "before", *CHECKPOINTS[1:], "answer", "after")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A finished tiny demo: that of --tiny-demo, else made by the command in a process of its own."""
    if (made := pytestconfig.getoption("--tiny-demo")) is not None:
        assert (made / "report.html").is_file(), "--tiny-demo names no finished demo"
        return Path(made)
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


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


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
    facts = summary(folder, "pretrain")
    assert facts["nats_below_unigram"] >= 1.0
    assert facts["validation_loss_nats"] == pytest.approx(facts["unigram_entropy_nats"] - facts["nats_below_unigram"])
    completions = rows(folder / "continue" / "completions.jsonl")
    assert len(completions) == 3
    # One that ends early is no fault of the model's.
    assert sum(len(completion["text"].split()) > 20 for completion in completions) >= 2


@pytest.mark.slow
def test_every_stage_takes_what_the_one_before_it_left(folder: Path) -> None:
    manifests = {stage: Manifest.read(folder / stage) for stage in STAGES}
    assert [manifests[name].kind for name in CHECKPOINTS] == ["checkpoint"] * 5
    # The template of the tuning goes through all the way, and the tokenizer from the shards on.
    for name in ("align", "int8", "int4"):
        template = (folder / name / "chat_template.jinja").read_bytes()
        assert template == (folder / "instruct" / "chat_template.jinja").read_bytes()
    for name in CHECKPOINTS:
        assert (folder / name / "tokenizer.json").read_bytes() == (folder / "tokenize" / "tokenizer.json").read_bytes()
    assert [read_config(folder / name).quantization is None for name in CHECKPOINTS] == [True] * 3 + [False] * 2
    weights = [(folder / name / "model.safetensors").stat().st_size for name in ("align", "int8", "int4")]
    assert weights == sorted(weights, reverse=True)
    answers = rows(folder / "answer" / "completions.jsonl")
    assert len(answers) == 2
    assert all(1 <= len(answer["token_ids"]) <= 24 for answer in answers)


@pytest.mark.slow
def test_both_evaluations_measure_the_same(folder: Path) -> None:
    found = [json.loads((folder / name / "evaluation.json").read_bytes()) for name in ("before", "after")]
    domains = [{domain["domain"]: domain["tokens"] for domain in evaluation["domains"]} for evaluation in found]
    assert domains[0] == domains[1]
    assert {"harmless", "journals", "preprints", "repository", "crawl"} == set(domains[0])
    assert [[task["items"] for task in evaluation["tasks"]] for evaluation in found] == [[40]] * 2


@pytest.mark.slow
def test_the_card_tells_the_way_from_the_files_to_the_last_checkpoint(folder: Path) -> None:
    card = (folder / "int4" / "README.md").read_text("utf-8")
    assert " → ".join((*DATA, "pretrain", "instruct", "align", "int4")) in card
    for words in ("`conversations.jsonl`", "`pairs.jsonl`", "What must not get worse", "modelled", "`after` measured"):
        assert words in card, words
    assert "Not found" not in card
    assert str(folder) not in card


@pytest.mark.slow
def test_the_truth_stays_outside_the_stages(folder: Path) -> None:
    """No stage has read it, and no column of what is kept tells of it."""
    for stage in STAGES:
        assert "truth" not in (folder / stage / "manifest.json").read_text("utf-8")
    kept = pq.read_table(folder / "select" / "documents")
    assert not {"kind", "how", "original", "jaccard", "pairs"} & set(kept.column_names)


@pytest.mark.slow
def test_the_report_stands_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "Against the planted truth" in page
    assert all(f'id="stage-{stage}"' in page for stage in STAGES)
    assert re.findall(r"""\b(?:src|href)=(?!["']?#)["']([^"']*)""", page) == [
        "int4/README.md"
    ]  # a link, nothing loaded
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.slow
def test_the_report_plots_each_stage(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    sections = dict(re.findall(r'<section id="([\w-]+)">(.*?)</section>', page, re.DOTALL))
    for section, words in {
        "evaluations": ("Accuracy", "Bits a byte", "perplexity, harmless", "before (pretrain)", "after (int4)"),
        "stage-pretrain": ("Loss", "Learning rate", "interpolated bigram", "<polyline"),
        "stage-instruct": ("Loss", "validation", "<polyline"),
        "stage-align": ("Score of ppo", "KL to the start", "Losses of ppo", "Loss of the reward model", "whisker"),
        "stage-int8": ("Before and after", "perplexity of held-out documents", "Relative output error"),
        "stage-int4": ("Before and after", "Model card", "int4/README.md"),
        "stage-after": ("Perplexity by domain", "Questions", "95 %", "whisker"),
    }.items():
        for word in words:
            assert word in sections[section], (section, word)


@pytest.mark.slow
def test_a_second_call_runs_nothing_again(folder: Path) -> None:
    before = {stage: (folder / stage / "manifest.json").read_bytes() for stage in STAGES}
    result = demo(folder, size="tiny")
    assert [outcome.status for outcome in result.run.stages] == ["matched"] * len(STAGES)
    assert {stage: (folder / stage / "manifest.json").read_bytes() for stage in STAGES} == before
    assert result.score.dedup.precision == 1.0
    assert "Against the planted truth" in result.report.read_text("utf-8")
