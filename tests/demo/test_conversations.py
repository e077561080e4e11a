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
from biollm.demo.conversations import FILES, KINDS, WORDINGS, facts, generate_rows, is_for_questions, write_rows
from biollm.demo.corpus import SIZES, generate

# Changes with any word of the tables: then raise CORPUS_VERSION.
SHA256 = "4fd42e2eddb5db98100b175f22e80719780b537c0ccf694e012cc03b91c1bd4e"


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


def test_right_answers_follow_from_the_names_in_the_sample(rows: dict[str, Any], texts: list[str]) -> None:
    everything = "\n".join(texts)
    kinds = {name: kind for kind, column in KINDS.items() for words in grammar().fields for name in words[column]}
    assert sum(len(words[column]) for column in KINDS.values() for words in grammar().fields) == len(kinds)
    assert len({row["id"] for row in rows["questions.jsonl"]}) == len(rows["questions.jsonl"])
    for row in rows["questions.jsonl"]:
        assert row["id"] in everything
        assert row["id"] in row["question"]
        assert row["options"][row["answer_idx"]] == kinds[row["id"]]
        assert len(set(row["options"].values())) == 4
    places = Counter(row["answer_idx"] for row in rows["questions.jsonl"])
    assert all(places[letter] for letter in "ABCD"), "the place of the right answer tells it"


def test_no_conversation_asks_for_a_name_of_the_questions(rows: dict[str, Any], texts: list[str]) -> None:
    asked = {row["prompt"]: row["answer"] for row in rows["conversations.jsonl"]}
    known = facts(texts)
    assert facts([]) == []
    shares = Counter(is_for_questions(fact, 0) for fact in known)
    assert 0.3 < shares[True] / len(known) < 0.5
    for fact in known:
        prompts = [wording.format(name=fact.name) for wording in WORDINGS]
        answers = {asked.get(prompt) for prompt in prompts}
        assert answers == ({None} if is_for_questions(fact, 0) else {f"Answer: {fact.kind}."})


def test_nothing_that_is_measured_is_tuned_on(rows: dict[str, Any], texts: list[str]) -> None:
    tuned = {row["answer"] for row in rows["conversations.jsonl"]}
    conversations = {(row["prompt"], row["answer"]) for row in rows["conversations.jsonl"]}
    assert not conversations & {(row["prompt"], row["answer"]) for row in rows["harmless.jsonl"]}
    assert not any(answer in text for text in texts for answer in tuned if answer.startswith("BACKGROUND"))
    assert sum(answer.startswith("BACKGROUND") for answer in tuned) == SIZES["tiny"].beyond.abstracts
    assert all(SafetyCorpus.in_grammar(row["answer"]) for row in rows["harmless.jsonl"])
