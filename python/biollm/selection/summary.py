"""What a selection says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biollm.results import Sample, Series, Summary, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from biollm.selection.result import Selection

__all__ = ["summarize"]

#: Bins of a histogram, and the share of values that its last bin may gather.
BINS = 20
TAIL = 0.005
MAX_HISTOGRAMS = 6
#: Sources that get a row of their own.
MAX_SOURCES = 50


def summarize(selection: Selection) -> Summary:
    """Counts, what each rule dropped, each source's share, histograms of scores, examples of dropped texts."""
    keep = selection.keep_mask
    documents, kept = len(keep), int(keep.sum())
    characters = selection.scores.column("characters").to_numpy()
    facts = {
        "documents_in": documents,
        "documents_kept": kept,
        "documents_dropped": documents - kept,
        "kept_fraction": kept / documents if documents else None,
        "characters_in": int(characters.sum()),
        "characters_kept": int(characters[keep].sum()),
        "rules": len(selection.rules),
    }
    tables = [_rules_table(selection)]
    if selection.sources is not None:
        tables.append(_sources_table(selection))
    series = [
        drawn
        for name in _telling(selection)
        for drawn in _histogram(name, selection.scores.column(name).to_numpy(), keep)
    ]
    samples = tuple(
        Sample(f"dropped: {selection.why(dropped.row)}", dropped.text) for dropped in selection.dropped_texts
    )
    return Summary("select", facts, tuple(tables), tuple(series), samples)


def _rules_table(selection: Selection) -> Table:
    documents = max(len(selection), 1)
    rows = []
    for i, rule in enumerate(selection.rules):
        failing = int((selection.failed >> i & 1).sum())
        alone = int((selection.failed == 1 << i).sum())
        limit = f"{rule.statistic} {rule.drop_if} {rule.threshold:.6g}"
        rows.append((rule.name, limit, failing, failing / documents, alone))
    columns = ("rule", "drops a document if", "documents", "share", "by this rule alone")
    return Table("Documents that fail each rule", columns, tuple(rows))


def _sources_table(selection: Selection) -> Table:
    import numpy as np
    import pyarrow.compute as pc

    encoded = pc.fill_null(selection.sources, "(none)").combine_chunks().dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    total = np.bincount(codes, minlength=len(names))
    kept = np.bincount(codes[selection.keep_mask], minlength=len(names))
    order = np.argsort(-total, kind="stable")
    rows: list[tuple[Any, ...]] = [
        (names[i], int(total[i]), int(kept[i]), int(kept[i]) / int(total[i])) for i in order[:MAX_SOURCES].tolist()
    ]
    rest = order[MAX_SOURCES:]
    if len(rest):
        of_rest, kept_of_rest = int(total[rest].sum()), int(kept[rest].sum())
        rows.append((f"({len(rest)} more sources)", of_rest, kept_of_rest, kept_of_rest / of_rest))
    return Table("Documents by source", ("source", "in", "kept", "share kept"), tuple(rows))


def _telling(selection: Selection) -> list[str]:
    """The statistics worth a chart: words, and those whose rules fail most documents."""
    import numpy as np

    failing: dict[str, int] = {}
    for i, rule in enumerate(selection.rules):
        count = int(np.count_nonzero(selection.failed >> i & 1))
        failing[rule.statistic] = max(count, failing.get(rule.statistic, 0))
    most = sorted((name for name, count in failing.items() if count), key=lambda name: -failing[name])[:MAX_HISTOGRAMS]
    names = [name for name in selection.scores.column_names if name in most or name == "words"]
    return names if len(selection) else []


def _histogram(name: str, values: npt.NDArray[Any], keep: npt.NDArray[np.bool_]) -> list[Series]:
    """Two series of one chart: kept and dropped documents by value. The largest values share the last bin."""
    import numpy as np

    low, high = float(values.min()), float(np.quantile(values, 1 - TAIL))
    if high <= low:
        high = float(values.max()) if values.max() > low else low + 1.0
    if values.dtype.kind == "i":
        step = max(1.0, np.ceil((high - low) / BINS))
        edges = np.arange(low, high + 2 * step, step)
    else:
        edges = np.linspace(low, high, BINS + 1)
    left = tuple(float(f"{edge:.4g}") for edge in edges[:-1])
    drawn = []
    for label, chosen in (("kept", keep), ("dropped", ~keep)):
        counts, _ = np.histogram(np.clip(values[chosen], low, edges[-1]), bins=edges)
        drawn.append(Series(name, f"{name} from", "documents", left, tuple(map(float, counts)), "bar", label))
    return drawn
