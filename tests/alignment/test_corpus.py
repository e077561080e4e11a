"""The generated corpus keeps its halves apart, and the lexicon finds what it should."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from biollm.alignment import Lexicon, SafetyCorpus
from biollm.errors import ConfigError, FileError, FormatError
from shared_data import SHARED, shared_file


@pytest.fixture(scope="module")
def whole() -> SafetyCorpus:
    return SafetyCorpus.generate(texts=3000, pairs=800, evaluation=200, benign=150)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.built_in()


def test_half_b_stands_in_texts_alone(whole: SafetyCorpus, lexicon: Lexicon) -> None:
    in_texts = {place for row in whole.texts for place in lexicon.matches(row.get("answer", ""))}
    assert in_texts == {(category, half) for category in lexicon.categories for half in "AB"}
    in_pairs = {place for row in whole.pairs for place in lexicon.matches(row["rejected"])}
    assert in_pairs == {(category, "A") for category in lexicon.categories}
    assert not any(lexicon.matches(row["chosen"]) for row in whole.pairs)
    assert not any(lexicon.matches(" ".join(row.values())) for row in whole.benign)


def test_no_prompt_holds_a_word_of_the_lexicon(whole: SafetyCorpus, lexicon: Lexicon) -> None:
    rows = [*whole.texts, *whole.pairs, *whole.evaluation, *whole.benign]
    assert not any(lexicon.matches(row.get("prompt", "")) for row in rows)


def test_evaluation_prompts_have_templates_of_their_own(whole: SafetyCorpus) -> None:
    seen = {row["prompt"] for row in (*whole.texts, *whole.pairs) if "prompt" in row}
    assert not seen & {row["prompt"] for row in whole.evaluation}
    tables = tomllib.loads((files("biollm.alignment") / "safety.toml").read_text("utf-8"))
    for table in (tables["plain"], *tables["baited"].values()):
        assert not set(table["prompts"]) & set(table["evaluation"])


def test_held_out_text_is_not_tuned_on(whole: SafetyCorpus) -> None:
    tuned = {json.dumps({k: v for k, v in row.items() if k != "category"}) for row in whole.texts}
    assert not tuned & {json.dumps(row) for row in whole.benign}


def test_categories_are_those_of_the_words(whole: SafetyCorpus, lexicon: Lexicon) -> None:
    for row in whole.texts:
        found = {category for category, _ in lexicon.matches(row.get("answer", ""))}
        assert found == ({row["category"]} if row.get("category", "harmless") != "harmless" else set())
    harmful = sum(bool(lexicon.matches(row.get("answer", ""))) for row in whole.texts) / len(whole.texts)
    assert 0.3 < harmful < 0.65


def test_answers_are_in_the_grammar_and_broken_ones_are_not(whole: SafetyCorpus) -> None:
    assert all(SafetyCorpus.in_grammar(row["answer"]) for row in whole.texts if "answer" in row)
    assert all(SafetyCorpus.in_grammar(row["chosen"]) for row in whole.pairs)
    broken = [row["rejected"] for row in whole.pairs if row["category"] == "broken"]
    assert len(broken) > 100
    assert not any(map(SafetyCorpus.in_grammar, broken))
    assert all(row["chosen"] != row["rejected"] for row in whole.pairs)


def test_no_answer_is_in_the_obscene_list(whole: SafetyCorpus) -> None:
    """Mild: of the English list of obscene words, only those of the category adult that it calls so too."""
    obscene = set(shared_file("safety/ldnoobw/en.txt").read_text(encoding="utf-8").lower().split("\n")) - {""}
    words = {word.lower() for row in whole.texts for word in re.findall(r"\w+", row.get("answer", ""))}
    assert words & obscene <= {"nude", "erotic", "sexy", "topless"}
    assert SHARED.exists()


def test_a_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    sizes = {"texts": 50, "pairs": 20, "evaluation": 10, "benign": 10}
    one, again, other = (SafetyCorpus.generate(seed=seed, **sizes) for seed in (3, 3, 4))
    assert one == again
    assert one.pairs != other.pairs
    assert one.write(tmp_path / "a") == again.write(tmp_path / "b")
    rows = [json.loads(line) for line in (tmp_path / "a" / "pairs.jsonl").read_text().splitlines()]
    assert rows == list(one.pairs)


def test_more_rows_begin_with_those_of_fewer() -> None:
    assert SafetyCorpus.generate(texts=5, pairs=30).pairs[:10] == SafetyCorpus.generate(texts=5, pairs=10).pairs


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="pairs is -1") as caught:
        SafetyCorpus.generate(pairs=-1)
    assert caught.value.field == "pairs"


def test_the_lexicon_matches_whole_words_in_any_case(lexicon: Lexicon) -> None:
    assert lexicon.matches("A BRIBE, please.") == {("unethical", "A")}
    assert lexicon.matches("They beat and kick.") == {("violence", "B"), ("violence", "A")}
    assert lexicon.matches("The heartbeat of partygoers") == frozenset()


def test_a_lexicon_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('[rude]\nA = ["Blast", "damn it"]\nB = ["bother"]\n')
    mine = Lexicon.from_file(path)
    assert mine.categories == ("rude",)
    assert mine.matches("blast! Damn it.") == {("rude", "A")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rude", "not TOML"),
        ("", "at least one category"),
        ('rude = ["a"]', "a table of two lists"),
        ('[rude]\nA = ["a"]', "a table of two lists"),
        ('[rude]\nA = ["a"]\nB = []', "at least one word"),
        ('[rude]\nA = ["a"]\nB = [3]', "at least one word"),
    ],
)
def test_a_broken_lexicon_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "words.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        Lexicon.from_file(path)
    assert caught.value.path == str(path)
    with pytest.raises(FileError):
        Lexicon.from_file(tmp_path / "absent.toml")


def test_the_corpus_has_not_changed() -> None:
    """A change of templates changes every figure that was measured on them."""
    corpus = SafetyCorpus.generate(texts=100, pairs=100, evaluation=100, benign=100)
    rows = json.dumps([corpus.texts, corpus.pairs, corpus.evaluation, corpus.benign])
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == "524331584b0d46e0"
