"""Recall and precision on a corpus with planted near-duplicates, and on real ones made from abstracts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import biollm
import near_duplicates
from shared_data import shared_records


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], dict[tuple[int, int], float]]:
    texts = near_duplicates.make(6000, seed=1)
    return texts, near_duplicates.similar_pairs(texts, least=0.5)


def test_recall_and_precision(corpus: tuple[list[str], dict[tuple[int, int], float]]) -> None:
    texts, truth = corpus
    assert sum(0.8 <= jaccard < 0.9 for jaccard in truth.values()) > 500
    result = biollm.dedup(texts)
    clusters = result.cluster_id.tolist()
    assert near_duplicates.recall(clusters, truth, 0.8) >= 0.99
    assert near_duplicates.precision(clusters, truth, 0.8) == 1.0
    for pair in result.pairs().to_pylist():
        assert pair["jaccard"] == truth[pair["a"], pair["b"]]
        assert pair["jaccard"] >= 0.8


@pytest.mark.parametrize(("num_perm", "bands", "low", "high"), [(64, 8, 0.72, 0.82), (128, 16, 0.92, 0.98)])
def test_the_rate_of_detection_is_the_calculated_one(
    corpus: tuple[list[str], dict[tuple[int, int], float]], num_perm: int, bands: int, low: float, high: float
) -> None:
    """The mean of 1 - (1 - s^r)^b over pairs of two documents that have no other, so that no third one joins them."""
    texts, truth = corpus
    neighbours = Counter(row for pair, jaccard in truth.items() if jaccard >= 0.7 for row in pair)
    alone = {
        (a, b): jaccard
        for (a, b), jaccard in truth.items()
        if 0.7 <= jaccard < 0.9 and neighbours[a] == neighbours[b] == 1
    }
    rows = num_perm // bands
    expected = [1 - (1 - jaccard**rows) ** bands for jaccard in alone.values()]
    found: list[int] = []
    for seed in range(4):
        result = biollm.dedup(texts, threshold=0.7, num_perm=num_perm, bands=bands, seed=seed)
        found += [int(result.cluster_id[a] == result.cluster_id[b]) for a, b in alone]
    want = sum(expected) / len(expected)
    assert len(alone) > 200
    assert low < want < high
    # Four standard deviations of the mean of so many draws.
    deviation = (sum(p * (1 - p) for p in expected) * 4) ** 0.5 / len(found)
    assert abs(sum(found) / len(found) - want) < 4 * deviation, (sum(found) / len(found), want)


def test_the_number_of_threads_changes_nothing(corpus: tuple[list[str], dict[tuple[int, int], float]]) -> None:
    texts, _ = corpus
    one = biollm.dedup(texts, threads=1)
    for threads in (2, 4):
        other = biollm.dedup(texts, threads=threads)
        assert (other.cluster_id == one.cluster_id).all()
        assert (other.representative == one.representative).all()
        assert other.pairs().equals(one.pairs())
        assert other.histogram == one.histogram
        assert other.summary() == one.summary()


def test_the_order_of_rows_changes_no_cluster(corpus: tuple[list[str], dict[tuple[int, int], float]]) -> None:
    texts, _ = corpus
    forward = biollm.dedup(texts).cluster_id.tolist()
    backward = biollm.dedup(texts[::-1]).cluster_id.tolist()
    last = len(texts) - 1

    def partition(cluster_id: list[int], row_of: Any) -> set[frozenset[int]]:
        members: dict[int, set[int]] = {}
        for row, cluster in enumerate(cluster_id):
            members.setdefault(cluster, set()).add(row_of(row))
        return {frozenset(rows) for rows in members.values()}

    assert partition(forward, lambda row: row) == partition(backward, lambda row: last - row)


@pytest.fixture(scope="module")
def abstracts() -> list[dict[str, Any]]:
    return shared_records("derived/near_dups.jsonl.gz")


@pytest.mark.parametrize("shingle", ["word:5", "alnum:5"])
def test_copies_of_abstracts_are_found(abstracts: list[dict[str, Any]], shingle: str) -> None:
    result = biollm.dedup([r["text"] for r in abstracts], threshold=0.75, shingle=shingle)
    row = {record["id"]: i for i, record in enumerate(abstracts)}
    for kind in ("exact", "format", "truncate"):
        copies = [r for r in abstracts if r["kind"] == kind and r["jaccard5"] >= 0.75]
        assert len(copies) == 75
        found = [result.cluster_id[row[r["id"]]] == result.cluster_id[row[r["of"]]] for r in copies]
        assert all(found), kind
    bases = [row[r["id"]] for r in abstracts if r["kind"] == "base"]
    assert len({int(result.cluster_id[i]) for i in bases}) == len(bases) == 900


def test_equal_abstracts_are_found_and_no_others(abstracts: list[dict[str, Any]]) -> None:
    result = biollm.dedup([r["text"] for r in abstracts], method="exact")
    row = {record["id"]: i for i, record in enumerate(abstracts)}
    copies = [r for r in abstracts if r["kind"] == "exact"]
    pairs = {tuple(sorted((row[r["id"]], row[r["of"]]))) for r in copies}
    assert {(p["a"], p["b"]) for p in result.pairs().to_pylist()} == pairs
    assert len(pairs) == 75


def test_sentences_of_abstracts_are_left_once(abstracts: list[dict[str, Any]]) -> None:
    """What is cut stands in an earlier abstract, and a copy that comes after its base goes whole."""
    texts = [r["text"] for r in abstracts]
    result = biollm.dedup(texts, method="sentence")
    row = {record["id"]: i for i, record in enumerate(abstracts)}
    later = [row[r["id"]] for r in abstracts if r["kind"] == "exact" and row[r["id"]] > row[r["of"]]]
    assert len(later) > 20
    assert not result.keep_mask[later].any()
    seen = "\n".join(texts)
    spans = result.spans().to_pylist()
    assert len(spans) > 1000
    for span in spans[::20]:
        piece = texts[span["row"]].encode()[span["start_byte"] : span["end_byte"]].decode().strip()
        assert seen.index(piece) < sum(len(text) + 1 for text in texts[: span["row"]])


def test_similarities_are_the_stored_ones(abstracts: list[dict[str, Any]]) -> None:
    """The stored figures are those of lower-cased runs of letters, digits and _."""
    result = biollm.dedup([r["text"] for r in abstracts], threshold=0.5, shingle="alnum:5")
    compared = 0
    for pair in result.pairs().to_pylist():
        first, second = abstracts[pair["a"]], abstracts[pair["b"]]
        for copy, base in ((first, second), (second, first)):
            if copy["of"] == base["id"]:
                assert round(pair["jaccard"], 4) == copy["jaccard5"]
                compared += 1
    assert compared > 350


def test_words_of_unicode_differ_a_little(abstracts: list[dict[str, Any]]) -> None:
    """UAX 29 keeps "0.05" and "patient's" whole, so a text has fewer shingles, and its similarities move a little."""
    texts = [r["text"] for r in abstracts]
    runs = {(p["a"], p["b"]): p["jaccard"] for p in biollm.dedup(texts, shingle="alnum:5").pairs().to_pylist()}
    words = {(p["a"], p["b"]): p["jaccard"] for p in biollm.dedup(texts).pairs().to_pylist()}
    both = runs.keys() & words.keys()
    assert len(both) > 250
    assert 0 < max(abs(runs[pair] - words[pair]) for pair in both) < 0.03
