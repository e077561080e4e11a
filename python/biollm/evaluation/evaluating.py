"""The verb `evaluate`: a checkpoint and held-out files in, figures with intervals out."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from biollm.errors import InputError
from biollm.evaluation.answering import TaskResult, answer_task
from biollm.evaluation.domains import DomainLosses, document_domains, domain_name, domain_results, shard_domains
from biollm.evaluation.options import ALGORITHM_VERSION, SETTINGS, EvaluateOptions
from biollm.evaluation.result import Evaluation, write_evaluation
from biollm.evaluation.scorers import ModelScorer
from biollm.evaluation.task_files import is_task_file, read_tasks
from biollm.manifest import InputRecord, Manifest, StageTimer

if TYPE_CHECKING:
    from biollm.inference import LLM
    from biollm.inference.llm import OnDisk
    from biollm.results import Progress

__all__ = ["evaluate", "evaluate_sources"]

log = logging.getLogger("biollm.evaluate")

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def evaluate(
    checkpoint: str | os.PathLike[str] | OnDisk,
    sources: Any,
    *,
    shots: int | Sequence[int] = 0,
    chain_of_thought: bool = False,
    rationale_tokens: int = 96,
    answer: Literal["text", "letter"] = "text",
    normalize: Literal["bytes", "characters", "tokens", "none"] = "bytes",
    settings: Sequence[str] = SETTINGS,
    example_share: float | None = None,
    max_items: int | None = None,
    max_documents: int | None = None,
    text: str = "text",
    domain: str | None = None,
    split: str = "validation",
    stride: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    batch_tokens: int = 8192,
    device: str = "auto",
    dtype: str = "auto",
    output: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a checkpoint: perplexity and bits a byte of documents, accuracy on questions.

    Files of questions (PubMedQA, MedQA, MedMCQA, MMLU; see `read_tasks`) are known by their fields and become tasks;
    folders of token shards and everything else are documents.

    Args:
        checkpoint: a folder in Hugging Face layout, or what `train` returned.
        sources: a path or glob, a list of `Path`, or documents in memory (a list of str is texts).
        shots: worked examples before each question; several numbers make several passes over the same items.
        chain_of_thought: answer once more after a generated rationale.
        rationale_tokens: tokens of a rationale at most.
        answer: "text" scores the words of each option; "letter" lists the options and scores their letters.
        normalize: what an option's log-likelihood is divided by: "bytes", "characters" or "tokens" of it, or "none".
        settings: of PubMedQA, "reasoning-required" (question and contexts), "reasoning-free" (question and conclusion).
        example_share: share of a task's items kept apart for worked examples, never scored; by default 0.1 where shots
            are asked for, else 0.
        max_items: of each task, so many items drawn by the seed; by default all.
        max_documents: of each domain (of shards: of the split), the first so many documents; by default all.
        text: column of the documents that holds the text.
        domain: column of the documents that names their domain; by default "source" where there is one, and where a
            document names none, its input's name.
        split: of token shards, the split whose documents are read.
        stride: new tokens of each window of a document longer than the context; by default half the context.
        on_error: "raise" at a malformed or too long item or document, or "skip" and count it.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap resamples of an interval.
        seed: draws examples, items and resamples.
        batch_tokens: tokens of one batch, padding among them.
        device: "cpu", "cuda", "cuda:1", …; "auto" is cuda where there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16" or "float64"; "auto" is bfloat16 on cuda, float32 on the CPU.
        output: a folder to leave as a stage leaves it.
        progress: called with questions or documents done, source by source.

    Returns:
        The evaluation: `domains`, `tasks`, and the tables `items()` and `documents()`.

    Raises:
        InputError: no sources; an item without an answer, malformed or too long; shards of another tokenizer; no
            usable tokenizer.
        ConfigError: an option out of range. FileError, FormatError: a file cannot be read; as `LLM` and `read`.
        MissingExtra: torch or safetensors is not installed.
    """
    from biollm.inference.llm import folder_of

    options = EvaluateOptions(
        shots=(shots,) if isinstance(shots, int) else tuple(shots),
        chain_of_thought=chain_of_thought,
        rationale_tokens=rationale_tokens,
        answer=answer,
        normalize=normalize,
        settings=tuple(settings),
        example_share=example_share,
        max_items=max_items,
        max_documents=max_documents,
        text=text,
        domain=domain,
        split=split,
        stride=stride,
        on_error=on_error,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        batch_tokens=batch_tokens,
        device=device,
        dtype=dtype,
    )
    evaluation = evaluate_sources(folder_of(checkpoint), _listed(sources), options, progress=progress)
    return evaluation if output is None else write_evaluation(evaluation, output)


