"""The verb ``train``, and its objective ``pretrain``: token shards in, a checkpoint out."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from biollm.errors import ConfigError, InputError
from biollm.inference.llm import folder_of
from biollm.manifest import InputRecord, StageTimer
from biollm.models import Llama, ModelConfig, load_checkpoint, model_config
from biollm.models.checkpoints import read_config
from biollm.tokenization.shards import Shard, Shards
from biollm.training import baselines, launch
from biollm.training.batches import DocumentTokens, PackedStream
from biollm.training.checkpoint import Checkpoint, begin_checkpoint
from biollm.training.fitting import Task, finish, fit, open_unfinished
from biollm.training.options import LORA_TARGETS, TrainOptions
from biollm.training.placement import Placement, check_memory, resolve
from biollm.training.report import Outcome
from biollm.training.sources import RowSource, Source, check_sources, listed, pad_id, record, work_key_of
from biollm.training.tuning import tune
from biollm.training.world import World, joined

if TYPE_CHECKING:
    from biollm.inference.llm import OnDisk
    from biollm.results import Progress

LOG: Final = logging.getLogger("biollm.train")


def train(  # noqa: D417  (the options are described in TrainOptions)
    source: Source | Sequence[Source] | RowSource,
    *,
    output: str | os.PathLike[str],
    start: str | os.PathLike[str] | OnDisk | None = None,
    objective: str = "pretrain",
    size: str = "small",
    steps: int | None = None,
    epochs: float | None = None,
    seq_len: int = 512,
    batch_size: int = 16,
    accumulation: int = 1,
    messages: str = "messages",
    question: str = "question",
    answer: str = "answer",
    text: str = "text",
    label: str = "label",
    group: str | None = None,
    validation_fraction: float = 0.05,
    split_seed: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
    label_every: int = 16,
    token_noise: float = 0.0,
    new_weights: bool = False,
    lora_rank: int = 0,
    lora_alpha: float | None = None,
    lora_dropout: float = 0.0,
    lora_targets: Sequence[str] = LORA_TARGETS,
    save_adapter: bool = False,
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
    nproc: int | None = None,
    engine: str = "ddp",
    zero_stage: int = 2,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train a Llama-type model: pretrain it on token shards, or tune one on conversations or labelled documents.

    A run that was cut off, by a kill or a Ctrl-C, is gone on with by the same call: from the newest checkpoint in
    ``output/.partial``, and to the same bytes on the CPU (see `sources.work_key_of`). Anything else there is removed.

    Args:
        source: of ``pretrain``, a folder of shards or an opened ``Shards``, or several of one tokenizer, trained on
            together. Of ``instruct`` and ``classify``, rows: paths, globs or URLs of .jsonl or .parquet files, folders
            of documents, a list of dicts, Arrow, frames.
        output: folder of the checkpoint; emptied before training where it holds an earlier one, refused where it holds
            anything else; an unfinished run in it is gone on with.
        start: a Hugging Face folder of a Llama-type model to go on from, or what `train` returned; its
            ``tokenizer.json`` must be the shards'.
            Rows need one: its tokenizer and its chat template are used.
        progress: called with (steps done, steps in all) after each step, and first where a run is gone on with; what it
            raises ends the run, unwritten.
        objective, size, steps, epochs, seq_len, batch_size, accumulation: what is trained, and how much; see
            `TrainOptions`.
        messages, question, answer, text, label, group: which fields of rows are what; see `TrainOptions`.
        validation_fraction, split_seed, on_error, label_every, token_noise, new_weights: of rows; see `TrainOptions`.
        lora_rank, lora_alpha, lora_dropout, lora_targets, save_adapter: of low-rank adaptation; see `TrainOptions`.
        lr, schedule, warmup_fraction, decay_fraction, final_lr_fraction: the rate over time; see `TrainOptions`.
        weight_decay, beta1, beta2, eps, clip_norm: of AdamW and the gradient; see `TrainOptions`.
        validate_every, seed, checkpoint_every, device, dtype, deterministic, threads: see `TrainOptions`.
        nproc, engine, zero_stage: by how many processes; see `TrainOptions`. In a process that `torchrun` started this
            call is the part of that process: all make it, and all get the checkpoint.

    Returns:
        The checkpoint that was written.

    Raises:
        InputError: shards without a train token or a predicted one, of different tokenizers, or not those of ``start``;
            a row that is malformed or too long; an output folder that holds something else.
        ConfigError: an option out of range, or more tokens a row than ``start`` has context; rows without ``start``, or
            one without a chat template; also where training diverges (loss or gradient not finite), naming step, rate
            and the last good checkpoint.
        LimitError: the model or the batch is larger than the memory there is, found before training or in it.
        FileError, FormatError: shards or checkpoint missing or broken; the output cannot be written.
        ProcessError: one of several processes ended, named with what ended it; the others were stopped.
        MissingExtra: peft is not installed, and ``lora_rank`` asks for it; deepspeed, and ``engine`` does.
    """
    options = TrainOptions(
        objective=objective,
        size=size,
        steps=steps,
        epochs=epochs,
        seq_len=seq_len,
        batch_size=batch_size,
        accumulation=accumulation,
        messages=messages,
        question=question,
        answer=answer,
        text=text,
        label=label,
        group=group,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        on_error=on_error,
        label_every=label_every,
        token_noise=token_noise,
        new_weights=new_weights,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        lora_targets=lora_targets if isinstance(lora_targets, str) else tuple(lora_targets),  # type: ignore[arg-type]
        save_adapter=save_adapter,
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
        nproc=nproc,
        engine=engine,
        zero_stage=zero_stage,
    )
    start = None if start is None else folder_of(start)
    if options.lora_rank and start is None:
        raise ConfigError("lora_rank needs start: new weights are not adapted", field="lora_rank", value=lora_rank)
    if options.objective != "pretrain":
        return tune(source, start, options, output=Path(output), progress=progress)
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
    """``train`` of the objective ``pretrain`` with everything opened: what the function and the stage share."""
    timer = StageTimer()
    check_sources(shards, start, options)
    if launch.is_asked(options):
        folders = [item.folder for item in shards]
        return launch.train("pretrain", folders, start, options, output, inputs, timer, progress, log)
    with joined(options) as world:
        return pretrain_part(
            shards, start, options, output=output, inputs=inputs, world=world, timer=timer, progress=progress, log=log
        )


