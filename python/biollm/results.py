"""What results say of themselves: plain facts, tables, series and samples. `biollm.report` renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import os

    from biollm.manifest import Manifest

__all__ = ["Progress", "Result", "Sample", "Scalar", "Series", "Summary", "Table"]

Scalar = str | int | float | bool | None
"""What a cell of a table and a fact of a summary may hold."""


class Progress(Protocol):
    """Called now and then with the units done and, where known, the total; what it raises stops the work."""

    def __call__(self, done: int, total: int | None, /) -> None:
        """`done` of `total` units are done."""


@dataclass(frozen=True)
class Table:
    """A table of scalars: `title`, the names of the `columns`, and `rows`, each with one cell a column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True)
class Series:
    """`y` over `x`. `kind="bar"` for counts over categories or bins (`x` may then be text), else a line.

    `title` stands above the chart, `x_label` and `y_label` (with units) at its axes.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[Scalar, ...]
    y: tuple[float, ...]
    kind: Literal["line", "bar"] = "line"
    name: str = ""
    """Series of one title are drawn into one chart and told apart by name."""


@dataclass(frozen=True)
class Sample:
    """A piece of `text` worth showing, with a `title`: a removed document, a generated answer."""

    title: str
    text: str


@dataclass(frozen=True)
class Summary:
    """What one result says of itself; round-trips through JSON.

    Attributes:
        title: the verb, or what the section is called.
        facts: name → one number or word.
        tables: in the order they are shown.
        series: curves and bars; those of one title share a chart.
        samples: texts worth showing.
    """

    title: str
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    series: tuple[Series, ...] = ()
    samples: tuple[Sample, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and scalars."""
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "tables": [
                {"title": t.title, "columns": list(t.columns), "rows": [list(r) for r in t.rows]} for t in self.tables
            ],
            "series": [
                {
                    "title": s.title,
                    "x_label": s.x_label,
                    "y_label": s.y_label,
                    "x": list(s.x),
                    "y": list(s.y),
                    "kind": s.kind,
                    "name": s.name,
                }
                for s in self.series
            ],
            "samples": [{"title": s.title, "text": s.text} for s in self.samples],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Summary:
        """The summary of `data`, the inverse of `to_dict`."""
        return cls(
            title=data["title"],
            facts=dict(data["facts"]),
            tables=tuple(
                Table(t["title"], tuple(t["columns"]), tuple(tuple(r) for r in t["rows"])) for t in data["tables"]
            ),
            series=tuple(
                Series(s["title"], s["x_label"], s["y_label"], tuple(s["x"]), tuple(s["y"]), s["kind"], s["name"])
                for s in data["series"]
            ),
            samples=tuple(Sample(s["title"], s["text"]) for s in data["samples"]),
        )

    def __str__(self) -> str:
        lines = [self.title, *(f"  {key}: {_short(value)}" for key, value in self.facts.items())]
        for table in self.tables:
            lines.append(f"  {table.title}")
            lines.append("    " + " | ".join(table.columns))
            lines.extend("    " + " | ".join(_short(cell) for cell in row) for row in table.rows)
        return "\n".join(lines)


def _short(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


@runtime_checkable
class Result(Protocol):
    """What every verb returns."""

    @property
    def manifest(self) -> Manifest:
        """What it was made of, and by what."""

    def summary(self) -> Summary:
        """What it says of itself."""

    def write(self, path: str | os.PathLike[str], /) -> None:
        """Leaves the folder `path` as a stage of a recipe would: data, `summary.json`, and `manifest.json` last."""
