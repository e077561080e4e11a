"""`generate` as a stage of a recipe."""

from __future__ import annotations

from pathlib import Path

from biollm.errors import ConfigError, require
from biollm.inference.completions import (
    ALGORITHM_VERSION,
    UNMATCHED_OPTIONS,
    Completions,
    GenerateOptions,
    complete,
    read_prompts,
)
from biollm.manifest import InputRecord
from biollm.stages import Stage, StageContext

__all__ = ["STAGE"]


def run(context: StageContext, options: GenerateOptions) -> Completions:
    """Continue `prompts`, or the texts of the documents that come in, with the checkpoint that comes in.

    Raises:
        ConfigError: both or neither are given. BiollmError: as `generate`.
    """
    require("torch", extra="train")
    (checkpoint,) = (item for item in context.inputs if item.kind == "checkpoint")
    documents = [item for item in context.inputs if item.kind != "checkpoint"]
    if bool(options.prompts) == bool(documents):
        raise ConfigError("generate takes either prompts or an input of documents, and one of them", field="prompts")
    prompts = read_prompts([item.path for item in documents], options.text)[0] if documents else list(options.prompts)
    completions = complete(
        Path(checkpoint.path),
        prompts,
        options,
        inputs=tuple(item.record or InputRecord.of_file(item.path) for item in context.inputs),
        were_read=bool(documents),
        progress=context.progress,
    )
    completions.write(context.folder)
    return completions


STAGE = Stage(
    verb="generate",
    options=GenerateOptions,
    takes={"checkpoint": (1, 1), "documents": (0, None), "files": (0, None)},
    gives="completions",
    algorithm_version=ALGORITHM_VERSION,
    unmatched_options=UNMATCHED_OPTIONS,
    run=run,
)
