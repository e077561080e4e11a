from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from biollm.manifest import Resumption
from biollm.report import compare
from biollm.report.verdict import more_or_fewer
from report_folders import write_model_run, write_record, write_stage


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (1000, 880, "12 % fewer tokens (880 against 1,000)"),
        (1000, 1055, "5.5 % more tokens (1,055 against 1,000)"),
        (100_000, 100_001, "less than 0.1 % more tokens (100,001 against 100,000)"),
        (1000, 3500, "3.5 times as many tokens (3,500 against 1,000)"),
        (7, 7, "as many tokens (7)"),
        (0, 5, "5 tokens against 0"),
        (5, 0, "0 tokens against 5"),
    ],
)
def test_counts_in_words(a: int, b: int, words: str) -> None:
    assert more_or_fewer(a, b, "tokens") == words


def judge(folder: Path, a: dict[str, Any], b: dict[str, Any]) -> str:
    write_model_run(folder / "A", **a)
    write_model_run(folder / "B", **b)
    return " ".join(compare(folder / "A", folder / "B").verdict)


def test_two_equal_runs(tmp_path: Path) -> None:
    said = judge(tmp_path, {}, {})
    assert said.startswith("A and B hold the same files in every stage. No option is set otherwise.")
    assert "as long." in said


def test_fewer_steps_on_the_same_documents(tmp_path: Path) -> None:
    said = judge(tmp_path, {}, {"steps": 88, "loss": 2.97, "wall_s": 5.0})
    assert said == (
        "The same input files; the same documents after read; B trains on 12 % fewer tokens (880 against 1,000). "
        "Validation: loss 0.030 nats a token lower in B (2.970 against 3.000). "
        "Against the interpolated bigram of its own shards A is 0.300 bits per byte below, B 0.297 bits per byte "
        "below. Set otherwise: train.steps 100 → 88. Their stages took 6.00 s in B and 11.0 s in A, 0.545 times as "
        "long."
    )


def test_on_as_many_tokens(tmp_path: Path) -> None:
    assert "both train on 1,000 tokens" in judge(tmp_path, {}, {"loss": 3.1})


def test_with_another_tokenizer_only_bits_per_byte_compare(tmp_path: Path) -> None:
    said = judge(tmp_path, {}, {"vocab_size": 1024, "loss": 3.3})
    assert "Validation: 0.120 bits per byte higher in B (1.320 against 1.200); the tokenizers differ" in said
    assert "nats a token lower" not in said
    assert "tokenize.vocab_size 512 → 1024" in said


def test_on_other_documents_nothing_compares(tmp_path: Path) -> None:
    said = judge(tmp_path, {}, {"text": "other", "documents": 500})
    assert "Other input files; after read B has 50 % fewer documents (500 against 1,000)" in said
    assert "documents not known to be the same, so the two do not compare" in said
    assert "lower" not in said
    assert "higher" not in said


def test_documents_of_the_same_number_and_other_content(tmp_path: Path) -> None:
    assert "after read B has as many documents (1,000) of other content" in judge(tmp_path, {}, {"text": "other"})


def test_runs_that_did_not_finish(tmp_path: Path) -> None:
    write_model_run(tmp_path / "A")
    stages = [{"name": "read", "verb": "read", "status": "failed", "reason": "not finished before"}]
    write_record(tmp_path / "B", stages, status="failed", error="InputError: no luck")
    said = compare(tmp_path / "A", tmp_path / "B").verdict
    assert said[0] == "B failed in stage read (InputError: no luck)."
    assert "Only A has tokenize, train." in said
    assert not any("took" in sentence for sentence in said)
    write_record(tmp_path / "B", [{**stages[0], "status": "running"}], status="running")
    said = compare(tmp_path / "A", tmp_path / "B").verdict
    assert said[0] == "B is not finished: it was at work in stage read when its record was written."


def test_nothing_in_common(tmp_path: Path) -> None:
    write_stage(tmp_path / "one", "read", "documents")
    write_stage(tmp_path / "two", "train", "checkpoint")
    said = compare(tmp_path / "one", tmp_path / "two").verdict
    assert said == ("No stage of A has its like in B: there is nothing to compare.",)


def test_seconds_of_a_stage_that_was_cut_off(tmp_path: Path) -> None:
    said = judge(tmp_path, {}, {"resumptions": (Resumption("steps", 60, 64),), "steps": 90})
    assert "the last part counts" in said


def test_no_verdict_claims_more_than_one_run_shows(tmp_path: Path) -> None:
    said = judge(tmp_path, {}, {"steps": 50, "loss": 2.5, "vocab_size": 600}).lower()
    assert not any(word in said for word in ("significant", "better", "worse", "improve"))
