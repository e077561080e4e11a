"""What a deduplication says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from biollm.deduplication.options import PIECE_METHODS
from biollm.deduplication.result import DedupResult, RemovedPair
from biollm.results import Sample, Scalar, Series, Summary, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["show_removed", "summarize"]

#: Removed documents shown: of the pairs nearest to the threshold, and spread over the rows.
NEAREST_SHOWN: Final = 4
SPREAD_SHOWN: Final = 4
#: Characters shown of each document, and of what the two have in common before they differ.
SHOWN_CHARACTERS: Final = 300
COMMON_CHARACTERS: Final = 60
#: Characters in which a difference is looked for.
COMPARED_CHARACTERS: Final = 20_000
#: Largest clusters listed; sources that get a row of their own.
LARGEST: Final = 10
MAX_SOURCES: Final = 50
#: Least sizes of the classes of clusters.
SIZES: Final = (2, 3, 4, 6, 11, 21, 101, 1001)


def summarize(result: DedupResult) -> Summary:
    """Counts, cluster sizes, the largest clusters, each source's share, similarities, examples of what was removed."""
    counts = result.manifest.counts
    documents, dropped = int(counts["documents_in"]), int(counts["documents_dropped"])
    facts: dict[str, Scalar] = {
        "documents_in": documents,
        "documents_kept": int(counts["documents_kept"]),
        "documents_dropped": dropped,
        "dropped_fraction": dropped / documents if documents else None,
        "text_bytes_in": int(counts["text_bytes_in"]),
        "text_bytes_kept": int(counts["text_bytes_kept"]),
        **_method_facts(result),
    }
    tables = [_sizes_table(result), _largest_table(result)] if "clusters" in counts else []
    if result.sources is not None:
        tables.append(_sources_table(result))
    samples = tuple(Sample(shown.title, shown.text) for shown in result.removed)
    series = (_similarities(result),) if result.method == "fuzzy" else ()
    return Summary("dedup", facts, tuple(tables), series, samples)


def _method_facts(result: DedupResult) -> dict[str, Scalar]:
    counts, options = result.manifest.counts, result.manifest.options
    if result.method in PIECE_METHODS:
        names = ("documents_cut", "pieces", "pieces_cut")
        return {name: int(counts[name]) for name in names} | {"normalize": str(options["normalize"])}
    clusters: dict[str, Scalar] = {"clusters": int(counts["clusters"])}
    copies = int(counts["copies"])
    if result.method == "exact":
        return clusters | {"same_text_as_an_earlier_document": copies, "normalize": str(options["normalize"])}
    if result.method == "url":
        return clusters | {"same_url_as_an_earlier_document": copies}
    return clusters | {
        "same_shingles_as_an_earlier_document": copies,
        "candidates_compared": int(counts["candidates_compared"]),
        "verified_pairs": int(counts["pairs"]),
        "threshold": float(options["threshold"]),
    }


def _cluster_sizes(result: DedupResult) -> Any:
    import numpy as np

    return np.bincount(result.cluster_id, minlength=len(result))


def _sizes_table(result: DedupResult) -> Table:
    import numpy as np

    sizes = _cluster_sizes(result)
    sizes = sizes[sizes > 1]
    of_class = np.searchsorted(SIZES, sizes, side="right") - 1
    rows: list[tuple[Scalar, ...]] = []
    for i, least in enumerate(SIZES):
        most = SIZES[i + 1] - 1 if i + 1 < len(SIZES) else None
        name = f"{least} and more" if most is None else str(least) if most == least else f"{least} to {most}"
        chosen = sizes[of_class == i]
        if len(chosen):
            rows.append((name, len(chosen), int(chosen.sum()), int(chosen.sum()) - len(chosen)))
    return Table("Clusters by size", ("documents in the cluster", "clusters", "documents", "dropped"), tuple(rows))


def _largest_table(result: DedupResult) -> Table:
    import numpy as np

    sizes = _cluster_sizes(result)
    order = np.argsort(-sizes, kind="stable")[:LARGEST]
    rows: list[tuple[Scalar, ...]] = []
    for cluster in order.tolist():
        if sizes[cluster] < 2:
            break
        kept = int(result.representative[cluster])
        rows.append((cluster, int(sizes[cluster]), kept, result.ids[kept].as_py()))
    return Table("Largest clusters", ("cluster_id", "documents", "row kept", "id kept"), tuple(rows))


