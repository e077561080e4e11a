"""From a trained model to a quantized one, block by block.

The calibration documents go through the blocks once, kept as hidden states between them. Inside a block the linear
layers are quantized in the order in which the data meets them, each on the inputs that the layers quantized before it
give ("true sequential" in GPTQ's code), so that later layers make up for the errors of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biollm.models.config import Quantization
from biollm.models.llama import Block, Llama
from biollm.models.quantized import SCALE_DTYPE, Int4Linear, Int8Linear, empty_like, pack_nibbles
from biollm.quantization.compensation import gptq, output_error
from biollm.quantization.rounding import column_scales, nearest, plain_scales, searched_scales

__all__ = ["LayerError", "convert"]

BATCH_TOKENS: Final = 8192
"""Tokens that go through a block at once, padding among them."""

SHARED_INPUTS: Final = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""The linear layers of a block in the order of the data; those that read the same inputs stand together."""


@dataclass(frozen=True)
class LayerError:
    """What quantization did to one linear layer.

    Attributes:
        name: of the layer in the model: "model.layers.0.self_attn.q_proj".
        shape: of its weight, (out, in).
        relative_error: ‖(W - Ŵ) X‖ / ‖W X‖ over the calibration inputs X of the quantized model.
        weight_bytes: of whole numbers and scales in the file.
    """

    name: str
    shape: tuple[int, int]
    relative_error: float
    weight_bytes: int


@dataclass
class _Batch:
    """Some documents on their way through the blocks."""

    hidden: Tensor  # (batch, seq, dim)
    real: Tensor  # (batch, seq) bool: no padding


@torch.no_grad()
def convert(
    model: Llama,
    documents: Sequence[NDArray[Any]],
    quantization: Quantization,
    *,
    method: str,
    report: Callable[[int, int], None] | None = None,
) -> tuple[LayerError, ...]:
    """Quantize the linear layers of a model's blocks, in place.

    Args:
        model: in float32 (float64 works too); its linear layers are replaced.
        documents: token ids of each calibration document, none empty, none longer than the context.
        quantization: the target.
        method: "gptq" or "rtn".
        report: called with layers done and in all; what it raises ends the work.

    Returns:
        The error of each layer, in the order of the data.

    Raises:
        ConfigError: the group size does not divide the inputs of a layer; the model is as it was.
        InputError: activations are not finite.
    """
    config = replace(model.config, quantization=quantization)
    batches = list(_embedded(model, documents))
    blocks: list[Any] = list(model.model.layers)
    in_all = len(blocks) * sum(map(len, SHARED_INPUTS))
    errors: list[LayerError] = []
    for number, block in enumerate(blocks):
        for names in SHARED_INPUTS:
            hessian = _hessian(model, block, block.get_submodule(names[0]), batches)
            for name in names:
                linear = block.get_submodule(name)
                layer, relative = _quantized(linear, hessian, quantization, method)
                parent, _, child = name.rpartition(".")
                setattr(block.get_submodule(parent), child, layer)
                size = layer.qweight.nbytes + layer.scales.numel() * SCALE_DTYPE.itemsize
                shape = (linear.out_features, linear.in_features)
                errors.append(LayerError(f"model.layers.{number}.{name}", shape, relative, size))
                if report is not None:
                    report(len(errors), in_all)
        for batch in batches:
            batch.hidden = _through(model, block, batch.hidden)
    model.config = config
    return tuple(errors)


def _quantized(
    linear: nn.Linear, hessian: Tensor, quantization: Quantization, method: str
) -> tuple[Int8Linear | Int4Linear, float]:
    weight, bits = linear.weight.detach(), quantization.bits
    if method == "rtn":
        scales = plain_scales(weight, quantization)
        whole = nearest(weight, column_scales(scales, linear.in_features), bits)
    else:
        scales = searched_scales(weight, hessian.diagonal().to(weight.dtype), quantization)
        whole = gptq(weight, hessian, scales, bits=bits)
    restored = whole * column_scales(scales, linear.in_features)
    relative = output_error(weight, restored, hessian.to(weight.dtype))
    layer = empty_like(linear, quantization)
    whole = whole.to(torch.int8)
    layer.qweight = pack_nibbles(whole) if bits == 4 else whole
    layer.scales = scales if bits == 4 else scales[:, 0]
    layer.bias = None if linear.bias is None else linear.bias.detach()
    return layer, relative


def _embedded(model: Llama, documents: Sequence[NDArray[Any]]) -> Iterator[_Batch]:
    """Batches of near lengths, padded on the right: under causal attention what is real sees no padding."""
    device = model.model.embed_tokens.weight.device
    ordered = sorted(documents, key=len)
    begin = 0
    while begin < len(ordered):
        end = begin + 1
        while end < len(ordered) and (end + 1 - begin) * len(ordered[end]) <= BATCH_TOKENS:
            end += 1
        rows = ordered[begin:end]
        tokens = np.zeros((len(rows), len(rows[-1])), np.int64)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = ids
        lengths = torch.tensor([len(ids) for ids in rows])
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        yield _Batch(model.model.embed_tokens(torch.from_numpy(tokens).to(device)), real.to(device))
        begin = end


def _hessian(model: Llama, block: Block, linear: nn.Module, batches: Sequence[_Batch]) -> Tensor:
    """Mean of x xᵀ over the inputs x of a linear layer at every real token: (in, in), float64."""
    sums: list[Tensor] = []
    real = batches[0].real

    def add(_: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0][real]  # (tokens, in)
        sums.append((x.T @ x).double())
        if len(sums) > 1:
            sums[:] = [sums[0].add_(sums[1])]

    handle = linear.register_forward_pre_hook(add)
    try:
        for batch in batches:
            real = batch.real
            _through(model, block, batch.hidden)
    finally:
        handle.remove()
    return sums[0] / sum(int(batch.real.sum()) for batch in batches)


def _through(model: Llama, block: Block, hidden: Tensor) -> Tensor:
    """(batch, seq, dim) → the same, behind the block."""
    positions = torch.arange(hidden.shape[1], device=hidden.device).expand(hidden.shape[:2])
    out: Tensor = block(hidden, positions, model.model.rotary(positions, hidden.dtype), None, None)
    return out
