"""The dense Llama family: its configuration, the model, and checkpoints in Hugging Face layout.

Importing this package imports no torch; the model and the checkpoint functions do when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biollm.models.config import ModelConfig, RopeScaling
from biollm.models.sizes import SIZES, model_config

if TYPE_CHECKING:
    from biollm.models.checkpoints import load_checkpoint, save_checkpoint
    from biollm.models.llama import Llama
else:
    _HOMES = {
        "Llama": "biollm.models.llama",
        "load_checkpoint": "biollm.models.checkpoints",
        "save_checkpoint": "biollm.models.checkpoints",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        from biollm.errors import require

        require("torch", extra="train")
        return getattr(import_module(_HOMES[name]), name)


__all__ = ["SIZES", "Llama", "ModelConfig", "RopeScaling", "load_checkpoint", "model_config", "save_checkpoint"]


def __dir__() -> list[str]:
    return sorted(__all__)
