"""`align` as a stage of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from biollm.alignment.options import ALGORITHM_VERSION, UNMATCHED_OPTIONS, AlignOptions
from biollm.errors import ConfigError
from biollm.stages import Stage, StageContext

if TYPE_CHECKING:
    from biollm.training import Checkpoint

__all__ = ["STAGE"]


def run(context: StageContext, options: AlignOptions) -> Checkpoint:
    """Align the checkpoint that comes in to the pairs of all files and documents that come in.

    Raises:
        ConfigError: there are no pairs among the inputs. BiollmError: as `align`.
    """
    from biollm.errors import require

    require("torch", extra="train")
    from biollm.alignment.aligning import align_source
    from biollm.manifest import InputRecord

    (checkpoint,) = (item for item in context.inputs if item.kind == "checkpoint")
    pairs = [item for item in context.inputs if item.kind != "checkpoint"]
    if not pairs:
        raise ConfigError("align needs preference pairs among its inputs: files or documents", field="inputs")
    return align_source(
        Path(checkpoint.path),
        [Path(item.path) for item in pairs],
        options,
        output=context.folder,
        inputs=[item.record or InputRecord.of_file(item.path) for item in context.inputs],
        progress=context.progress,
        log=context.log,
    )


STAGE = Stage(
    verb="align",
    options=AlignOptions,
    takes={"checkpoint": (1, 1), "documents": (0, None), "files": (0, None)},
    gives="checkpoint",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
