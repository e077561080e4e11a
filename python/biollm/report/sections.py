"""The sections of a run's report: overview, stages, recipe, versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from biollm.manifest import Manifest, Resumption
from biollm.report.charts import chart, shares
from biollm.report.folders import FINISHED, RunView, StageView, real, text, texts
from biollm.report.headline import PREDICTORS, bits_per_byte, headline
from biollm.report.markup import (
    Markup,
    chip,
    escape,
    facts,
    fold,
    join,
    note,
    number,
    sample,
    seconds,
    size,
    table,
    tag,
)
from biollm.report.profile import profile_section
from biollm.results import Sample, Series, Summary, Table

SAMPLES_OPEN: Final = 3
_BAD: Final = ("failed", "interrupted")


def status_chip(status: str) -> Markup:
    """A status in its frame.

    Args:
        status: of a run or a stage.
    """
    return chip(status, "good" if status in FINISHED else "bad" if status in _BAD else "wait")


def resumption_words(resumption: Resumption) -> str:
    """One resumption in words: what was kept, and what was done again.

    Args:
        resumption: of a manifest.
    """
    repeated = f"{resumption.repeated:,} done again" if resumption.repeated > 0 else "none done again"
    return f"went on from {resumption.kept:,} of {resumption.done:,} {resumption.unit} ({repeated})"


def lead(run: RunView) -> Markup:
    """What ran, how long, on what, and when; and the bits per byte where a model was trained."""
    stages = run.stages
    timed = [s.wall_s for s in stages if s.wall_s is not None], [s.cpu_s for s in stages if s.cpu_s is not None]
    wall, cpu = (sum(values) for values in timed)
    parts = [f"{len(stages)} stage{'s' if len(stages) != 1 else ''}, {seconds(wall)} ({seconds(cpu)} of CPU time)"]
    if run.record:
        parts.append(f"recipe {Path(text(run.record, 'recipe', 'path')).name}")
        parts.append(f"begun {text(run.record, 'started').replace('T', ' ').replace('+00:00', ' UTC')}")
    paragraphs = [tag("p", "; ".join(parts) + ".", class_="lead")]
    if machine := machine_words(run.record):
        paragraphs.append(note(machine))
    for stage in stages:
        if stage.summary is not None and (rates := bits_per_byte(stage.summary.facts)):
            values = (f"{label} {rates[name]:.3f}" for name, label in PREDICTORS if name in rates)
            words = f"Bits per byte of validation text ({stage.name}): {', '.join(values)}."
            paragraphs.append(tag("p", words, class_="lead"))
    return join(paragraphs)


def machine_words(record: Mapping[str, Any]) -> str:
    """The machine a run was made on; empty where its record does not say.

    Args:
        record: `run.json`.
    """
    cpus, memory = real(record, "machine", "cpus"), real(record, "machine", "memory_bytes")
    parts = [
        f"{cpus:.0f} CPU{'s' if cpus != 1 else ''}" if cpus is not None else "",
        text(record, "machine", "processor"),
        f"{size(memory)} of memory" if memory is not None else "",
        text(record, "machine", "platform"),
    ]
    said = ", ".join(part for part in parts if part)
    return f"Machine: {said}." if said else ""


def problems(run: RunView) -> Markup:
    """The run's error, what it warned of, and what of it could not be read."""
    parts = [tag("p", problem, class_="error") for problem in run.problems]
    if error := text(run.record, "error"):
        parts.append(tag("p", error, class_="error"))
    if run.status == "running":
        at = next((f" in stage {s.name}" for s in run.stages if s.status == "running"), "")
        when = text(run.record, "written").replace("T", " ").replace("+00:00", " UTC")
        words = f"The run was at work{at} when its record was last written ({when}); it still is, or it was killed."
        parts.append(tag("p", words, class_="warned"))
    if warnings := texts(run.record, "warnings"):
        parts.append(tag("div", tag("b", "Warnings"), _lines(warnings), class_="warned"))
    return join(parts)


