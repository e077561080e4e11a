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
    _HOMES = {
        "Checkpoint": "checkpoint",
        "TrainOptions": "options",
        "TrainingState": "checkpoint",
        "load_state": "checkpoint",
        "train": "pretraining",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        from biollm.errors import require

        if _HOMES[name] == "pretraining":
            require("torch", extra="train")
        value = getattr(import_module(f"biollm.training.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


__all__ = ["Checkpoint", "TrainOptions", "TrainingState", "load_state", "train"]


def __dir__() -> list[str]:
    return sorted(__all__)
