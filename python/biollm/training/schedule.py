"""Learning-rate schedules: a closed form of the step, so resuming needs no state.

* ``wsd``, warm-up–stable–decay (Hu et al. 2024, MiniCPM, section 4): linear warm-up, a plateau, a linear decay.
* ``cosine`` (Loshchilov & Hutter 2017, SGDR, equation 5, one cycle): linear warm-up, then half a cosine.

Both reach ``peak * final_fraction`` one step *after* the last, so that no step is spent on a rate of exactly zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from biollm.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step of a run.

    ``shape``: a name in ``SHAPES``. ``warmup_steps`` rise linearly to ``peak``, which step ``warmup_steps - 1`` has;
    ``decay_steps`` is used by ``wsd`` alone.
    """

    shape: str
    peak: float
    total_steps: int
    warmup_steps: int
    decay_steps: int
    final_fraction: float

    def __call__(self, step: int) -> float:
        """The rate of ``step`` (the first step is 0)."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        factor = SHAPES[self.shape](self, step)
        return self.peak * (self.final_fraction + (1.0 - self.final_fraction) * factor)


def _stable_then_linear(schedule: Schedule, step: int) -> float:
    remaining = schedule.total_steps - step
    return min(1.0, max(0.0, remaining / schedule.decay_steps)) if schedule.decay_steps else 1.0


def _cosine(schedule: Schedule, step: int) -> float:
    progress = (step - schedule.warmup_steps + 1) / (schedule.total_steps - schedule.warmup_steps + 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


SHAPES: Final[dict[str, Callable[[Schedule, int], float]]] = {"wsd": _stable_then_linear, "cosine": _cosine}


def make_schedule(
    shape: str,
    *,
    peak: float,
    total_steps: int,
    warmup_fraction: float,
    decay_fraction: float,
    final_fraction: float,
) -> Schedule:
    """A schedule from fractions of the run. At least one step of warm-up and decay where their fraction is positive.

    Raises ConfigError for an unknown shape and where warm-up and decay leave no step between them.
    """
    if shape not in SHAPES:
        raise ConfigError(f"unknown schedule {shape!r}: use one of {', '.join(SHAPES)}", field="schedule", value=shape)
    if warmup_fraction + (decay_fraction if shape == "wsd" else 0.0) > 1.0:
        raise ConfigError(
            f"warmup_fraction {warmup_fraction} and decay_fraction {decay_fraction} are over 1 together: lower one",
            field="warmup_fraction",
            value=warmup_fraction,
        )
    warmup_steps = min(math.ceil(warmup_fraction * total_steps), total_steps)
    decay_steps = min(math.ceil(decay_fraction * total_steps), total_steps - warmup_steps)
    return Schedule(shape, peak, total_steps, warmup_steps, decay_steps, final_fraction)


def default_learning_rate(parameters: int, *, from_checkpoint: bool) -> float:
    """The peak rate used where none is given: 3e-3 up to 10 M parameters, then falling with the cube root of the size.

    A curve through published AdamW runs: Llama 7B 3e-4 and 65B 1.5e-4 (Touvron et al. 2023, table 2), Llama 3 8B 3e-4
    and 405B 8e-5 (Dubey et al. 2024, table 3); a tenth of it when training goes on from a checkpoint.
    """
    rate: float = 3e-3 * min(1.0, (1e7 / max(1, parameters)) ** (1.0 / 3.0))
    return rate / 10.0 if from_checkpoint else rate
