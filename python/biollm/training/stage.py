"""``train`` as a stage of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biollm.errors import ConfigError
from biollm.stages import Stage, StageContext
from biollm.training.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, TrainOptions

if TYPE_CHECKING:
    from biollm.training.checkpoint import Checkpoint


def run(context: StageContext, options: TrainOptions) -> Checkpoint:
    """Train on all shards or documents that come in, from the checkpoint where one does."""
    from biollm.errors import require

    require("torch", extra="train")
    from biollm.manifest import InputRecord
    from biollm.tokenization.shards import Shards
    from biollm.training.pretraining import pretrain
    from biollm.training.sources import record
    from biollm.training.tuning import tune

    shards = [item for item in context.inputs if item.kind == "shards"]
    starts = [Path(item.path) for item in context.inputs if item.kind == "checkpoint"]
    others = [item for item in context.inputs if item.kind in ("documents", "files")]
    if why := fits([(item.name, item.kind) for item in context.inputs], options):
        raise ConfigError(why, field="inputs")
    start = starts[0] if starts else None
    if others:
        return tune(
            [item.path for item in others],
            start,
            options,
            output=context.folder,
            inputs=[item.record or (None if item in others else record(Path(item.path))) for item in context.inputs],
            progress=context.progress,
            log=context.log,
        )
    return pretrain(
        [Shards.open(item.path) for item in shards],
        start,
        options,
        output=context.folder,
        inputs=[item.record or InputRecord.of_stage(item.path, item.name) for item in context.inputs],
        progress=context.progress,
        log=context.log,
    )


def fits(inputs: Sequence[tuple[str, str]], options: TrainOptions) -> str | None:
    """Why the inputs are not what the objective takes; None where they are."""
    kinds = {kind for _, kind in inputs}
    if options.objective == "pretrain":
        wrong = next(((name, kind) for name, kind in inputs if kind in ("documents", "files")), None)
        if wrong is not None:
            name, kind = wrong
            return f"the input {name!r} is of kind {kind!r}, but the objective pretrain takes shards: tokenize it first"
        if "shards" not in kinds:
            return "the objective pretrain takes shards, and none are among the inputs"
    else:
        wrong = next(((name, kind) for name, kind in inputs if kind == "shards"), None)
        if wrong is not None:
            return f"the input {wrong[0]!r} is of kind 'shards', but the objective {options.objective} takes documents"
        if not kinds & {"documents", "files"}:
            return f"the objective {options.objective} takes documents or files of rows, and none are among the inputs"
    if "checkpoint" not in kinds and options.objective != "pretrain":
        return f"the objective {options.objective} needs a checkpoint among the inputs to start from"
    if "checkpoint" not in kinds and options.lora_rank:
        return "lora_rank needs a checkpoint among the inputs: new weights are not adapted"
    return None


STAGE = Stage(
    verb="train",
    options=TrainOptions,
    takes={"shards": (0, None), "documents": (0, None), "files": (0, None), "checkpoint": (0, 1)},
    gives="checkpoint",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
    fits=fits,
)
