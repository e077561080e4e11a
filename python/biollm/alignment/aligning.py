"""The verb `align`: a checkpoint and preference pairs in, a checkpoint out, measured before and after."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from biollm.alignment.chat import ChatFormat
from biollm.alignment.lexicon import Lexicon
from biollm.alignment.measuring import Measurement, Probe, measure
from biollm.alignment.methods import Run
from biollm.alignment.options import ALGORITHM_VERSION, AlignOptions
from biollm.alignment.report import Outcome, guards, summarize
from biollm.alignment.resume import key_of
from biollm.alignment.sources import Material, gather
from biollm.atomic import write_bytes, write_json
from biollm.document_files import begin_folder
from biollm.inference.completions import checkpoint_records
from biollm.inference.llm import OnDisk, folder_of
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.models import load_checkpoint, save_checkpoint
from biollm.models.checkpoints import read_config, refuse_quantized
from biollm.partial import open_partial
from biollm.readers.rows import open_rows
from biollm.readers.source import Rejected
from biollm.results import Scalar
from biollm.telemetry import event
from biollm.training.checkpoint import Checkpoint
from biollm.training.placement import check_memory, deterministic_algorithms, resolve, torch_threads

if TYPE_CHECKING:
    from biollm.results import Progress

LOG: Final = logging.getLogger("biollm.align")
_LEFTOVERS: Final = re.compile(
    r"\..*\.tmp|(generation_|tokenizer_)?config\.json|model\.safetensors|tokenizer\.json|chat_template\.jinja"
    r"|answers\.jsonl|rejected\.jsonl|summary\.json"
)


def align(  # noqa: D417  (the options are described in AlignOptions)
    start: str | os.PathLike[str] | OnDisk,
    preferences: Any,
    *,
    output: str | os.PathLike[str],
    method: Literal["dpo", "ppo"] = "dpo",
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    beta: float = 0.1,
    sft_weight: float | None = None,
    reward: Literal["model", "rule"] = "model",
    reward_epochs: float = 1.0,
    reward_lr: float | None = None,
    kl_coefficient: float = 0.35,
    kl_target: float = 6.0,
    kl_horizon: float = 10_000.0,
    clip: float = 0.2,
    value_weight: float = 0.1,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
    epochs: int = 2,
    minibatches: int = 4,
    max_benign_increase: float | Literal["off"] = 0.05,
    check_every: int = 10,
    max_length: int = 512,
    max_tokens: int = 64,
    temperature: float = 1.0,
    samples: int = 256,
    validation_fraction: float = 0.1,
    evaluation: str | os.PathLike[str] | None = None,
    benign: str | os.PathLike[str] | None = None,
    lexicon: str | os.PathLike[str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Align a chat model to preference pairs, and measure it before and after on the same prompts.

    `dpo` is direct preference optimization by TRL (Rafailov et al. 2023, arXiv 2305.18290). `ppo` fits a reward model
    to the pairs (Bradley and Terry) and optimizes against it by proximal policy optimization (Ziegler et al. 2019,
    arXiv 1909.08593; Ouyang et al. 2022, arXiv 2203.02155). Both hold the chosen answers likely beside (`sft_weight`).
    The harm that is measured, a match of a word list, is never the reward of `ppo` unless `reward="rule"` says so.

    Args:
        start: a Hugging Face folder of a Llama-type model tuned on chats, or what `train` returned. Chats are written
            by its chat template; without one by ours, where its tokenizer has `<|user|>`, `<|assistant|>`,
            `<|system|>` and `<|end|>`.
        preferences: pairs: .jsonl or .parquet files, rows as dicts, or documents; see `read_preferences`.
        output: folder of the checkpoint; emptied where it holds an earlier one, refused where it holds anything else.
        method, steps, batch_size, lr: what is done, how long, how fast; see `AlignOptions`.
        beta: of dpo; sft_weight: of the chosen answers' likelihood; see `AlignOptions`.
        reward, reward_epochs, reward_lr, kl_coefficient, kl_target, kl_horizon: the objective of ppo; see
            `AlignOptions`.
        clip, value_weight, gamma, gae_lambda, epochs, minibatches: its updates; see `AlignOptions`.
        max_benign_increase, check_every: when to stop; see `AlignOptions`.
        max_length, max_tokens, temperature, samples, validation_fraction: of pairs, answers and measurement; see
            `AlignOptions`.
        evaluation, benign, lexicon: files to measure with; see `AlignOptions`.
        on_error, seed, device, threads: see `AlignOptions`.
        progress: called with (steps done, steps in all), those of the reward model among them; what it raises ends
            the run, unwritten.

    Returns:
        The checkpoint that was written.

    Raises:
        InputError: no usable pairs, a row that is none or that the chat template refuses (with `on_error="raise"`),
            nothing to measure with; an output folder that holds something else.
        ConfigError: an option out of range; neither a chat template nor the marks of ours; a template that changes
            earlier turns or ends no answer. LimitError: the model is larger than the memory there is.
        FileError, FormatError: a file is missing, broken or cannot be written.
        MissingExtra: `dpo` without trl: pip install 'biollm[align]'.
    """
    options = AlignOptions(
        method=method,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        beta=beta,
        sft_weight=sft_weight,
        reward=reward,
        reward_epochs=reward_epochs,
        reward_lr=reward_lr,
        kl_coefficient=kl_coefficient,
        kl_target=kl_target,
        kl_horizon=kl_horizon,
        clip=clip,
        value_weight=value_weight,
        gamma=gamma,
        gae_lambda=gae_lambda,
        epochs=epochs,
        minibatches=minibatches,
        max_benign_increase=max_benign_increase,
        check_every=check_every,
        max_length=max_length,
        max_tokens=max_tokens,
        temperature=temperature,
        samples=samples,
        validation_fraction=validation_fraction,
        evaluation=os.fspath(evaluation) if evaluation is not None else None,
        benign=os.fspath(benign) if benign is not None else None,
        lexicon=os.fspath(lexicon) if lexicon is not None else None,
        on_error=on_error,
        seed=seed,
        device=device,
        threads=threads,
    )
    return align_source(folder_of(start), preferences, options, output=Path(output), progress=progress)


