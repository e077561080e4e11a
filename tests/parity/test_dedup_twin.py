"""`dedup` against its slow twin: the same clusters, and exact similarities, where LSH misses nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import biollm
from parity import dedup_twin as twin

# One row a band brings every pair of similarity s together but for (1 - s)^256: below 1e-39 from 0.3 on.
CERTAIN = {"num_perm": 256, "bands": 256}

WORDS = st.sampled_from(["a", "B", "ab", "x1", "3.5", "can't", "_", "__x", "1,000", "e.g", "9;", ".a", "-", "A:b"])
TEXTS = st.one_of(
    st.lists(WORDS, max_size=12).map(" ".join),
    st.text(alphabet="ab1_'.:,;\"- \nA", max_size=24),
)


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=12),
    threshold=st.sampled_from([0.3, 0.5, 0.75, 0.8, 1.0]),
    n=st.sampled_from([1, 2, 5]),
    unit=st.sampled_from(["word", "alnum"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_clusters_are_those_of_all_pairs(texts: list[str], threshold: float, n: int, unit: str, seed: int) -> None:
    result = biollm.dedup(texts, threshold=threshold, shingle=f"{unit}:{n}", seed=seed, threads=2, **CERTAIN)
    truth = twin.similar_pairs(texts, threshold, n, unit)
    assert result.cluster_id.tolist() == twin.components(len(texts), list(truth))
    for pair in result.pairs().to_pylist():
        assert truth[pair["a"], pair["b"]] == pair["jaccard"]
    assert result.keep_mask.tolist() == [cluster == row for row, cluster in enumerate(result.cluster_id.tolist())]


@pytest.mark.parametrize("unit", ["word", "alnum"])
def test_longer_texts(unit: str) -> None:
    """Texts of a few hundred words, past the blocks in which shingles are handed over."""
    rng = random.Random(5)
    vocabulary = ["alpha", "Beta", "p-53", "IL_6", "3.5", "don't", "gamma,", "delta.", "e.g.", "(n=12)"]
    texts = []
    for _ in range(12):
        base = [rng.choice(vocabulary) for _ in range(rng.choice((4, 5, 6, 300, 516, 1500)))]
        for edits in (0, 1, 3, 9):
            copy = list(base)
            for _ in range(edits):
                copy[rng.randrange(len(copy))] = f"w{rng.randrange(1000)}"
            texts.append(" ".join(copy))
    result = biollm.dedup(texts, threshold=0.6, shingle=f"{unit}:5", **CERTAIN)
    truth = twin.similar_pairs(texts, 0.6, 5, unit)
    assert result.cluster_id.tolist() == twin.components(len(texts), list(truth))
    pairs = result.pairs().to_pylist()
    assert len(pairs) > 12
    assert all(truth[pair["a"], pair["b"]] == pair["jaccard"] for pair in pairs)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ÉTUDE Randomisée", "étude randomisée"),
        ("ΣΟΦΟΣ ΟΔΟΣ", "σοφος οδος"),
        ("İstanbul", "i\u0307stanbul"),
        ("환자는 입원하였다.", "환자는, 입원하였다"),
        ("Ⅻ ǅ", "ⅻ ǆ"),
    ],
)
def test_lower_case_is_that_of_str_lower(a: str, b: str) -> None:
    assert a.lower().split()[0] == b.lower().split()[0].rstrip(",")
    assert biollm.dedup([a, b]).cluster_id.tolist() == [0, 0]


@pytest.mark.parametrize(("a", "b"), [("naïve", "naive"), ("e\u0301tude", "étude"), ("οδος", "οδοσ"), ("ﬁ", "fi")])
def test_nothing_else_is_normalised(a: str, b: str) -> None:
    assert biollm.dedup([a, b]).cluster_id.tolist() == [0, 1]
