"""The options of ``train``: what a recipe's stage, the command and the call share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from biollm.errors import ConfigError

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and shards give other weights."""
UNMATCHED_OPTIONS: Final = frozenset({"threads", "checkpoint_every"})
"""Options that do not change the output."""
DEVICES: Final = ("auto", "cpu", "cuda")
DTYPES: Final = ("auto", "float32", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    What is trained:
        size: a name in ``models.SIZES``; not used where training starts from a checkpoint.
    How much (give ``steps`` or ``epochs``; neither means one epoch):
        steps: optimizer steps.
        epochs: passes over the train tokens, may be a fraction; each sees every token once, in an order of its own.
        seq_len: tokens a row. Documents are packed into rows; attention stays inside each document.
        batch_size: rows an optimizer step.
        accumulation: forward passes a step, each of ``batch_size / accumulation`` rows: less memory, the same gradient.
    How:
        lr: peak learning rate; None = by the model's size (``schedule.default_learning_rate``).
        schedule: ``wsd`` or ``cosine``, both after a linear warm-up.
        warmup_fraction, decay_fraction: of the steps; the decay is that of ``wsd``.
        final_lr_fraction: of ``lr``, at the end.
        weight_decay: of matrices alone. beta1, beta2, eps: of AdamW.
        clip_norm: greatest norm of the gradient; 0 = not clipped.
        validate_every: steps between validations (one more at the end); None = up to ten over the run, as many as
            cost a tenth of its time.
        seed: of the initial weights and the order of the documents.
    What is kept while training, to go on from after a kill:
        checkpoint_every: steps between checkpoints of the run under way; None = by time: often enough to lose at most
            ten minutes, and below that seldom enough to cost at most a fiftieth of the training's time.
    Where:
        device: ``cpu``, ``cuda`` or ``auto`` (cuda where present).
        dtype: ``float32``, ``float64``, ``bfloat16`` (autocast over float32 weights) or ``auto`` (bfloat16 on cuda,
            else float32).
        deterministic: torch's deterministic algorithms alone, a warning for an operation that has none; None = on the
            CPU, not on cuda, where they are slower.
        threads: of torch on the CPU; None = the cores this process may use.
    """

    size: str = "small"
    steps: int | None = None
    epochs: float | None = None
    seq_len: int = 512
    batch_size: int = 16
    accumulation: int = 1
    lr: float | None = None
    schedule: str = "wsd"
    warmup_fraction: float = 0.05
    decay_fraction: float = 0.3
    final_lr_fraction: float = 0.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_norm: float = 1.0
    validate_every: int | None = None
    seed: int = 0
    checkpoint_every: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    deterministic: bool | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        from biollm.models import SIZES
        from biollm.training.schedule import SHAPES

        _one_of("size", self.size, tuple(SIZES))
        _one_of("schedule", self.schedule, tuple(SHAPES))
        _one_of("device", self.device, DEVICES)
        _one_of("dtype", self.dtype, DTYPES)
        _integer("seq_len", self.seq_len, 2, 2**20)
        _integer("batch_size", self.batch_size, 1, 2**20)
        _integer("accumulation", self.accumulation, 1, self.batch_size)
        _integer("seed", self.seed, 0, 2**63 - 1)
        for name in ("steps", "validate_every", "checkpoint_every"):
            if (count := getattr(self, name)) is not None:
                _integer(name, count, 1, 2**40)
        if not isinstance(self.deterministic, bool | None):
            raise TypeError(f"deterministic must be a boolean or None, not {type(self.deterministic).__name__}")
        if self.threads is not None:
            _integer("threads", self.threads, 1, 1024)
        if self.epochs is not None:
            _number("epochs", self.epochs, 0.0, 1e6, open_low=True)
        if self.lr is not None:
            _number("lr", self.lr, 0.0, 10.0, open_low=True)
        _number("warmup_fraction", self.warmup_fraction, 0.0, 1.0)
        _number("decay_fraction", self.decay_fraction, 0.0, 1.0)
        _number("final_lr_fraction", self.final_lr_fraction, 0.0, 1.0)
        _number("weight_decay", self.weight_decay, 0.0, 10.0)
        _number("beta1", self.beta1, 0.0, 1.0, open_high=True)
        _number("beta2", self.beta2, 0.0, 1.0, open_high=True)
        _number("eps", self.eps, 0.0, 1.0, open_low=True)
        _number("clip_norm", self.clip_norm, 0.0, 1e9)
        if self.steps is not None and self.epochs is not None:
            raise ConfigError("both steps and epochs are given: leave one out", field="steps", value=self.steps)
        if self.batch_size % self.accumulation:
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide into {self.accumulation} forward passes: "
                "make batch_size a multiple of accumulation",
                field="accumulation",
                value=self.accumulation,
            )


def matched_options(options: TrainOptions) -> dict[str, Any]:
    """The options that change the output, as plain JSON values."""
    return {name: value for name, value in asdict(options).items() if name not in UNMATCHED_OPTIONS}


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{field} must be a string, not {type(value).__name__}")
    if value not in allowed:
        raise ConfigError(f"{field} is {value!r}: use one of {', '.join(allowed)}", field=field, value=value)


def _integer(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field} must be an integer, not {type(value).__name__}")
    if not low <= value <= high:
        raise ConfigError(f"{field} is {value}: use {low} to {high}", field=field, value=value)


def _number(
    field: str, value: Any, low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field} must be a number, not {type(value).__name__}")
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    if not (math.isfinite(value) and above and below):
        bounds = f"{'above' if open_low else 'from'} {low:g} {'to below' if open_high else 'to'} {high:g}"
        raise ConfigError(f"{field} is {value}: use a number {bounds}", field=field, value=value)
