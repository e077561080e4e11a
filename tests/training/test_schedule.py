from __future__ import annotations

import math

import pytest

from biollm.errors import ConfigError
from biollm.training.schedule import Schedule, default_learning_rate, make_schedule


def schedule(shape: str, **changes: float) -> Schedule:
    fractions = {"warmup_fraction": 0.1, "decay_fraction": 0.3, "final_fraction": 0.0, **changes}
    return make_schedule(shape, peak=2.0, total_steps=100, **fractions)


def test_warmup_rises_linearly_to_the_peak() -> None:
    for shape in ("wsd", "cosine"):
        rates = [schedule(shape)(step) for step in range(10)]
        assert rates == pytest.approx([2.0 * (step + 1) / 10 for step in range(10)], abs=1e-15)


def test_wsd_is_flat_then_linear() -> None:
    rates = [schedule("wsd", final_fraction=0.1)(step) for step in range(101)]
    assert rates[9:70] == [2.0] * 61
    # 30 steps of decay from 2.0 to 0.2, which step 100, one after the last, would have.
    assert rates[70:] == pytest.approx([0.2 + 1.8 * (100 - step) / 30 for step in range(70, 101)], abs=1e-15)


def test_cosine_is_half_a_period() -> None:
    rates = [schedule("cosine", final_fraction=0.1)(step) for step in range(101)]
    expected = [0.2 + 1.8 * (1 + math.cos(math.pi * (step - 9) / 91)) / 2 for step in range(10, 101)]
    assert rates[10:] == pytest.approx(expected, abs=1e-15)
    assert rates[100] == pytest.approx(0.2)


@pytest.mark.parametrize("shape", ["wsd", "cosine"])
@pytest.mark.parametrize("total", [1, 2, 3, 7])
@pytest.mark.parametrize("fractions", [(0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.01, 0.01)])
def test_short_runs_have_positive_rates_up_to_the_peak(shape: str, total: int, fractions: tuple[float, float]) -> None:
    made = make_schedule(
        shape,
        peak=1.0,
        total_steps=total,
        warmup_fraction=fractions[0],
        decay_fraction=fractions[1],
        final_fraction=0.0,
    )
    rates = [made(step) for step in range(total)]
    assert all(0.0 < rate <= 1.0 for rate in rates)


def test_no_warmup_starts_at_the_peak_of_wsd() -> None:
    assert schedule("wsd", warmup_fraction=0.0)(0) == 2.0


def test_unknown_shape_and_overlapping_fractions_are_refused() -> None:
    with pytest.raises(ConfigError, match="use one of wsd, cosine"):
        schedule("linear")
    with pytest.raises(ConfigError, match="over 1 together"):
        schedule("wsd", warmup_fraction=0.8)
    assert schedule("cosine", warmup_fraction=0.8).warmup_steps == 80


def test_default_rate_is_near_published_runs() -> None:
    # Llama 7B and 65B (Touvron et al. 2023, table 2), Llama 3 405B (Dubey et al. 2024, table 3).
    published = {6.7e9: 3e-4, 65.2e9: 1.5e-4, 405e9: 8e-5}
    for parameters, rate in published.items():
        assert default_learning_rate(int(parameters), from_checkpoint=False) == pytest.approx(rate, rel=0.2)
    assert default_learning_rate(1_000_000, from_checkpoint=False) == 3e-3
    assert default_learning_rate(1_000_000, from_checkpoint=True) == pytest.approx(3e-4)
