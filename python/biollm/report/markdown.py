"""Markdown from values: what is not markup of ours is escaped here. YAML scalars are written as JSON, which YAML is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from biollm.report.markup import number, printable
from biollm.results import Scalar, Table

MAX_ROWS: Final = 100
_MARKED: Final = re.compile(r"([\\`*_\[\]|~#<>])")


def escape(text: str) -> str:
    """A text as one line of Markdown that shows it as it is."""
    return _MARKED.sub(r"\\\1", " ".join(printable(text).split()))


def code(text: str) -> str:
    """A name, an option or a path, as it is."""
    return "`" + " ".join(printable(text).split()).replace("`", "'").replace("|", "¦") + "`"


def table(columns: Sequence[str], rows: Iterable[Sequence[Scalar]]) -> str:
    """A table; cells that are texts are escaped unless they are code already."""
    shown = list(rows)
    lines = ["| " + " | ".join(map(escape, columns)) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in shown[:MAX_ROWS]]
    if len(shown) > MAX_ROWS:
        lines += ["", f"{len(shown) - MAX_ROWS:,} more rows are not shown."]
    return "\n".join(lines)


def titled(values: Table) -> str:
    """A table of a summary, its title above it."""
    return f"**{escape(values.title)}**\n\n{table(values.columns, values.rows)}"


def yaml(values: Mapping[str, object]) -> str:
    """A mapping as YAML, one key a line; values that are lists or objects in flow style."""
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


def _cell(value: Scalar) -> str:
    if isinstance(value, str):
        return value if re.fullmatch(r"`[^`|]*`", value) else escape(value)
    return number(value)
