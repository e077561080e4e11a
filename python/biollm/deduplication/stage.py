"""`dedup` as a stage of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biollm.deduplication.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, DedupOptions
from biollm.stages import Stage, StageContext

if TYPE_CHECKING:
    from biollm.deduplication.result import DedupResult

__all__ = ["STAGE"]


def run(context: StageContext, options: DedupOptions) -> DedupResult:
    """Deduplicate all documents that come in, in order."""
    from biollm.deduplication.deduplicating import dedup_source

    return dedup_source(
        context.paths(),
        options,
        output=context.folder,
        inputs=context.records(),
        progress=context.progress,
        log=context.log,
    )


STAGE = Stage(
    verb="dedup",
    options=DedupOptions,
    takes={"documents": (0, None), "files": (0, None)},
    gives="documents",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
