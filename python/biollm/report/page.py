"""The report of a run or of one stage: reads what lies in the folders, gives one HTML file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biollm.atomic import write_bytes, write_json
from biollm.errors import BiollmError, FileError, FormatError, InputError
from biollm.manifest import InputRecord, Manifest
from biollm.report.charts import chart, shares
from biollm.report.markup import Markup, escape, facts, join, number, sample, seconds, table, tag
from biollm.results import Sample, Series, Summary, Table

REPORT_NAME: Final = "report.html"
EXTRA_NAME: Final = "report_extra.json"
SAMPLES_OPEN: Final = 3
MAX_JSON_BYTES: Final = 64 << 20
_GOOD: Final = ("complete", "matched")


@dataclass(frozen=True)
class StageView:
    """What a report knows of one stage.

    Attributes:
        name, verb, status, reason, inputs: as the run's record says.
        manifest, summary: of its folder; `None` where it has not finished.
        problem: why one of them cannot be read; empty where they can.
    """

    name: str
    verb: str
    status: str
    reason: str = ""
    inputs: tuple[str, ...] = ()
    manifest: Manifest | None = None
    summary: Summary | None = None
    problem: str = ""


def write_report(folder: str | os.PathLike[str], *, extra: Iterable[Summary] | None = None) -> Path:
    """Writes `folder/report.html` about a run's folder or one stage's folder; gives its path.

    Args:
        folder: what `biollm run` or a verb's `output=` left, finished or not.
        extra: sections beside the stages' own, kept in the folder for later reports; `None` keeps those of before, an
            empty sequence drops them.

    Raises:
        InputError: the folder holds neither a run nor a stage.
        FileError: something cannot be read or written.
        FormatError: `run.json` is not one of ours.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError("not a folder of a run or of a stage", path=place)
    record = _read_json(place / "run.json") if (place / "run.json").exists() else {}
    if record and record.get("format") != "biollm-run":
        raise FormatError("not the record of a biollm run", path=place / "run.json", field="format")
    stages = _stages(place, record)
    if not stages:
        raise InputError("holds neither run.json nor a stage's manifest.json: nothing to report", path=place)
    page = _page(place, record, stages, _extra(place, extra))
    target = place / REPORT_NAME
    write_bytes(target, page.encode("utf-8"))
    return target


def _page(folder: Path, record: Mapping[str, Any], stages: Sequence[StageView], extra: Sequence[Summary]) -> str:
    name = folder.resolve().name
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    named = [(f"extra-{i}", s.title) for i, s in enumerate(extra)] + [(f"stage-{s.name}", s.name) for s in stages]
    links = [*named, *([("recipe", "recipe")] if record else []), ("versions", "versions")]
    body = [
        tag(
            "header",
            tag("h1", f"{name} ", _chip(_overall(record, stages))),
            _lead(record, stages),
            tag("nav", *(tag("a", label, href=f"#{anchor}") for anchor, label in links)),
        ),
        _problems(record),
        _overview(stages),
        *(tag("section", tag("h2", s.title), _summary(s), id=f"extra-{i}") for i, s in enumerate(extra)),
        *(_stage_section(stage) for stage in stages),
        _recipe(record) if record else "",
        _versions(record, stages),
    ]
    head = join(
        [
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<meta name="generator" content="biollm">'),
            tag("title", f"{name} – biollm report"),
            tag("style", Markup(style)),
        ]
    )
    lines = "\n".join(escape(part) for part in body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{lines}\n</body></html>\n'


def _lead(record: Mapping[str, Any], stages: Sequence[StageView]) -> Markup:
    manifests = [s.manifest for s in stages if s.manifest is not None]
    wall, cpu = sum(m.wall_s for m in manifests), sum(m.cpu_s for m in manifests)
    parts = [f"{len(stages)} stage{'s' if len(stages) != 1 else ''}, {seconds(wall)} ({seconds(cpu)} of CPU time)"]
    if record:
        parts.append(f"recipe {Path(_text(record, 'recipe', 'path')).name}")
        parts.append(f"begun {_text(record, 'started').replace('T', ' ').replace('+00:00', ' UTC')}")
    return tag("p", "; ".join(parts) + ".", class_="lead")


def _problems(record: Mapping[str, Any]) -> Markup:
    parts = []
    if error := record.get("error"):
        parts.append(tag("p", error, class_="error"))
    if warnings := record.get("warnings"):
        parts.append(tag("ul", *(tag("li", warning) for warning in warnings), class_="note"))
    return join(parts)


def _overview(stages: Sequence[StageView]) -> Markup:
    titles = ("Stage", "Came in", "Went out", "Wall", "CPU", "")
    numeric = ("", "", "", "number", "number", "")
    head = tag("tr", *(tag("th", t, scope="col", class_=k) for t, k in zip(titles, numeric, strict=True)))
    rows = []
    for stage in stages:
        came, went = _flow(stage.manifest)
        manifest = stage.manifest
        verb = tag("span", f" {stage.verb}", class_="note") if stage.verb != stage.name else ""
        cells = [
            tag("th", tag("a", stage.name, href=f"#stage-{stage.name}"), verb, scope="row"),
            tag("td", _lines(came or [_short(name) for name in stage.inputs])),
            tag("td", _lines(went)),
            tag("td", seconds(manifest.wall_s) if manifest else "–", class_="number"),
            tag("td", seconds(manifest.cpu_s) if manifest else "–", class_="number"),
            tag("td", _chip(stage.status)),
        ]
        rows.append(tag("tr", *cells))
    grid = tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="overview"), class_="wide")
    timed = [(s.name, s.manifest.wall_s, seconds(s.manifest.wall_s)) for s in stages if s.manifest is not None]
    if len(timed) < 2:
        return tag("section", tag("h2", "Overview"), grid)
    note = ""
    if any(stage.status == "matched" for stage in stages):
        words = "A stage marked “matched” was not run again; its seconds are those of the run that made it."
        note = tag("p", words, class_="note")
    drawn = tag("figure", tag("figcaption", "Seconds per stage"), shares(timed), class_="chart")
    return tag("section", tag("h2", "Overview"), grid, note, drawn)


