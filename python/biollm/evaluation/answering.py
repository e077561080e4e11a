"""Tasks put to a scorer: what it answered, and how often that was right, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biollm.errors import InputError
from biollm.evaluation.items import Item, Rejection, Task
from biollm.evaluation.options import EvaluateOptions
from biollm.evaluation.prompts import Question, ask
from biollm.evaluation.resampling import Interval, bootstrap
from biollm.evaluation.scorers import OptionScores, Scorer, choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.results import Progress

__all__ = ["Answer", "TaskResult", "answer_task"]


@dataclass(frozen=True)
class Answer:
    """What was answered to one item.

    Attributes:
        item: what was asked.
        predicted: index of the option of the greatest log-likelihood by its length.
        predicted_unnormalized: that of the greatest log-likelihood.
        scores: of the scorer.
        values: log-likelihood by length, one an option.
        examples: ids of the worked examples before it.
    """

    item: Item
    predicted: int
    predicted_unnormalized: int
    scores: OptionScores
    values: tuple[float, ...]
    examples: tuple[str, ...]

    @property
    def correct(self) -> bool:
        """Whether `predicted` is the right one."""
        return self.predicted == self.item.answer


@dataclass(frozen=True)
class TaskResult:
    """One pass over a task's items.

    Attributes:
        task: the task's name.
        setting: as `Task` has it.
        shots: worked examples before each question.
        chain_of_thought: whether a rationale was generated first.
        answers: in the order of the items.
        accuracy: share that is right, by the normalized log-likelihoods.
        accuracy_unnormalized: the same by the plain ones.
        macro_f1: mean of the labels' F1, where all items have the same labels.
        majority: accuracy of the most frequent right answer among these items.
        groups: accuracy by subject, where the file names any.
        cut: items whose context lost tokens on its left.
        unscored: items that did not fit the model's context, and were skipped.
        malformed: items of the file that were skipped.
    """

    task: str
    setting: str
    shots: int
    chain_of_thought: bool
    answers: tuple[Answer, ...]
    accuracy: Interval
    accuracy_unnormalized: Interval
    macro_f1: Interval | None
    majority: float
    groups: tuple[tuple[str, Interval], ...]
    cut: int
    unscored: tuple[Rejection, ...]
    malformed: tuple[Rejection, ...]

    @property
    def name(self) -> str:
        """Task and setting in one."""
        return f"{self.task}, {self.setting}" if self.setting else self.task


def answer_task(
    scorer: Scorer, task: Task, options: EvaluateOptions | None = None, *, progress: Progress | None = None
) -> list[TaskResult]:
    """Puts a task to a scorer: a pass for each number of shots, and of chain of thought where that is asked for.

    All passes are over the same items; worked examples come from a part that none of them scores.

    Args:
        scorer: a `ModelScorer`, or anything else with its method.
        task: of `read_tasks`.
        options: by default those of `EvaluateOptions`.
        progress: called with questions done and in all, over all passes.

    Returns:
        The results: by shots, the direct answers before those of chain of thought.

    Raises:
        InputError: too few items for the shots; an item does not fit the model's context, and `on_error` is "raise".
    """
    options = options or EvaluateOptions()
    scored, apart = task.split(options.share_apart, max(options.shots), options.seed)
    items = task.sample(scored, options.max_items, options.seed)
    if not items:
        raise InputError(f"{task.name}: no item is left to score beside the examples", field="example_share")
    ways = (False, True) if options.chain_of_thought else (False,)
    passes = [(shots, thought) for shots in options.shots for thought in ways]
    results = []
    for number, (shots, thought) in enumerate(passes):
        questions = [
            ask(item, examples=apart, shots=shots, answer=options.answer, chain_of_thought=thought, seed=options.seed)
            for item in items
        ]
        report = None if progress is None else _Shifted(progress, number * len(items), len(passes) * len(items))
        scores = scorer.score(questions, report)
        results.append(_result(task, shots, thought, questions, scores, options))
    return results


@dataclass(frozen=True)
class _Shifted:
    """Progress of one pass as a part of all."""

    progress: Progress
    before: int
    total: int

    def __call__(self, done: int, total: int | None, /) -> None:
        self.progress(self.before + done, self.total)


def _result(
    task: Task,
    shots: int,
    thought: bool,
    questions: Sequence[Question],
    scores: Sequence[OptionScores],
    options: EvaluateOptions,
) -> TaskResult:
    answers: list[Answer] = []
    unscored: list[Rejection] = []
    for row, (question, given) in enumerate(zip(questions, scores, strict=True)):
        if given.problem:
            if options.on_error == "raise":
                message = f'{task.name}, item {question.item.id}: {given.problem}; on_error = "skip" leaves such out'
                raise InputError(message, row=row, field="question")
            unscored.append(Rejection(task.name, row + 1, f"item {question.item.id}: {given.problem}"))
            continue
        chosen, values = choose(given, question.continuations, options.normalize)
        plain, _ = choose(given, question.continuations, "none")
        answers.append(Answer(question.item, chosen, plain, given, values, question.examples))
    right = np.array([answer.item.answer for answer in answers], np.int64)
    predicted = np.array([answer.predicted for answer in answers], np.int64)
    unnormalized = np.array([answer.predicted_unnormalized for answer in answers], np.int64)
    subjects = np.array([answer.item.group for answer in answers])
    names = sorted({str(name) for name in subjects if name})
    return TaskResult(
        task=task.name,
        setting=task.setting,
        shots=shots,
        chain_of_thought=thought,
        answers=tuple(answers),
        accuracy=_interval(right == predicted, options),
        accuracy_unnormalized=_interval(right == unnormalized, options),
        macro_f1=_macro_f1(right, predicted, len(task.labels), options) if task.labels else None,
        majority=float(np.bincount(right).max() / len(right)) if len(right) else float("nan"),
        groups=tuple((name, _interval((right == predicted)[subjects == name], options)) for name in names),
        cut=sum(answer.scores.cut_tokens > 0 for answer in answers),
        unscored=tuple(unscored),
        malformed=task.rejected,
    )


def _interval(correct: NDArray[Any], options: EvaluateOptions) -> Interval:
    return bootstrap(
        correct.astype(np.float64), resamples=options.resamples, confidence=options.confidence, seed=options.seed
    )


def _macro_f1(
    right: NDArray[np.int64], predicted: NDArray[np.int64], labels: int, options: EvaluateOptions
) -> Interval:
    """The mean of the labels' F1, a label that is neither right nor predicted counted as 0 (as scikit-learn does)."""
    pairs = np.zeros((len(right), labels * labels))
    pairs[np.arange(len(right)), right * labels + predicted] = 1.0

    def statistic(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        confusion = sums.reshape(*sums.shape[:-1], labels, labels)  # (…, right, predicted)
        hits = np.diagonal(confusion, axis1=-2, axis2=-1)
        both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
        scores: NDArray[np.float64] = (2 * hits / np.maximum(both, 1e-300)).mean(axis=-1)
        return scores

    return bootstrap(pairs, statistic, resamples=options.resamples, confidence=options.confidence, seed=options.seed)
