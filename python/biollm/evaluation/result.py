"""`Evaluation`: what one evaluation found, in memory and as a folder."""

from __future__ import annotations

import math
import os
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from biollm.atomic import write_json
from biollm.evaluation.answering import TaskResult
from biollm.evaluation.domains import DomainLosses, DomainResult
from biollm.evaluation.resampling import Interval
from biollm.manifest import Manifest
from biollm.results import Summary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "VERSION", "Evaluation", "write_evaluation"]

FORMAT: Final = "biollm-evaluation"
VERSION: Final = 1
_LEFTOVERS: Final = re.compile(r"\..*\.tmp|evaluation\.json|items\.parquet|documents\.parquet|summary\.json")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        domains: how well each domain's documents are predicted.
        tasks: one entry a task, number of shots and way of asking.
        losses: of the documents, one entry an input.
        manifest: what it was made of.
    """

    domains: tuple[DomainResult, ...]
    tasks: tuple[TaskResult, ...]
    losses: tuple[DomainLosses, ...]
    manifest: Manifest

    def items(self) -> pa.Table:
        """One row an answer: what was asked, answered and right, with the log-likelihoods of all options."""
        import pyarrow as pa

        strings, numbers = pa.large_list(pa.large_string()), pa.large_list(pa.float64())
        schema = pa.schema(
            [
                ("task", pa.large_string()),
                ("setting", pa.large_string()),
                ("shots", pa.int64()),
                ("chain_of_thought", pa.bool_()),
                ("id", pa.large_string()),
                ("group", pa.large_string()),
                ("options", strings),
                ("answer", pa.int64()),
                ("predicted", pa.int64()),
                ("predicted_unnormalized", pa.int64()),
                ("correct", pa.bool_()),
                ("log_likelihoods", numbers),
                ("normalized", numbers),
                ("cut_tokens", pa.int64()),
                ("examples", strings),
                ("rationale", pa.large_string()),
            ]
        )
        rows = [
            {
                "task": task.task,
                "setting": task.setting,
                "shots": task.shots,
                "chain_of_thought": task.chain_of_thought,
                "id": answer.item.id,
                "group": answer.item.group,
                "options": list(answer.item.options),
                "answer": answer.item.answer,
                "predicted": answer.predicted,
                "predicted_unnormalized": answer.predicted_unnormalized,
                "correct": answer.correct,
                "log_likelihoods": list(answer.scores.log_likelihoods),
                "normalized": list(answer.values),
                "cut_tokens": answer.scores.cut_tokens,
                "examples": list(answer.examples),
                "rationale": answer.scores.rationale,
            }
            for task in self.tasks
            for answer in task.answers
        ]
        return pa.Table.from_pylist(rows, schema=schema)

    def documents(self) -> pa.Table:
        """One row a document: `id`, `domain`, `nats`, `tokens`, `bytes`, `windows`."""
        import pyarrow as pa

        schema = pa.schema(
            [
                ("id", pa.large_string()),
                ("domain", pa.large_string()),
                ("nats", pa.float64()),
                ("tokens", pa.int64()),
                ("bytes", pa.int64()),
                ("windows", pa.int64()),
            ]
        )
        tables = [
            pa.table([found.ids, found.domains, *(getattr(found.losses, name) for name in _COLUMNS)], schema=schema)
            for found in self.losses
        ]
        return pa.concat_tables([schema.empty_table(), *tables])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values, `null` for what has no value: what `evaluation.json` holds."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "domains": [_domain(domain) for domain in self.domains],
            "tasks": [_task(task) for task in self.tasks],
        }

    def summary(self) -> Summary:
        """Tables of perplexity by domain and of accuracy by task and subject, with intervals."""
        from biollm.evaluation.summary import summarize

        return summarize(self)

    def write(self, path: str | os.PathLike[str], /) -> None:
        """Leaves the folder `path` of kind "evaluation": `evaluation.json`, `items.parquet`, `documents.parquet`,
        `summary.json`, and `manifest.json` last.

        Raises:
            InputError: the folder holds other files. FileError: the system refused.
        """
        write_evaluation(self, path)


def write_evaluation(evaluation: Evaluation, path: str | os.PathLike[str]) -> Evaluation:
    """`Evaluation.write`; gives the evaluation with the manifest that was written.

    Raises:
        InputError, FileError: as there.
    """
    from biollm.document_files import begin_folder, write_parquet

    folder = begin_folder(path, verb="evaluate", leftovers=_LEFTOVERS)
    outputs = {"evaluation.json": write_json(folder / "evaluation.json", evaluation.to_dict())}
    if evaluation.tasks:
        outputs["items.parquet"] = write_parquet(folder / "items.parquet", evaluation.items())
    if evaluation.losses:
        outputs["documents.parquet"] = write_parquet(folder / "documents.parquet", evaluation.documents())
    outputs["summary.json"] = write_json(folder / "summary.json", evaluation.summary().to_dict())
    manifest = replace(evaluation.manifest, outputs=outputs)
    manifest.write(folder)
    return replace(evaluation, manifest=manifest)


_COLUMNS: Final = ("nats", "tokens", "num_bytes", "windows")


def _domain(domain: DomainResult) -> dict[str, Any]:
    values = asdict(domain)
    values["nats_per_token"] = _number(domain.nats_per_token)
    return {**values, "perplexity": _interval(domain.perplexity), "bits_per_byte": _interval(domain.bits_per_byte)}


def _task(task: TaskResult) -> dict[str, Any]:
    return {
        "task": task.task,
        "setting": task.setting,
        "shots": task.shots,
        "chain_of_thought": task.chain_of_thought,
        "items": len(task.answers),
        "accuracy": _interval(task.accuracy),
        "accuracy_unnormalized": _interval(task.accuracy_unnormalized),
        "macro_f1": _interval(task.macro_f1) if task.macro_f1 is not None else None,
        "majority": _number(task.majority),
        "groups": [{"group": name, "accuracy": _interval(interval)} for name, interval in task.groups],
        "cut": task.cut,
        "unscored": [asdict(rejection) for rejection in task.unscored],
        "malformed": [asdict(rejection) for rejection in task.malformed],
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in asdict(interval).items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
