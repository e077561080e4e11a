"""The rules on real texts, and on texts damaged on purpose."""

from __future__ import annotations

import random

import pytest

import biollm
from shared_data import shared_records


@pytest.fixture(scope="module")
def abstracts() -> list[str]:
    return [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]


def test_abstracts_mostly_stay(abstracts: list[str]) -> None:
    result = biollm.select(abstracts)
    # One rule drops most of the others: under 0.8 of the segments hold a letter, for figures and punctuation count.
    assert 0.6 < result.keep_mask.mean() < 0.75
    assert biollm.select(abstracts, thresholds={"min_alphabetic_fraction": 0.6}).keep_mask.mean() > 0.95
    assert result.choose(rules=["gopher_repetition"]).keep_mask.mean() > 0.97


def damaged(text: str, kind: str, rng: random.Random) -> str:
    words = text.split()
    match kind:
        case "cut":
            return " ".join(words[:20])
        case "letters apart":
            return " ".join(text.replace(" ", ""))
        case "blanks lost":
            return " ".join("".join(words[i : i + 4]) for i in range(0, len(words), 4))
        case "one sentence over and over":
            return " ".join([*words[:12]] * 20)
        case "lines repeated":
            return "\n".join([" ".join(words[:10]), " ".join(words[10:20])] * 12)
        case "figures":
            return " ".join(f"{rng.random():.3f} (n={rng.randrange(99)});" for _ in range(120))
        case "bullets":
            return "\n".join(f"- {word}" for word in words)
        case "headlines":
            return "\n".join(" ".join(words[i : i + 5]) + "..." for i in range(0, len(words), 5))
        case "markup":
            return " # ".join(words)
    raise ValueError(kind)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("cut", "min_words"),
        ("letters apart", "min_mean_word_length"),
        ("blanks lost", "max_mean_word_length"),
        ("one sentence over and over", "max_duplicate_10_gram_character_fraction"),
        ("lines repeated", "max_duplicate_line_fraction"),
        ("figures", "min_alphabetic_fraction"),
        ("bullets", "max_bullet_line_fraction"),
        ("headlines", "max_ellipsis_line_fraction"),
        ("markup", "max_hash_ratio"),
    ],
)
def test_damage_is_found_and_named(abstracts: list[str], kind: str, rule: str) -> None:
    rng = random.Random(3)
    sound = [text for text in abstracts if len(text.split()) > 120][:100]
    result = biollm.select([damaged(text, kind, rng) for text in sound])
    assert result.keep_mask.sum() == 0
    named = sum(rule in [failure.rule for failure in result.why(row).failures] for row in range(len(sound)))
    assert named >= 0.95 * len(sound), named


def test_questions_and_answers_keep_their_sources() -> None:
    import pyarrow as pa

    records = shared_records("text_bio/medquad_qa.jsonl.gz")
    table = pa.table({"answer": [r["answer"] for r in records], "source": [r["source"] for r in records]})
    result = biollm.select(table, text="answer")
    by_source = {row[0]: row[1] for row in result.summary().tables[1].rows}
    assert sum(by_source.values()) == len(records)
    assert 0.6 < result.keep_mask.mean() < 0.9
    kept = result.filter()
    assert kept.num_rows == result.keep_mask.sum()
