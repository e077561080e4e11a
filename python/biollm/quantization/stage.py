"""`quantize` as a stage of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biollm.errors import ConfigError, require
from biollm.manifest import InputRecord
from biollm.quantization.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, QuantizeOptions
from biollm.stages import Stage, StageContext

if TYPE_CHECKING:
    from biollm.training.checkpoint import Checkpoint

__all__ = ["STAGE"]


def run(context: StageContext, options: QuantizeOptions) -> Checkpoint:
    """Quantize the checkpoint that comes in; the shards or documents that come in calibrate it and judge it.

    Raises:
        ConfigError: there are neither, or both. BiollmError: as `quantize`.
    """
    require("torch", extra="train")
    from biollm.quantization.quantizing import quantize_checkpoint

    (checkpoint,) = (item for item in context.inputs if item.kind == "checkpoint")
    others = [item for item in context.inputs if item.kind != "checkpoint"]
    if len({item.kind == "shards" for item in others}) != 1:
        given = "both shards and documents" if others else "neither shards nor documents"
        message = f"quantize takes shards or documents to calibrate with, beside the checkpoint, and {given} came in"
        raise ConfigError(message, field="inputs")
    return quantize_checkpoint(
        Path(checkpoint.path),
        [Path(item.path) for item in others],
        options,
        output=context.folder,
        inputs=[item.record or InputRecord.of_file(item.path) for item in context.inputs],
        progress=context.progress,
    )


STAGE = Stage(
    verb="quantize",
    options=QuantizeOptions,
    takes={"checkpoint": (1, 1), "shards": (0, None), "documents": (0, None), "files": (0, None)},
    gives="checkpoint",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
