"""`select` as a stage of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biollm.selection.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, SelectOptions
from biollm.stages import Stage, StageContext

if TYPE_CHECKING:
    from biollm.selection.result import Selection

__all__ = ["STAGE"]


def run(context: StageContext, options: SelectOptions) -> Selection:
    """Select from all documents that come in, in order."""
    from biollm.selection.selecting import select_source

    return select_source(
        context.paths(),
        options,
        output=context.folder,
        inputs=context.records(),
        progress=context.progress,
        log=context.log,
    )


STAGE = Stage(
    verb="select",
    options=SelectOptions,
    takes={"documents": (0, None), "files": (0, None)},
    gives="documents",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
