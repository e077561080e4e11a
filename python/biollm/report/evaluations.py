"""Evaluations of one run beside each other: the same tasks and domains, before and after what lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from biollm.report.charts import chart
from biollm.report.folders import StageView
from biollm.report.markup import Markup, join, note, number, table, tag
from biollm.results import Scalar, Series, Summary, Table

_DRAWN: Final = (("Accuracy", "accuracy"), ("Bits a byte", ""))
"""Title and name of the series that are drawn beside each other."""
_TABLES: Final = (
    ("Questions", ("task", "asked"), "accuracy"),
    ("Perplexity by domain", ("domain",), "perplexity"),
)
"""Beginning of a table's title, the columns that name a row, and that of the figure; its interval stands behind."""

_Row = tuple[Scalar, Scalar]
"""A figure, and its interval in words."""


def evaluations_section(stages: Sequence[StageView]) -> Markup:
    """What several evaluations measured, figure by figure; nothing where no two share one.

    Args:
        stages: of the run.
    """
    measured = [(stage, stage.summary) for stage in stages if stage.verb == "evaluate" and stage.summary is not None]
    if len(measured) < 2:
        return Markup()
    names = [_name(stage) for stage, _ in measured]
    found = [_figures(summary) for _, summary in measured]
    shared = [key for key in dict.fromkeys(key for of in found for key in of) if sum(key in of for of in found) > 1]
    if not shared:
        return Markup()
    figures = {key: [of.get(key) for of in found] for key in shared}
    rows = tuple((key, *map(_words, row), _change(row)) for key, row in figures.items())
    return tag(
        "section",
        tag("h2", "Evaluations compared"),
        join(_charts(names, [summary for _, summary in measured])),
        table(Table("Figures and their intervals", ("", *names, "last less first"), rows)),
        note("Intervals are those of each evaluation by itself; the items of both are the same."),
        id="evaluations",
    )


def _name(stage: StageView) -> str:
    """The evaluation's name, and what it measured."""
    inputs = stage.manifest.inputs if stage.manifest is not None else ()
    model = inputs[0].name.rstrip("/").rpartition("/")[2] if inputs else ""
    return f"{stage.name} ({model})" if model else stage.name


def _charts(names: Sequence[str], summaries: Sequence[Summary]) -> list[Markup]:
    charts = []
    for title, name in _DRAWN:
        drawn = [
            replace(series, name=of)
            for of, summary in zip(names, summaries, strict=True)
            for series in summary.series
            if (series.title, series.name) == (title, name)
        ]
        if len(drawn) > 1 and _share_a_place(drawn):
            charts.append(chart(drawn))
    return charts


def _share_a_place(drawn: Sequence[Series]) -> bool:
    places = [set(series.x) for series in drawn]
    return any(a & b for i, a in enumerate(places) for b in places[i + 1 :])


def _figures(summary: Summary) -> Mapping[str, _Row]:
    """Each figure of the tables by what it is of."""
    found: dict[str, _Row] = {}
    for begin, keys, figure in _TABLES:
        for shown in summary.tables:
            if not shown.title.startswith(begin) or not {*keys, figure} <= set(shown.columns):
                continue
            at = shown.columns.index(figure)
            for row in shown.rows:
                name = ", ".join(str(row[shown.columns.index(key)]) for key in keys)
                found[f"{figure}, {name}"] = (row[at], row[at + 1] if at + 1 < len(row) else None)
    return found


def _words(figure: _Row | None) -> str:
    return "–" if figure is None else f"{number(figure[0])} {figure[1] or ''}".strip()


def _change(figures: Sequence[_Row | None]) -> Scalar:
    there = [figure[0] for figure in figures if figure is not None]
    first, last = there[0], there[-1]
    if isinstance(first, bool) or isinstance(last, bool):
        return None
    return last - first if isinstance(first, int | float) and isinstance(last, int | float) else None
