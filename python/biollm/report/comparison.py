"""What differs between two runs, or two stages: stage by stage, from what lies in their folders."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from biollm.manifest import InputRecord
from biollm.report.folders import RunView, StageView, text, texts
from biollm.report.markup import printable
from biollm.results import Scalar

MAX_DIFF_LINES: Final = 2000
_RATED: Final = ("documents_in", "documents", "text_bytes_in", "text_bytes")
_RATE_ENDINGS: Final = ("_per_s", "per second")
_NOT_DATA: Final = frozenset({"summary.json"})


@dataclass(frozen=True)
class Difference:
    """A named value of both sides.

    Attributes:
        name: of the option, count, fact or package.
        a: the value in A; `None` where it has none.
        b: the value in B.
    """

    name: str
    a: Scalar
    b: Scalar

    @property
    def same(self) -> bool:
        """Whether both sides have the same value."""
        both_nan = self.a != self.a and self.b != self.b
        return both_nan or (self.a == self.b and isinstance(self.a, bool) == isinstance(self.b, bool))

    @property
    def change(self) -> float | None:
        """B less A; `None` where one of them is no finite number."""
        numbers = self._numbers()
        return None if numbers is None else numbers[1] - numbers[0]

    @property
    def relative(self) -> float | None:
        """The change as a part of A; `None` where A is 0 or one of them is no finite number."""
        numbers = self._numbers()
        return None if numbers is None or not numbers[0] else (numbers[1] - numbers[0]) / abs(numbers[0])

    @property
    def ratio(self) -> float | None:
        """B by A; `None` where they are not both positive."""
        numbers = self._numbers()
        return None if numbers is None or min(numbers) <= 0 else numbers[1] / numbers[0]

    def _numbers(self) -> tuple[float, float] | None:
        for value in (self.a, self.b):
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e100:
                return None
        return float(self.a or 0), float(self.b or 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {"name": self.name, "a": self.a, "b": self.b, "change": self.change, "relative": self.relative}
        return {name: _json_scalar(value) for name, value in values.items()}


@dataclass(frozen=True)
class InputChange:
    """An input that is not the same on both sides.

    Attributes:
        name: of the file or stage.
        how: what became of it.
        note: why; may be empty.
    """

    name: str
    how: Literal["changed", "only in A", "only in B", "not known"]
    note: str = ""


@dataclass(frozen=True)
class StagePair:
    """A stage of A beside one of B.

    Attributes:
        a: the stage in A.
        b: the stage in B.
        matched_by: "name", or "verb" where the names differ.
        options: that differ; values that are no scalars as JSON.
        inputs: that differ, by content.
        inputs_same: how many have the same content on both sides.
        versions: of packages, that differ.
        counts: of the manifests, all.
        facts: of the summaries, all.
        timings: wall and CPU seconds, and the highest memory where it was noted.
        rates: units a wall second.
        files: whether the data files are the same, or `None` where that is not known.
        files_differ: names of files that are not the same.
        above: the stages that A and B took, as far as they are known.
    """

    a: StageView
    b: StageView
    matched_by: Literal["name", "verb"]
    options: tuple[Difference, ...] = ()
    inputs: tuple[InputChange, ...] = ()
    inputs_same: int = 0
    versions: tuple[Difference, ...] = ()
    counts: tuple[Difference, ...] = ()
    facts: tuple[Difference, ...] = ()
    timings: tuple[Difference, ...] = ()
    rates: tuple[Difference, ...] = ()
    files: bool | None = None
    files_differ: tuple[str, ...] = ()
    above: tuple[tuple[StageView, ...], tuple[StageView, ...]] = ((), ())

    @property
    def name(self) -> str:
        """Of the stage; of both where they differ."""
        return self.a.name if self.a.name == self.b.name else f"{self.a.name} / {self.b.name}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        listed = ("options", "versions", "counts", "facts", "timings", "rates")
        return {
            "name": self.name,
            "verb": self.a.verb,
            "matched_by": self.matched_by,
            "status": [self.a.status, self.b.status],
            "files_same": self.files,
            "files_differ": list(self.files_differ),
            "inputs_same": self.inputs_same,
            "inputs": [{"name": i.name, "how": i.how, "note": i.note} for i in self.inputs],
            **{name: [item.to_dict() for item in getattr(self, name)] for name in listed},
            "resumptions": [[_resumption(r) for r in side.resumptions] for side in (self.a, self.b)],
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs held against each other.

    Attributes:
        a: the first run, or stage.
        b: the second.
        pairs: stages that are in both, in the order of A.
        only_a: stages that only A has.
        only_b: stages that only B has.
        recipe: lines of a unified difference of the recipes; empty where they are the same or missing.
        set: what the command lines set, of A and of B.
        verdict: what differs, in sentences.
        path: of the page; `None` before it is written.
    """

    a: RunView
    b: RunView
    pairs: tuple[StagePair, ...]
    only_a: tuple[StageView, ...] = ()
    only_b: tuple[StageView, ...] = ()
    recipe: tuple[str, ...] = ()
    set: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    verdict: tuple[str, ...] = ()
    path: Path | None = field(default=None, compare=False)

    def text(self) -> str:
        """The verdict, a sentence a line, after what A and B stand for."""
        names = side_names(self.a, self.b)
        lines = [f"A = {names[0]}, B = {names[1]}", *(f"- {sentence}" for sentence in self.verdict)]
        return "\n".join(printable(line) for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: what the page shows, without charts and texts."""
        names = side_names(self.a, self.b)
        value = {
            "format": "biollm-comparison",
            "version": 1,
            "a": {"name": names[0], "folder": str(self.a.folder.absolute()), "status": self.a.status},
            "b": {"name": names[1], "folder": str(self.b.folder.absolute()), "status": self.b.status},
            "verdict": list(self.verdict),
            "recipe": list(self.recipe),
            "set": [list(side) for side in self.set],
            "stages": [pair.to_dict() for pair in self.pairs],
            "only_in_a": [stage.name for stage in self.only_a],
            "only_in_b": [stage.name for stage in self.only_b],
            "report": str(self.path.absolute()) if self.path is not None else None,
        }
        cleaned: dict[str, Any] = _cleaned(value)
        return cleaned


def side_names(a: RunView, b: RunView) -> tuple[str, str]:
    """Names to tell two folders apart: their own, with as many of the folders above as it takes.

    Args:
        a: the first.
        b: the second.
    """
    parts = [run.folder.resolve().parts for run in (a, b)]
    own = [1 + run.is_stage for run in (a, b)]  # a stage goes by its run's name and its own
    names = ["/".join(p[-count:]) for p, count in zip(parts, own, strict=True)]
    for more in range(1, 4):
        if names[0] != names[1] or parts[0] == parts[1]:
            break
        names = ["/".join(p[-(count + more) :]) for p, count in zip(parts, own, strict=True)]
    return names[0], names[1]


def hold_against(a: RunView, b: RunView) -> Comparison:
    """Matches the stages of two runs, by name and then by verb, and says of each pair what differs.

    Args:
        a: the first.
        b: the second.

    Returns:
        The comparison, without verdict.
    """
    matched = _matched(a.stages, b.stages)
    views = ({s.name: s for s in (*a.above, *a.stages)}, {s.name: s for s in (*b.above, *b.stages)})
    pairs = tuple(_pair(one, other, views) for one, other in matched)
    paired = {id(stage) for both in matched for stage in both}
    return Comparison(
        a,
        b,
        pairs,
        tuple(s for s in a.stages if id(s) not in paired),
        tuple(s for s in b.stages if id(s) not in paired),
        tuple(_recipe_lines(text(a.record, "recipe", "text"), text(b.record, "recipe", "text"))),
        (texts(a.record, "recipe", "set"), texts(b.record, "recipe", "set")),
    )


def data_files(stage: StageView) -> dict[str, str]:
    """Hashes of what a stage made, by name, without what it says of itself.

    Args:
        stage: finished.
    """
    outputs = stage.manifest.outputs if stage.manifest is not None else {}
    return {name: xxh3_128 for name, xxh3_128 in outputs.items() if name not in _NOT_DATA}


def _matched(a: Sequence[StageView], b: Sequence[StageView]) -> list[tuple[StageView, StageView]]:
    found: dict[int, StageView] = {}
    left = list(b)
    for by_name in (True, False):
        for place, stage in enumerate(a):
            if place in found:
                continue
            fitting = (o for o in left if o.verb == stage.verb and (o.name == stage.name or not by_name))
            if other := next(fitting, None):
                found[place] = other
                left = [o for o in left if o is not other]
    return [(stage, found[place]) for place, stage in enumerate(a) if place in found]


def _pair(a: StageView, b: StageView, views: tuple[Mapping[str, StageView], Mapping[str, StageView]]) -> StagePair:
    matched_by: Literal["name", "verb"] = "name" if a.name == b.name else "verb"
    options = [d for d in _differences(_options(a), _options(b)) if not d.same]
    if a.manifest is None or b.manifest is None:
        timings = tuple(_timings(a, b))
        return StagePair(a, b, matched_by, options=tuple(options), timings=timings)
    facts = [side.summary.facts if side.summary is not None else {} for side in (a, b)]
    files = data_files(a), data_files(b)
    inputs, inputs_same = _inputs(a.manifest.inputs, b.manifest.inputs, views)
    return StagePair(
        a,
        b,
        matched_by,
        tuple(options),
        tuple(inputs),
        inputs_same,
        tuple(d for d in _differences(a.manifest.versions, b.manifest.versions) if not d.same),
        tuple(_differences(a.manifest.counts, b.manifest.counts)),
        tuple(_differences(*facts)),
        tuple(_timings(a, b)),
        tuple(_rates(a, b)),
        files[0] == files[1] if files[0] and files[1] else None,
        tuple(d.name for d in _differences(*files) if not d.same),
        (_taken(a.manifest.inputs, views[0]), _taken(b.manifest.inputs, views[1])),
    )


def _differences(a: Mapping[str, Scalar], b: Mapping[str, Scalar]) -> list[Difference]:
    """All names of both, in A's order, B's own ones last."""
    return [Difference(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


def _options(stage: StageView) -> dict[str, Scalar]:
    """What the manifest records, and from the run's record those that change no output; `None` for an unset one."""
    recorded = stage.record.get("options")
    options = dict(recorded) if isinstance(recorded, Mapping) else {}
    if stage.manifest is not None:
        options |= stage.manifest.options
    return {str(name): _option(value) for name, value in options.items() if value is not None}


def _option(value: Any) -> Scalar:
    return value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False, default=str)


