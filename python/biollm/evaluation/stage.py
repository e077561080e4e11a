"""`evaluate` as a stage of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biollm.errors import require
from biollm.evaluation.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, EvaluateOptions
from biollm.manifest import InputRecord
from biollm.stages import Stage, StageContext

if TYPE_CHECKING:
    from biollm.evaluation.result import Evaluation

__all__ = ["STAGE"]


def run(context: StageContext, options: EvaluateOptions) -> Evaluation:
    """Measure the checkpoint that comes in on the questions, documents and shards that come in.

    Raises:
        BiollmError: as `evaluate`.
    """
    require("torch", extra="train")
    from biollm.evaluation.evaluating import evaluate_sources
    from biollm.evaluation.result import write_evaluation

    (checkpoint,) = (item for item in context.inputs if item.kind == "checkpoint")
    evaluation = evaluate_sources(
        Path(checkpoint.path),
        [item.path for item in context.inputs if item.kind != "checkpoint"],
        options,
        inputs=tuple(item.record or InputRecord.of_file(item.path) for item in context.inputs),
        progress=context.progress,
    )
    return write_evaluation(evaluation, context.folder)


STAGE = Stage(
    verb="evaluate",
    options=EvaluateOptions,
    takes={"checkpoint": (1, 1), "documents": (0, None), "shards": (0, None), "files": (0, None)},
    gives="evaluation",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
