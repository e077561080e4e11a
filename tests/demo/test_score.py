"""The score, against truths and decisions small enough to count by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from biollm.demo.corpus import Document, truth_table
from biollm.demo.score import Bin, score, score_dedup, score_select
from biollm.demo.truth import SimilarPair
from biollm.errors import InputError
from biollm.results import Summary


def document(name: str, kind: str, how: str | None = None, original: str | None = None) -> Document:
    return Document(name, "", "crawl", 2000, kind, how, original)


DOCUMENTS = [
    document("a", "abstract", None, "a"),
    document("a1", "near_duplicate", "words", "a"),
    document("a2", "near_duplicate", "exact", "a"),
    document("a3", "hard_negative", "companion", "a"),
    document("b", "abstract"),
    document("c", "noise", "too_short"),
    document("d", "noise", "too_short"),
    document("e", "boilerplate", "legal_notice"),
]
PAIRS = [SimilarPair(0, 1, 0.85), SimilarPair(0, 2, 1.0), SimilarPair(0, 3, 0.7), SimilarPair(1, 2, 0.85)]
PAIRS += [SimilarPair(5, 6, 0.8)]  # by accident
TRUTH = truth_table(DOCUMENTS, PAIRS)
NAMES = [row.id for row in DOCUMENTS]


def dedup_decisions(clusters: list[int]) -> pa.Table:
    keep = [clusters[row] == row for row in range(len(clusters))]
    return pa.table({"id": NAMES, "keep": keep, "cluster_id": clusters})


def select_decisions(rows: dict[str, str | None]) -> pa.Table:
    keep = [reason is None for reason in rows.values()]
    return pa.table({"id": list(rows), "keep": keep, "reason": pa.array(list(rows.values()), pa.string())})


def test_a_perfect_dedup() -> None:
    result = score_dedup(TRUTH, dedup_decisions([0, 0, 0, 3, 4, 5, 5, 7]))
    assert (result.recall, result.precision) == (1.0, 1.0)
    assert (result.planted_pairs, result.other_pairs, result.other_found_pairs) == (3, 1, 1)
    assert (result.documents, result.removed, result.clustered) == (8, 3, 5)
    assert (result.hard_negatives, result.hard_negatives_merged) == (1, 0)
    by_low = {bin_.low: bin_ for bin_ in result.bins}
    assert by_low[0.70] == Bin(0.70, 0.75, 1, 0)
    assert by_low[0.85] == Bin(0.85, 0.90, 2, 2)
    assert by_low[1.0] == Bin(1.0, 1.0, 1, 1)


def test_a_missed_pair_costs_recall() -> None:
    result = score_dedup(TRUTH, dedup_decisions([0, 1, 0, 3, 4, 5, 6, 7]))
    assert result.recall == pytest.approx(1 / 3)
    assert result.precision == 1.0
    assert result.other_found_pairs == 0


def test_a_wrong_merge_costs_precision() -> None:
    result = score_dedup(TRUTH, dedup_decisions([0, 0, 0, 0, 4, 5, 5, 4]))
    assert result.recall == 1.0
    assert result.precision == pytest.approx(5 / 8)  # a3, b and e have no partner in their cluster
    assert result.hard_negatives_merged == 1


def test_nothing_clustered() -> None:
    result = score_dedup(TRUTH, dedup_decisions(list(range(8))))
    assert (result.recall, result.precision, result.clustered) == (0.0, None, 0)


def test_the_threshold_decides_what_counts() -> None:
    result = score_dedup(TRUTH, dedup_decisions([0, 0, 0, 3, 4, 5, 5, 7]), threshold=0.9)
    assert (result.planted_pairs, result.other_pairs) == (1, 0)
    assert result.precision == pytest.approx(2 / 5)
    assert result.hard_negatives == 2  # a1 as well


def test_select_over_what_reached_it() -> None:
    result = score_select(
        TRUTH, select_decisions({"a": None, "b": "stops: 1 < 2", "c": "stops: 0 < 2; length: 9 < 50", "e": None})
    )
    assert (result.good, result.good_removed, result.good_kept) == (2, 1, 0.5)
    assert (result.bad, result.bad_removed, result.recall, result.precision) == (2, 1, 0.5, 0.5)
    assert result.good_removed_by == (("stops", 1),)
    rows = {row.defect: (row.kind, row.documents, row.removed, row.main_rule) for row in result.defects}
    assert rows == {"too_short": ("noise", 1, 1, "length"), "legal_notice": ("boilerplate", 1, 0, None)}


def test_missing_and_foreign_documents_are_errors() -> None:
    with pytest.raises(InputError, match="no decision") as missing:
        score_dedup(TRUTH, dedup_decisions([0, 0, 0, 3, 4, 5, 5, 7]).slice(1))
    assert missing.value.value == "a"
    with pytest.raises(InputError, match="not in the truth"):
        score_select(TRUTH, select_decisions({"z": None}))
    with pytest.raises(InputError, match="cluster_id"):
        score_dedup(TRUTH, dedup_decisions([0] * 8).drop_columns(["cluster_id"]))


def test_files_in_summary_out(tmp_path: Path) -> None:
    pq.write_table(TRUTH, tmp_path / "truth.parquet")
    for stage, table in (
        ("dedup", dedup_decisions([0, 0, 0, 3, 4, 5, 5, 7])),
        ("select", select_decisions({"a": None, "c": "min_words: 9 < 50"})),
    ):
        (tmp_path / stage).mkdir()
        pq.write_table(table, tmp_path / stage / "decisions.parquet")
    result = score(tmp_path / "truth.parquet", tmp_path / "dedup", tmp_path / "select")
    plain: dict[str, Any] = result.to_dict()
    assert plain["dedup"]["recall"] == 1.0
    assert plain["select"]["good_kept"] == 1.0
    summary = result.summary()
    assert Summary.from_dict(summary.to_dict()) == summary
    assert summary.facts["pair recall"] == 1.0
    assert "min_words" in str(summary)
