"""The native statistics against their slow twin, and the twin against text it is meant for."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from biollm import _native
from biollm.columns import text_array, text_chunks, values
from biollm.selection import STATISTICS
from parity.select_twin import ALPHABET, LETTERS, segments, twin_scores
from shared_data import shared_records

WORDS = [
    "the",
    "of",
    "and",
    "be",
    "to",
    "heart",
    "naïve",
    "p",
    "0.05",
    "IL",
    "-",
    "...",
    "…",
    "#",
    "•",
    "\n",
    "\n\n",
    ".",
]


def native_scores(texts: list[str], threads: int = 1) -> list[dict[str, float]]:
    columns = _native.gopher_statistics(text_chunks(text_array(texts)), threads=threads)
    by_name = {name: values(buffer, dtype).tolist() for name, dtype, buffer in columns}
    assert list(by_name) == list(STATISTICS)
    assert all(STATISTICS[name].dtype == dtype for name, dtype, _ in columns)
    return [{name: column[i] for name, column in by_name.items()} for i in range(len(texts))]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=4))
@example([""])
@example(["\n", " ", "\n\n\n", "a\n", "\na"])
@example(["-\n-\n•", "a...\nb…\nc", "\t- x", "a'b'c 1,2;3.4 a.b:c a,b 1:2 a. 1."])
def test_statistics_of_arbitrary_characters(texts: list[str]) -> None:
    assert native_scores(texts) == [twin_scores(text) for text in texts]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=120), st.integers(1, 4), st.sampled_from([" ", "", "\n"]))
def test_statistics_of_repetitive_texts(words: list[str], copies: int, joint: str) -> None:
    text = joint.join(words * copies)
    assert native_scores([text]) == [twin_scores(text)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LETTERS[:3]), min_size=10, max_size=400))
def test_statistics_of_few_words(words: list[str]) -> None:
    text = " ".join(words)
    assert native_scores([text]) == [twin_scores(text)]


def test_statistics_of_real_abstracts() -> None:
    texts = [r["text"] for r in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    texts = [text for text in texts if text.isascii() and "\x7f" not in text][:400]
    assert len(texts) == 400
    twins = [twin_scores(text) for text in texts]
    for name in STATISTICS:
        # The twin knows the punctuation of its alphabet alone; words of it decide two statistics.
        if name not in ("words", "mean_word_length"):
            assert [scores[name] for scores in native_scores(texts)] == [twin[name] for twin in twins], name


def test_the_twin_splits_words() -> None:
    text = "don't 3.5 (p:0) a_1 한 …"
    assert segments(text) == ["don't", "3.5", "(", "p", ":", "0", ")", "a_1", "한", "…"]
