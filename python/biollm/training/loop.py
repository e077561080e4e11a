"""The training loop: one function a step, one a validation, one for the run.

The loss of a step is the sum over its loss tokens divided by their count in the *whole* accumulated batch: the number
of forward passes it is split into changes neither loss nor gradient, however unequal their counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from biollm.errors import ConfigError
from biollm.training.batches import IGNORED, Batch, PackedStream
from biollm.training.optimizer import clip_gradients
from biollm.training.placement import Placement
from biollm.training.schedule import Schedule

Report = Callable[[int, int], None]
"""Called after each step with (steps done, steps in all)."""


@dataclass
class History:
    """What happened: one entry a step, and one a validation. Losses in nats a token."""

    train_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)  # (steps done, loss)
    train_tokens: int = 0
    train_s: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Train tokens a second of wall time, validations left out."""
        return self.train_tokens / self.train_s if self.train_s else 0.0


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


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    accumulation: int,
    lr: float,
    clip_norm: float,
    placement: Placement,
) -> tuple[Tensor, Tensor]:
    """One optimizer step on ``batch``; (mean loss, norm of the gradient before clipping), scalars on the device."""
    count = max(1, batch.loss_tokens)
    total = torch.zeros((), dtype=torch.float64, device=placement.device)
    for part in batch.split(accumulation):
        loss = summed_loss(model, part, placement) / count
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    norm = clip_gradients(model, clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, norm


@torch.no_grad()
def validate(model: nn.Module, stream: PackedStream, *, rows: int, placement: Placement) -> float:
    """Mean cross entropy over all loss tokens of an ending stream, nats a token (NaN where it has none)."""
    total, count = 0.0, 0
    for batch in stream.batches(rows):
        total += float(summed_loss(model, batch, placement))
        count += batch.loss_tokens
    return total / count if count else math.nan


def run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    train: PackedStream,
    validation: PackedStream | None,
    *,
    batch_size: int,
    accumulation: int,
    clip_norm: float,
    validate_every: int,
    placement: Placement,
    report: Report | None = None,
) -> History:
    """Train for ``schedule.total_steps`` steps, validating every ``validate_every`` and after the last.

    Raises ConfigError, naming step, rate and what to lower, where loss or gradient is no longer finite.
    """
    history = History()
    batch = train.batch(0, batch_size)
    for step in range(schedule.total_steps):
        started = time.perf_counter()
        lr = schedule(step)
        loss, norm = train_step(
            model, optimizer, batch, accumulation=accumulation, lr=lr, clip_norm=clip_norm, placement=placement
        )
        tokens = batch.num_tokens
        batch = train.batch((step + 1) * batch_size * train.seq_len, batch_size)  # while a GPU still works
        _record(history, step, float(loss), float(norm), lr, clip_norm)
        history.train_tokens += tokens
        history.train_s += time.perf_counter() - started
        done = step + 1
        if validation is not None and (done % validate_every == 0 or done == schedule.total_steps):
            history.validation.append(
                (done, validate(model, validation, rows=batch_size // accumulation, placement=placement))
            )
        if report is not None:
            report(done, schedule.total_steps)
    return history


def _record(history: History, step: int, loss: float, norm: float, lr: float, clip_norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        remedy = "lower lr" + ("" if clip_norm > 0.0 else ", set clip_norm to 1.0") + " or raise warmup_fraction"
        if step == 0:
            remedy = "nothing was trained yet: look for NaN or huge values in the weights training starts from"
        raise ConfigError(f"training diverged: at step {step} {what} with lr {lr:.3g}; {remedy}", field="lr", value=lr)
    history.train_loss.append(loss)
    history.learning_rate.append(lr)
    history.gradient_norm.append(norm)