def _inputs(
    a: Sequence[InputRecord], b: Sequence[InputRecord], views: tuple[Mapping[str, StageView], Mapping[str, StageView]]
) -> tuple[list[InputChange], int]:
    """Inputs that differ by content, and how many do not."""
    shared = Counter(_content(i) for i in a if i.xxh3_128) & Counter(_content(i) for i in b if i.xxh3_128)
    rest_a, rest_b = _without(a, shared), _without(b, shared)
    changes, alike = [], 0
    for record in rest_a:
        other = next((o for o in rest_b if _base(o) == _base(record)), None)
        if other is None:
            changes.append(InputChange(record.name, "only in A"))
            continue
        rest_b.remove(other)
        if record.xxh3_128 is None or other.xxh3_128 is None:
            changes.append(InputChange(record.name, "not known", "its content was not hashed"))
        elif _same_files(record, other, views):
            alike += 1
        else:
            changes.append(InputChange(record.name, "changed"))
    changes += [InputChange(record.name, "only in B") for record in rest_b]
    in_order = [_base(i) for i in a] == [_base(i) for i in b] or [_content(i) for i in a] == [_content(i) for i in b]
    if not changes and not in_order:
        changes.append(InputChange("all", "changed", "the same inputs in another order"))
    return changes, sum(shared.values()) + alike


