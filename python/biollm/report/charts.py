"""Charts as inline SVG: lines, and bars over bins or categories. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

from biollm.report.markup import Markup, escape, join, number, tag, words
from biollm.results import Scalar, Series

WIDTH: Final = 720
HEIGHT: Final = 280
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46
MAX_POINTS: Final = 800
MAX_BARS: Final = 60
COLOURS: Final = 6  # classes c0 … c5 of the style sheet
DASHES: Final = 4  # classes d0 … d3: whole, then broken lines
LARGEST: Final = 1e300  # what is larger is not drawn: differences of two such numbers would not be finite


@dataclass(frozen=True)
class Look:
    """How a line is drawn, each counted from 0 and taken modulo what the style sheet has."""

    colour: int
    dash: int = 0

    @property
    def classes(self) -> str:
        """Of the style sheet."""
        broken = f" d{self.dash % DASHES}" if self.dash % DASHES else ""
        return f"line c{self.colour % COLOURS}{broken}"


def chart(series: Sequence[Series], looks: Sequence[Look] = (), *, from_zero: bool = False) -> Markup:
    """One figure of the series of one title: lines over numbers, upright bars over bins, lying bars over categories.

    Args:
        series: at least one.
        looks: of lines, one a series; without them each line has a colour of its own.
        from_zero: whether the axis of lines begins at 0 at the latest.
    """
    first = series[0]
    if first.kind == "line":
        drawing = _lines(series, looks or [Look(index) for index in range(len(series))], from_zero)
    elif _stands(series):
        drawing = _bars(series)
    else:
        drawing = _categories(series)
    if not drawing:
        drawing = tag("p", "Nothing to draw.", class_="note")
    return tag("figure", tag("figcaption", words(first.title)), _legend(series, looks), drawing, class_="chart")


def shares(parts: Sequence[tuple[str, float, str]]) -> Markup:
    """Named amounts as lying bars, each with its label: (name, amount, label)."""
    return _lying([(name, [_Bar(amount, label)]) for name, amount, label in parts])


def paired_shares(parts: Sequence[tuple[str, Sequence[tuple[float, str]]]], names: Sequence[str]) -> Markup:
    """Several amounts a name as lying bars below each other: (name, [(amount, label), …]), one amount a legend name."""
    return join([_keys(names), _lying([(name, [_Bar(*bar) for bar in bars]) for name, bars in parts])])


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values from at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten."""
    # Below this the steps would be lost in the rounding of the numbers themselves.
    high = max(high, low + max(abs(low) * 1e-12, 1e-200)) if high > low else low + max(abs(low) * 1e-9, 1.0)
    power = math.floor(math.log10((high - low) / count))
    step = 10.0**power
    step *= next((m for m in (1, 2, 5) if (high - low) / (step * m) <= count), 10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, max(12, 2 - power)) for i in range(first, last + 1)]


def thin(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """At most about `MAX_POINTS` points: of each stretch the lowest and the highest, so that no spike is lost."""
    points = list(zip(x, y, strict=True))
    if len(points) <= MAX_POINTS:
        return points
    size = math.ceil(len(points) / (MAX_POINTS // 2))
    kept: list[tuple[float, float]] = []
    for begin in range(0, len(points), size):
        stretch = points[begin : begin + size]
        low, high = min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])
        kept.extend(sorted({low, high}))
    return [*kept, points[-1]] if kept[-1] != points[-1] else kept


def _lines(series: Sequence[Series], looks: Sequence[Look], from_zero: bool) -> Markup:
    lines = []
    for s in series:
        pairs = zip(s.x, s.y, strict=True)
        points = [(float(a), float(b)) for a, b in pairs if _is_number(a) and _is_number(b)]
        lines.append(thin([a for a, _ in points], [b for _, b in points]))
    every = [point for line in lines for point in line]
    if not every:
        return Markup()
    x_ticks = ticks(min(x for x, _ in every), max(x for x, _ in every), 6)
    lowest = min(y for _, y in every)
    y_ticks = ticks(min(lowest, 0.0) if from_zero else lowest, max(y for _, y in every))
    x_scale, y_scale = _Scale(x_ticks, LEFT, WIDTH - RIGHT), _Scale(y_ticks, HEIGHT - BOTTOM, TOP)
    parts = [_grid(y_ticks, y_scale), *(_x_label(x_scale(t), _tick(t)) for t in x_ticks)]
    for line, look in zip(lines, looks, strict=True):
        if not line:
            continue
        path = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in line)
        parts.append(tag("polyline", points=path, class_=look.classes))
        if len(line) <= 40:
            parts.extend(_dot(x_scale(x), y_scale(y), look, f"{_tick(x)}: {number(y)}") for x, y in line)
    return _svg([*parts, *_axis_labels(series[0])], series[0].title)


