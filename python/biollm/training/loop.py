"""The training loop: one function a step, one a validation, one for the run.

The loss of a step is the sum over its loss tokens divided by their count in the *whole* accumulated batch: the number
of forward passes and of processes it is split into changes neither loss nor gradient, however unequal their counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from biollm.errors import ConfigError
from biollm.training.batches import Batch, Stream
from biollm.training.engines import Engine, summed_loss
from biollm.training.placement import Placement
from biollm.training.schedule import Schedule
from biollm.training.world import AgreedStop

Report = Callable[[int, int], None]
"""Called after each step, and once where a run is gone on with, with (steps done, steps in all)."""


@dataclass
class History:
    """What happened: one entry a step, and one a validation. Losses in nats a token.

    ``whole``: False from the moment a step changes the weights until all of it is entered here.
    """

    train_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)  # (steps done, loss)
    train_tokens: int = 0
    train_s: float = 0.0
    whole: bool = True

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return len(self.train_loss)

    @property
    def validated(self) -> int:
        """Steps done at the last validation."""
        return self.validation[-1][0] if self.validation else 0

    @property
    def tokens_per_s(self) -> float:
        """Train tokens a second of wall time, validations left out."""
        return self.train_tokens / self.train_s if self.train_s else 0.0


class Keeper(Protocol):
    """Who keeps the work of a run under way; ``resume.CheckpointKeeper``."""

    def reached(self, step: int) -> None:
        """``step`` steps are done."""

    def settled(self, history: History) -> None:
        """Called after each step and the validation behind it, and once where a run is gone on with."""

    def last_good(self, step: int) -> Path | None:
        """The newest checkpoint that lies before the weights which step ``step``, counted from 0, began with."""


def accumulate_gradients(engine: Engine, batch: Batch, *, accumulation: int, placement: Placement) -> Tensor:
    """The gradients of this process's ``batch``, added to those there are; its share of the mean loss, float64."""
    (count,) = engine.world.sum(batch.loss_tokens)
    return engine.accumulate(batch, accumulation=accumulation, count=count, placement=placement)


@torch.no_grad()
def validate(engine: Engine, stream: Stream, *, rows: int, placement: Placement) -> float:
    """Mean cross entropy over all loss tokens of an ending stream, nats a token (NaN where it has none).

    ``rows``: of a forward pass of one process; the processes share the batches.
    """
    total, count = 0.0, 0
    engine.model.eval()  # without dropout
    try:
        for batch in _shares(stream, rows, engine):
            total += float(summed_loss(engine.forward, batch, placement))
            count += batch.loss_tokens
    finally:
        engine.model.train()
    summed, counted = engine.world.sum(total, count)
    return summed / counted if counted else math.nan


def _shares(stream: Stream, rows: int, engine: Engine) -> Iterator[Batch]:
    """The batches of an ending stream for this process: as many for each, the last ones of padding alone."""
    world = engine.world
    if world.size == 1:
        yield from stream.batches(rows)
        return
    for index in range(stream.num_batches(rows * world.size)):
        yield stream.batch((index * world.size + world.rank) * rows * stream.seq_len, rows)


def run(
    engine: Engine,
    schedule: Schedule,
    train: Stream,
    validation: Stream | None,
    *,
    batch_size: int,
    accumulation: int,
    clip_norm: float,
    validate_every: int,
    placement: Placement,
    history: History | None = None,
    keeper: Keeper | None = None,
    report: Report | None = None,
) -> History:
    """Train for ``schedule.total_steps`` steps, validating every ``validate_every`` and after the last.

    ``batch_size``: rows a step of all processes, of which each has an equal part. ``history``: of the steps done
    before, whose weights and moments the ``engine`` has; is gone on with in place. Nothing that depends on the clock
    has a part in what is computed.

    Raises ConfigError, naming step, rate, what to lower and the last good checkpoint, where loss or gradient is no
    longer finite. A stop that was asked of one process of several raises AgreedStop in all, at one step.
    """
    history = History() if history is None else history
    world = engine.world
    total, step_tokens, rows = schedule.total_steps, batch_size * train.seq_len, batch_size // world.size
    offset = world.rank * rows * train.seq_len
    upcoming: Batch | None = None
    while True:
        done = history.steps
        due = done > history.validated and (done % validate_every == 0 or done == total)
        if validation is not None and due:
            loss = validate(engine, validation, rows=rows // accumulation, placement=placement)
            history.validation.append((done, loss))
        if done and keeper is not None:
            keeper.settled(history)
        if done and report is not None:
            report(done, total)
        if done == total:
            return history
        batch = train.batch(done * step_tokens + offset, rows) if upcoming is None else upcoming
        started = time.perf_counter()
        lr = schedule(done)
        share = accumulate_gradients(engine, batch, accumulation=accumulation, placement=placement)
        history.whole = False
        norm = engine.update(lr=lr, clip_norm=clip_norm)
        upcoming = train.batch((done + 1) * step_tokens + offset, rows)  # while a GPU still works
        mean, tokens, stop = world.sum(float(share), batch.num_tokens, world.stop_asked)
        _check_finite(done, mean, float(norm), lr, clip_norm, keeper)
        history.train_loss.append(mean)
        history.learning_rate.append(lr)
        history.gradient_norm.append(float(norm))
        history.train_tokens += int(tokens)
        history.train_s += time.perf_counter() - started
        history.whole = True
        if keeper is not None:
            keeper.reached(done + 1)
        if stop:
            raise AgreedStop


def _check_finite(step: int, loss: float, norm: float, lr: float, clip_norm: float, keeper: Keeper | None) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
    remedy = "lower lr" + ("" if clip_norm > 0.0 else ", set clip_norm to 1.0") + " or raise warmup_fraction"
    if step == 0:
        remedy = "nothing was trained yet: look for NaN or huge values in the weights training starts from"
    if keeper is not None and (good := keeper.last_good(step)) is not None:
        remedy += f"; the last good checkpoint is {good}: start={str(good)!r} goes on from it, into another output"
    raise ConfigError(f"training diverged: at step {step} {what} with lr {lr:.3g}; {remedy}", field="lr", value=lr)
