"""What `biollm run --profile` measured of a stage (`profile/<stage>.json`): resources, and where the time went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biollm.report.charts import chart
from biollm.report.markup import Markup, fold, join, note, seconds, size, table, tag
from biollm.results import Scalar, Series, Table, table_from_dict

MAX_BYTES: Final = 32 << 20
TOP: Final = 25
_MEGABYTE: Final = 1e6


@dataclass(frozen=True)
class Profile:
    """A stage's profile.

    Attributes:
        facts: totals, in words.
        series: resources over the seconds of the stage.
        tables: functions, and torch operators, by the time spent in them.
        files: what lies beside it for other tools.
        problem: why it cannot be shown; empty where it can.
    """

    facts: Mapping[str, Scalar]
    series: tuple[Series, ...] = ()
    tables: tuple[Table, ...] = ()
    files: tuple[str, ...] = ()
    problem: str = ""

    @classmethod
    def read(cls, path: Path) -> Profile | None:
        """The profile in a file; `None` where there is none. Never raises: what is wrong stands in `problem`.

        Args:
            path: of the file.
        """
        try:
            with path.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                return cls({}, problem=f"larger than {MAX_BYTES:,} bytes")
            return cls._from_dict(json.loads(data))
        except FileNotFoundError:
            return None
        except OSError as error:
            return cls({}, problem=error.strerror or str(error))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return cls({}, problem=f"not a profile: {error}")

    @classmethod
    def _from_dict(cls, data: Any) -> Profile:
        if not isinstance(data, dict) or data.get("format") != "biollm-profile":
            raise ValueError("no biollm-profile")
        facts: dict[str, Scalar] = {}
        for name, label, shown in (
            ("wall_s", "wall", seconds),
            ("cpu_s", "CPU", seconds),
            ("peak_rss_bytes", "peak memory", size),
            ("read_bytes", "read", size),
            ("written_bytes", "written", size),
        ):
            value = data.get(name)
            if value is not None and _is_amount(value):
                facts[label] = shown(value)
        found = [data.get(name) for name in ("functions", "operators")]
        tables = tuple(table_from_dict(item) for item in found if item is not None)
        files = tuple(name for name in (data.get("stats"), data.get("trace")) if isinstance(name, str))
        return cls(facts, tuple(_series(data["samples"])), tables, files)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e15


def _series(samples: Mapping[str, Any]) -> list[Series]:
    """Memory, busy cores and bytes moved, each over seconds; what was not measured is left out."""
    at = samples["t_s"]
    series = []
    for name, title, y_label, scale, label in (
        ("rss_bytes", "Memory", "MB", _MEGABYTE, ""),
        ("cpu_percent", "Processor", "cores busy", 100.0, ""),
        ("read_bytes", "Read and written so far", "MB", _MEGABYTE, "read"),
        ("written_bytes", "Read and written so far", "MB", _MEGABYTE, "written"),
    ):
        values = samples.get(name)
        if not isinstance(values, list) or not isinstance(at, list):
            continue
        points = [(t, v / scale) for t, v in zip(at, values, strict=True) if _is_amount(t) and _is_amount(v)]
        if len(points) >= 2:
            x, y = zip(*points, strict=True)
            series.append(Series(title, "seconds", y_label, x, y, name=label))
    return series


def profile_section(profile: Profile) -> Markup:
    """The profile within its stage's section: charts open, tables folded away.

    Args:
        profile: as read.
    """
    title = tag("h3", "Profile")
    if profile.problem:
        return join([title, tag("p", f"The profile cannot be shown: {profile.problem}", class_="error")])
    by_title: dict[str, list[Series]] = {}
    for series in profile.series:
        by_title.setdefault(series.title, []).append(series)
    parts: list[object] = [title, note(", ".join(f"{name} {value}" for name, value in profile.facts.items()))]
    parts += (
        [tag("div", *(chart(group, from_zero=True) for group in by_title.values()), class_="side")] if by_title else []
    )
    for item in profile.tables:
        shown = Table("", item.columns, item.rows[:TOP])
        parts.append(fold(item.title or "Where the time went", table(shown)))
    if profile.files:
        parts.append(note(f"Beside it in profile/, for other tools: {', '.join(profile.files)}."))
    return join(parts)
