"""What deduplication and selection did, against the truth of the sample.

Joins `truth.parquet` by id with the `decisions.parquet` that the two stages leave in their folders. No stage sees the
truth; this runs after them.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biollm.errors import InputError
from biollm.results import Sample, Series, Summary, Table

if TYPE_CHECKING:
    import pyarrow as pa

BIN_EDGES = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95, 1.0)
"""Left edges of the similarity bins; the last bin holds J = 1 alone."""

_NOTES = """\
The sample was generated with this truth in it; the stages never saw it. Similarities were measured on the texts as \
they are in the sample, by a slow program of its own, not taken from how a copy was planted.

Pair recall: planted pairs at or above the threshold that share a cluster. Pairs below it may share one as well, where \
a third document links them; that is no error. Precision: clustered documents with a partner at or above the threshold \
in their cluster. Hard negatives: planted copies, and reports of other studies in the same words, that are near \
something but at or above the threshold to nothing.

Selection is scored over the documents that reached it. A legal notice is fluent prose: rules that count words and \
lines cannot tell it from an abstract, and are expected to miss it."""


@dataclass(frozen=True)
class Bin:
    """Planted pairs with low <= J < high (the last bin: J = 1), and how many of them share a cluster."""

    low: float
    high: float
    pairs: int
    same_cluster: int


@dataclass(frozen=True)
class DedupScore:
    """Deduplication against the measured pairs, at one threshold.

    Recall counts planted pairs at or above the threshold that share a cluster. Precision counts clustered documents
    (cluster of two or more) that have a partner at or above the threshold in their cluster. Hard negatives are planted
    copies and companions whose best similarity to any document is below the threshold: `merged` ones are in a cluster
    although nothing in it is similar enough. None where there is nothing to count.
    """

    threshold: float
    documents: int
    removed: int
    planted_pairs: int
    found_pairs: int
    other_pairs: int
    other_found_pairs: int
    clustered: int
    clustered_with_partner: int
    hard_negatives: int
    hard_negatives_merged: int
    bins: tuple[Bin, ...]

    @property
    def recall(self) -> float | None:
        """Planted pairs found, of all planted pairs at the threshold."""
        return self.found_pairs / self.planted_pairs if self.planted_pairs else None

    @property
    def precision(self) -> float | None:
        """Clustered documents with a near partner, of all clustered documents."""
        return self.clustered_with_partner / self.clustered if self.clustered else None


@dataclass(frozen=True)
class DefectScore:
    """One defect: documents of it that reached selection, those removed, and the rule that removed most of them."""

    kind: str
    defect: str
    documents: int
    removed: int
    main_rule: str | None


@dataclass(frozen=True)
class SelectScore:
    """Selection against the planted defects, over the documents that reached it.

    Recall is the share of defective documents removed, precision the share of removed documents that are defective,
    `good_kept` the share of sound documents kept; `good_removed_by` is (rule, sound documents it is a reason for
    removing), most first. None where there is nothing to count.
    """

    good: int
    good_removed: int
    good_removed_by: tuple[tuple[str, int], ...]
    defects: tuple[DefectScore, ...]

    @property
    def bad(self) -> int:
        """Defective documents that reached selection."""
        return sum(defect.documents for defect in self.defects)

    @property
    def bad_removed(self) -> int:
        """Defective documents removed."""
        return sum(defect.removed for defect in self.defects)

    @property
    def recall(self) -> float | None:
        """Defective documents removed, of all defective ones."""
        return self.bad_removed / self.bad if self.bad else None

    @property
    def precision(self) -> float | None:
        """Defective documents, of all that were removed."""
        removed = self.bad_removed + self.good_removed
        return self.bad_removed / removed if removed else None

    @property
    def good_kept(self) -> float | None:
        """Sound documents kept, of all sound ones."""
        return (self.good - self.good_removed) / self.good if self.good else None


@dataclass(frozen=True)
class Score:
    """Both scores of a run."""

    dedup: DedupScore
    select: SelectScore

    def to_dict(self) -> dict[str, Any]:
        """Plain values, shares included, for `score.json`."""
        dedup = asdict(self.dedup) | {"recall": self.dedup.recall, "precision": self.dedup.precision}
        select = asdict(self.select) | {
            "recall": self.select.recall,
            "precision": self.select.precision,
            "good_kept": self.select.good_kept,
        }
        return {"dedup": dedup, "select": select}

    def summary(self) -> Summary:
        """Facts, tables and a chart for the report."""
        dedup, select = self.dedup, self.select
        bins = [[_bin_name(b), b.pairs, b.same_cluster, _share(b.same_cluster, b.pairs)] for b in dedup.bins]
        defects = [
            [d.kind, d.defect.replace("_", " "), d.documents, d.removed, _share(d.removed, d.documents), d.main_rule]
            for d in select.defects
        ]
        return Summary(
            title="Against the planted truth",
            facts={
                f"planted pairs of J ≥ {dedup.threshold:g}": dedup.planted_pairs,
                "pair recall": _rounded(dedup.recall),
                "clustered documents": dedup.clustered,
                "precision of clustering": _rounded(dedup.precision),
                "hard negatives": dedup.hard_negatives,
                "hard negatives merged": dedup.hard_negatives_merged,
                "defects removed": _rounded(select.recall),
                "precision of removal": _rounded(select.precision),
                "good documents kept": _rounded(select.good_kept),
            },
            tables=(
                Table(
                    "Planted pairs by measured Jaccard similarity",
                    ("Jaccard", "pairs", "in one cluster", "share"),
                    tuple(tuple(row) for row in bins),
                ),
                Table(
                    "Planted defects that reached selection",
                    ("kind", "defect", "documents", "removed", "share", "main rule"),
                    tuple(tuple(row) for row in defects),
                ),
                Table("Good documents that selection removed", ("rule", "documents"), select.good_removed_by),
            ),
            series=(
                Series(
                    title="Share of planted pairs in one cluster",
                    x_label="Jaccard similarity",
                    y_label="share",
                    x=tuple(_bin_name(b) for b in dedup.bins if b.pairs),
                    y=tuple(b.same_cluster / b.pairs for b in dedup.bins if b.pairs),
                    kind="bar",
                ),
            ),
            samples=(Sample("How to read this", _NOTES),),
        )


def score_dedup(truth: "pa.Table", decisions: "pa.Table", threshold: float = 0.8) -> DedupScore:
    """Scores the columns id, keep, cluster_id of `decisions`.

    Raises InputError where a document of the truth has no decision.
    """
    rows = truth.to_pylist()
    cluster = dict(zip(_column(decisions, "id"), _column(decisions, "cluster_id"), strict=True))
    _require_all(rows, cluster, "dedup")
    size = Counter(cluster[row["id"]] for row in rows)
    best: defaultdict[str, float] = defaultdict(float)
    best_in_cluster: defaultdict[str, float] = defaultdict(float)
    counts, together = Counter[int](), Counter[int]()
    pairs = {True: 0, False: 0}
    found = {True: 0, False: 0}
    for row in rows:
        for pair in row["pairs"]:
            a, b, similarity, planted = row["id"], pair["id"], pair["jaccard"], pair["planted"]
            same = cluster[a] == cluster[b]
            for name in (a, b):
                best[name] = max(best[name], similarity)
                if same:
                    best_in_cluster[name] = max(best_in_cluster[name], similarity)
            if similarity >= threshold:
                pairs[planted] += 1
                found[planted] += same
            if planted and similarity >= BIN_EDGES[0]:
                index = sum(similarity >= edge for edge in BIN_EDGES) - 1
                counts[index] += 1
                together[index] += same
    clustered = [row["id"] for row in rows if size[cluster[row["id"]]] > 1]
    negatives = [
        row["id"] for row in rows if row["kind"] in ("near_duplicate", "hard_negative") and best[row["id"]] < threshold
    ]
    upper = (*BIN_EDGES[1:], 1.0)
    return DedupScore(
        threshold=threshold,
        documents=len(rows),
        removed=sum(not keep for keep in _column(decisions, "keep")),
        planted_pairs=pairs[True],
        found_pairs=found[True],
        other_pairs=pairs[False],
        other_found_pairs=found[False],
        clustered=len(clustered),
        clustered_with_partner=sum(best_in_cluster[name] >= threshold for name in clustered),
        hard_negatives=len(negatives),
        hard_negatives_merged=sum(size[cluster[name]] > 1 for name in negatives),
        bins=tuple(Bin(BIN_EDGES[i], upper[i], counts[i], together[i]) for i in range(len(BIN_EDGES))),
    )


def score_select(truth: "pa.Table", decisions: "pa.Table") -> SelectScore:
    """Scores the columns id, keep, reason of `decisions`, which holds the documents that reached selection.

    Raises InputError where a decided document is not in the truth.
    """
    known = {row["id"]: row for row in truth.select(["id", "kind", "how"]).to_pylist()}
    good = good_removed = 0
    good_rules = Counter[str]()
    seen, removed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    rules: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    columns = (_column(decisions, name) for name in ("id", "keep", "reason"))
    for name, keep, reason in zip(*columns, strict=True):
        if name not in known:
            raise InputError("select decided on a document that is not in the truth", field="id", value=name)
        kind, how = known[name]["kind"], known[name]["how"]
        fired = [] if keep else _rules(reason)
        if kind in ("boilerplate", "noise"):
            seen[kind, how] += 1
            removed[kind, how] += not keep
            rules[kind, how].update(fired)
        else:
            good += 1
            good_removed += not keep
            good_rules.update(fired)
    planted = sorted({(row["kind"], row["how"]) for row in known.values() if row["kind"] in ("boilerplate", "noise")})
    defects = []
    for defect in planted:
        main = _most_first(rules[defect])
        defects.append(DefectScore(*defect, seen[defect], removed[defect], main[0][0] if main else None))
    return SelectScore(good, good_removed, _most_first(good_rules), tuple(defects))


def score(truth: Path, dedup: Path, select: Path, threshold: float = 0.8) -> Score:
    """The score of a run: `truth` is the sample's truth.parquet, `dedup` and `select` are the stages' folders."""
    import pyarrow.parquet as pq

    table = pq.read_table(truth)
    return Score(
        score_dedup(table, pq.read_table(dedup / "decisions.parquet"), threshold),
        score_select(table, pq.read_table(select / "decisions.parquet")),
    )


def _column(table: "pa.Table", name: str) -> list[Any]:
    if name not in table.column_names:
        raise InputError(f"decisions.parquet has no column {name!r}", field=name)
    values: list[Any] = table.column(name).to_pylist()
    return values


def _require_all(rows: Sequence[Mapping[str, Any]], decided: Mapping[str, Any], stage: str) -> None:
    for row in rows:
        if row["id"] not in decided:
            raise InputError(f"{stage} made no decision on a document of the sample", field="id", value=row["id"])


def _rules(reason: str | None) -> list[str]:
    """The rules named by a reason such as `min_words: words 34 < 50; min_stop_words: stop_words 0 < 2`."""
    return [part.partition(":")[0].strip() for part in (reason or "").split(";") if part.strip()]


def _most_first(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _bin_name(bin_: Bin) -> str:
    return "1.00" if bin_.low == 1.0 else f"{bin_.low:.2f}-{bin_.high:.2f}"


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