def pretrain_part(
    shards: Sequence[Shards],
    start: Path | None,
    options: TrainOptions,
    *,
    output: Path,
    inputs: Sequence[InputRecord],
    world: World,
    timer: StageTimer,
    progress: Progress | None,
    log: logging.Logger,
) -> Checkpoint:
    """The part of one process of ``world`` in a pretraining."""
    placement = resolve(options.device, options.dtype)
    corpus = Corpus.of(shards, options)
    config = _config(shards[0], start, options)
    check_memory(
        config,
        placement,
        rows=options.batch_size // (options.accumulation * world.size),
        seq_len=options.seq_len,
        all_trained=not options.lora_rank,
        processes=world.local_size,
        sharded=options.engine != "ddp",
    )
    # Before the hours of training, not after: what cannot be written shows now.
    folders = [*(item.folder for item in shards), *([start] if start is not None else [])]
    if world.first:
        begin_checkpoint(output, folders)
    task = Task(
        train=corpus.train,
        validation=corpus.validation,
        model=lambda placement: _model(config, start, placement),
        tokenizer_folder=shards[0].folder,
        from_start=start is not None,
    )
    partial = open_unfinished(output, work_key_of(options, folders, placement), world, log)
    with closing(partial) if partial is not None else nullcontext():
        fitted = fit(task, options, placement, partial, output, world, progress, log)
        outcome = Outcome(
            options=options,
            history=fitted.history,
            parameters=fitted.parameters,
            train_tokens=corpus.train.documents.num_tokens,
            validation_bytes=corpus.validation_bytes,
            validation_tokens=corpus.validation.documents.num_tokens if corpus.validation is not None else 0,
            baselines=corpus.baselines() if world.first else None,
            device=str(placement.device),
            dtype=str(placement.autocast or placement.weights).removeprefix("torch."),
            resumptions=partial.resumptions if partial is not None else (),
            trained_parameters=fitted.trained_parameters,
            world=world,
        )
        return finish(output, outcome, fitted, inputs, partial, world, timer)


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


def _bytes(shard: Shard) -> int:
    """UTF-8 bytes of a shard's documents."""
    import pyarrow.compute as pc

    return int(pc.sum(shard.documents().column("bytes")).as_py() or 0)
