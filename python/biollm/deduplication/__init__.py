"""Deduplication: near-duplicate documents by MinHash LSH, every candidate verified by its exact Jaccard similarity.

`dedup` is the verb; its result is a `DedupResult`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.deduplication.deduplicating import dedup
    from biollm.deduplication.options import DedupOptions
    from biollm.deduplication.result import Decision, DedupResult, Link
else:
    _HOMES = {
        "Decision": "result",
        "DedupOptions": "options",
        "DedupResult": "result",
        "Link": "result",
        "dedup": "deduplicating",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'biollm.deduplication' has no attribute {name!r}")
        value = getattr(import_module(f"biollm.deduplication.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = ["Decision", "DedupOptions", "DedupResult", "Link", "dedup"]