def _flow(manifest: Manifest | None) -> tuple[list[str], list[str]]:
    """The first counts of a manifest that end in `_in`, and of the others, in words; the rest stands with the stage."""
    came: list[str] = []
    went: list[str] = []
    for name, count in (manifest.counts if manifest else {}).items():
        words = name.removesuffix("_in").removesuffix("_out").replace("_", " ")
        (came if name.endswith("_in") else went).append(f"{number(count)} {words}")
    return came[:2], went[:3]


def _stage_section(stage: StageView) -> Markup:
    inputs = f"{stage.verb} of {', '.join(_short(name) for name in stage.inputs)}" if stage.inputs else stage.verb
    parts = [tag("h2", stage.name, tag("small", inputs), " ", _chip(stage.status))]
    if stage.reason and stage.status not in _GOOD:
        parts.append(tag("p", f"It ran because: {stage.reason}.", class_="note"))
    if stage.problem:
        parts.append(tag("p", stage.problem, class_="error"))
    elif stage.manifest is None:
        parts.append(tag("p", "It has not finished, so there is nothing to show.", class_="note"))
    if stage.summary is not None:
        parts.append(_summary(stage.summary))
    if stage.manifest is not None:
        parts.append(_details(stage.manifest))
    return tag("section", *parts, id=f"stage-{stage.name}")


def _summary(summary: Summary) -> Markup:
    by_title: dict[str, list[Series]] = {}
    for series in summary.series:
        by_title.setdefault(series.title, []).append(series)
    return join(
        [
            facts(summary.facts),
            *(chart(group) for group in by_title.values()),
            *(table(t) for t in summary.tables),
            _samples(summary.samples),
        ]
    )


def _samples(samples: Sequence[Sample]) -> Markup:
    """The first texts open, the others folded away."""
    shown = [sample(s.title, s.text) for s in samples]
    more = shown[SAMPLES_OPEN:]
    if not more:
        return join(shown)
    label = tag("summary", f"{len(more)} more text{'s' if len(more) > 1 else ''}")
    return join([*shown[:SAMPLES_OPEN], tag("details", label, *more)])


def _details(manifest: Manifest) -> Markup:
    """What the stage was made of: options, inputs, files."""
    options = Table("Options", ("option", "value"), tuple((k, _json(v)) for k, v in manifest.options.items()))
    inputs = tuple((Path(i.name).name or i.name, i.kind, i.size_bytes, i.xxh3_128) for i in manifest.inputs)
    outputs = tuple((name, xxh3_128) for name, xxh3_128 in manifest.outputs.items())
    return tag(
        "details",
        tag("summary", "Options, inputs and files"),
        table(options) if options.rows else "",
        table(Table("Inputs", ("name", "kind", "bytes", "xxh3-128"), inputs)) if inputs else "",
        table(Table("Files", ("name", "xxh3-128"), outputs)) if outputs else "",
        tag("p", f"Algorithm version {manifest.algorithm_version} of {manifest.verb}.", class_="note"),
    )


