"""The slow measure of similarity: words, shingles, and that the filter loses no pair."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biollm.demo.truth import SimilarPair, best_partner, jaccard, shingles, similar_pairs, words


def test_words() -> None:
    text = "Of 2,400 patients (n = 3), the OR was 1.42; double-blind, Crohn's disease. P=0.05. Über"
    expected = "of 2,400 patients n 3 the or was 1.42 double blind crohn's disease p 0.05 über"
    assert " ".join(words(text)) == expected


def test_shingles() -> None:
    assert shingles("a b c d e f") == {("a", "b", "c", "d", "e"), ("b", "c", "d", "e", "f")}
    assert shingles("One two.") == {("one", "two")}
    assert shingles(" ... ") == frozenset()


def test_jaccard() -> None:
    a, b = shingles("a b c d e f"), shingles("a b c d e g")
    assert jaccard(a, b) == 1 / 3
    assert jaccard(a, a) == 1.0
    assert jaccard(shingles(""), shingles("")) == 0.0


# Six letters, so that documents share shingles.
documents = st.lists(st.text("abc ", min_size=4, max_size=40).map(shingles), max_size=12)


@given(documents, st.sampled_from([0.1, 0.3, 0.5, 0.8, 1.0]))
def test_the_prefix_filter_loses_no_pair(rows: list[frozenset[tuple[str, ...]]], at_least: float) -> None:
    expected = [
        SimilarPair(a, b, jaccard(rows[a], rows[b]))
        for a, b in itertools.combinations(range(len(rows)), 2)
        if jaccard(rows[a], rows[b]) >= at_least
    ]
    assert similar_pairs(rows, at_least) == expected


def test_best_partner() -> None:
    assert best_partner([SimilarPair(0, 2, 0.6), SimilarPair(1, 2, 0.9)], 4) == [0.6, 0.9, 0.9, 0.0]


@pytest.mark.parametrize("at_least", [0.0, -1.0, 1.5])
def test_a_threshold_outside_the_range_is_refused(at_least: float) -> None:
    with pytest.raises(ValueError, match="at_least"):
        similar_pairs([], at_least)
