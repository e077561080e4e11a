"""Scales, and rounding to the nearest multiple of them.

A scale belongs to an output channel (8 bits) or to a group of inputs of one (4 bits); here both are groups, the first
of all inputs. Scales are rounded to `models.quantized.SCALE_DTYPE` before anything is rounded to them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from biollm.models.config import Quantization
from biollm.models.quantized import SCALE_DTYPE

__all__ = ["column_scales", "limits", "nearest", "plain_scales", "searched_scales"]

SHRINKS: Final = 40
"""Scales tried on each side of a group: the largest, and each smaller by `SHRINK_STEP` of it."""
SHRINK_STEP: Final = 0.0125


def limits(bits: int) -> tuple[int, int]:
    """The least and the greatest whole number of `bits` bits: -8 and 7 of 4."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def plain_scales(weight: Tensor, quantization: Quantization) -> Tensor:
    """Scales that take in the greatest weight of each group, as round-to-nearest has them.

    The range of n bits has 2ⁿ - 1 steps, and twice the greatest magnitude is spread over them (GPTQ's own quantizer
    does the same): the greatest weight is then off by half a step at most, as any other.

    Args:
        weight: (out, in).
        quantization: bits and group size.

    Returns:
        (out, groups), in the dtype of the weight; positive.
    """
    steps = (1 << quantization.bits) - 1
    return _storable(2 * _grouped(weight, quantization).abs().amax(-1) / steps)


def searched_scales(weight: Tensor, importance: Tensor, quantization: Quantization) -> Tensor:
    """Scales under which rounding a group loses least, with its inputs weighed by how large they are.

    Tried are shrunk plain scales, which clip a few large weights and round all others more finely, of both signs: the
    range has one step more below zero than above, and a negative scale gives it to the positive weights.

    Args:
        weight: (out, in).
        importance: mean square of each input, (in,).
        quantization: bits and group size.

    Returns:
        (out, groups), in the dtype of the weight; not zero, of either sign.
    """
    grouped = _grouped(weight, quantization)  # (out, groups, group)
    weighed = importance.view(1, grouped.shape[1], -1)
    largest = plain_scales(weight, quantization)
    best = torch.full_like(largest, torch.inf)
    scales = largest
    for shrink in range(SHRINKS):
        for sign in (1, -1):
            tried = _storable(largest * (sign * (1 - shrink * SHRINK_STEP)))
            rounded = nearest(grouped, tried[..., None], quantization.bits) * tried[..., None]
            loss = ((grouped - rounded).square() * weighed).sum(-1)
            better = loss < best
            best, scales = torch.where(better, loss, best), torch.where(better, tried, scales)
    return scales


def nearest(weight: Tensor, scales: Tensor, bits: int) -> Tensor:
    """The whole numbers nearest to `weight / scales` within the range of `bits` bits, in the weight's dtype."""
    return torch.round(weight / scales).clamp_(*limits(bits))


def column_scales(scales: Tensor, columns: int) -> Tensor:
    """The scale of each weight: (out, groups) → (out, columns)."""
    return scales.repeat_interleave(columns // scales.shape[1], dim=1)


def _grouped(weight: Tensor, quantization: Quantization) -> Tensor:
    return weight.view(weight.shape[0], -1, quantization.group_size or weight.shape[1])


def _storable(scales: Tensor) -> Tensor:
    """Rounded to the dtype of files; of a group of zeros 1, so that nothing is divided by zero."""
    stored = scales.to(SCALE_DTYPE).to(scales.dtype)
    return torch.where(stored == 0, torch.ones_like(stored), stored)
