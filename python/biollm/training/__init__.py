"""Training of a dense Llama-type language model on token shards.

Importing this package imports no torch and no numpy; ``train`` does when it is first used.
The verb's module is called ``pretraining``: one called ``train`` would hide the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.training.checkpoint import Checkpoint, TrainingState, load_state
    from biollm.training.options import TrainOptions
    from biollm.training.pretraining import train
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "Checkpoint": "checkpoint",
        "TrainOptions": "options",
        "TrainingState": "checkpoint",
        "load_state": "checkpoint",
        "train": "pretraining",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES, torch={"pretraining"})


__all__ = ["Checkpoint", "TrainOptions", "TrainingState", "load_state", "train"]


def __dir__() -> list[str]:
    return sorted(__all__)
