"""`tokenize` as a stage of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biollm.stages import Stage, StageContext
from biollm.tokenization.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, TokenizeOptions

if TYPE_CHECKING:
    from biollm.tokenization.shards import Shards

__all__ = ["STAGE"]


def run(context: StageContext, options: TokenizeOptions) -> Shards:
    """Tokenize all documents that come in, in order."""
    from biollm.tokenization.sharding import tokenize_source

    return tokenize_source(
        context.paths(),
        options,
        output=context.folder,
        inputs=context.records(),
        progress=context.progress,
        log=context.log,
    )


STAGE = Stage(
    verb="tokenize",
    options=TokenizeOptions,
    takes={"documents": (0, None), "files": (0, None)},
    gives="shards",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
