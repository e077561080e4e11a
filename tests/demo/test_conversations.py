"""What the stages behind pretraining get: the same bytes everywhere, and answers that follow from the sample."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from biollm.alignment.corpus import SafetyCorpus
from biollm.demo.abstracts import grammar
from biollm.demo.conversations import ASKED, COLUMNS, FILES, facts, generate_rows, write_rows
from biollm.demo.corpus import SIZES, generate

# Changes with any word of the tables: then raise CORPUS_VERSION.
SHA256 = "a8f6455a58dfa8a0861ba2849bb1f1473a779eb7bdf8a3d73dd0dececddda7b5"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [document.text for document in generate("tiny") if document.kind == "abstract"]


@pytest.fixture(scope="module")
def rows(texts: list[str]) -> dict[str, Any]:
    return generate_rows(texts, SIZES["tiny"].beyond)


def test_the_rows_have_their_bytes(rows: dict[str, Any], tmp_path: Path) -> None:
    assert tuple(rows) == FILES
    write_rows(tmp_path, rows)
    assert hashlib.sha256(b"".join((tmp_path / name).read_bytes() for name in FILES)).hexdigest() == SHA256
    for name in FILES:
        assert [json.loads(line) for line in (tmp_path / name).read_text("utf-8").splitlines()] == rows[name]


def test_each_file_has_what_its_stage_takes(rows: dict[str, Any]) -> None:
    keys = {
        "conversations.jsonl": {"prompt", "answer"},
        "pairs.jsonl": {"prompt", "chosen", "rejected", "category"},
        "prompts.jsonl": {"prompt", "category"},
        "harmless.jsonl": {"prompt", "answer"},
        "questions.jsonl": {"id", "question", "options", "answer_idx", "subject"},
    }
    for name, of_file in rows.items():
        assert of_file
        assert all(set(row) == keys[name] for row in of_file), name
        assert all(all(row.values()) for row in of_file), name


def test_right_answers_follow_from_the_word_tables_of_the_sample(rows: dict[str, Any], texts: list[str]) -> None:
    everything = "\n".join(texts)
    kind_of = {name: kind for kind, column in COLUMNS.items() for f in grammar().fields for name in f[column]}
    field_of = {name: f["name"] for f in grammar().fields for column in COLUMNS.values() for name in f[column]}
    assert len({row["id"] for row in rows["questions.jsonl"]}) == len(rows["questions.jsonl"])
    for row in rows["questions.jsonl"]:
        asked, _, name = row["id"].partition(" of ")
        assert name in everything
        assert name in row["question"]
        right = row["options"][row["answer_idx"]]
        assert right == (f"a {kind_of[name]}" if asked == "kind" else field_of[name])
        assert len(set(row["options"].values())) == 4
    places = Counter(row["answer_idx"] for row in rows["questions.jsonl"])
    assert all(places[letter] for letter in "ABCD"), "the place of the right answer tells it"


def test_the_questions_are_asked_in_other_words(rows: dict[str, Any]) -> None:
    prompts = {row["prompt"] for row in rows["conversations.jsonl"]}
    assert not {row["question"] for row in rows["questions.jsonl"]} & {p.removeprefix("Question: ") for p in prompts}
    assert all(len(set(wordings)) == len(wordings) >= 3 for wordings in ASKED.values())


def test_no_name_is_of_two_kinds_or_fields(texts: list[str]) -> None:
    known = facts(texts)
    assert len({(fact.name, fact.asked) for fact in known}) == len(known) > 300
    assert facts([]) == []


def test_nothing_that_is_measured_is_tuned_on(rows: dict[str, Any], texts: list[str]) -> None:
    tuned = {row["answer"] for row in rows["conversations.jsonl"]}
    conversations = {(row["prompt"], row["answer"]) for row in rows["conversations.jsonl"]}
    assert not conversations & {(row["prompt"], row["answer"]) for row in rows["harmless.jsonl"]}
    assert not any(answer in text for text in texts for answer in tuned if answer.startswith("BACKGROUND"))
    assert sum(answer.startswith("BACKGROUND") for answer in tuned) == SIZES["tiny"].beyond.abstracts
    assert all(SafetyCorpus.in_grammar(row["answer"]) for row in rows["harmless.jsonl"])