def overview(stages: Sequence[StageView]) -> Markup:
    """A row a stage: what came in and went out, how long, how much memory; and the shares of the time."""
    optional: list[tuple[str, str, Callable[[StageView], object]]] = []
    if any(s.peak_rss_bytes for s in stages):
        optional.append(("Peak memory", "number", lambda s: size(s.peak_rss_bytes) if s.peak_rss_bytes else "–"))
    if any(s.resumptions for s in stages):
        optional.append(("Resumed", "", lambda s: _lines([resumption_words(r) for r in s.resumptions])))
    if any(_planned(s) for s in stages):
        optional.append(("Planned", "", lambda s: _lines(_planned(s))))
    columns: list[tuple[str, str, Callable[[StageView], object]]] = [
        ("Came in", "", lambda s: _lines(_flow(s.manifest)[0] or [short(name) for name in s.inputs])),
        ("Went out", "", lambda s: _lines(_flow(s.manifest)[1])),
        ("Wall", "number", lambda s: seconds(s.wall_s) if s.wall_s is not None else "–"),
        ("CPU", "number", lambda s: seconds(s.cpu_s) if s.cpu_s is not None else "–"),
        *optional,
        ("", "", lambda s: status_chip(s.status)),
    ]
    heads = (tag("th", title, scope="col", class_=kind) for title, kind, _ in columns)
    head = tag("tr", tag("th", "Stage", scope="col"), *heads)
    rows = []
    for stage in stages:
        verb = tag("span", f" {stage.verb}", class_="note") if stage.verb not in ("", stage.name) else ""
        name = tag("th", tag("a", stage.name, href=f"#stage-{stage.name}"), verb, scope="row")
        cells = (tag("td", cell(stage), class_=kind, data_label=title) for title, kind, cell in columns)
        rows.append(tag("tr", name, *cells))
    grid = tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="overview stacks"), class_="wide")
    parts: list[object] = [tag("h2", "Overview"), grid]
    if any(stage.status == "matched" for stage in stages):
        parts.append(note("A stage marked “matched” was not run again; its seconds are those of the run that made it."))
    if any(stage.resumptions for stage in stages):
        parts.append(note("The seconds of a stage that was cut off and gone on with are those of its last part."))
    timed = [(s.name, s.wall_s, seconds(s.wall_s)) for s in stages if s.wall_s is not None]
    if len(timed) >= 2:
        parts.append(tag("figure", tag("figcaption", "Seconds per stage"), shares(timed), class_="chart"))
    return tag("section", *parts)


def _flow(manifest: Manifest | None) -> tuple[list[str], list[str]]:
    """The first counts of a manifest that end in `_in`, and of the others, in words; the rest stands with the stage."""
    came: list[str] = []
    went: list[str] = []
    for name, count in (manifest.counts if manifest else {}).items():
        label = name.removesuffix("_in").removesuffix("_out").replace("_", " ")
        (came if name.endswith("_in") else went).append(f"{number(count)} {label}")
    return came[:2], went[:3]


def _planned(stage: StageView) -> list[str]:
    """What the run's plan said of the stage, in words."""
    shown: tuple[tuple[str, Callable[[float], str], str], ...] = (
        ("wall_s", seconds, "wall"),
        ("cpu_s", seconds, "CPU"),
        ("peak_rss_bytes", size, "memory"),
        ("output_bytes", size, "on disk"),
    )
    found = ((real(stage.record, "estimate", key), form, label) for key, form, label in shown)
    return [f"{form(value)} {label}" for value, form, label in found if value is not None]


def stage_section(stage: StageView) -> Markup:
    """All of one stage: how it ended, its summary, its profile, and what it was made of."""
    inputs = f"{stage.verb} of {', '.join(short(name) for name in stage.inputs)}" if stage.inputs else stage.verb
    parts: list[object] = [tag("h2", stage.name, tag("small", inputs), " ", status_chip(stage.status))]
    parts += [note(words) for words in _remarks(stage)]
    if stage.problem:
        parts.append(tag("p", stage.problem, class_="error"))
    if stage.card:
        parts.append(tag("p", "Model card: ", tag("a", stage.card, href=stage.card)))
    if stage.summary is not None:
        parts += [headline(stage.summary.facts), summary_body(stage.summary)]
    if stage.profile is not None:
        parts.append(profile_section(stage.profile))
    if stage.manifest is not None:
        parts.append(_details(stage.manifest))
    return tag("section", *parts, id=f"stage-{stage.name}")


