"""Deduplication: near-duplicate documents by MinHash LSH, every candidate verified by its exact Jaccard similarity;
documents of equal text; documents of one URL; lines, paragraphs and sentences that an earlier document has.

`dedup` is the verb; its result is a `DedupResult`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.deduplication.deduplicating import dedup
    from biollm.deduplication.options import DedupOptions
    from biollm.deduplication.result import Decision, DedupResult, Link
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "Decision": "result",
        "DedupOptions": "options",
        "DedupResult": "result",
        "Link": "result",
        "dedup": "deduplicating",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)


__all__ = ["Decision", "DedupOptions", "DedupResult", "Link", "dedup"]
