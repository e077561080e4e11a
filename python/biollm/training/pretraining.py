"""The verb ``train``: token shards in, a checkpoint out."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from biollm.atomic import write_json
from biollm.errors import InputError
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.models import Llama, ModelConfig, load_checkpoint, model_config
from biollm.models.checkpoints import read_config
from biollm.partial import FOLDER_NAME, Partial, open_partial
from biollm.telemetry import event
from biollm.tokenization.shards import Shard, Shards
from biollm.training import baselines
from biollm.training.batches import DocumentTokens, PackedStream
from biollm.training.checkpoint import Checkpoint, begin_checkpoint
from biollm.training.loop import History, run
from biollm.training.optimizer import make_optimizer
from biollm.training.options import ALGORITHM_VERSION, TrainOptions, matched_options
from biollm.training.placement import (
    Placement,
    arithmetic,
    check_memory,
    deterministic_algorithms,
    resolve,
    torch_threads,
)
from biollm.training.report import Outcome, summarize
from biollm.training.resume import COMMIT, CheckpointKeeper, Trainee
from biollm.training.schedule import Schedule, default_learning_rate, make_schedule
from biollm.training.sources import Source, check_sources, listed, pad_id, record, work_key_of

if TYPE_CHECKING:
    from biollm.results import Progress

LOG: Final = logging.getLogger("biollm.train")
MAX_VALIDATIONS: Final = 10
VALIDATION_SHARE: Final = 0.1
"""Where ``validate_every`` is not given: at most so many validations, at this share of the training's time."""


