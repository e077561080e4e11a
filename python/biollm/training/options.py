"""The options of ``train``: what a recipe's stage, the command and the call share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from biollm.errors import ConfigError

ALGORITHM_VERSION: Final = 2
"""Raised when the same options and shards give other weights."""
UNMATCHED_OPTIONS: Final = frozenset({"threads", "checkpoint_every", "nproc", "engine", "zero_stage"})
"""Options that do not change the output but for the last bits of its sums."""
OBJECTIVES: Final = ("pretrain", "instruct", "classify")
LORA_TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_LORA: Final = frozenset({"lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "save_adapter"})
_ROWS: Final = frozenset({"group", "validation_fraction", "split_seed", "on_error"})
_OF_OBJECTIVE: Final = {
    "pretrain": frozenset[str](),
    "instruct": frozenset({"messages", "question", "answer"}) | _ROWS,
    "classify": frozenset({"text", "label", "label_every", "token_noise", "new_weights"}) | _ROWS,
}
"""Options that only some objectives have."""
DEVICES: Final = ("auto", "cpu", "cuda")
ENGINES: Final = ("ddp", "fsdp", "deepspeed")
DTYPES: Final = ("auto", "float32", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training run. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    What is trained:
        objective: ``pretrain`` predicts every token of the shards, ``instruct`` the answers of conversations,
            ``classify`` the label of each document.
        size: a name in ``models.SIZES``; not used where training starts from a checkpoint.
    How much (give ``steps`` or ``epochs``; neither means one epoch):
        steps: optimizer steps.
        epochs: passes over the train tokens, may be a fraction; each sees every token once, in an order of its own.
        seq_len: tokens a row. Documents are packed into rows; attention stays inside each document.
        batch_size: rows an optimizer step.
        accumulation: forward passes a step, each of ``batch_size / accumulation`` rows: less memory, the same gradient.
    Which fields of the rows (of ``instruct`` and ``classify``):
        messages: list of {role, content}; taken where a row has it.
        question, answer: texts of the user and of the assistant, where a row has no messages.
        text, label: of ``classify``: what is classified, and the name of its class.
        label_every: of ``classify``: in training, the label is asked at every so many tokens, counted back from the
            last, so that a document teaches at many places; 0 = at the last alone, as it is asked of a new document.
        token_noise: of ``classify``: in training, the share of a document's tokens that others, drawn from all
            documents, take the place of, against overfitting on few documents; the last is kept.
        group: rows of one group are on one side of the split; None = ``cluster_id`` where there is one, else ``id``,
            else the row as it is.
        validation_fraction: share of the groups that are held out, in [0, 1).
        split_seed: draws the groups that are held out, whatever ``seed`` is, so that runs of several seeds compare.
        on_error: ``raise`` at the first malformed row or one longer than ``seq_len``, or ``skip`` and count it.
        new_weights: of ``classify``: start from random weights in the shape of the checkpoint, to see what its own
            are worth.
    Low-rank adaptation (LoRA):
        lora_rank: of the two factors beside each matrix; 0 = all weights are trained.
        lora_alpha: the product of the factors counts ``lora_alpha / lora_rank`` times; None = twice the rank.
        lora_dropout: share of a factor's inputs that are zeroed while training.
        lora_targets: names of the layers that get factors.
        save_adapter: also keep the factors by themselves, as peft reads them; the model is saved with them merged.
    How:
        lr: peak learning rate; None = by the model's size (``schedule.default_learning_rate``), of LoRA ten times that.
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
        threads: of torch on the CPU, in each process; None = the cores this process may use, shared by its processes.
    By how many processes:
        nproc: processes on this machine, each with a part of every batch: on cuda one a device; None = those that
            `torchrun` started, without it one.
        engine: what each process holds. ``ddp``: the whole model; ``fsdp``: a slice of it (FSDP2); ``deepspeed``: as
            ``zero_stage`` says.
        zero_stage: of ``deepspeed``, what is sliced. 1: the optimizer's moments; 2: the gradients too; 3: the weights
            as well.
    """

    objective: str = "pretrain"
    size: str = "small"
    steps: int | None = None
    epochs: float | None = None
    seq_len: int = 512
    batch_size: int = 16
    accumulation: int = 1
    messages: str = "messages"
    question: str = "question"
    answer: str = "answer"
    text: str = "text"
    label: str = "label"
    label_every: int = 16
    token_noise: float = 0.0
    group: str | None = None
    validation_fraction: float = 0.05
    split_seed: int = 0
    on_error: Literal["raise", "skip"] = "raise"
    new_weights: bool = False
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = LORA_TARGETS
    save_adapter: bool = False
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
    nproc: int | None = None
    engine: str = "ddp"
    zero_stage: int = 2

    def __post_init__(self) -> None:
        from biollm.models import SIZES
        from biollm.training.schedule import SHAPES

        _one_of("objective", self.objective, OBJECTIVES)
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
        self._check_rows()
        self._check_lora()
        self._check_processes()
        if self.steps is not None and self.epochs is not None:
            raise ConfigError("both steps and epochs are given: leave one out", field="steps", value=self.steps)
        if self.batch_size % self.accumulation:
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide into {self.accumulation} forward passes: "
                "make batch_size a multiple of accumulation",
                field="accumulation",
                value=self.accumulation,
            )

    def _check_rows(self) -> None:
        _one_of("on_error", self.on_error, ("raise", "skip"))
        _integer("split_seed", self.split_seed, 0, 2**63 - 1)
        _integer("label_every", self.label_every, 0, 2**20)
        _number("token_noise", self.token_noise, 0.0, 1.0, open_high=True)
        _number("validation_fraction", self.validation_fraction, 0.0, 1.0, open_high=True)
        for name in ("messages", "question", "answer", "text", "label", "group"):
            if not isinstance(value := getattr(self, name), str) and not (name == "group" and value is None):
                raise TypeError(f"{name} must be the name of a field, not {type(value).__name__}")
        own = _OF_OBJECTIVE[self.objective]
        for field in fields(self):
            others = any(field.name in names for names in _OF_OBJECTIVE.values())
            if others and field.name not in own and getattr(self, field.name) != field.default:
                having = " and ".join(name for name, names in _OF_OBJECTIVE.items() if field.name in names)
                raise ConfigError(
                    f"{field.name} is an option of {having}, not of the objective {self.objective}: leave it out",
                    field=field.name,
                    value=getattr(self, field.name),
                )

    def _check_lora(self) -> None:
        _integer("lora_rank", self.lora_rank, 0, 2**16)
        if self.lora_alpha is not None:
            _number("lora_alpha", self.lora_alpha, 0.0, 1e6, open_low=True)
        _number("lora_dropout", self.lora_dropout, 0.0, 1.0, open_high=True)
        if isinstance(self.lora_targets, str) or not self.lora_targets:
            raise TypeError("lora_targets must be a list of names of layers, with one at least")
        for target in self.lora_targets:
            _one_of("lora_targets", target, LORA_TARGETS)
        object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        if self.save_adapter and not self.lora_rank:
            raise ConfigError("save_adapter needs lora_rank: without it there is none", field="save_adapter")
        if self.save_adapter and self.objective == "classify":
            message = "save_adapter is not for classify: its head would be missing from the adapter; leave it out"
            raise ConfigError(message, field="save_adapter")

    def _check_processes(self) -> None:
        _one_of("engine", self.engine, ENGINES)
        _integer("zero_stage", self.zero_stage, 1, 3)
        if self.nproc is not None:
            _integer("nproc", self.nproc, 1, 1024)
            self.check_share(self.nproc)
        if self.engine != "deepspeed" and self.zero_stage != type(self).zero_stage:
            message = f"zero_stage is an option of the engine deepspeed, not of {self.engine}: leave it out"
            raise ConfigError(message, field="zero_stage", value=self.zero_stage)
        if self.engine == "deepspeed" and self.dtype == "float64":
            message = "the engine deepspeed keeps float32: use another dtype than float64, or the engine ddp or fsdp"
            raise ConfigError(message, field="dtype", value=self.dtype)

    def check_share(self, processes: int) -> None:
        """Raises ConfigError where a batch does not divide into the forward passes of so many ``processes``."""
        if self.batch_size % (self.accumulation * processes):
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide into {self.accumulation} forward passes of {processes} "
                "processes: make batch_size a multiple of accumulation times nproc",
                field="batch_size",
                value=self.batch_size,
            )

    @property
    def alpha(self) -> float:
        """``lora_alpha``, with the default filled in."""
        return 2.0 * self.lora_rank if self.lora_alpha is None else float(self.lora_alpha)

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values: those that the objective and the method have."""
        left_out = set(UNMATCHED_OPTIONS).union(*_OF_OBJECTIVE.values()) - _OF_OBJECTIVE[self.objective]
        if self.objective == "pretrain":
            left_out.add("objective")  # manifests and states are as they were before there was another
        if not self.lora_rank:
            left_out |= _LORA
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def matched_options(options: TrainOptions) -> dict[str, Any]:
    """The options that change the output, as plain JSON values."""
    return options.matched()


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
