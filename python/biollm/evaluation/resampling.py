"""Percentile bootstrap intervals over documents or items, of one model and of the difference of two.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 13 (percentile interval) and 10 (paired data); of
two models on the same items both are resampled together, which takes out what makes an item hard for either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from biollm.errors import ConfigError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "Interval",
    "Statistic",
    "bits_per_byte",
    "bootstrap",
    "mean",
    "paired_bootstrap",
    "perplexity",
]

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
CHUNK: Final = 1 << 22
"""Numbers drawn at once: bounds memory."""

Statistic = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]
"""Sums over units (…, m) → values (…,)."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval.

    Attributes:
        estimate: on all units.
        low, high: ends of the percentile interval; NaN where there are no units.
        confidence: share of resamples within it.
        units: documents or items resampled.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    units: int

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside: of a difference and 0, that the difference is real at this confidence."""
        return value < self.low or value > self.high


def mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The statistic of a mean: `sums` (…, 2) of values and of their number → (…,)."""
    return _divide(sums[..., 0], sums[..., 1])


def perplexity(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The statistic of `DocumentLosses.totals`: `sums` (…, 3) of nats, tokens and bytes → perplexity a token (…,)."""
    exponentials: NDArray[np.float64] = np.exp(_divide(sums[..., 0], sums[..., 1]))
    return exponentials


def bits_per_byte(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The statistic of `DocumentLosses.totals`: `sums` (…, 3) of nats, tokens and bytes → bits a byte (…,)."""
    return _divide(sums[..., 0] / math.log(2.0), sums[..., 2])


def bootstrap(
    totals: ArrayLike,
    statistic: Statistic = mean,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The percentile interval of a statistic that depends on sums over units (documents, items).

    Args:
        totals: what each unit adds to the sums, (units, m); (units,) are values whose mean is asked for.
        statistic: of the sums (…, m), and as good for many sums at once: (…,). By default `mean` of (units, 2).
        resamples: how many.
        confidence: in (0, 1).
        seed: of the draws; equal seeds and numbers of units draw alike.

    Returns:
        The estimate on all units, and the interval.

    Raises:
        InputError: the totals are no such array, or not finite.
        ConfigError: `resamples` or `confidence` out of range.
    """
    table = np.asarray(totals, np.float64)
    if table.ndim == 1:
        table = np.stack([table, np.ones(len(table))], axis=1)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise InputError("totals must be finite numbers, (units, m)", field="totals")
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}: give 1 or more", field="resamples", value=resamples)
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence is {confidence}, not in (0, 1)", field="confidence", value=confidence)
    units = len(table)
    if not units:
        return Interval(math.nan, math.nan, math.nan, confidence, 0)
    estimate = float(statistic(table.sum(axis=0)))
    values = np.concatenate([statistic(weights @ table) for weights in _weights(units, resamples, seed)])
    # A resample may hold nothing that counts (documents of one token); it says nothing of the statistic.
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(estimate, math.nan, math.nan, confidence, units)
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), confidence, units)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic = mean,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """The interval of `statistic(second) - statistic(first)` of two models on the same units.

    Args:
        first: totals of the one, as for `bootstrap`.
        second: totals of the other, a row a unit in the same order.
        statistic: as for `bootstrap`.
        resamples: how many.
        confidence: in (0, 1).
        seed: of the draws.

    Returns:
        The difference on all units, and its interval: positive where the second is greater.

    Raises:
        InputError: as `bootstrap`, or the two differ in shape. ConfigError: as `bootstrap`.
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape:
        raise InputError(f"paired totals differ in shape: {one.shape} and {two.shape}", field="second")
    if one.ndim == 1:
        one, two = (np.stack([column, np.ones(len(column))], axis=1) for column in (one, two))
    if one.ndim != 2:
        raise InputError("totals must be finite numbers, (units, m)", field="totals")
    width = one.shape[1]
    return bootstrap(
        np.concatenate([one, two], axis=1),
        lambda sums: statistic(sums[..., width:]) - statistic(sums[..., :width]),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )


def _weights(units: int, resamples: int, seed: int) -> Any:
    """How often each unit occurs in each resample, (some, units) at once."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // units)
    for begin in range(0, resamples, step):
        rows = min(step, resamples - begin)
        drawn = rng.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def _divide(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: NDArray[np.float64] = np.divide(total, count)
    return quotient
