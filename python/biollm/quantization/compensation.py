"""GPTQ: columns are rounded one by one, and those not yet rounded make up for the error (Frantar et al. 2022, arXiv
2210.17323, section 3 and algorithm 1).

What is made least is the error of the layer's output on calibration inputs, ‖(W - Ŵ) X‖². It depends on the inputs only
through H = X Xᵀ; both the order of the columns (largest diag H first, "act-order") and what each later column takes
over of an error follow from it. Scales are fixed beforehand ("static groups"), so that a group's columns stay together
in the file whatever the order.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from biollm.errors import InputError
from biollm.quantization.rounding import column_scales, nearest

__all__ = ["DAMPING", "gptq", "output_error"]

DAMPING: Final = 0.01
"""Share of the mean of diag H that is added to it (the paper's)."""
BLOCK_COLUMNS: Final = 128
"""Columns after which the errors are passed on to all that follow (the paper's): one product in place of 128."""
MAX_TRIES: Final = 4


def gptq(
    weight: Tensor, hessian: Tensor, scales: Tensor, *, bits: int, act_order: bool = True, damping: float = DAMPING
) -> Tensor:
    """Whole numbers for a weight, such that the layer's output on the calibration inputs stays near what it was.

    Args:
        weight: (out, in), float32 or float64.
        hessian: X Xᵀ of the inputs, up to a factor: (in, in).
        scales: (out, groups), of equal groups of columns.
        bits: of the whole numbers.
        act_order: round the columns of the largest inputs first.
        damping: share of the mean of diag H added to it.

    Returns:
        (out, in) in the weight's dtype: `column_scales(scales) * whole` is the quantized weight.

    Raises:
        InputError: the Hessian is not finite.
    """
    columns = weight.shape[1]
    by_column = column_scales(scales, columns)  # (out, in)
    diagonal = hessian.diagonal()
    order = diagonal.argsort(descending=True, stable=True) if act_order else torch.arange(columns, device=weight.device)
    factor = _inverse_factor(hessian[order][:, order], damping).to(weight.dtype)  # (in, in), upper
    left, by_column = weight[:, order], by_column[:, order]
    # An input that was always zero says nothing of its weights, and no error is due to them: they are only rounded.
    whole = torch.empty_like(left)
    for begin in range(0, columns, BLOCK_COLUMNS):
        end = min(begin + BLOCK_COLUMNS, columns)
        block, errors = left[:, begin:end].clone(), torch.empty_like(left[:, begin:end])
        for i, column in enumerate(range(begin, end)):
            whole[:, column] = nearest(block[:, i], by_column[:, column], bits)
            rounded = whole[:, column] * by_column[:, column]
            errors[:, i] = (block[:, i] - rounded) / factor[column, column]
            block[:, i + 1 :] -= errors[:, i, None] * factor[column, column + 1 : end]
        left[:, end:] -= errors @ factor[begin:end, end:]
    unordered: Tensor = whole[:, order.argsort()]
    return unordered


def output_error(weight: Tensor, quantized: Tensor, hessian: Tensor) -> float:
    """The relative error of a layer's output, ‖(W - Ŵ) X‖ / ‖W X‖; 0 where the output is 0.

    Args:
        weight: W, (out, in).
        quantized: Ŵ, of the same shape.
        hessian: X Xᵀ of the inputs, up to a factor: (in, in).
    """
    change, whole = ((part @ hessian * part).sum() for part in (weight - quantized, weight))
    return float((change.clamp(min=0) / whole).sqrt()) if whole > 0 else 0.0


def _inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse of H, in float64: row i holds what column i's error does to the rest."""
    hessian = hessian.double()
    if not bool(torch.isfinite(hessian).all()):
        raise InputError("the calibration inputs of a layer are not finite numbers: the model overflows on them")
    diagonal = hessian.diagonal()
    identity = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    hessian = hessian + torch.diag((diagonal == 0).double())  # inputs that were always zero
    added = damping * float(diagonal.mean())
    for _ in range(MAX_TRIES):
        root, failed = torch.linalg.cholesky_ex(hessian + added * identity)
        if not failed:
            inverse = torch.cholesky_inverse(root)
            factor, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                upper: Tensor = factor
                return upper
        added = max(10 * added, 1e-12)
    raise InputError("the calibration inputs of a layer give no usable Hessian: give more, and more varied, documents")
