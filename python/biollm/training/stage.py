"""``train`` as a stage of a recipe."""

from __future__ import annotations

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
    unfit = others if options.objective == "pretrain" else shards
    if unfit or not (shards or others):
        takes = "token shards" if options.objective == "pretrain" else "documents or files of rows"
        wrong = f", not {unfit[0].name!r}" if unfit else ""
        raise ConfigError(f"the objective {options.objective} takes {takes}{wrong}", field="inputs")
    start = starts[0] if starts else None
    if options.lora_rank and start is None:
        message = "lora_rank needs a checkpoint among the inputs: new weights are not adapted"
        raise ConfigError(message, field="lora_rank")
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


STAGE = Stage(
    verb="train",
    options=TrainOptions,
    takes={"shards": (0, None), "documents": (0, None), "files": (0, None), "checkpoint": (0, 1)},
    gives="checkpoint",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
