"""What results say of themselves: plain facts, tables, series and samples. `biollm.report` renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import os

    from biollm.manifest import Manifest

__all__ = ["Progress", "Result", "Sample", "Scalar", "Series", "Summary", "Table", "table_from_dict"]

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
    low: tuple[float, ...] = ()
    """Lower end of the interval at each place; empty where there are none."""
    high: tuple[float, ...] = ()
    """Upper ends."""


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
                    **({"low": list(s.low), "high": list(s.high)} if s.low else {}),
                }
                for s in self.series
            ],
            "samples": [{"title": s.title, "text": s.text} for s in self.samples],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Summary:
        """The summary of `data`, the inverse of `to_dict`.

        Raises:
            KeyError: something is missing.
            TypeError, ValueError: something is of another type or length than it must be.
        """
        return cls(
            title=_text(data["title"]),
            facts={_text(name): _scalar(value) for name, value in _mapping(data["facts"]).items()},
            tables=tuple(table_from_dict(t) for t in _list(data["tables"])),
            series=tuple(_series(s) for s in _list(data["series"])),
            samples=tuple(Sample(_text(s["title"]), _text(s["text"])) for s in _list(data["samples"])),
        )

    def __str__(self) -> str:
        lines = [self.title, *(f"  {key}: {_short(value)}" for key, value in self.facts.items())]
        for table in self.tables:
            lines.append(f"  {table.title}")
            lines.append("    " + " | ".join(table.columns))
            lines.extend("    " + " | ".join(_short(cell) for cell in row) for row in table.rows)
        return "\n".join(lines)


def table_from_dict(data: Mapping[str, Any]) -> Table:
    """A table from its part of `Summary.to_dict`.

    Args:
        data: its title, columns and rows.

    Raises:
        KeyError, TypeError, ValueError: as `Summary.from_dict`.
    """
    columns = tuple(_text(column) for column in _list(data["columns"]))
    rows = tuple(tuple(_scalar(cell) for cell in _list(row)) for row in _list(data["rows"]))
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row of the table {data['title']!r} has not {len(columns)} cells")
    return Table(_text(data["title"]), columns, rows)


def _series(data: Mapping[str, Any]) -> Series:
    title, kind = _text(data["title"]), data["kind"]
    x, y = (tuple(_scalar(value) for value in _list(data[axis])) for axis in ("x", "y"))
    if len(x) != len(y):
        raise ValueError(f"the series {title!r} has {len(x)} places and {len(y)} values")
    if kind not in ("line", "bar"):
        raise ValueError(f"the series {title!r} is of kind {kind!r}, not line or bar")
    low, high = (tuple(_real(_scalar(value)) for value in _list(data.get(end, []))) for end in ("low", "high"))
    if len(low) != len(high) or len(low) not in (0, len(y)):
        raise ValueError(f"the series {title!r} has {len(y)} values, but {len(low)} and {len(high)} ends of intervals")
    labels = (_text(data["x_label"]), _text(data["y_label"]))
    return Series(title, *labels, x, tuple(_real(value) for value in y), kind, _text(data["name"]), low, high)


def _mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"an object is wanted, not {type(value).__name__}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list is wanted, not {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is wanted, not {type(value).__name__}")
    return value


def _scalar(value: Any) -> Scalar:
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"a plain value is wanted, not {type(value).__name__}")
    return value


def _real(value: Scalar) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a number is wanted, not {type(value).__name__}")
    return value


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
