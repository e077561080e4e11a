"""The dense Llama family: its configuration, the model, and checkpoints in Hugging Face layout.

Importing this package imports no torch; the model and the checkpoint functions do when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biollm.models.config import ModelConfig, Quantization, RopeScaling
from biollm.models.sizes import SIZES, model_config

if TYPE_CHECKING:
    from biollm.models.checkpoints import load_checkpoint, save_checkpoint
    from biollm.models.llama import Llama
    from biollm.models.quantized import Int4Linear, Int8Linear
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "Int4Linear": "quantized",
        "Int8Linear": "quantized",
        "Llama": "llama",
        "load_checkpoint": "checkpoints",
        "save_checkpoint": "checkpoints",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES, torch={"checkpoints", "llama", "quantized"})


__all__ = [
    "SIZES",
    "Int4Linear",
    "Int8Linear",
    "Llama",
    "ModelConfig",
    "Quantization",
    "RopeScaling",
    "load_checkpoint",
    "model_config",
    "save_checkpoint",
]


def __dir__() -> list[str]:
    return sorted(__all__)
