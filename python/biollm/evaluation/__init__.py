"""Evaluation: how well a checkpoint predicts held-out text and answers questions, with intervals.

Importing this package imports neither numpy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.evaluation.answering import Answer, TaskResult, answer_task
    from biollm.evaluation.domains import DomainLosses, DomainResult
    from biollm.evaluation.evaluating import evaluate
    from biollm.evaluation.items import Item, Rejection, Task
    from biollm.evaluation.losses import DocumentLosses, document_losses, shard_losses, text_losses, token_bytes
    from biollm.evaluation.options import EvaluateOptions
    from biollm.evaluation.prompts import Question, ask
    from biollm.evaluation.resampling import Interval, bits_per_byte, bootstrap, paired_bootstrap, perplexity
    from biollm.evaluation.result import Evaluation
    from biollm.evaluation.scorers import (
        AnswerScorer,
        ModelScorer,
        OptionScores,
        Scorer,
        majority,
        oracle,
        random_answers,
        stored,
    )
    from biollm.evaluation.task_files import read_tasks
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "Answer": "answering",
        "AnswerScorer": "scorers",
        "DocumentLosses": "losses",
        "DomainLosses": "domains",
        "DomainResult": "domains",
        "EvaluateOptions": "options",
        "Evaluation": "result",
        "Interval": "resampling",
        "Item": "items",
        "ModelScorer": "scorers",
        "OptionScores": "scorers",
        "Question": "prompts",
        "Rejection": "items",
        "Scorer": "scorers",
        "Task": "items",
        "TaskResult": "answering",
        "answer_task": "answering",
        "ask": "prompts",
        "bits_per_byte": "resampling",
        "bootstrap": "resampling",
        "document_losses": "losses",
        "evaluate": "evaluating",
        "majority": "scorers",
        "oracle": "scorers",
        "paired_bootstrap": "resampling",
        "perplexity": "resampling",
        "random_answers": "scorers",
        "read_tasks": "task_files",
        "shard_losses": "losses",
        "stored": "scorers",
        "text_losses": "losses",
        "token_bytes": "losses",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)


__all__ = [
    "Answer",
    "AnswerScorer",
    "DocumentLosses",
    "DomainLosses",
    "DomainResult",
    "EvaluateOptions",
    "Evaluation",
    "Interval",
    "Item",
    "ModelScorer",
    "OptionScores",
    "Question",
    "Rejection",
    "Scorer",
    "Task",
    "TaskResult",
    "answer_task",
    "ask",
    "bits_per_byte",
    "bootstrap",
    "document_losses",
    "evaluate",
    "majority",
    "oracle",
    "paired_bootstrap",
    "perplexity",
    "random_answers",
    "read_tasks",
    "shard_losses",
    "stored",
    "text_losses",
    "token_bytes",
]