def _bars(series: Sequence[Series]) -> Markup:
    """Upright bars, beside each other where there are several series; bins of numbers stand in order."""
    bins = list(dict.fromkeys(x for s in series for x in s.x))
    if all(_is_number(x) for x in bins):
        bins.sort(key=lambda x: float(x or 0))
    heights = [{x: (y, between) for x, y, between in _places(s)} for s in series]
    values = [y for h in heights for y, _ in h.values() if _is_number(y)]
    if not values:
        return Markup()
    logarithmic = _wants_logarithm(values)
    top = max([*values, 0.0, *(between[1] for h in heights for _, between in h.values() if between is not None)])
    y_ticks = [10.0**e for e in range(math.ceil(math.log10(top)) + 1)] if logarithmic else ticks(0.0, top)
    y_scale = _Scale(y_ticks, HEIGHT - BOTTOM, TOP, logarithmic=logarithmic)
    slot = (WIDTH - LEFT - RIGHT) / len(bins)
    width = max(1.0, slot * 0.84 / len(series))
    parts = [_grid(y_ticks, y_scale)]
    every = max(1, math.ceil(len(bins) / 8))  # so that labels do not touch on a phone
    for place, x in enumerate(bins):
        begin = LEFT + place * slot + (slot - width * len(series)) / 2
        for index, of in enumerate(heights):
            y, between = of.get(x, (0.0, None))
            if _is_number(y) and y > 0:
                # On a logarithmic scale a bar of one stands a little above the floor of one.
                above = min(y_scale(max(y, 1.0)), HEIGHT - BOTTOM - 2.0) if logarithmic else y_scale(y)
                parts.append(_bar(begin + index * width, above, width, f"{_bin(x)}: {number(y)}", index))
            if between is not None and not logarithmic:
                middle = f"{begin + (index + 0.5) * width:.1f}"
                low, high = (f"{y_scale(end):.1f}" for end in between)
                parts.append(tag("line", x1=middle, x2=middle, y1=low, y2=high, class_="whisker"))
        if place % every == 0:
            parts.append(_x_label(LEFT + (place + 0.5) * slot, _bin(x)))
    y_label = f"{series[0].y_label} (log scale)" if logarithmic else series[0].y_label
    return _svg([*parts, *_axis_labels(series[0], y_label)], series[0].title)


def _bar(x: float, y: float, width: float, label: str, index: int) -> Markup:
    height = f"{HEIGHT - BOTTOM - y:.1f}"
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": height}
    return tag("rect", tag("title", label), **place, class_=f"bar c{index % COLOURS}")


def _stands(series: Sequence[Series]) -> bool:
    """Whether bars stand: over numbers, and over many short names such as "≤ 64"."""
    bins = {x for s in series for x in s.x}
    if all(_is_number(x) for x in bins):
        return True
    return len(bins) >= 6 and all(len(_text(x)) <= 7 for x in bins)


@dataclass(frozen=True)
class _Bar:
    """One bar: its amount, what stands beside it, and the interval of the amount where there is one."""

    amount: float
    label: str
    interval: tuple[float, float] | None = None


def _categories(series: Sequence[Series]) -> Markup:
    names = list(dict.fromkeys(_text(x) for s in series for x in s.x))
    bars = [{_text(x): _Bar(y, number(y), between) for x, y, between in _places(s)} for s in series]
    rows = [(name, [of.get(name, _Bar(0.0, "0")) for of in bars]) for name in names]
    note = tag("p", f"{len(rows) - MAX_BARS:,} more are not shown.", class_="note") if len(rows) > MAX_BARS else ""
    whiskers = tag("p", "Whiskers are intervals.", class_="note") if any(s.low for s in series) else ""
    return join([_lying(rows[:MAX_BARS]), whiskers, note])


def _places(series: Series) -> list[tuple[Scalar, float, tuple[float, float] | None]]:
    """Each place of a series with its value and, where it has one that can be drawn, its interval."""
    ends: list[tuple[float, float] | None] = [None] * len(series.x)
    for place, (low, high) in enumerate(zip(series.low, series.high, strict=False)):
        if place < len(ends) and _is_number(low) and _is_number(high) and low <= high:
            ends[place] = (low, high)
    return list(zip(series.x, series.y, ends, strict=True))