def _recipe(record: Mapping[str, Any]) -> Markup:
    overrides = record.get("recipe", {}).get("set", [])
    parts = [tag("h2", "Recipe"), tag("pre", _text(record, "recipe", "text"))]
    if overrides:
        parts += [tag("h4", "Set on the command line"), tag("pre", "\n".join(overrides))]
    return tag("section", *parts, id="recipe")


def _versions(record: Mapping[str, Any], stages: Sequence[StageView]) -> Markup:
    """One column where all stages were made with the same versions, else one a stage."""
    made = {s.name: dict(s.manifest.versions) for s in stages if s.manifest is not None}
    distinct = [dict(pairs) for pairs in {tuple(sorted(v.items())) for v in made.values()}]
    if len(distinct) > 1:
        packages = sorted({package for versions in distinct for package in versions})
        rows = tuple((p, *(versions.get(p, "–") for versions in made.values())) for p in packages)
        shown = Table("", ("package", *made), rows)
    else:
        versions = distinct[0] if distinct else record.get("versions", {})
        shown = Table("", ("package", "version"), tuple(sorted(versions.items())))
    return tag("section", tag("h2", "Versions"), table(shown), id="versions")


def _chip(status: str) -> Markup:
    kind = "good" if status in _GOOD else "bad" if status in ("failed", "interrupted") else "wait"
    return tag("span", status, class_=f"chip {kind}") if status else Markup()


def _overall(record: Mapping[str, Any], stages: Sequence[StageView]) -> str:
    return str(record.get("status", "")) or ("complete" if all(s.status in _GOOD for s in stages) else "failed")


def _lines(items: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", item) for item in items)) if items else escape("–")


def _short(name: str) -> str:
    """An input without the folders it lies in; the stage's details have all of it."""
    return name.rstrip("/").rpartition("/")[2] or name


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(record: Mapping[str, Any], *keys: str) -> str:
    value: Any = record
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else ""
    return str(value)


def _stages(folder: Path, record: Mapping[str, Any]) -> list[StageView]:
    if record:
        try:
            return [
                _view(folder / s["name"], s["name"], s["verb"], s["status"], s["reason"], tuple(s["inputs"]))
                for s in record["stages"]
            ]
        except (KeyError, TypeError) as error:
            raise FormatError(f"the run's record lacks or misnames {error}", path=folder / "run.json") from error
    if (folder / "manifest.json").exists():
        return [_view(folder, folder.resolve().name)]
    found = [path.parent for path in folder.glob("*/manifest.json")]
    return [_view(path, path.name) for path in sorted(found, key=lambda p: (p / "manifest.json").stat().st_mtime_ns)]


def _view(
    folder: Path, name: str, verb: str = "", status: str = "complete", reason: str = "", inputs: tuple[str, ...] = ()
) -> StageView:
    """A stage as its folder shows it; a folder that is being written, or broken, is said to be so."""
    # While a stage waits or fails, what an earlier run left in its folder is not this run's.
    if status not in _GOOD or not (folder / "manifest.json").exists():
        return StageView(name, verb, status, reason, inputs)
    try:
        manifest = Manifest.read(folder)
        summary = Summary.from_dict(_read_json(folder / "summary.json"))
    except (BiollmError, KeyError, TypeError, ValueError) as error:
        return StageView(name, verb, status, reason, inputs, problem=f"cannot be shown: {error}")
    given = inputs or tuple(_input_name(record) for record in manifest.inputs[:3])
    return StageView(name, verb or manifest.verb, status, reason, given, manifest, summary)


def _input_name(record: InputRecord) -> str:
    return Path(record.name).name if record.kind == "file" else record.name


def _extra(folder: Path, extra: Iterable[Summary] | None) -> tuple[Summary, ...]:
    path = folder / EXTRA_NAME
    if extra is None:
        if not path.exists():
            return ()
        try:
            return tuple(Summary.from_dict(data) for data in _read_json(path)["sections"])
        except (KeyError, TypeError) as error:
            raise FormatError(f"not sections of a report: {error}", path=path) from error
    sections = tuple(extra)
    if sections:
        write_json(path, {"sections": [section.to_dict() for section in sections]})
    else:
        path.unlink(missing_ok=True)
    return sections


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise FormatError(f"larger than {MAX_JSON_BYTES:,} bytes", path=path)
        value = json.loads(data)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise FormatError("not a JSON object", path=path)
    return value
