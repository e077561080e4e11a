"""`read` as a stage of a recipe."""

from __future__ import annotations

from biollm.readers.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, ReadOptions
from biollm.readers.reading import ReadResult, read_source
from biollm.stages import Stage, StageContext

__all__ = ["STAGE"]


def run(context: StageContext, options: ReadOptions) -> ReadResult:
    """Reads all files that come in, in order, into one folder of documents."""
    return read_source(context.paths(), options, output=context.folder, progress=context.progress, logger=context.log)


STAGE = Stage(
    verb="read",
    options=ReadOptions,
    takes={"files": (1, None)},
    gives="documents",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
