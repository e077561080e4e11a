"""Rounding: GPTQ against a slow twin, against the nearest, and where inputs are odd."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from biollm.errors import InputError  # noqa: E402
from biollm.models.config import Quantization  # noqa: E402
from biollm.quantization import gptq, output_error  # noqa: E402
from biollm.quantization.rounding import (  # noqa: E402
    SCALE_DTYPE,
    column_scales,
    limits,
    nearest,
    plain_scales,
    searched_scales,
)

INT4, INT8 = Quantization(4, 16), Quantization(8)


def correlated_inputs(tokens: int, columns: int, seed: int = 0) -> Tensor:
    """Inputs as layers have them: of few directions, some columns far larger than others."""
    torch.manual_seed(seed)
    mixed = torch.randn(tokens, columns // 4) @ torch.randn(columns // 4, columns)
    return ((mixed + 0.5 * torch.randn(tokens, columns)) * torch.randn(columns).exp()).double()


def twin(weight: Tensor, hessian: Tensor, scales: Tensor, bits: int, act_order: bool, damping: float) -> Tensor:
    """One column after the other, the inverse of what is left of H taken anew each time (the paper's equation 2)."""
    rows, columns = weight.shape
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(columns, dtype=hessian.dtype)
    order = sorted(range(columns), key=lambda j: -float(hessian[j, j])) if act_order else list(range(columns))
    left, whole = weight.clone(), torch.zeros_like(weight)
    low, high = limits(bits)
    for place, column in enumerate(order):
        free = order[place:]
        inverse = torch.linalg.inv(damped[free][:, free])
        for row in range(rows):
            scale = float(scales[row, column * scales.shape[1] // columns])
            whole[row, column] = min(high, max(low, round(float(left[row, column]) / scale)))
            error = (left[row, column] - whole[row, column] * scale) / inverse[0, 0]
            left[row, free] -= error * inverse[0]
    return whole


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("quantization", [INT4, INT8])
def test_gptq_is_its_slow_twin(quantization: Quantization, act_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biollm.quantization.compensation.BLOCK_COLUMNS", 5)  # blocks that no group ends with
    inputs = correlated_inputs(200, 32)
    hessian, weight = inputs.T @ inputs, torch.randn(6, 32, dtype=torch.float64)
    scales = searched_scales(weight, hessian.diagonal(), quantization)
    expected = twin(weight, hessian, scales, quantization.bits, act_order, 0.01)
    assert torch.equal(gptq(weight, hessian, scales, bits=quantization.bits, act_order=act_order), expected)


@given(seed=st.integers(0, 1000), quantization=st.sampled_from([INT4, INT8]))
@settings(max_examples=20, deadline=None)
def test_gptq_loses_less_than_the_nearest(seed: int, quantization: Quantization) -> None:
    inputs = correlated_inputs(300, 64, seed)
    hessian, weight = inputs.T @ inputs, torch.randn(16, 64, dtype=torch.float64)
    scales = plain_scales(weight, quantization)
    by_column = column_scales(scales, 64)
    rounded = nearest(weight, by_column, quantization.bits) * by_column
    fitted = gptq(weight, hessian, scales, bits=quantization.bits) * by_column
    assert output_error(weight, fitted, hessian) < output_error(weight, rounded, hessian)


def test_of_independent_equal_inputs_gptq_is_the_nearest() -> None:
    weight = torch.randn(8, 32, dtype=torch.float64)
    scales = plain_scales(weight, INT4)
    whole = gptq(weight, 7 * torch.eye(32, dtype=torch.float64), scales, bits=4)
    assert torch.equal(whole, nearest(weight, column_scales(scales, 32), 4))


def test_inputs_that_are_always_zero_or_repeat_do_no_harm() -> None:
    inputs = correlated_inputs(50, 32)  # fewer tokens than would make H regular, were it not for damping
    inputs[:, 3] = 0
    inputs[:, 9] = inputs[:, 8]
    hessian, weight = inputs.T @ inputs, torch.randn(4, 32, dtype=torch.float64)
    scales = plain_scales(weight, INT4)
    whole = gptq(weight, hessian, scales, bits=4)
    assert torch.isfinite(whole).all()
    assert torch.equal(whole[:, 3], nearest(weight, column_scales(scales, 32), 4)[:, 3])
    assert torch.isfinite(gptq(weight, torch.zeros_like(hessian), scales, bits=4)).all()
    hessian[0, 0] = torch.inf
    with pytest.raises(InputError, match="overflows"):
        gptq(weight, hessian, scales, bits=4)


def test_the_output_error_is_that_of_the_outputs() -> None:
    inputs, weight = correlated_inputs(40, 16), torch.randn(5, 16, dtype=torch.float64)
    other = weight + 0.1 * torch.randn_like(weight)
    expected = ((weight - other) @ inputs.T).norm() / (weight @ inputs.T).norm()
    assert output_error(weight, other, inputs.T @ inputs) == pytest.approx(float(expected), rel=1e-9)
    assert output_error(0 * weight, other, inputs.T @ inputs) == 0.0


@pytest.mark.parametrize("quantization", [INT4, INT8])
def test_scales_take_in_the_greatest_weight_and_fit_the_file(quantization: Quantization) -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 64)
    weight[2] = 0
    for scales in (plain_scales(weight, quantization), searched_scales(weight, torch.rand(64), quantization)):
        assert scales.shape == (8, 64 // (quantization.group_size or 64))
        assert torch.equal(scales.to(SCALE_DTYPE).float(), scales)
        assert (scales != 0).all()
    by_column = column_scales(plain_scales(weight, quantization), 64)
    error = (nearest(weight, by_column, quantization.bits) * by_column - weight).abs()
    # Half a step, and what rounding the scale to eight bits adds at the end of the range.
    assert (error <= by_column * (0.5 + 2.0 ** (quantization.bits - 9))).all()


def test_searched_scales_lose_no_more_than_plain_ones() -> None:
    torch.manual_seed(0)
    weight, importance = torch.randn(32, 64) ** 3, torch.rand(64)

    def loss(scales: Tensor) -> Tensor:
        by_column = column_scales(scales, 64)
        rounded = nearest(weight, by_column, 4) * by_column
        return ((rounded - weight).square() * importance).view(32, -1, 16).sum(-1)

    plain = loss(plain_scales(weight, INT4))
    searched = loss(searched_scales(weight, importance, INT4))
    assert (searched <= plain).all()
    assert searched.sum() < 0.9 * plain.sum()
