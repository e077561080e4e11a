"""Bootstrap intervals: coverage, pairing, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from biollm.errors import ConfigError, InputError
from biollm.evaluation import bits_per_byte, bootstrap, paired_bootstrap, perplexity


def test_an_interval_is_that_of_a_slow_twin() -> None:
    values = np.random.default_rng(0).normal(size=50)
    found = bootstrap(values, resamples=400, confidence=0.9, seed=7)
    rng = np.random.default_rng(7)
    draws = rng.integers(50, size=(400, 50))
    means = [values[row].mean() for row in draws]
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))
    assert found.units == 50


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = sum(0.3 in bootstrap(rng.random(200) < 0.3, resamples=300, seed=i) for i in range(200))
    assert 180 <= covered <= 199  # 190 expected, of 200


def test_pairing_takes_out_what_both_models_share() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(50, 500, size=120)
    difficulty = rng.normal(3.0, 1.0, size=120)
    noise = rng.normal(0.0, 0.02, size=120)
    first = np.stack([difficulty * tokens, tokens, tokens * 4.0], axis=1)
    second = np.stack([(difficulty + 0.02 + noise) * tokens, tokens, tokens * 4.0], axis=1)
    paired = paired_bootstrap(first, second, bits_per_byte, seed=1)
    assert paired.estimate == pytest.approx(bits_per_byte(second.sum(axis=0)) - bits_per_byte(first.sum(axis=0)))
    assert paired.excludes(0.0)
    assert paired.low > 0
    alone = bootstrap(first, bits_per_byte, seed=1)
    assert alone.high - alone.low > 5 * (paired.high - paired.low)
    same = paired_bootstrap(first, first, perplexity)
    assert (same.estimate, same.low, same.high) == (0.0, 0.0, 0.0)


def test_seeds_decide_the_draws_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(40)
    first = bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) == first
    assert bootstrap(values, seed=2) != first
    monkeypatch.setattr("biollm.evaluation.resampling.CHUNK", 100)
    again = bootstrap(values, seed=1)
    assert (again.low, again.high) == pytest.approx((first.low, first.high), abs=1e-12)


def test_the_degenerate_and_the_broken() -> None:
    assert math.isnan(bootstrap(np.zeros(0)).low)
    certain = bootstrap(np.ones(10))
    assert (certain.low, certain.estimate, certain.high) == (1.0, 1.0, 1.0)
    nothing = bootstrap([[0.0, 0.0]])  # a document without a scored token
    assert math.isnan(nothing.estimate)
    assert math.isnan(nothing.high)
    with pytest.raises(InputError, match="finite"):
        bootstrap([1.0, math.nan])
    with pytest.raises(InputError, match="differ in shape"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="confidence is 1"):
        bootstrap([1.0], confidence=1.0)
    with pytest.raises(ConfigError, match="resamples is 0"):
        bootstrap([1.0], resamples=0)
