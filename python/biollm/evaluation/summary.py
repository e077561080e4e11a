"""What an evaluation says of itself: facts, tables with intervals, and bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from biollm.evaluation.resampling import Interval
from biollm.results import Sample, Scalar, Series, Summary, Table

if TYPE_CHECKING:
    from biollm.evaluation.answering import TaskResult
    from biollm.evaluation.result import Evaluation

MAX_ROWS: Final = 40
"""Rows of a table; all domains and subjects stand in `evaluation.json`."""
MAX_SAMPLES: Final = 4


def summarize(evaluation: Evaluation) -> Summary:
    """Facts and tables, for `summary.json` and the report."""
    manifest, tasks, domains = evaluation.manifest, evaluation.tasks, evaluation.domains
    options = manifest.options
    facts: dict[str, Scalar] = {}
    percent = f"{100 * options['confidence']:g} %"
    if tasks:
        facts |= {
            "questions": sum(len(task.answers) for task in tasks),
            "log-likelihoods divided by": str(options["normalize"]) if options["normalize"] != "none" else "nothing",
            "questions cut to the context": sum(task.cut for task in tasks),
            "questions too long, skipped": sum(len(task.unscored) for task in tasks),
            "malformed items skipped": manifest.counts["items_malformed"],
        }
    if domains:
        facts |= {
            "documents": sum(domain.documents for domain in domains),
            "scored tokens": sum(domain.tokens for domain in domains),
            "documents longer than the context": sum(domain.windowed for domain in domains),
            "documents left out": manifest.counts["documents_left_out"],
            "malformed documents skipped": manifest.counts["documents_malformed"],
        }
    facts["intervals"] = f"{percent}, percentile bootstrap of {options['resamples']:,} resamples"
    tables = []
    if domains:
        tables.append(_domain_table(evaluation, percent))
    if tasks:
        tables.append(_task_table(tasks, percent))
    if any(task.groups for task in tasks):
        tables.append(_group_table(tasks, percent))
    return Summary(
        title="evaluate", facts=facts, tables=tuple(tables), series=_bars(evaluation), samples=_samples(tasks)
    )


def spread(interval: Interval) -> str:
    """An interval in brackets: [0.512, 0.601]."""
    return f"[{_figure(interval.low)}, {_figure(interval.high)}]"


def _domain_table(evaluation: Evaluation, percent: str) -> Table:
    largest = sorted(evaluation.domains, key=lambda domain: -domain.tokens)[:MAX_ROWS]
    more = len(evaluation.domains) - len(largest)
    title = "Perplexity by domain" + (f" (the largest; {more} more in evaluation.json)" if more else "")
    columns = ("domain", "documents", "tokens", "perplexity", percent, "bits a byte", f"{percent} of bits a byte")
    rows = tuple(
        (
            domain.domain,
            domain.documents,
            domain.tokens,
            _value(domain.perplexity.estimate),
            spread(domain.perplexity),
            _value(domain.bits_per_byte.estimate),
            spread(domain.bits_per_byte),
        )
        for domain in largest
    )
    return Table(title, columns, rows)


def _task_table(tasks: tuple[TaskResult, ...], percent: str) -> Table:
    columns = ("task", "asked", "items", "cut", "too long", "accuracy", percent, "unnormalized", "macro-F1",
               f"{percent} of macro-F1", "majority")  # fmt: skip
    rows = tuple(
        (
            task.name,
            _way(task),
            len(task.answers),
            task.cut,
            len(task.unscored),
            _value(task.accuracy.estimate),
            spread(task.accuracy),
            _value(task.accuracy_unnormalized.estimate),
            _value(task.macro_f1.estimate) if task.macro_f1 is not None else None,
            spread(task.macro_f1) if task.macro_f1 is not None else None,
            _value(task.majority),
        )
        for task in tasks
    )
    return Table("Questions", columns, rows)


def _group_table(tasks: tuple[TaskResult, ...], percent: str) -> Table:
    rows: list[tuple[Scalar, ...]] = [
        (f"{task.name}, {_way(task)}", name, interval.units, _value(interval.estimate), spread(interval))
        for task in tasks
        for name, interval in task.groups
    ]
    more = len(rows) - MAX_ROWS
    title = "Accuracy by subject" + (f" ({more} more in evaluation.json)" if more > 0 else "")
    return Table(title, ("task", "subject", "items", "accuracy", percent), tuple(rows[:MAX_ROWS]))


def _bars(evaluation: Evaluation) -> tuple[Series, ...]:
    series = []
    if scored := [task for task in evaluation.tasks if task.answers]:
        names = tuple(f"{task.name}, {_way(task)}" for task in scored)
        low, high = (tuple(getattr(task.accuracy, end) for task in scored) for end in ("low", "high"))
        accuracy = tuple(task.accuracy.estimate for task in scored)
        majority = tuple(task.majority for task in scored)
        labels = ("Accuracy", "task", "share of items", names)
        series.append(Series(*labels, accuracy, kind="bar", name="accuracy", low=low, high=high))
        series.append(Series(*labels, majority, kind="bar", name="most frequent answer"))
    if found := [domain for domain in evaluation.domains if math.isfinite(domain.bits_per_byte.estimate)][:MAX_ROWS]:
        places = tuple(domain.domain for domain in found)
        rates = [domain.bits_per_byte for domain in found]
        values, low, high = (tuple(getattr(rate, name) for rate in rates) for name in ("estimate", "low", "high"))
        series.append(Series("Bits a byte", "domain", "bits a byte", places, values, kind="bar", low=low, high=high))
    return tuple(series)


def _samples(tasks: tuple[TaskResult, ...]) -> tuple[Sample, ...]:
    """A few answers, the first of each pass."""
    samples = []
    for task in tasks:
        for answer in task.answers[:1]:
            item = answer.item
            lines = [f"Question: {item.question}"]
            lines += [f"Rationale: {answer.scores.rationale}"] if answer.scores.rationale else []
            lines += [f"Answer: {item.options[answer.predicted]}", f"Right: {item.options[item.answer]}"]
            samples.append(Sample(f"{task.name}, {_way(task)}: {item.id}", "\n".join(lines)))
    return tuple(samples[:MAX_SAMPLES])


def _way(task: TaskResult) -> str:
    """How it was asked: "0-shot", "5-shot, chain of thought"."""
    return f"{task.shots}-shot" + (", chain of thought" if task.chain_of_thought else "")


def _value(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _figure(value: float) -> str:
    return "?" if not math.isfinite(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
