"""From a task to weights on disk: what all objectives have in common.

A `Task` says what is trained on what. `fit` makes the model, goes on from an unfinished run where there is one, trains,
and writes weights and state; `finish` writes what stands beside them, the manifest last.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from biollm.atomic import write_json
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.partial import FOLDER_NAME, Partial, open_partial
from biollm.telemetry import event
from biollm.training.batches import Stream
from biollm.training.checkpoint import Checkpoint
from biollm.training.engines import make_engine
from biollm.training.loop import History, run, validate
from biollm.training.lora import add_adapters
from biollm.training.options import ALGORITHM_VERSION, TrainOptions, matched_options
from biollm.training.placement import Placement, arithmetic, deterministic_algorithms, memory_errors, torch_threads
from biollm.training.report import Outcome, summarize
from biollm.training.resume import COMMIT, CheckpointKeeper, Trainee
from biollm.training.schedule import Schedule, default_learning_rate, make_schedule
from biollm.training.weights import Model, Weights
from biollm.training.world import World

if TYPE_CHECKING:
    from biollm.results import Progress

MAX_VALIDATIONS: Final = 10
VALIDATION_SHARE: Final = 0.1
"""Where ``validate_every`` is not given: at most so many validations, at this share of the training's time."""

_SILENT: Final = logging.getLogger("biollm.train.others")
"""Of all processes but the first, which tells what happens to all."""
_SILENT.disabled = True


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    ``model``: makes it, with torch's generator seeded. ``tokenizer_folder``: whose files are copied. ``from_start``:
    whether its weights were trained before. ``validated_first``: whether the held-out loss is taken before the first
    step. ``examined``: what is to be known of the trained model.
    """

    train: Stream
    validation: Stream | None
    model: Callable[[Placement], Model]
    tokenizer_folder: Path
    from_start: bool
    chat_template: str | None = None
    validated_first: bool = False
    examined: Callable[[Model, Placement], Any] | None = None


@dataclass(frozen=True)
class Fitted:
    """A run that has ended. ``files``: of the checkpoint, name in its folder → xxh3-128."""

    history: History
    parameters: int
    trained_parameters: int
    files: dict[str, str]
    examined: Any


def open_unfinished(output: Path, key: str | None, world: World, log: logging.Logger) -> Partial | None:
    """The work in progress of the output folder; says so where checkpoints go because they are of another run.

    None in all processes but the first.
    """
    if not world.first:
        return None
    left = len(list((output / FOLDER_NAME).glob(f"step-*/{COMMIT}")))
    partial = open_partial(output, key)
    assert partial is not None  # a key is None for inputs in memory alone
    if left and not partial.resumed:
        message = f"{output} held an unfinished run of other options, shards or software: its checkpoints are removed"
        event(log, "partial_dropped", message, level=logging.WARNING, checkpoints=left)
    return partial


def fit(
    task: Task,
    options: TrainOptions,
    placement: Placement,
    partial: Partial | None,
    output: Path,
    world: World,
    progress: Progress | None,
    log: logging.Logger,
) -> Fitted:
    """Train, from where an earlier run was cut off, and write weights and state; torch's settings are put back.

    All processes of ``world`` do; the first writes.

    Raises LimitError where memory runs out, naming what to lower.
    """
    if not world.first:
        progress, log = None, _SILENT
    with memory_errors(options, placement, world):
        return _fit(task, options, placement, partial, output, world, progress, log)


def _fit(
    task: Task,
    options: TrainOptions,
    placement: Placement,
    partial: Partial | None,
    output: Path,
    world: World,
    progress: Progress | None,
    log: logging.Logger,
) -> Fitted:
    devices = [torch.cuda.current_device()] if placement.device.type == "cuda" else []
    with (
        torch_threads(options.threads, processes=world.local_size),
        deterministic_algorithms(options.deterministic, placement),
        torch.random.fork_rng(devices),
    ):
        torch.manual_seed(options.seed)
        model = task.model(placement)
        if options.lora_rank:
            add_adapters(model, options)
        plan = _schedule(task, model, options)
        weights = Weights(model, options, task.tokenizer_folder, task.chat_template)
        keeper = CheckpointKeeper(
            partial,
            weights,
            world,
            path=output / FOLDER_NAME,
            total=plan.total_steps,
            arithmetic=arithmetic(placement, processes=world.size, engine=options.engine),
            log=log,
        )
        keeper.find()
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        total = sum(parameter.numel() for name, parameter in model.named_parameters() if ".lora_" not in name)
        rows = options.batch_size // (options.accumulation * world.size)
        engine = make_engine(model, options, lr=plan.peak, rows=rows, placement=placement, world=world)
        if world.rank:  # dropout is drawn apart; the weights above were drawn alike
            torch.manual_seed(options.seed + world.rank)
        trainee = Trainee(weights, engine, options, task.train.num_tokens)
        history = keeper.restore(trainee)
        if task.validated_first and task.validation is not None and not history.steps:
            history.validation.append((0, validate(engine, task.validation, rows=rows, placement=placement)))
        with keeper.saving_on_the_way_out(history):
            run(
                engine,
                plan,
                task.train,
                task.validation,
                batch_size=options.batch_size,
                accumulation=options.accumulation,
                clip_norm=options.clip_norm,
                validate_every=options.validate_every or _validation_interval(task, plan, options),
                placement=placement,
                history=history,
                keeper=keeper,
                report=progress,
            )
            keeper.trim()  # room for the output
            files = trainee.write(output, history.steps)
        examined = task.examined(model, placement) if task.examined is not None else None
    return Fitted(history, total, trained, files, examined)


def finish(
    output: Path,
    outcome: Outcome,
    fitted: Fitted,
    inputs: Sequence[InputRecord],
    partial: Partial | None,
    world: World,
    timer: StageTimer,
) -> Checkpoint:
    """Write ``summary.json`` and the manifest, and drop the unfinished work: the first process, all wait for it."""
    (cpu_s,) = world.sum(timer.cpu_s)
    if partial is not None:
        _write_manifest(output, outcome, fitted, inputs, partial, wall_s=timer.wall_s, cpu_s=cpu_s)
    world.barrier()
    return Checkpoint.open(output)


def _write_manifest(
    output: Path,
    outcome: Outcome,
    fitted: Fitted,
    inputs: Sequence[InputRecord],
    partial: Partial,
    *,
    wall_s: float,
    cpu_s: float,
) -> None:
    write_json(output / "summary.json", summarize(outcome).to_dict())
    manifest = Manifest(
        verb="train",
        kind="checkpoint",
        algorithm_version=ALGORITHM_VERSION,
        options=matched_options(outcome.options),
        inputs=tuple(inputs),
        counts={
            "parameters": outcome.parameters,
            "steps": fitted.history.steps,
            "train_tokens": fitted.history.train_tokens,
            "validation_tokens": outcome.validation_tokens,
            **outcome.counts,
        },
        outputs=dict(sorted(fitted.files.items())),
        wall_s=wall_s,
        cpu_s=cpu_s,
        resumptions=partial.resumptions,
    )
    manifest.write(output)
    partial.discard()


def _schedule(task: Task, model: Model, options: TrainOptions) -> Schedule:
    steps = options.steps if options.steps is not None else task.train.num_batches(options.batch_size)
    # Factors of a low rank bear, and need, about ten times the rate of full matrices (Schulman et al. 2025, "LoRA
    # without regret").
    usual = default_learning_rate(
        model.config.num_parameters, from_checkpoint=task.from_start and not options.lora_rank
    )
    return make_schedule(
        options.schedule,
        peak=options.lr or usual,
        total_steps=steps,
        warmup_fraction=options.warmup_fraction,
        decay_fraction=options.decay_fraction,
        final_fraction=options.final_lr_fraction,
    )


def _validation_interval(task: Task, plan: Schedule, options: TrainOptions) -> int:
    """Steps between validations: a forward pass alone costs a third of a step on the same tokens."""
    if task.validation is None:
        return plan.total_steps
    trained = plan.total_steps * options.batch_size * options.seq_len
    affordable = int(3.0 * VALIDATION_SHARE * trained / task.validation.documents.num_tokens)
    return math.ceil(plan.total_steps / min(MAX_VALIDATIONS, max(1, affordable)))