def _content(record: InputRecord) -> tuple[str, str | None]:
    return record.kind, record.xxh3_128


def _base(record: InputRecord) -> str:
    return Path(record.name).name or record.name


def _without(records: Sequence[InputRecord], shared: Mapping[tuple[str, str | None], int]) -> list[InputRecord]:
    left = dict(shared)
    rest = []
    for record in records:
        if left.get(_content(record), 0):
            left[_content(record)] -= 1
        else:
            rest.append(record)
    return rest


def _same_files(a: InputRecord, b: InputRecord, views: tuple[Mapping[str, StageView], Mapping[str, StageView]]) -> bool:
    """A stage is known by how it was made, with the names of its inputs; the files it holds may be the same."""
    files = [data_files(stage) for view, record in zip(views, (a, b), strict=True) for stage in _taken([record], view)]
    return len(files) == 2 and bool(files[0]) and files[0] == files[1]


def _taken(inputs: Sequence[InputRecord], stages: Mapping[str, StageView]) -> tuple[StageView, ...]:
    """The stages among the inputs, where their folders still are what was taken."""
    found = ((stages.get(_base(record)), record) for record in inputs if record.kind == "stage")
    return tuple(s for s, r in found if s is not None and s.manifest is not None and s.manifest.hash == r.xxh3_128)


