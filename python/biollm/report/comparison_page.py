"""The page that holds two runs, or two stages, against each other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from biollm.atomic import write_bytes
from biollm.report.charts import Look, chart, paired_shares
from biollm.report.comparison import Comparison, Difference, StagePair, data_files, hold_against, side_names
from biollm.report.folders import RunView, StageView, read_run
from biollm.report.headline import MODEL, PREDICTORS, bits_per_byte
from biollm.report.markup import Markup, chip, document, escape, fold, join, note, number, seconds, size, tag, words
from biollm.report.sections import machine_words, resumption_words, status_chip
from biollm.report.verdict import ONE_RUN, verdict
from biollm.results import Scalar, Series

SIDES: Final = ("A", "B")
MAX_NAME: Final = 120
_UNSAFE: Final = re.compile(r"[^\w.+-]+")


def compare(
    a: str | os.PathLike[str], b: str | os.PathLike[str], output: str | os.PathLike[str] | None = None
) -> Comparison:
    """Holds two runs, or two stages, against each other, and writes a page about them.

    Stages are matched by name, then by verb. What of a folder is missing or broken is said in the page.

    Args:
        a: the folder of a run, finished or not, or of one stage.
        b: another.
        output: file to write; `B/compare-A.html`, named after A's folder, where it is not given.

    Returns:
        What differs, with the verdict in words and the page's path.

    Raises:
        InputError: a folder holds neither a run nor a stage.
        FileError: something cannot be read or written.
        FormatError: a `run.json` is not one of ours, and nothing else is there to show.
    """
    found = hold_against(read_run(a), read_run(b))
    found = replace(found, verdict=verdict(found))
    target = Path(output) if output is not None else _default_path(found)
    write_bytes(target, _page(found).encode("utf-8"))
    return replace(found, path=target)


def _default_path(comparison: Comparison) -> Path:
    name = _UNSAFE.sub("-", side_names(comparison.a, comparison.b)[0]).strip("-.")[:MAX_NAME]
    return comparison.b.folder / f"compare-{name or 'A'}.html"


def _page(comparison: Comparison) -> str:
    names = side_names(comparison.a, comparison.b)
    links = [(f"pair-{i}", pair.name) for i, pair in enumerate(comparison.pairs)]
    runs = (comparison.a, comparison.b)
    body = [
        tag(
            "header",
            tag("h1", f"{names[0]} and {names[1]}"),
            tag("dl", *(_side(*item) for item in zip(SIDES, names, runs, strict=True)), class_="sides"),
        ),
        tag(
            "div",
            tag("h2", "Verdict"),
            tag("ul", *(tag("li", sentence) for sentence in comparison.verdict)),
            note(ONE_RUN),
            class_="verdict",
        ),
        tag("nav", *(tag("a", label, href=f"#{anchor}") for anchor, label in links)) if links else Markup(),
        *(
            tag("p", f"{side}: {problem}", class_="error")
            for side, run in zip(SIDES, runs, strict=True)
            for problem in run.problems
        ),
        _overview(comparison),
        *(_pair_section(pair, f"pair-{i}") for i, pair in enumerate(comparison.pairs)),
        _recipe(comparison),
    ]
    return document(f"{names[0]} and {names[1]}", body)


def _side(side: str, name: str, run: RunView) -> Markup:
    key = tag("i", class_=f"key c{SIDES.index(side)}")
    machine = machine_words(run.record)
    about = tag("dd", tag("b", name), " ", status_chip(run.status), tag("div", machine, class_="note"))
    return tag("div", tag("dt", key, side), about)


def _overview(comparison: Comparison) -> Markup:
    """A row a stage: how it ended on both sides, how long it took, and whether it made the same."""
    columns = ("Stage", "Files", "Wall A", "Wall B", "B / A", "Peak A", "Peak B")
    memory = any(s.peak_rss_bytes for run in (comparison.a, comparison.b) for s in run.stages)
    shown = len(columns) if memory else 5
    classes = ("", "", *("number",) * 5)
    head = tag("tr", *(tag("th", c, scope="col", class_=k) for c, k in zip(columns[:shown], classes, strict=False)))
    rows = []
    for index, pair in enumerate(comparison.pairs):
        name = join([tag("a", pair.name, href=f"#pair-{index}")])
        wall = Difference("", pair.a.wall_s, pair.b.wall_s)
        ratio = "–" if wall.ratio is None else f"{wall.ratio:.2f}"
        cells = [name, _files_chip(pair), _seconds(wall.a), _seconds(wall.b), ratio, *_peaks(pair.a, pair.b)]
        rows.append(_row(cells[:shown], classes))
    for side, stages in zip(SIDES, (comparison.only_a, comparison.only_b), strict=True):
        for stage in stages:
            walls = [_seconds(stage.wall_s), "–"] if side == "A" else ["–", _seconds(stage.wall_s)]
            sides = (stage, None) if side == "A" else (None, stage)
            rows.append(
                _row([stage.name, chip(f"only in {side}", "wait"), *walls, "–", *_peaks(*sides)][:shown], classes)
            )
    grid = tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="overview"), class_="wide")
    timed = [
        (pair.name, [(s.wall_s or 0.0, _seconds(s.wall_s)) for s in (pair.a, pair.b)])
        for pair in comparison.pairs
        if pair.a.wall_s is not None or pair.b.wall_s is not None
    ]
    figure = tag("figure", tag("figcaption", "Seconds per stage"), paired_shares(timed, SIDES), class_="chart")
    return tag("section", tag("h2", "Stages"), grid, figure if timed else "")


def _row(cells: Sequence[object], classes: Sequence[str]) -> Markup:
    first = tag("th", cells[0], scope="row")
    return tag("tr", first, *(tag("td", c, class_=k) for c, k in zip(cells[1:], classes[1:], strict=False)))


def _files_chip(pair: StagePair) -> Markup:
    if pair.files is None:
        ended = [s.status for s in (pair.a, pair.b) if s.manifest is None]
        return chip(" / ".join(dict.fromkeys(ended)) or "not known", "wait")
    return chip("the same", "good") if pair.files else chip("differ", "wait")


def _peaks(*stages: StageView | None) -> list[str]:
    return [size(s.peak_rss_bytes) if s is not None and s.peak_rss_bytes else "–" for s in stages]


def _seconds(value: Scalar) -> str:
    return seconds(value) if isinstance(value, float) else "–"


def _pair_section(pair: StagePair, anchor: str) -> Markup:
    a, b = pair.a, pair.b
    verb = "" if a.verb == pair.name else tag("small", f"{a.verb}, matched by {pair.matched_by}")
    parts: list[object] = [tag("h2", pair.name, verb, " ", _files_chip(pair))]
    for side, stage in zip(SIDES, (a, b), strict=True):
        if stage.problem:
            parts.append(tag("p", f"{side}: {stage.problem}", class_="error"))
        elif stage.manifest is None:
            parts.append(note(f"{side}: {stage.status}, so there is no result to compare."))
        if stage.status == "skipped" and stage.manifest is not None:
            parts.append(note(f"{side}: not part of its run; what lies in the folder is of an earlier one."))
        parts += [note(f"{side} was cut off, and {resumption_words(item)}.") for item in stage.resumptions]
    parts += [_predictions(pair), _curves(pair)]
    counts = [d for d in pair.counts if not d.same and d not in pair.options]
    told = {(d.a, d.b) for d in counts} | {(d.a, d.b) for d in pair.options}
    rates = {d.name for d in pair.rates}
    facts = [d for d in pair.facts if not d.same and d.name not in rates and (d.a, d.b) not in told]
    groups = (
        ("Options that differ", pair.options, _option),
        ("Counts that differ", counts, _value),
        ("Facts that differ", facts, _value),
        ("Time and memory", pair.timings, _timing),
        ("Rates", pair.rates, _rate),
        ("Packages that differ", pair.versions, _option),
    )
    parts += [_grid([group for group in groups if group[1]]), _inputs(pair)]
    if pair.files_differ:
        parts.append(fold(_counted(len(pair.files_differ), "file differs", "files differ"), _list(pair.files_differ)))
    same = [f"{words(d.name)} {number(d.a)}" for d in dict.fromkeys([*pair.counts, *pair.facts]) if d.same]
    parts += [fold(_counted(len(same), "value is the same", "values are the same"), _list(same)), _charts(pair)]
    return tag("section", *parts, id=anchor)


def _counted(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


@dataclass(frozen=True)
class _Kind:
    """How values of a group are written: each by itself, their change, and how they stand to each other."""

    value: Callable[[Difference, Scalar], str]
    ratio: bool = False
    change: bool = True


def _grid(groups: Sequence[tuple[str, Sequence[Difference], _Kind]]) -> Markup:
    """One table of all values side by side, so that the columns of all groups stand below each other."""
    if not groups:
        return Markup()
    columns = (("", ""), *((side, "number") for side in SIDES), ("change", "number"), ("", "number"))
    head = tag("tr", *(tag("th", c, scope="col", class_=k) for c, k in columns))
    bodies = []
    for title, differences, kind in groups:
        rows = [tag("tr", tag("th", title, scope="rowgroup", colspan=len(columns)), class_="group")]
        for d in differences:
            values = (tag("td", kind.value(d, value), class_="number") for value in (d.a, d.b))
            more = (tag("td", value, class_="number") for value in _change(d, kind))
            name = words(d.name) if kind.change else d.name
            rows.append(tag("tr", tag("th", name, scope="row"), *values, *more))
        bodies.append(tag("tbody", *rows))
    return tag("div", tag("table", tag("thead", head), *bodies, class_="pairs"), class_="wide")


def _change(d: Difference, kind: _Kind) -> tuple[str, str]:
    """The change with its sign, and the change in percent or B by A."""
    if d.change is None or not kind.change:
        return "", ""
    whole = isinstance(d.a, int) and isinstance(d.b, int)
    size_of = int(abs(d.change)) if whole else abs(d.change)
    sign = "+" if d.change > 0 else "−" if d.change < 0 else "±"
    change = f"{sign}{kind.value(d, size_of)}"
    if kind.ratio:
        return change, "" if d.ratio is None else f"× {d.ratio:.2f}" if d.ratio >= 0.1 else f"× {d.ratio:.2g}"
    if d.relative is None or abs(d.relative) > 10:
        return change, "" if d.ratio is None else f"× {d.ratio:.3g}"
    return change, f"{100 * d.relative:+.1f} %".replace("-", "−")


def _plain(d: Difference, value: Scalar) -> str:
    """An option or a version, as it is given."""
    return "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _figure(d: Difference, value: Scalar) -> str:
    return number(value)


def _amount(d: Difference, value: Scalar) -> str:
    if not isinstance(value, int | float):
        return "–"
    return size(value) if "bytes" in d.name else seconds(value)


def _speed(d: Difference, value: Scalar) -> str:
    if not isinstance(value, int | float):
        return "–"
    return size(value) if "bytes" in d.name else number(round(value) if value >= 100 else value)


_option = _Kind(_plain, change=False)
_value = _Kind(_figure)
_timing = _Kind(_amount, ratio=True)
_rate = _Kind(_speed, ratio=True)


def _inputs(pair: StagePair) -> Markup:
    if not pair.inputs:
        return Markup()
    items = []
    for change in pair.inputs:
        items.append(f"{change.name}: {change.how}{f' ({change.note})' if change.note else ''}")
    same = f"{pair.inputs_same} more are the same." if pair.inputs_same else ""
    return join([tag("h4", "Inputs that differ, by content"), _list(items), note(same) if same else ""])


def _predictions(pair: StagePair) -> Markup:
    """Bits per byte of the model, the bigram and the unigram of both sides."""
    rates = [bits_per_byte(side.summary.facts) if side.summary is not None else {} for side in (pair.a, pair.b)]
    if not any(MODEL in side for side in rates):
        return Markup()
    rows = [
        (label, [(side.get(name, 0.0), f"{side[name]:.3f}" if name in side else "–") for side in rates])
        for name, label in PREDICTORS
        if any(name in side for side in rates)
    ]
    title = tag("figcaption", "Bits per byte of validation text")
    return tag("figure", title, paired_shares(rows, SIDES), note("Fewer is better."), class_="chart")


def _curves(pair: StagePair) -> Markup:
    """Lines of both sides in one chart: the colour is the side, the stroke the curve. Equal curves are left out."""
    figures = []
    for title, (a, b) in _by_title(pair, "line").items():
        if a == b:
            continue
        names = list(dict.fromkeys(s.name for s in (*a, *b)))
        both = [(side, s) for side, group in enumerate((a, b)) for s in group]
        series = [replace(s, name=f"{SIDES[side]} {s.name}".strip()) for side, s in both]
        figures.append(chart(series, [Look(side, names.index(s.name)) for side, s in both]))
        if title == "Loss" and (remarks := _loss_remarks(pair)):
            figures.append(note(remarks))
    return join(figures)


def _loss_remarks(pair: StagePair) -> str:
    """What keeps the curves of both sides from being held against each other."""
    tokenizers = [data_files(side).get("tokenizer.json") for side in (pair.a, pair.b)]
    other = "" if tokenizers[0] == tokenizers[1] else "The tokenizers differ, so losses by token do not compare."
    return " ".join(part for part in (other, _tokens_a_step(pair)) if part)


def _tokens_a_step(pair: StagePair) -> str:
    sizes = []
    for stage in (pair.a, pair.b):
        counts: Mapping[str, float] = stage.manifest.counts if stage.manifest is not None else {}
        tokens, steps = counts.get("train_tokens", 0), counts.get("steps", 0)
        sizes.append(tokens / steps if steps else 0)
    if not all(sizes) or sizes[0] == sizes[1]:
        return ""
    return f"A step is {number(round(sizes[0]))} tokens in A and {number(round(sizes[1]))} in B."


def _charts(pair: StagePair) -> Markup:
    """Bars of both sides beside each other, folded away; equal ones are left out."""
    figures = []
    for a, b in _by_title(pair, "bar").values():
        if a != b:
            both = [(side, s) for side, group in zip(SIDES, (a, b), strict=True) for s in group]
            figures.append(chart([replace(s, name=f"{side} {s.name}".strip()) for side, s in both]))
    return fold(f"{len(figures)} chart{'s' if len(figures) > 1 else ''} more", *figures)


def _by_title(pair: StagePair, kind: str) -> dict[str, tuple[list[Series], list[Series]]]:
    found: dict[str, tuple[list[Series], list[Series]]] = {}
    for side, stage in enumerate((pair.a, pair.b)):
        for series in stage.summary.series if stage.summary is not None else ():
            if series.kind == kind:
                found.setdefault(series.title, ([], []))[side].append(series)
    return found


def _recipe(comparison: Comparison) -> Markup:
    parts: list[object] = []
    if comparison.recipe:
        parts.append(tag("div", *map(_diff_line, comparison.recipe), class_="diff"))
    elif comparison.a.record and comparison.b.record:
        parts.append(note("The recipes are the same."))
    for side, given in zip(SIDES, comparison.set, strict=True):
        if given:
            parts += [tag("h4", f"Set on the command line in {side}"), tag("pre", "\n".join(given))]
    return tag("section", tag("h2", "Recipe"), *parts, id="recipe") if parts else Markup()


def _diff_line(line: str) -> Markup:
    kind = {"-": "less", "+": "more", "@": "place"}.get(line[:1], "")
    return tag("div", line if line.strip() else Markup("&nbsp;"), class_=kind)


def _list(items: Iterable[str]) -> Markup:
    return tag("ul", *(tag("li", escape(item)) for item in items))
