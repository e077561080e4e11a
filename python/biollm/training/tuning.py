"""The objectives ``instruct`` and ``classify``: rows and a checkpoint in, a checkpoint out.

* ``instruct``: conversations by the checkpoint's chat template, or ours; the loss is on the assistant's words alone.
* ``classify``: a linear head on the last token of each document; in training on tokens before it too.

The loop is that of pretraining. What differs is what a batch asks of each position (`whole.WholeStream`), and of the
model only its head.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from biollm import _native
from biollm.atomic import write_bytes
from biollm.errors import ConfigError, InputError
from biollm.manifest import InputRecord, StageTimer
from biollm.models import Llama, LlamaClassifier, ModelConfig, load_checkpoint
from biollm.models.checkpoints import read_config, refuse_quantized
from biollm.partial import work_key
from biollm.readers.rows import Rows, open_rows
from biollm.tokenization import Tokenizer
from biollm.tokenization.chat import ChatTemplate
from biollm.training import baselines, launch
from biollm.training.checkpoint import Checkpoint, begin_checkpoint
from biollm.training.classification import examine
from biollm.training.examples import Sides, conversations, labelled
from biollm.training.fitting import Fitted, Task, finish, fit, open_unfinished
from biollm.training.options import ALGORITHM_VERSION, TrainOptions, matched_options
from biollm.training.placement import Placement, check_memory, resolve
from biollm.training.report import Outcome
from biollm.training.sources import identity, record, software
from biollm.training.whole import Examples, WholeStream
from biollm.training.world import World, joined

if TYPE_CHECKING:
    from biollm.results import Progress, Scalar

LOG: Final = logging.getLogger("biollm.train")
HASHED_BYTES: Final = 8 << 20


def tune(
    source: Any,
    start: str | os.PathLike[str] | None,
    options: TrainOptions,
    *,
    output: Path,
    inputs: Sequence[InputRecord | None] = (),
    progress: Progress | None = None,
    log: logging.Logger = LOG,
) -> Checkpoint:
    """``train`` of rows: what the function and the recipe's stage have in common.

    ``inputs``: what the manifest says of rows and checkpoint, in order, None for a file that its reader records; empty:
    rows, then checkpoint.
    """
    timer = StageTimer()
    if start is None:
        raise ConfigError(
            f"objective {options.objective!r} needs a checkpoint to start from: give one as start, or as an input",
            field="start",
        )
    folder = Path(start)
    if launch.is_asked(options):
        sources = launch.on_disk(source)
        return launch.train("tune", sources, folder, options, output, inputs, timer, progress, log)
    with joined(options) as world:
        return tune_part(
            source, folder, options, output=output, inputs=inputs, world=world, timer=timer, progress=progress, log=log
        )


def tune_part(
    source: Any,
    folder: Path,
    options: TrainOptions,
    *,
    output: Path,
    inputs: Sequence[InputRecord | None],
    world: World,
    timer: StageTimer,
    progress: Progress | None,
    log: logging.Logger,
) -> Checkpoint:
    """The part of one process of ``world`` in a tuning of the checkpoint in ``folder``."""
    placement = resolve(options.device, options.dtype)
    config = _context(read_config(folder), options, folder)
    refuse_quantized(folder, config, "training", field="start")
    tokenizer = Tokenizer.from_file(folder)
    if tokenizer.vocab_size > config.vocab_size:
        message = f"the model has {config.vocab_size} token ids, its tokenizer {tokenizer.vocab_size}"
        raise InputError(message, path=folder, field="start")
    rows = open_rows(source, on_error=options.on_error)
    make = _instruct if options.objective == "instruct" else _classify
    prepared = make(rows, folder, config, tokenizer, options)
    check_memory(
        config,
        placement,
        rows=options.batch_size // (options.accumulation * world.size),
        seq_len=options.seq_len,
        outputs=len(prepared.sides.labels) or None,
        all_trained=not options.lora_rank,
        processes=world.local_size,
        sharded=options.engine != "ddp",
    )
    if world.first:
        begin_checkpoint(output, [*_paths(source), folder])
    content = _content(prepared.sides)
    options_known = {**matched_options(options), "labels": list(prepared.sides.labels)}
    key = work_key("train", ALGORITHM_VERSION, options_known, [software(placement), [content], identity(folder)])
    partial = open_unfinished(output, key, world, log)
    with closing(partial) if partial is not None else nullcontext():
        fitted = fit(prepared.task, options, placement, partial, output, world, progress, log)
        if rows.skip and world.first:
            fitted.files["rejected.jsonl"] = _write_rejected(output, rows)
        outcome = replace(
            prepared.outcome(fitted, rows, options, world),
            device=str(placement.device),
            dtype=str(placement.autocast or placement.weights).removeprefix("torch."),
            resumptions=partial.resumptions if partial is not None else (),
        )
        if inputs:
            files = (item for item in rows.records if item.kind != "stage")
            known = [given or next(files) for given in inputs]
        else:
            known = [*(rows.records or [InputRecord(rows.description, "memory", content)]), record(folder)]
        return finish(output, outcome, fitted, known, partial, world, timer)


@dataclass(frozen=True)
class _Prepared:
    """An objective ready to be trained: its task, and the examples on both sides."""

    task: Task
    sides: Sides
    vocab_size: int

    def outcome(self, fitted: Fitted, rows: Rows, options: TrainOptions, world: World) -> Outcome:
        """What is known when training has ended."""
        sides, validation = self.sides, self.task.validation
        what = "documents" if sides.labels else "conversations"
        answers = [_loss_tokens(side) for side in (sides.train, sides.validation)]
        counts = {f"train_{what}": len(sides.train), f"validation_{what}": len(sides.validation)}
        if sides.labels:
            counts |= {"labels": len(sides.labels), "documents_truncated": sides.truncated}
        else:
            counts |= {"train_answer_tokens": answers[0], "validation_answer_tokens": answers[1]}
        counts["rows_skipped"] = len(rows.rejected)
        scores = fitted.examined
        facts: dict[str, Scalar] = {"objective": options.objective, **counts, **(scores.facts() if scores else {})}
        measured = None
        if validation is not None and not sides.labels and world.first:
            train = self.task.train.documents
            measured = baselines.measure(train, validation.documents, vocab_size=self.vocab_size)
        return Outcome(
            options=options,
            history=fitted.history,
            parameters=fitted.parameters,
            train_tokens=self.task.train.documents.num_tokens,
            # Of an instruction only the answers are scored, so bits a byte are those of the answers' bytes.
            validation_tokens=answers[1],
            validation_bytes=sides.validation_bytes,
            baselines=measured,
            device="",
            dtype="",
            trained_parameters=fitted.trained_parameters,
            unit="document" if sides.labels else "token",
            world=world,
            facts=facts,
            tables=scores.tables() if scores else (),
            counts=counts,
        )


def _instruct(rows: Rows, folder: Path, config: ModelConfig, tokenizer: Tokenizer, options: TrainOptions) -> _Prepared:
    template = ChatTemplate.of_folder(folder) or ChatTemplate.default(tokenizer)
    sides = conversations(rows, template, tokenizer, options)
    # Generation stops where an answer ends, and still where a text does.
    ends = dict.fromkeys((*config.eos_ids, *sides.end_ids))
    config = replace(config, eos_id=tuple(ends) if len(ends) > 1 else next(iter(ends), None))

    def model(placement: Placement) -> Llama:
        made = load_checkpoint(folder, device=placement.device, dtype=placement.weights)
        made.config = config
        return made

    train, validation = _streams(sides, config, options)
    task = Task(
        train=train,
        validation=validation,
        model=model,
        tokenizer_folder=folder,
        from_start=True,
        chat_template=template.source,
        validated_first=True,
    )
    return _Prepared(task, sides, config.vocab_size)


def _classify(rows: Rows, folder: Path, config: ModelConfig, tokenizer: Tokenizer, options: TrainOptions) -> _Prepared:
    if tokenizer.eos_id is None:
        message = "the tokenizer names no EOS token, which ends each document here: name it in tokenizer_config.json"
        raise ConfigError(message, path=folder / "tokenizer_config.json", field="eos_token")
    sides = labelled(rows, tokenizer, options)

    def model(placement: Placement) -> LlamaClassifier:
        started = Llama(config) if options.new_weights else load_checkpoint(folder, dtype=placement.weights)
        made = LlamaClassifier(config, sides.labels)
        made.model = started.model
        return made.to(placement.device, placement.weights)

    train, validation = _streams(sides, config, options)
    batch_rows = options.batch_size // options.accumulation
    task = Task(
        train=train,
        validation=validation,
        model=model,
        tokenizer_folder=folder,
        from_start=not options.new_weights,
        examined=(
            None
            if validation is None
            else lambda model, placement: examine(model, validation, sides, rows=batch_rows, placement=placement)
        ),
    )
    return _Prepared(task, sides, config.vocab_size)


def _streams(sides: Sides, config: ModelConfig, options: TrainOptions) -> tuple[WholeStream, WholeStream | None]:
    epochs = None if options.steps is not None else 1.0 if options.epochs is None else options.epochs
    size = {"seq_len": options.seq_len, "vocab_size": config.vocab_size}
    train = WholeStream(
        sides.train,
        seed=options.seed,
        epochs=epochs,
        label_every=options.label_every if sides.labels else 0,
        token_noise=options.token_noise,  # 0 for conversations: it is no option of theirs
        **size,
    )
    if not len(sides.validation):
        return train, None
    return train, WholeStream(sides.validation, seed=None, epochs=1.0, **size)


def _context(config: ModelConfig, options: TrainOptions, folder: Path) -> ModelConfig:
    if config.max_seq_len < options.seq_len:
        raise ConfigError(
            f"seq_len {options.seq_len} is over the context of {folder}, {config.max_seq_len} tokens: lower seq_len",
            path=folder,
            field="seq_len",
            value=options.seq_len,
        )
    return config


def _loss_tokens(examples: Examples) -> int:
    return 0 if examples.mask is None else int(examples.mask.sum())


def _content(sides: Sides) -> str:
    """A hash of all examples: what a run that goes on must have in common, wherever they came from."""
    parts: list[str] = []
    for side in (sides.train, sides.validation):
        for array in (side.tokens, side.offsets, side.mask, side.labels):
            data = b"" if array is None else array.tobytes()
            parts += [_native.hash_bytes(data[at : at + HASHED_BYTES]) for at in range(0, len(data) or 1, HASHED_BYTES)]
    return _native.hash_bytes("".join(parts).encode())


def _write_rejected(output: Path, rows: Rows) -> str:
    lines = [json.dumps({k: v for k, v in asdict(r).items() if v is not None}) + "\n" for r in rows.rejected]
    return write_bytes(output / "rejected.jsonl", "".join(lines).encode())


def _paths(source: Any) -> list[Path]:
    sources = source if isinstance(source, list | tuple) else [source]
    return [Path(item) for item in sources if isinstance(item, str | os.PathLike)]