def _lying(rows: Sequence[tuple[str, Sequence[_Bar]]]) -> Markup:
    """Lying bars as a table, so that names wrap and a phone reads them; widths are shares of the largest amount."""
    ends = (end for _, bars in rows for bar in bars for end in (bar.amount, *(bar.interval or ())))
    largest = max((end for end in ends if _is_number(end)), default=0.0)
    written = []
    for name, bars in rows:
        cells = []
        for index, bar in enumerate(bars):
            amount = bar.amount if largest > 0 and _is_number(bar.amount) else 0.0
            share = 100 * amount / largest if amount > 0 else 0.0
            colour = f"fill c{index % COLOURS}"
            fill = tag("span", class_=colour, style=f"width:{max(share, 0.3):.1f}%") if share else ""
            track = tag("span", fill, _whisker(bar.interval, largest), class_="track")
            cells.append(tag("div", track, tag("span", bar.label, class_="amount")))
        written.append(tag("tr", tag("th", name, scope="row"), tag("td", *cells)))
    return tag("table", tag("tbody", *written), class_="bars") if written else Markup()


def _whisker(interval: tuple[float, float] | None, largest: float) -> Markup:
    if interval is None or largest <= 0:
        return Markup()
    low, high = (100 * max(end, 0.0) / largest for end in interval)
    title = f"{number(interval[0])} to {number(interval[1])}"
    return tag("span", class_="whisker", title=title, style=f"left:{low:.1f}%;right:{100 - high:.1f}%")


class _Scale:
    """A linear or logarithmic map from the range of the ticks to pixels."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, logarithmic: bool = False) -> None:
        self._map = math.log10 if logarithmic else float
        self._low = self._map(values[0])
        self._span = (self._map(values[-1]) - self._low) or 1.0
        self._begin, self._length = begin, end - begin

    def __call__(self, value: float) -> float:
        return self._begin + (self._map(value) - self._low) / self._span * self._length


def _wants_logarithm(values: Sequence[float]) -> bool:
    """Counts from 1 upwards of which the largest would flatten the others: cluster sizes."""
    positive = sorted(v for v in values if v > 0)
    return len(positive) >= 3 and positive[0] >= 1 and positive[-1] >= 100 * positive[len(positive) // 2]


def _svg(parts: Sequence[object], title: str) -> Markup:
    view = f"0 0 {WIDTH} {HEIGHT}"
    # viewBox is written in mixed case, which keyword arguments keep.
    return tag("svg", tag("title", title), *parts, viewBox=view, role="img")


def _grid(values: Sequence[float], scale: _Scale) -> Markup:
    lines = []
    for value in values:
        y = f"{scale(value):.1f}"
        lines.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        lines.append(tag("text", _short_tick(value), x=LEFT - 8, y=y, class_="tick y"))
    return join(lines)


def _x_label(x: float, text: str) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=HEIGHT - BOTTOM + 16, class_="tick x")


def _axis_labels(series: Series, y_label: str | None = None) -> list[Markup]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f"rotate(-90 13 {middle:.0f})"
    return [
        tag("text", words(series.x_label), x=f"{(LEFT + WIDTH - RIGHT) / 2:.0f}", y=HEIGHT - 8, class_="label"),
        tag("text", words(y_label or series.y_label), x=13, y=f"{middle:.0f}", transform=turned, class_="label"),
    ]


def _dot(x: float, y: float, look: Look, label: str) -> Markup:
    colour = f"dot c{look.colour % COLOURS}"
    return tag("circle", tag("title", label), cx=f"{x:.1f}", cy=f"{y:.1f}", r=2.6, class_=colour)


def _legend(series: Sequence[Series], looks: Sequence[Look]) -> Markup:
    if len(series) == 1:
        return Markup()
    return _keys([s.name or s.y_label for s in series], looks if series[0].kind == "line" else ())


def _keys(names: Sequence[str], looks: Sequence[Look] = ()) -> Markup:
    """Each name beside its colour, or beside a piece of its line."""
    keys = [tag("i", class_=f"key c{index % COLOURS}") for index in range(len(names))]
    if looks:
        lines = (tag("line", x1=0, x2=34, y1=5, y2=5, class_=look.classes) for look in looks)
        keys = [tag("svg", line, viewBox="0 0 34 10", aria_hidden="true") for line in lines]
    return tag("div", *(tag("span", key, escape(n)) for key, n in zip(keys, names, strict=True)), class_="legend")


def _tick(value: float) -> str:
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def _short_tick(value: float) -> str:
    """A tick that fits beside the axis: 20k, 1.5M."""
    for least, size, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e3, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:g}{unit}"
    return _tick(value)


def _bin(value: Scalar) -> str:
    return _tick(float(value)) if _is_number(value) else _text(value)


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else number(value)


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    """Whether it can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