def train(  # noqa: D417  (the options are described in TrainOptions)
    source: Source | Sequence[Source],
    *,
    output: str | os.PathLike[str],
    start: str | os.PathLike[str] | None = None,
    size: str = "small",
    steps: int | None = None,
    epochs: float | None = None,
    seq_len: int = 512,
    batch_size: int = 16,
    accumulation: int = 1,
    lr: float | None = None,
    schedule: str = "wsd",
    warmup_fraction: float = 0.05,
    decay_fraction: float = 0.3,
    final_lr_fraction: float = 0.0,
    weight_decay: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.95,
    eps: float = 1e-8,
    clip_norm: float = 1.0,
    validate_every: int | None = None,
    seed: int = 0,
    checkpoint_every: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    deterministic: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Pretrain a Llama-type model on token shards.

    A run that was cut off, by a kill or a Ctrl-C, is gone on with by the same call: from the newest checkpoint in
    ``output/.partial``, and to the same bytes on the CPU (see `sources.work_key_of`). Anything else there is removed.

    Args:
        source: a folder of shards or an opened ``Shards``, or several of one tokenizer, trained on together.
        output: folder of the checkpoint; emptied before training where it holds an earlier one, refused where it holds
            anything else; an unfinished run in it is gone on with.
        start: a Hugging Face folder of a Llama-type model to go on from; its ``tokenizer.json`` must be the shards'.
        progress: called with (steps done, steps in all) after each step, and first where a run is gone on with; what it
            raises ends the run, unwritten.
        size, steps, epochs, seq_len, batch_size, accumulation: what is trained, and how much; see `TrainOptions`.
        lr, schedule, warmup_fraction, decay_fraction, final_lr_fraction: the rate over time; see `TrainOptions`.
        weight_decay, beta1, beta2, eps, clip_norm: of AdamW and the gradient; see `TrainOptions`.
        validate_every, seed, checkpoint_every, device, dtype, deterministic, threads: see `TrainOptions`.

    Returns:
        The checkpoint that was written.

    Raises:
        InputError: shards without a train token or a predicted one, of different tokenizers, or not those of ``start``;
            an output folder that holds something else.
        ConfigError: an option out of range, or more tokens a row than ``start`` has context; also where training
            diverges (loss or gradient not finite), naming step, rate and the last good checkpoint.
        LimitError: the model or the batch is larger than the memory there is.
        FileError, FormatError: shards or checkpoint missing or broken; the output cannot be written.
    """
    options = TrainOptions(
        size=size,
        steps=steps,
        epochs=epochs,
        seq_len=seq_len,
        batch_size=batch_size,
        accumulation=accumulation,
        lr=lr,
        schedule=schedule,
        warmup_fraction=warmup_fraction,
        decay_fraction=decay_fraction,
        final_lr_fraction=final_lr_fraction,
        weight_decay=weight_decay,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        clip_norm=clip_norm,
        validate_every=validate_every,
        seed=seed,
        checkpoint_every=checkpoint_every,
        device=device,
        dtype=dtype,
        deterministic=deterministic,
        threads=threads,
    )
    shards = [item if isinstance(item, Shards) else Shards.open(item) for item in listed(source)]
    folders = [*(item.folder for item in shards), *([Path(start)] if start is not None else [])]
    return pretrain(
        shards,
        Path(start) if start is not None else None,
        options,
        output=Path(output),
        inputs=[record(folder) for folder in folders],
        progress=progress,
    )


def pretrain(
    shards: Sequence[Shards],
    start: Path | None,
    options: TrainOptions,
    *,
    output: Path,
    inputs: Sequence[InputRecord],
    progress: Progress | None = None,
    log: logging.Logger = LOG,
) -> Checkpoint:
    """``train`` with everything opened: what the function and the recipe's stage have in common."""
    timer = StageTimer()
    check_sources(shards, start, options)
    placement = resolve(options.device, options.dtype)
    corpus = Corpus.of(shards, options)
    config = _config(shards[0], start, options)
    check_memory(config, placement, rows=options.batch_size // options.accumulation, seq_len=options.seq_len)
    # Before the hours of training, not after: what cannot be written shows now.
    folders = [*(item.folder for item in shards), *([start] if start is not None else [])]
    begin_checkpoint(output, folders)
    partial = _open_partial(output, work_key_of(options, folders, placement), log)
    with closing(partial):
        fitted = _fit(corpus, shards[0].folder, config, start, options, placement, partial, output, progress, log)
        outcome = Outcome(
            options=options,
            history=fitted.history,
            parameters=fitted.parameters,
            train_tokens=corpus.train.documents.num_tokens,
            validation_bytes=corpus.validation_bytes,
            validation_tokens=corpus.validation.documents.num_tokens if corpus.validation is not None else 0,
            baselines=corpus.baselines(),
            device=str(placement.device),
            dtype=str(placement.autocast or placement.weights).removeprefix("torch."),
            resumptions=partial.resumptions,
        )
        write_json(output / "summary.json", summarize(outcome).to_dict())
        manifest = Manifest(
            verb="train",
            kind="checkpoint",
            algorithm_version=ALGORITHM_VERSION,
            options=matched_options(options),
            inputs=tuple(inputs),
            counts={
                "parameters": outcome.parameters,
                "steps": fitted.history.steps,
                "train_tokens": fitted.history.train_tokens,
                "validation_tokens": outcome.validation_tokens,
            },
            outputs=dict(sorted(fitted.files.items())),
            wall_s=timer.wall_s,
            cpu_s=timer.cpu_s,
            resumptions=partial.resumptions,
        )
        manifest.write(output)
        partial.discard()
    return Checkpoint(output, manifest)


def _open_partial(output: Path, key: str | None, log: logging.Logger) -> Partial:
    """The work in progress of the output folder; says so where checkpoints go because they are of another run."""
    left = len(list((output / FOLDER_NAME).glob(f"step-*/{COMMIT}")))
    partial = open_partial(output, key)
    assert partial is not None  # a key is None for inputs in memory alone
    if left and not partial.resumed:
        message = f"{output} held an unfinished run of other options, shards or software: its checkpoints are removed"
        event(log, "partial_dropped", message, level=logging.WARNING, checkpoints=left)
    return partial


@dataclass(frozen=True)
class _Fitted:
    history: History
    parameters: int
    files: dict[str, str]  # of the checkpoint: name in its folder → xxh3-128


def _fit(
    corpus: Corpus,
    tokenizer_folder: Path,
    config: ModelConfig,
    start: Path | None,
    options: TrainOptions,
    placement: Placement,
    partial: Partial,
    output: Path,
    progress: Progress | None,
    log: logging.Logger,
) -> _Fitted:
    """Train, from where an earlier run was cut off, and write weights and state; torch's settings are put back."""
    devices = [torch.cuda.current_device()] if placement.device.type == "cuda" else []
    with (
        torch_threads(options.threads),
        deterministic_algorithms(options.deterministic, placement),
        torch.random.fork_rng(devices),
    ):
        torch.manual_seed(options.seed)
        model = _model(config, start, placement)
        plan = _schedule(corpus, model, options, from_checkpoint=start is not None)
        optimizer = make_optimizer(
            model,
            lr=plan.peak,
            weight_decay=options.weight_decay,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
        )
        trainee = Trainee(model, optimizer, options, tokenizer_folder, corpus.train.num_tokens)
        keeper = CheckpointKeeper(partial, trainee, total=plan.total_steps, arithmetic=arithmetic(placement), log=log)
        history = keeper.restore()
        with keeper.saving_on_the_way_out(history):
            run(
                model,
                optimizer,
                plan,
                corpus.train,
                corpus.validation,
                batch_size=options.batch_size,
                accumulation=options.accumulation,
                clip_norm=options.clip_norm,
                validate_every=options.validate_every or _validation_interval(corpus, plan, options),
                placement=placement,
                history=history,
                keeper=keeper,
                report=progress,
            )
            keeper.trim()  # room for the output
            files = trainee.write(output, history.steps)
    return _Fitted(history, sum(parameter.numel() for parameter in model.parameters()), files)


@dataclass(frozen=True)
class Corpus:
    """The train and validation documents of all shards, as streams."""

    train: PackedStream
    validation: PackedStream | None  # None: the shards hold no validation tokens
    validation_bytes: int

    @classmethod
    def of(cls, shards: Sequence[Shards], options: TrainOptions) -> Corpus:
        """Raises InputError where there is nothing to train on."""
        vocab_size = shards[0].vocab_size
        train = [shard for item in shards for shard in item.splits.get("train", ())]
        held_out = [shard for item in shards for shard in item.splits.get("validation", ())]
        documents = DocumentTokens(train)
        if not int((documents.lengths > 1).sum()):
            raise InputError("no train document has two tokens: there is nothing to predict", path=shards[0].folder)
        if not any(shard.mask is None or shard.mask.any() for shard in train):
            raise InputError("the loss masks of the shards leave no train token in the loss", path=shards[0].folder)
        if options.steps is not None:
            end = None
        else:
            end = max(1, round((1.0 if options.epochs is None else options.epochs) * documents.num_tokens))
        stream = PackedStream(
            documents, seq_len=options.seq_len, vocab_size=vocab_size, seed=options.seed, num_tokens=end
        )
        if not sum(shard.num_tokens for shard in held_out):
            return cls(stream, None, 0)
        validation = DocumentTokens(held_out)
        return cls(
            stream,
            PackedStream(
                validation,
                seq_len=options.seq_len,
                vocab_size=vocab_size,
                seed=None,
                num_tokens=validation.num_tokens,
            ),
            sum(_bytes(shard) for shard in held_out),
        )

    def baselines(self) -> baselines.Baselines | None:
        """What the validation loss is compared with."""
        if self.validation is None:
            return None
        return baselines.measure(self.train.documents, self.validation.documents, vocab_size=self.train.vocab_size)


def _config(shards: Shards, start: Path | None, options: TrainOptions) -> ModelConfig:
    if start is not None:
        return read_config(start)
    return model_config(
        options.size,
        shards.vocab_size,
        max_seq_len=options.seq_len,  # a context longer than what is trained on would promise what it cannot do
        eos_id=shards.eos_id,
        pad_id=pad_id(shards),
    )


def _model(config: ModelConfig, start: Path | None, placement: Placement) -> Llama:
    """A new model, or that of the folder, with its weights in the placement's dtype."""
    if start is not None:
        return load_checkpoint(start, device=placement.device, dtype=placement.weights)
    # Drawn on the CPU and in float32 first: one seed, one start, whatever it is trained on.
    return Llama(config).to(placement.device, placement.weights)


def _schedule(corpus: Corpus, model: Llama, options: TrainOptions, *, from_checkpoint: bool) -> Schedule:
    steps = options.steps if options.steps is not None else corpus.train.num_batches(options.batch_size)
    peak = options.lr or default_learning_rate(model.config.num_parameters, from_checkpoint=from_checkpoint)
    return make_schedule(
        options.schedule,
        peak=peak,
        total_steps=steps,
        warmup_fraction=options.warmup_fraction,
        decay_fraction=options.decay_fraction,
        final_fraction=options.final_lr_fraction,
    )


def _validation_interval(corpus: Corpus, plan: Schedule, options: TrainOptions) -> int:
    """Steps between validations: a forward pass alone costs a third of a step on the same tokens."""
    if corpus.validation is None:
        return plan.total_steps
    trained = plan.total_steps * options.batch_size * options.seq_len
    affordable = int(3.0 * VALIDATION_SHARE * trained / corpus.validation.documents.num_tokens)
    return math.ceil(plan.total_steps / min(MAX_VALIDATIONS, max(1, affordable)))


def _bytes(shard: Shard) -> int:
    """UTF-8 bytes of a shard's documents."""
    import pyarrow.compute as pc

    return int(pc.sum(shard.documents().column("bytes")).as_py() or 0)
