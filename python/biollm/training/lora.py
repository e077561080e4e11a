"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685, section 4.1) of our own model, by peft.

peft replaces linear layers inside a module, whatever the module is. It is our own that gets them, not the one of
`transformers`: the loop, the document masks and the checkpoints of a run are those of full training then, and the
parameters' names are Hugging Face's, so that the adapter by itself fits the `transformers` model too.

The second factor starts at zero, so the first logits are the base's. The base is frozen; a classifier's head is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from biollm.atomic import make_folder, write_json
from biollm.errors import ConfigError, require
from biollm.models.checkpoints import write_tensors
from biollm.training.options import TrainOptions

ADAPTER: Final = "adapter"
ADAPTER_FILES: Final = (f"{ADAPTER}/adapter_config.json", f"{ADAPTER}/adapter_model.safetensors")
"""Of an adapter by itself, as `peft.PeftModel.from_pretrained` reads it."""
TRAINED: Final = "state/trained.safetensors"
"""What is trained, under the model's own names: of a checkpoint that a run goes on from."""
_NAME: Final = "default"
_BASE: Final = ".base_layer."
_A, _B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"


def add_adapters(model: nn.Module, options: TrainOptions) -> None:
    """Put factors beside the layers that ``lora_targets`` names, and freeze all else but a classifier's head.

    Raises ConfigError where no layer has such a name, MissingExtra where peft is not installed.
    """
    peft: Any = require("peft", extra="lora")
    present = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if missing := sorted(set(options.lora_targets) - present):
        raise ConfigError(f"the model has no layer {missing[0]!r}", field="lora_targets", value=missing[0])
    peft.inject_adapter_in_model(_config(peft, options), model, adapter_name=_NAME)
    if isinstance(head := getattr(model, "score", None), nn.Linear):
        head.requires_grad_(True)


@torch.no_grad()
def merged_state(state: Mapping[str, Tensor], options: TrainOptions) -> dict[str, Tensor]:
    """The weights of a model with adapters as one without has them: W + (alpha / rank) B A."""
    merged = {name.replace(_BASE, "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name, factor in state.items():
        if name.endswith(_A):
            layer = name.removesuffix(_A)
            merged[f"{layer}.weight"] = merged[f"{layer}.weight"] + options.alpha / options.lora_rank * (
                state[layer + _B] @ factor
            )
    return merged


def write_adapter(folder: Path, state: Mapping[str, Tensor], options: TrainOptions) -> dict[str, str]:
    """Write ``ADAPTER_FILES`` below a folder; gives the name of each → its xxh3-128."""
    peft: Any = require("peft", extra="lora")
    make_folder(folder / ADAPTER)
    tensors = {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": tensor.detach().contiguous()
        for name, tensor in state.items()
        if ".lora_" in name
    }
    config = {k: sorted(v) if isinstance(v, set) else v for k, v in _config(peft, options).to_dict().items()}
    config |= {"task_type": "CAUSAL_LM", "peft_type": "LORA", "inference_mode": True}
    written = (write_json(folder / ADAPTER_FILES[0], config), write_tensors(folder / ADAPTER_FILES[1], tensors))
    return dict(zip(ADAPTER_FILES, written, strict=True))


def write_trained(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write the parameters that are trained; gives the file's name → its xxh3-128."""
    make_folder((folder / TRAINED).parent)
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    return {TRAINED: write_tensors(folder / TRAINED, whole)}


@torch.no_grad()
def read_trained(folder: Path, model: nn.Module) -> None:
    """Take over what `write_trained` wrote of the same model."""
    stored = load_file(folder / TRAINED)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(stored[name])


def _config(peft: Any, options: TrainOptions) -> Any:
    return peft.LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.alpha,
        lora_dropout=options.lora_dropout,
        target_modules=list(options.lora_targets),
        bias="none",
    )