def _sources_table(result: DedupResult) -> Table:
    import numpy as np
    import pyarrow.compute as pc

    encoded = pc.fill_null(result.sources, "(none)").combine_chunks().dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    total = np.bincount(codes, minlength=len(names))
    kept = np.bincount(codes[result.keep_mask], minlength=len(names))
    # What goes to a document of another source, and so says that two sources overlap.
    instead = np.where(result.representative < 0, np.arange(len(result)), result.representative)
    elsewhere = np.bincount(codes[codes != codes[instead]], minlength=len(names))
    order = np.argsort(-total, kind="stable")
    listed = [(names[i], [i]) for i in order[:MAX_SOURCES].tolist()]
    if len(order) > MAX_SOURCES:
        listed.append((f"({len(order) - MAX_SOURCES} more sources)", order[MAX_SOURCES:].tolist()))
    rows: list[tuple[Scalar, ...]] = []
    for name, codes_listed in listed:
        n, k, other = (int(column[codes_listed].sum()) for column in (total, kept, elsewhere))
        rows.append((name, n, k, k / n, other))
    columns = ("source", "in", "kept", "share kept", "dropped for a document of another source")
    return Table("Documents by source", columns, tuple(rows))


def _similarities(result: DedupResult) -> Series:
    bins = len(result.histogram)
    left = tuple(round(i / bins, 4) for i in range(bins))
    counts = tuple(map(float, result.histogram))
    return Series("Compared candidates by similarity", "Jaccard similarity from", "pairs", left, counts, "bar")


def show_removed(result: DedupResult, texts: pa.ChunkedArray) -> tuple[RemovedPair, ...]:
    """A few removed documents beside what they are like: those nearest to the threshold, others over all rows."""
    import numpy as np

    if result.method in PIECE_METHODS:
        return _show_cut(result, texts)
    shown = {}
    pairs = result.pairs()
    nearest = NEAREST_SHOWN if result.method == "fuzzy" else 0
    for i in np.argsort(pairs.column("jaccard").to_numpy(), kind="stable")[:nearest].tolist():
        a, b, jaccard = (pairs.column(name)[i].as_py() for name in ("a", "b", "jaccard"))
        kept = result.keep_mask[b] and not result.keep_mask[a]
        row, other = (a, b) if kept else (b, a)
        shown[row, other] = f"Jaccard {jaccard:.3f}"
    removed = (~result.keep_mask).nonzero()[0]
    for i in np.linspace(0, len(removed) - 1, min(SPREAD_SHOWN, len(removed))).astype(int).tolist():
        row = int(removed[i])
        shown.setdefault((row, int(result.representative[row])), "the document kept for it")
    return tuple(_show(result, texts, row, other, relation) for (row, other), relation in shown.items())


def _show_cut(result: DedupResult, texts: pa.ChunkedArray) -> tuple[RemovedPair, ...]:
    """A few of the spans, over all rows."""
    import numpy as np

    spans = result.spans()
    shown = []
    count = min(NEAREST_SHOWN + SPREAD_SHOWN, len(spans))
    for i in np.linspace(0, len(spans) - 1, count).astype(int).tolist():
        row, start, end = (spans.column(name)[i].as_py() for name in ("row", "start_byte", "end_byte"))
        piece = texts[row].as_buffer()[start:end].to_pybytes().decode()
        shown.append(RemovedPair(f"row {row}, id {result.ids[row].as_py()}: a {result.method} cut", _excerpt(piece, 0)))
    return tuple(shown)


def _show(result: DedupResult, texts: pa.ChunkedArray, row: int, other: int, relation: str) -> RemovedPair:
    rows = (row, other)
    begun = [texts[r].as_py()[:COMPARED_CHARACTERS] for r in rows]
    states = ["kept" if result.keep_mask[r] else "removed" for r in rows]
    names = [f"row {r}, id {result.ids[r].as_py()} ({state})" for r, state in zip(rows, states, strict=True)]
    differing = (i for i, (a, b) in enumerate(zip(*begun, strict=False)) if a != b)
    start = max(0, next(differing, min(map(len, begun))) - COMMON_CHARACTERS) if begun[0] != begun[1] else 0
    lines = [f"row {r} ({state}): {_excerpt(text, start)}" for r, state, text in zip(rows, states, begun, strict=True)]
    return RemovedPair(f"{names[0]} and {names[1]}: {relation}", "\n\n".join(lines))


def _excerpt(text: str, start: int) -> str:
    end = start + SHOWN_CHARACTERS
    return ("[…] " if start else "") + text[start:end] + (" […]" if end < len(text) else "")
