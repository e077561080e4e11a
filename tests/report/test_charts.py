from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from biollm.report.charts import MAX_POINTS, chart, thin, ticks
from biollm.report.markup import escape, number, seconds, tag
from biollm.results import Series


def drawn(*series: Series) -> ElementTree.Element:
    return ElementTree.fromstring(chart(series))


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 12000), (-3.2, 7.9), (1e-9, 2e-9), (5, 5), (0, 0), (1e12, 1e12 + 5), (0.1, 1e6)]
)
def test_ticks_cover_the_range_in_round_steps(low: float, high: float) -> None:
    values = ticks(low, high)
    assert values[0] <= low
    assert values[-1] >= high
    assert 2 <= len(values) <= 9
    assert values == sorted(set(values))


def test_lines_stay_inside_the_picture() -> None:
    root = drawn(
        Series("Loss", "step", "nats", tuple(range(50)), tuple(5 - s / 10 for s in range(50)), name="train"),
        Series("Loss", "step", "nats", (0, 49), (7.5, -2.0), name="validation"),
    )
    lines = root.findall(".//polyline")
    assert [line.get("class") for line in lines] == ["line c0", "line c1"]
    for line in lines:
        for x, y in (pair.split(",") for pair in (line.get("points") or "").split()):
            assert 0 <= float(x) <= 720
            assert 0 <= float(y) <= 280
    legend = root.find("div")
    assert legend is not None
    assert "".join(legend.itertext()) == "trainvalidation"


def test_many_points_are_thinned_but_no_spike_is_lost() -> None:
    y = [1.0] * 100_000
    y[54_321] = 9.0
    y[12_345] = -9.0
    points = thin([float(i) for i in range(len(y))], y)
    assert len(points) <= MAX_POINTS + 3
    assert (54_321.0, 9.0) in points
    assert (12_345.0, -9.0) in points
    assert points == sorted(points)
    assert points[-1][0] == 99_999


def test_bars_over_numbers_stand_and_say_their_count() -> None:
    root = drawn(Series("Sizes", "documents", "clusters", (1, 2, 3), (10.0, 5.0, 0.0), kind="bar"))
    bars = root.findall(".//rect")
    assert [bar.findtext("title") for bar in bars] == ["1: 10", "2: 5"]
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)


def test_counts_over_a_wide_range_are_drawn_logarithmically() -> None:
    root = drawn(Series("Sizes", "documents", "clusters", (1, 2, 3, 4), (90_000.0, 100.0, 10.0, 1.0), kind="bar"))
    assert "log scale" in "".join(root.itertext())
    assert len(root.findall(".//rect")) == 4


def test_bars_over_many_short_names_stand() -> None:
    names = tuple(f"≤ {2**power}" for power in range(8))
    root = drawn(Series("Lengths", "tokens", "documents", names, tuple(float(i) for i in range(8)), kind="bar"))
    assert [bar.findtext("title") for bar in root.iter("rect")] == [f"{n}: {i}" for i, n in enumerate(names) if i]


def test_bars_over_words_lie_and_their_widths_are_shares() -> None:
    root = drawn(Series("Reasons", "reason", "documents", ("a <b>", "c"), (40.0, 10.0), kind="bar"))
    widths = [
        float((re.search(r"width:([\d.]+)%", f.get("style") or "") or [0, 0])[1])
        for f in root.iter("span")
        if f.get("style")
    ]
    assert widths == [100.0, 25.0]
    assert "a <b>" in "".join(root.itertext())


@pytest.mark.parametrize("kind", ["line", "bar"])
@pytest.mark.parametrize(
    ("x", "y"),
    [((), ()), ((1,), (1.0,)), ((1, 2), (0.0, 0.0)), ((1, 2), (float("nan"), float("inf"))), (("a",), (0.0,))],
)
def test_little_or_nothing_to_draw(kind: str, x: tuple[int, ...], y: tuple[float, ...]) -> None:
    root = drawn(Series("t", "x", "y", x, y, kind=kind))  # type: ignore[arg-type]
    assert "nan" not in ElementTree.tostring(root, encoding="unicode").replace("name", "")


def test_markup_escapes_all_but_markup() -> None:
    assert tag("p", "a<b", tag("b", "&"), class_="x\"'") == '<p class="x&quot;&#x27;">a&lt;b<b>&amp;</b></p>'
    assert escape("a\x00b\x1b\udc80") == "a\ufffdb\ufffd\ufffd"


def test_numbers_and_durations() -> None:
    assert [number(v) for v in (None, True, 1234567, 0.123456, 1234.56, 3.0, float("nan"), "x")] == [
        "–",
        "yes",
        "1,234,567",
        "0.1235",
        "1,234.6",
        "3",
        "nan",
        "x",
    ]
    assert [seconds(s) for s in (0.123, 12.34, 185, 7800)] == ["0.12 s", "12.3 s", "3 min 5 s", "2 h 10 min"]


def whiskers(root: ElementTree.Element) -> list[tuple[float, float]]:
    """Where the whiskers of lying bars begin and end, in percent from the left."""
    styles = [span.get("style") or "" for span in root.iter("span") if span.get("class") == "whisker"]
    ends = (re.fullmatch(r"left:([\d.]+)%;right:([\d.]+)%", style) for style in styles)
    return [(float(end[1]), 100 - float(end[2])) for end in ends if end is not None]


def test_intervals_are_drawn_as_whiskers() -> None:
    names, y = ("before alignment", "after alignment"), (0.5, 0.2)
    root = drawn(Series("Harm", "lexicon", "share", names, y, kind="bar", low=(0.4, 0.1), high=(0.8, 0.3)))
    assert whiskers(root) == [pytest.approx((50.0, 100.0)), pytest.approx((12.5, 37.5))]
    root = drawn(Series("Harm", "lexicon", "share", (1, 2), y, kind="bar", low=(0.4, 0.1), high=(0.8, 0.3)))
    lines = [line for line in root.iter("line") if line.get("class") == "whisker"]
    assert len(lines) == 2
    assert all(float(line.get("y1") or 0) > float(line.get("y2") or 0) for line in lines)


def test_intervals_that_cannot_be_drawn_are_left_out() -> None:
    nan = float("nan")
    root = drawn(Series("t", "x", "y", ("a", "b"), (1.0, 2.0), kind="bar", low=(nan, 3.0), high=(1.0, 1.0)))
    assert whiskers(root) == []
