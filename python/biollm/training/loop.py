"""The training loop: one function a step, one a validation, one for the run.

The loss of a step is the sum over its loss tokens divided by their count in the *whole* accumulated batch: the number
of forward passes it is split into changes neither loss nor gradient, however unequal their counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from biollm.errors import ConfigError
from biollm.training.batches import IGNORED, Batch, Stream
from biollm.training.optimizer import clip_gradients
from biollm.training.placement import Placement
from biollm.training.schedule import Schedule

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


def summed_loss(model: nn.Module, batch: Batch, placement: Placement) -> Tensor:
    """The sum of the cross entropies of a batch's loss tokens, nats, a scalar; float32 at least."""

    def tensor(array: object) -> Tensor:
        host = torch.from_numpy(array)
        return host.pin_memory().to("cuda", non_blocking=True) if placement.device.type == "cuda" else host

    with placement.precision():
        logits = model(
            tensor(batch.tokens), positions=tensor(batch.positions), document_ids=tensor(batch.document_ids)
        )  # (rows, seq, vocab)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), tensor(batch.targets).flatten(), ignore_index=IGNORED, reduction="sum"
    )


def accumulate_gradients(model: nn.Module, batch: Batch, *, accumulation: int, placement: Placement) -> Tensor:
    """The gradients of ``batch``, added to those there are; the mean loss, a float64 scalar on the device."""
    count = max(1, batch.loss_tokens)
    total = torch.zeros((), dtype=torch.float64, device=placement.device)
    for part in batch.split(accumulation):
        loss = summed_loss(model, part, placement) / count
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def update_weights(model: nn.Module, optimizer: torch.optim.Optimizer, *, lr: float, clip_norm: float) -> Tensor:
    """One optimizer step by the gradients there are, which it takes; their norm before clipping, on the device."""
    norm = clip_gradients(model, clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


@torch.no_grad()
def validate(model: nn.Module, stream: Stream, *, rows: int, placement: Placement) -> float:
    """Mean cross entropy over all loss tokens of an ending stream, nats a token (NaN where it has none)."""
    total, count = 0.0, 0
    model.eval()  # without dropout
    try:
        for batch in stream.batches(rows):
            total += float(summed_loss(model, batch, placement))
            count += batch.loss_tokens
    finally:
        model.train()
    return total / count if count else math.nan


def run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
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

    ``history``: of the steps done before, whose weights and moments ``model`` and ``optimizer`` have; is gone on with
    in place. Nothing that depends on the clock has a part in what is computed.

    Raises ConfigError, naming step, rate, what to lower and the last good checkpoint, where loss or gradient is no
    longer finite.
    """
    history = History() if history is None else history
    total, step_tokens = schedule.total_steps, batch_size * train.seq_len
    upcoming: Batch | None = None
    while True:
        done = history.steps
        due = done > history.validated and (done % validate_every == 0 or done == total)
        if validation is not None and due:
            loss = validate(model, validation, rows=batch_size // accumulation, placement=placement)
            history.validation.append((done, loss))
        if done and keeper is not None:
            keeper.settled(history)
        if done and report is not None:
            report(done, total)
        if done == total:
            return history
        batch = train.batch(done * step_tokens, batch_size) if upcoming is None else upcoming
        started = time.perf_counter()
        lr = schedule(done)
        mean = accumulate_gradients(model, batch, accumulation=accumulation, placement=placement)
        history.whole = False
        norm = update_weights(model, optimizer, lr=lr, clip_norm=clip_norm)
        upcoming = train.batch((done + 1) * step_tokens, batch_size)  # while a GPU still works
        _check_finite(done, float(mean), float(norm), lr, clip_norm, keeper)
        history.train_loss.append(float(mean))
        history.learning_rate.append(lr)
        history.gradient_norm.append(float(norm))
        history.train_tokens += batch.num_tokens
        history.train_s += time.perf_counter() - started
        history.whole = True
        if keeper is not None:
            keeper.reached(done + 1)


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
