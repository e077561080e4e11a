"""``train`` as a stage of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biollm.stages import Stage, StageContext
from biollm.training.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, TrainOptions

if TYPE_CHECKING:
    from biollm.training.checkpoint import Checkpoint


def run(context: StageContext, options: TrainOptions) -> Checkpoint:
    """Train on all shards that come in, from the checkpoint where one does."""
    from biollm.errors import require

    require("torch", extra="train")
    from biollm.manifest import InputRecord
    from biollm.tokenization.shards import Shards
    from biollm.training.pretraining import pretrain

    shards = [Shards.open(item.path) for item in context.inputs if item.kind == "shards"]
    starts = [Path(item.path) for item in context.inputs if item.kind == "checkpoint"]
    return pretrain(
        shards,
        starts[0] if starts else None,
        options,
        output=context.folder,
        inputs=[item.record or InputRecord.of_stage(item.path, item.name) for item in context.inputs],
        progress=context.progress,
        log=context.log,
    )


STAGE = Stage(
    verb="train",
    options=TrainOptions,
    takes={"shards": (1, None), "checkpoint": (0, 1)},
    gives="checkpoint",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
