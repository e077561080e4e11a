"""The report of a run or of one stage: one HTML file from what lies in the folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from biollm.atomic import write_bytes, write_json
from biollm.errors import FormatError
from biollm.report.evaluations import evaluations_section
from biollm.report.folders import RunView, read_json, read_run, texts
from biollm.report.log import log_section
from biollm.report.markup import Markup, document, tag
from biollm.report.sections import (
    lead,
    overview,
    problems,
    recipe_section,
    stage_section,
    status_chip,
    summary_body,
    versions_section,
)
from biollm.results import Summary

REPORT_NAME: Final = "report.html"
EXTRA_NAME: Final = "report_extra.json"


def write_report(folder: str | os.PathLike[str], *, extra: Iterable[Summary] | None = None) -> Path:
    """Writes `folder/report.html` about a run's folder or one stage's folder; gives its path.

    What of the folder is missing or broken is said in the report.

    Args:
        folder: what `biollm run` or a verb's `output=` left, finished or not.
        extra: sections beside the stages' own, kept in the folder for later reports; `None` keeps those of before, an
            empty sequence drops them.

    Raises:
        InputError: the folder holds neither a run nor a stage.
        FileError: something cannot be read or written.
        FormatError: `run.json` is not one of ours, and nothing else is there to show.
    """
    run = read_run(folder)
    try:
        sections = _extra(run.folder, extra)
    except FormatError as error:
        sections, run = (), replace(run, problems=(*run.problems, f"Sections of the report cannot be read: {error}"))
    page = _page(run, sections)
    target = run.folder / REPORT_NAME
    write_bytes(target, page.encode("utf-8"))
    return target


def _page(run: RunView, extra: Sequence[Summary]) -> str:
    log = log_section(run.log, texts(run.record, "warnings")) if run.log is not None else Markup()
    compared = evaluations_section(run.stages)
    named = [("evaluations", "evaluations compared")] if compared else []
    named += [(f"extra-{i}", s.title) for i, s in enumerate(extra)] + [(f"stage-{s.name}", s.name) for s in run.stages]
    links = [*named, *([("log", "log")] if log else []), *([("recipe", "recipe")] if run.record else [])]
    body = [
        tag(
            "header",
            tag("h1", f"{run.name} ", status_chip(run.status)),
            lead(run),
            tag("nav", *(tag("a", label, href=f"#{anchor}") for anchor, label in [*links, ("versions", "versions")])),
        ),
        problems(run),
        overview(run.stages),
        compared,
        *(tag("section", tag("h2", s.title), summary_body(s), id=f"extra-{i}") for i, s in enumerate(extra)),
        *(stage_section(stage) for stage in run.stages),
        log,
        recipe_section(run.record) if run.record else Markup(),
        versions_section(run.record, run.stages),
    ]
    return document(f"{run.name} – report", body)


def _extra(folder: Path, extra: Iterable[Summary] | None) -> tuple[Summary, ...]:
    path = folder / EXTRA_NAME
    if extra is None:
        if not path.exists():
            return ()
        try:
            return tuple(Summary.from_dict(data) for data in read_json(path)["sections"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not sections of a report: {error}", path=path) from error
    sections = tuple(extra)
    if sections:
        write_json(path, {"sections": [section.to_dict() for section in sections]})
    else:
        path.unlink(missing_ok=True)
    return sections
