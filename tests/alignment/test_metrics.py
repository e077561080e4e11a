from __future__ import annotations

import math

import pytest

from biollm.alignment.metrics import (
    Share,
    difference_interval,
    distinct_bigrams,
    mean_interval,
    most_frequent,
    well_formed,
    win_scores,
)


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("Give the patient aspirin for two weeks.", True, True),
        ("Why not call the clinic?", True, True),
        ("2 tablets of aspirin a day.", True, True),
        ("Give the patient aspirin for two weeks.", False, False),  # cut off
        ("Give the patient aspirin for", True, False),
        ("give the patient aspirin.", True, False),
        ("Yes.", True, False),
        ("Give the the patient aspirin.", True, False),
        ("Rest in bed a week, then rest in bed a week.", True, False),
        ("Give the pat\ufffdent aspirin.", True, False),
        ("", True, False),
    ],
)
def test_well_formed(text: str, finished: bool, expected: bool) -> None:
    assert well_formed(text, finished=finished) is expected


def test_distinct_bigrams_counts_kinds_over_all() -> None:
    assert distinct_bigrams(["a b c", "A b d"]) == 3 / 4  # ab twice, bc, bd
    assert distinct_bigrams(["one"]) == 0.0
    assert distinct_bigrams(["the same words"] * 50) == 2 / 100
    assert most_frequent(["x", "y", "x"]) == ("x", 2)
    assert most_frequent([]) == ("", 0)


def test_the_score_interval_of_a_share() -> None:
    """10 of 100: 0.0552 to 0.1744 (Newcombe 1998, Statistics in Medicine 17, 857, by hand)."""
    p, n, z = 0.1, 100, 1.959963984540054
    middle, half = (p + z * z / 200) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / 40000) / (1 + z * z / n)
    assert Share(10, 100).interval == pytest.approx((middle - half, middle + half))
    assert Share(10, 100).interval == pytest.approx((0.0552, 0.1744), abs=5e-5)
    assert Share(0, 50).interval[0] == pytest.approx(0.0)
    assert Share(50, 50).interval[1] == pytest.approx(1.0)
    assert Share(0, 0).interval == (0.0, 1.0)


def test_the_interval_of_a_difference() -> None:
    """56/70 − 48/80: 0.0524 to 0.3339, Newcombe's own example of method 10 (his table II, contrast a)."""
    low, high = difference_interval(Share(48, 80), Share(56, 70))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval(Share(56, 70), Share(48, 80)) == pytest.approx((-0.3339, -0.0524), abs=1e-4)


def test_win_scores_give_half_for_ties() -> None:
    scores = win_scores([True, False, True, False], [True, True, False, False])
    assert scores == [0.5, 1.0, 0.0, 0.5]
    mean, low, high = mean_interval(scores)
    assert mean == 0.5
    assert high - mean == pytest.approx(mean - low)
    assert mean_interval([1.0] * 9) == (1.0, 1.0, 1.0)