def evaluate_sources(
    folder: Path,
    sources: Sequence[Any],
    options: EvaluateOptions,
    *,
    inputs: tuple[InputRecord, ...] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """`evaluate` of sources one by one: `Path` or URL of a file or folder, or documents in memory.

    inputs: what the manifest says of checkpoint and sources; None to make the records here.

    Raises:
        BiollmError: as `evaluate`.
    """
    from biollm.inference import LLM
    from biollm.inference.completions import checkpoint_records

    timer = StageTimer()
    if not sources:
        raise InputError("there is nothing to evaluate on: give files of questions or documents", field="sources")
    # All questions are read before the model is loaded: a malformed file shows at once.
    tasks = {
        place: read_tasks(source, settings=options.settings, on_error=options.on_error)
        for place, source in enumerate(sources)
        if isinstance(source, Path) and is_task_file(source)
    }
    llm = LLM(folder, device=options.device, dtype=options.dtype, compile=False)
    scorer = ModelScorer(llm, rationale_tokens=options.rationale_tokens, batch_tokens=options.batch_tokens)
    run = _Run(llm, options, progress)
    results: list[TaskResult] = []
    for place, source in enumerate(sources):
        if place in tasks:
            for task in tasks[place]:
                results.extend(answer_task(scorer, task, options, progress=progress))
            run.records.append(InputRecord.of_file(source))
        else:
            run.read(source)
    _warn(results, run.malformed)
    domains = [result for found in run.losses for result in domain_results(found, options)]
    manifest = Manifest(
        verb="evaluate",
        kind="evaluation",
        algorithm_version=ALGORITHM_VERSION,
        options=options.matched(),
        inputs=inputs if inputs is not None else (*checkpoint_records(folder), *run.records),
        counts={
            "documents": sum(domain.documents for domain in domains),
            "documents_left_out": sum(found.left_out for found in run.losses),
            "documents_malformed": run.malformed,
            "scored_tokens": sum(domain.tokens for domain in domains),
            "questions": sum(len(result.answers) for result in results),
            "questions_cut": sum(result.cut for result in results),
            "questions_unscored": sum(len(result.unscored) for result in results),
            "items_malformed": sum(len(of_file[0].rejected) for of_file in tasks.values()),
        },
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
    )
    return Evaluation(tuple(domains), tuple(results), tuple(run.losses), manifest)


def _warn(results: Sequence[TaskResult], malformed: int) -> None:
    """Says what was cut or left out; the counts stand in the result as well."""
    for result in results:
        asked = len(result.answers) + len(result.unscored)
        if result.cut:
            log.warning("%s: %d of %d questions were cut to the model's context", result.name, result.cut, asked)
        if result.unscored:
            log.warning("%s: %d of %d questions do not fit and were skipped", result.name, len(result.unscored), asked)
        if result.malformed:
            log.warning("%s: %d malformed items were skipped", result.name, len(result.malformed))
    if malformed:
        log.warning("%d malformed documents were skipped", malformed)


class _Run:
    """Documents read one source after another."""

    def __init__(self, llm: LLM, options: EvaluateOptions, progress: Progress | None) -> None:
        self.llm, self.options, self.progress = llm, options, progress
        self.losses: list[DomainLosses] = []
        self.records: list[InputRecord] = []
        self.malformed = 0

    def read(self, source: Any) -> None:
        """Documents or shards, and the record of what they were read from."""
        if isinstance(source, Path) and (source / "shards.json").is_file():
            from biollm.tokenization import Shards

            shards = Shards.open(source)
            self.losses.append(
                shard_domains(self.llm, shards, domain_name(source), self.options, progress=self.progress)
            )
            self.records.append(_folder_record(source))
            return
        from biollm.readers.coercion import open_source
        from biollm.readers.options import ReadOptions
        from biollm.readers.source import PassLog

        options = self.options
        opened = open_source(source, ReadOptions(text=options.text, source=options.domain, on_error=options.on_error))
        passed = PassLog()
        name = domain_name(source) if isinstance(source, str | Path) else "documents"
        found = document_domains(self.llm, opened.batches(passed), name, options, progress=self.progress)
        if options.domain is not None and set(found.domains) == {name}:
            log.warning("%s: no document names its domain in %r: all count as %r", name, options.domain, name)
        self.losses.append(found)
        self.malformed += len(passed.rejected)
        if isinstance(source, Path) and (source / "manifest.json").is_file():
            self.records.append(InputRecord.of_stage(source))
        else:
            self.records.extend(opened.inputs())


def _folder_record(folder: Path) -> InputRecord:
    if (folder / "manifest.json").is_file():
        return InputRecord.of_stage(folder)
    return InputRecord.of_file(folder / "shards.json")


def _listed(sources: Any) -> list[Any]:
    """Sources one by one: globs as the files they match, documents in memory as one."""
    if isinstance(sources, str | os.PathLike):
        path = os.fspath(sources)
        if _URL.match(path):
            return [path]
        if glob.has_magic(path) and not os.path.lexists(path):
            found = [Path(name) for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
            if not found:
                raise InputError("this glob matches no file", path=path, field="sources")
            return list(found)
        return [Path(path)]
    if isinstance(sources, list | tuple) and any(isinstance(source, os.PathLike) for source in sources):
        return [each for source in sources for each in _listed(source)]
    if isinstance(sources, list | tuple) and not sources:
        return []
    return [sources]