def _remarks(stage: StageView) -> list[str]:
    remarks = []
    if stage.status == "kept" and stage.reason:
        remarks.append(f"Taken as it stands, though it would be made again by now: {stage.reason}.")
    elif stage.status == "skipped":
        why = f": {stage.reason}" if stage.reason else ""
        left = "What lies in its folder is of an earlier run." if stage.manifest is not None else ""
        remarks.append(f"Not part of this run{why}. {left}".strip())
    elif stage.status not in FINISHED and stage.reason:
        remarks.append(f"It ran because: {stage.reason}.")
    if out_of_date := text(stage.record, "out_of_date"):
        remarks.append(f"Its folder no longer holds what the stages above would give: {out_of_date}.")
    if stage.manifest is None and not stage.problem and stage.status != "skipped":
        spent = f" after {seconds(stage.wall_s)}" if stage.wall_s is not None and stage.status in _BAD else ""
        ended = f"It {stage.status if stage.status != 'interrupted' else 'was interrupted'}{spent}"
        said = ended if stage.status in _BAD else "It has not finished"
        remarks.append(f"{said}, so there is no result to show.")
    remarks += [f"It was cut off, and {resumption_words(item)}." for item in stage.resumptions]
    return remarks


def summary_body(summary: Summary) -> Markup:
    """Facts, charts, tables and texts of a summary."""
    by_title: dict[tuple[str, str], list[Series]] = {}
    for series in summary.series:
        by_title.setdefault((series.title, series.kind), []).append(series)
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
    return join([*shown[:SAMPLES_OPEN], fold(f"{len(more)} more text{'s' if len(more) > 1 else ''}", *more)])


def _details(manifest: Manifest) -> Markup:
    """What the stage was made of: options, inputs, files."""
    options = Table("Options", ("option", "value"), tuple((k, json_text(v)) for k, v in manifest.options.items()))
    inputs = tuple((Path(i.name).name or i.name, i.kind, i.size_bytes, i.xxh3_128) for i in manifest.inputs)
    outputs = tuple((name, xxh3_128) for name, xxh3_128 in manifest.outputs.items())
    return fold(
        "Options, inputs and files",
        table(options) if options.rows else "",
        table(Table("Inputs", ("name", "kind", "bytes", "xxh3-128"), inputs)) if inputs else "",
        table(Table("Files", ("name", "xxh3-128"), outputs)) if outputs else "",
        note(f"Algorithm version {manifest.algorithm_version} of {manifest.verb}."),
    )


def recipe_section(record: Mapping[str, Any]) -> Markup:
    """The recipe as it was, and what the command line set.

    Args:
        record: `run.json`.
    """
    parts = [tag("h2", "Recipe"), tag("pre", text(record, "recipe", "text"))]
    if overrides := texts(record, "recipe", "set"):
        parts += [tag("h4", "Set on the command line"), tag("pre", "\n".join(overrides))]
    return tag("section", *parts, id="recipe")


def versions_section(record: Mapping[str, Any], stages: Sequence[StageView]) -> Markup:
    """One column where all stages were made with the same versions, else one a stage."""
    made = {s.name: dict(s.manifest.versions) for s in stages if s.manifest is not None}
    distinct = [dict(pairs) for pairs in {tuple(sorted(v.items())) for v in made.values()}]
    if len(distinct) > 1:
        packages = sorted({package for versions in distinct for package in versions})
        rows = tuple((p, *(versions.get(p, "–") for versions in made.values())) for p in packages)
        shown = Table("", ("package", *made), rows)
    else:
        noted = record.get("versions")
        recorded = {k: str(v) for k, v in noted.items()} if isinstance(noted, Mapping) else {}
        shown = Table("", ("package", "version"), tuple(sorted((distinct[0] if distinct else recorded).items())))
    return tag("section", tag("h2", "Versions"), table(shown), id="versions")


def _lines(items: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", item) for item in items)) if items else escape("–")


def short(name: str) -> str:
    """An input without the folders it lies in; the stage's details have all of it.

    Args:
        name: as the recipe has it.
    """
    return name.rstrip("/").rpartition("/")[2] or name


def json_text(value: object) -> str:
    """An option's value for people: a text as it is, anything else as JSON.

    Args:
        value: as the manifest has it.
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