def _timings(a: StageView, b: StageView) -> Iterator[Difference]:
    for name, values in (
        ("wall seconds", (a.wall_s, b.wall_s)),
        ("CPU seconds", (a.cpu_s, b.cpu_s)),
        ("peak memory, bytes", (a.peak_rss_bytes, b.peak_rss_bytes)),
    ):
        if values != (None, None):
            yield Difference(name, *values)


def _rates(a: StageView, b: StageView) -> Iterator[Difference]:
    """What came in by wall second, and the rates that the summaries state."""
    for name in _RATED:
        values = [_rate(side, name) for side in (a, b)]
        if None not in values:
            yield Difference(f"{name.removesuffix('_in').replace('_', ' ')} a second", *values)
    if a.summary is not None and b.summary is not None:
        stated = _differences(a.summary.facts, b.summary.facts)
        yield from (d for d in stated if d.name.endswith(_RATE_ENDINGS) and d.change is not None)


def _rate(stage: StageView, count: str) -> float | None:
    """Of a stage that was cut off the seconds are those of its last part: no rate follows from them."""
    manifest = stage.manifest
    if manifest is None or manifest.resumptions or manifest.wall_s <= 0 or count not in manifest.counts:
        return None
    return manifest.counts[count] / manifest.wall_s


def _recipe_lines(a: str, b: str) -> Iterator[str]:
    if a == b or not a or not b:
        return
    lines = a.splitlines(), b.splitlines()
    if max(map(len, lines)) > MAX_DIFF_LINES:
        yield "The recipes differ; they are too long to be shown line by line."
        return
    yield from list(difflib.unified_diff(*lines, lineterm="", n=1))[2:]


def _resumption(item: Any) -> dict[str, Any]:
    return {"unit": item.unit, "kept": item.kept, "done": item.done, "repeated": item.repeated}


def _cleaned(value: Any) -> Any:
    """A JSON value whose texts can be encoded and printed."""
    if isinstance(value, dict):
        return {printable(name): _cleaned(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _json_scalar(value: Scalar) -> Scalar:
    return None if isinstance(value, float) and not math.isfinite(value) else value
