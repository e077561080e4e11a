"""HTML from values: everything that is not markup of ours is escaped here, and nowhere else."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from biollm.results import Scalar, Table

MAX_ROWS: Final = 200
LONG_FACT: Final = 24
MAX_TEXT: Final = 20_000
# Bytes that no HTML document may hold, and marks that would reorder the text around them.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """A value as HTML text; what may not stand in HTML becomes U+FFFD."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(printable(str(value)), quote=True))


def printable(text: str) -> str:
    """A text without what may not stand in HTML nor on a terminal: each such character becomes U+FFFD.

    Args:
        text: from anywhere.
    """
    return _UNPRINTABLE.sub("\ufffd", text)


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element. `class_` stands for `class`; an underscore in an attribute's name for a hyphen."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Parts one after another, each escaped unless it is markup."""
    return Markup("".join(escape(part) for part in parts))


def number(value: Scalar) -> str:
    """A scalar for people: thousands separated, four significant digits, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if value == int(value) and abs(value) < 1e15:
            return f"{value:,.0f}"
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return value


def seconds(value: float) -> str:
    """A duration: 0.42 s, 12.3 s, 3 min 5 s, 2 h 10 min."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{int(value) // 3600} h {int(value) % 3600 // 60} min"


def size(num_bytes: float) -> str:
    """An amount of bytes, in powers of 1,000: 512 B, 12.3 kB, 1.24 GB."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB" if value < 1000 else f"{value:,.0f} TB"


def words(name: str) -> str:
    """A fact's name for people: without underscores."""
    return name.replace("_", " ")


def document(title: str, body: Sequence[Markup]) -> str:
    """A page that needs nothing beside itself: no script, nothing to load, the style sheet inside."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    head = join(
        [
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<meta name="generator" content="biollm">'),
            tag("title", f"{title} – biollm"),
            tag("style", Markup(style)),
        ]
    )
    lines = "\n".join(part for part in body if part)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{lines}\n</body></html>\n'


def chip(text: str, kind: str) -> Markup:
    """A word in a frame, coloured by its kind: "good", "bad" or "wait"."""
    return tag("span", text, class_=f"chip {kind}") if text else Markup()


def fold(label: str, *content: object) -> Markup:
    """Content folded away below its label; nothing where there is no content."""
    inside = join(content)
    return tag("details", tag("summary", label), inside) if inside else Markup()


def note(text: object) -> Markup:
    """A small remark."""
    return tag("p", text, class_="note")


def facts(values: Mapping[str, Scalar]) -> Markup:
    """Names and values as a definition list."""
    if not values:
        return Markup()
    pairs = []
    for name, value in values.items():
        wide = {"class_": "long"} if isinstance(value, str) and len(value) > LONG_FACT else {}
        pairs.append(tag("div", tag("dt", words(name)), tag("dd", number(value)), **wide))
    return tag("dl", *pairs, class_="facts")


def table(values: Table) -> Markup:
    """A table that scrolls sideways where the screen is narrow; numbers stand to the right."""
    shown = values.rows[:MAX_ROWS]
    numeric = [
        bool(shown) and all(isinstance(row[i], (int, float)) or row[i] is None for row in shown)
        for i in range(len(values.columns))
    ]
    classes = ["number" if n else "text" for n in numeric]
    head = tag("tr", *(tag("th", c, class_=k, scope="col") for c, k in zip(values.columns, classes, strict=True)))
    rows = (tag("tr", *(tag("td", number(c), class_=k) for c, k in zip(row, classes, strict=False))) for row in shown)
    left_out = len(values.rows) - len(shown)
    rest = note(f"{left_out:,} more rows are not shown.") if left_out else Markup()
    grid = tag("table", tag("thead", head), tag("tbody", *rows))
    title = tag("h4", values.title) if values.title else Markup()
    return join([title, tag("div", grid, class_="wide"), rest])


def sample(title: str, text: str) -> Markup:
    """A piece of text as it is, line breaks kept; cut where it is very long."""
    shown = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + f" … ({len(text) - MAX_TEXT:,} more characters)"
    return tag("figure", tag("figcaption", title), tag("pre", shown), class_="sample")