def align_source(
    start: Path,
    preferences: Any,
    options: AlignOptions,
    *,
    output: Path,
    inputs: Sequence[InputRecord] | None = None,
    progress: Progress | None = None,
    log: logging.Logger = LOG,
) -> Checkpoint:
    """`align` with its options in one piece: what the function and the stage share.

    Args:
        start: the checkpoint folder.
        preferences: as in `align`.
        options: checked ones.
        output: as in `align`.
        inputs: what the manifest says of the inputs; without them, what the folder and the files are.
        progress: as in `align`.
        log: told of skipped rows, of the reward model and of a broken bound.
    """
    timer = StageTimer()
    placement = resolve(options.device, "float32")
    refuse_quantized(start, read_config(start), "alignment", field="start")
    reference = load_checkpoint(start, device=placement.device, dtype=placement.weights).requires_grad_(False).eval()
    config = reference.config
    chat = ChatFormat.of_folder(start)
    rows = open_rows(preferences, on_error=options.on_error)
    material = gather(rows, chat, config, options)
    check_memory(config, placement, rows=options.answers, seq_len=min(options.max_length, config.max_seq_len))
    if rows.rejected or material.too_long:
        message = f"{len(rows.rejected)} rows are no pairs, {material.too_long} pairs are too long: skipped"
        event(log, "rows_skipped", message, level=logging.WARNING, rows=len(rows.rejected), too_long=material.too_long)
    probe = Probe(
        chat=chat,
        lexicon=Lexicon.from_file(options.lexicon) if options.lexicon else Lexicon.built_in(),
        prompts=material.prompts,
        benign=material.benign,
        end_ids=material.end_ids,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=options.seed + 1,
    )
    # Behind all that may be wrong with what was given: from here on an earlier output is gone.
    begin_folder(output, [start], verb="align", leftovers=_LEFTOVERS)
    partial = open_partial(output, key_of(options, checkpoint_records(start), material, placement))
    run = Run(start, reference, material, probe, options, placement.device, partial, progress, log)
    devices = [torch.cuda.current_device()] if placement.device.type == "cuda" else []
    with (
        torch_threads(options.threads),
        deterministic_algorithms(None, placement),
        torch.random.fork_rng(devices),
    ):
        torch.manual_seed(options.seed)
        before = measure(reference, None, probe)
        trained = run.dpo() if options.method == "dpo" else run.ppo()
        after = measure(trained.policy, reference, probe)
    outputs = save_checkpoint(output, trained.policy, start)
    outputs |= _write_rows(output, rows.rejected, material, before, after)
    outcome = Outcome(
        options=options,
        before=before,
        after=after,
        prompts=[turns[-1].text for turns in material.prompts],
        categories=probe.lexicon.categories,
        facts={**trained.facts, **_facts(rows.rejected, material, placement.device)},
        curves=trained.curves,
    )
    if broken := [name for name, holds in guards(before, after).items() if not holds]:
        message = f"alignment broke {len(broken)} of 4 guards: {', '.join(broken)}"
        event(log, "guards_broken", message, level=logging.WARNING, guards=", ".join(broken))
    write_json(output / "summary.json", summarize(outcome).to_dict())
    manifest = Manifest(
        verb="align",
        kind="checkpoint",
        algorithm_version=ALGORITHM_VERSION,
        options=options.matched(),
        inputs=tuple(inputs if inputs is not None else (*checkpoint_records(start), *rows.records)),
        counts={
            "pairs_in": material.pairs + len(rows.rejected),
            "pairs_trained": len(material.train),
            "pairs_held_out": len(material.held_out),
            "pairs_too_long": material.too_long,
            "rows_rejected": len(rows.rejected),
            "steps": trained.steps,
            "parameters": config.num_parameters,
            "vocab_size": config.vocab_size,
            "samples": len(after.answers),
        },
        outputs=dict(sorted(outputs.items())),
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
        resumptions=partial.resumptions if partial is not None else (),
    )
    manifest.write(output)
    if partial is not None:
        partial.discard()
    return Checkpoint(output, manifest)


def _facts(rejected: Sequence[Rejected], material: Material, device: torch.device) -> dict[str, Scalar]:
    return {
        "pairs_trained": len(material.train),
        "pairs_held_out": len(material.held_out),
        "pairs_too_long": material.too_long,
        "rows_rejected": len(rejected),
        "prompts_from": material.evaluation_source,
        "harmless_text_from": material.benign_source,
        "device": device.type,
    }


def _write_rows(
    output: Path,
    rejected: Sequence[Rejected],
    material: Material,
    before: Measurement,
    after: Measurement,
) -> dict[str, str]:
    """`answers.jsonl`, and `rejected.jsonl` where rows were skipped; name → xxh3-128."""
    answers = [
        {"prompt": turns[-1].text, "before": old, "after": new}
        for turns, old, new in zip(material.prompts, before.answers, after.answers, strict=True)
    ]
    files: dict[str, list[dict[str, Any]]] = {"answers.jsonl": answers}
    if rejected:
        files["rejected.jsonl"] = [{k: v for k, v in asdict(row).items() if v is not None} for row in rejected]
    return {
        name: write_bytes(output / name, "".join(f"{json.dumps(r, ensure_ascii=False)}\n" for r in rows).encode())
        for name, rows in files.items()
    }
