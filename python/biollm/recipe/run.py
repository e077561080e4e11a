"""Runs a recipe: stage after stage into `RUN/<name>/`, each only if its folder does not match already.

`RUN/run.json` records what was asked and how each stage ended; it is written before and after every stage, so a run
that was killed still says how far it came. A failed or interrupted run leaves the stages above valid.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from biollm.atomic import write_json
from biollm.errors import BiollmError, ConfigError, InternalError
from biollm.manifest import Manifest, StageTimer, package_versions
from biollm.recipe.folder import LOCK_NAME, clear, is_finished, lock, refuse_foreign
from biollm.recipe.graph import Node, plan
from biollm.recipe.match import match_folder, stage_inputs
from biollm.recipe.options import plain
from biollm.recipe.parse import Recipe, read_recipe
from biollm.results import Progress
from biollm.stages import Stage, StageContext

RECORD_NAME: Final = "run.json"
Status = Literal["waiting", "running", "complete", "matched", "failed", "interrupted"]
_log = logging.getLogger("biollm.recipe")


class RunProgress(Protocol):
    """Told of each stage; what `begin` returns is called with the stage's own progress."""

    def begin(self, name: str, verb: str, position: int, total: int, /) -> Progress | None:
        """The stage `name` of `verb` begins, number `position` (from 0) of `total`."""

    def end(self, name: str, status: Status, wall_s: float, /) -> None:
        """The stage `name` ended with `status`, after `wall_s` seconds."""


@dataclass(frozen=True)
class StageOutcome:
    """How a stage of a run ended.

    Attributes:
        name, verb, folder: of the stage.
        status: "complete" (it ran) or "matched" (its folder already held the result).
        reason: why it ran; empty where it matched.
        wall_s: seconds this run spent on it.
        manifest: of its folder.
    """

    name: str
    verb: str
    folder: Path
    status: Status
    reason: str
    wall_s: float
    manifest: Manifest


@dataclass(frozen=True)
class RunResult:
    """What `run` leaves.

    Attributes:
        folder: the run's.
        stages: how each ended, in order.
        report: the page that shows it.
        warnings: of the run, in words.
    """

    folder: Path
    stages: tuple[StageOutcome, ...]
    report: Path
    warnings: tuple[str, ...] = ()


def run(
    recipe: str | os.PathLike[str] | Recipe,
    *,
    output: str | os.PathLike[str],
    set: Iterable[str] = (),  # noqa: A002 (the name of the command's option)
    verify: bool = False,
    progress: RunProgress | None = None,
    stages: Mapping[str, Stage] | None = None,
) -> RunResult:
    """Runs a recipe into the folder `output`, skipping stages whose manifests match, and writes `output/report.html`.

    Args:
        recipe: a TOML file, or one already read.
        output: the run's folder; made where it is missing. One process at a time may run in it.
        set: overrides `NAME.KEY=VALUE`, applied to a recipe given as a file.
        verify: hash every input and output, even where size and times say that nothing changed.
        progress: told of each stage.
        stages: verb → `Stage`, instead of this library's verbs.

    Returns:
        How each stage ended, and where the report lies.

    Raises:
        ConfigError: the recipe is wrong; found before anything runs.
        FileError: a file is missing, or another process runs in `output`.
        InputError: a stage's folder holds files that no stage wrote.
        Whatever a stage raises; the stages before it stay valid and are not run again next time.
    """
    parsed = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, set)
    nodes = plan(parsed, stages)
    folder = Path(output).absolute()
    _refuse_own_output(nodes, folder)
    with lock(folder / LOCK_NAME):
        return _Run(parsed, nodes, folder, verify, progress).run()


@dataclass
class _Run:
    recipe: Recipe
    nodes: tuple[Node, ...]
    folder: Path
    verify: bool
    progress: RunProgress | None
    outcomes: list[StageOutcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    started: str = ""
    versions: dict[str, str] = field(default_factory=package_versions)

    def run(self) -> RunResult:
        self.unfinished = _unfinished(self.folder)
        self.started = _now()
        self.records = [_record(node) for node in self.nodes]
        self._write("running")
        try:
            for position, node in enumerate(self.nodes):
                self._stage(node, self.records[position], position)
        except BaseException as error:
            self._write("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error)
            self._report(after_failure=True)
            raise
        self._write("complete")
        report = self._report(after_failure=False)
        return RunResult(self.folder, tuple(self.outcomes), report, tuple(self.warnings))

    def _stage(self, node: Node, record: dict[str, Any], position: int) -> None:
        folder = self.folder / node.name
        own = self.progress.begin(node.name, node.stage.verb, position, len(self.nodes)) if self.progress else None
        timer = StageTimer()
        status: Status = "failed"
        try:
            inputs = stage_inputs(node, self.folder)
            match = match_folder(node, inputs, folder, verify=self.verify)
            if match.manifest is not None:
                status, manifest = "matched", match.manifest
                for warning in match.warnings:
                    self._warn(f"{node.name}: {warning}")
                _log.info("%s: matches, not run again", node.name)
            else:
                _log.info("%s: runs (%s)", node.name, match.reason)
                refuse_foreign(folder, ours=node.name in self.unfinished)
                record.update(status="running", reason=match.reason)
                self.unfinished.append(node.name)
                self._write("running")  # from here on, what lies in the folder is known to be ours
                clear(folder)
                context = StageContext(folder, inputs, own, logging.getLogger(f"biollm.{node.stage.verb}.{node.name}"))
                node.stage.run(context, node.options)
                manifest = _finished_manifest(node, folder)
                status = "complete"
                self.unfinished = [name for name in self.unfinished if name != node.name]
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            error.add_note(f"in stage {node.name!r} ({node.stage.verb}) of {self.recipe.path}")
            raise
        finally:
            record.update(status=status, wall_s=timer.wall_s)
            if self.progress:
                self.progress.end(node.name, status, timer.wall_s)
            gc.collect()  # a stage's tensors and tables go before the next one's come
        self.outcomes.append(
            StageOutcome(node.name, node.stage.verb, folder, status, match.reason, timer.wall_s, manifest)
        )
        self._write("running")

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        _log.warning("%s", message)

    def _write(self, status: str, error: BaseException | None = None) -> None:
        """Writes `run.json`. After an error that already speaks, a second one (a full disk) must not hide it."""
        record = {
            "format": "biollm-run",
            "version": 1,
            "status": status,
            "error": f"{type(error).__name__}: {error}" if error is not None else None,
            "recipe": {"path": str(self.recipe.path), "text": self.recipe.text, "set": list(self.recipe.overrides)},
            "started": self.started,
            "written": _now(),
            "versions": self.versions,
            "warnings": self.warnings,
            "stages": self.records,
            "unfinished": sorted({*self.unfinished}),
        }
        try:
            write_json(self.folder / RECORD_NAME, record)
        except BiollmError as second:
            if error is None:
                raise
            _log.warning("%s could not be written: %s", RECORD_NAME, second)

    def _report(self, *, after_failure: bool) -> Path:
        from biollm.report import write_report

        try:
            return write_report(self.folder, extra=())
        except Exception as second:
            if not after_failure:
                raise
            _log.warning("the report could not be written: %s", second)
            return self.folder / "report.html"


def _refuse_own_output(nodes: tuple[Node, ...], folder: Path) -> None:
    """A file inside a stage's folder must come as that stage's name: read as a file it may be removed beneath us."""
    own = {folder.resolve() / node.name: node.name for node in nodes}
    for node in nodes:
        for source in node.sources:
            for path in (*source.files, *([source.folder] if source.folder else [])):
                whole = Path(path).resolve()
                inside = next((own[parent] for parent in (whole, *whole.parents) if parent in own), None)
                if inside is not None:
                    message = f"stage {node.name!r}: the input {source.name!r} lies in the folder of stage {inside!r}"
                    raise ConfigError(f"{message}: name the stage instead", path=path, field="inputs")


def _record(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "verb": node.stage.verb,
        "inputs": [source.name for source in node.sources],
        "options": plain(node.options),
        "status": "waiting",
        "reason": "",
        "wall_s": 0.0,
    }


def _unfinished(folder: Path) -> list[str]:
    """Stages that earlier runs in this folder began and did not finish: what lies in their folders is ours to clear."""
    try:
        names = json.loads((folder / RECORD_NAME).read_bytes())["unfinished"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _finished_manifest(node: Node, folder: Path) -> Manifest:
    if not is_finished(folder):
        raise InternalError(f"{node.stage.verb} ended without a manifest", path=folder)
    manifest = Manifest.read(folder)
    if (manifest.verb, manifest.kind) != (node.stage.verb, node.stage.gives):
        made = f"{manifest.verb} ({manifest.kind})"
        raise InternalError(f"{node.stage.verb} left a folder made by {made}", path=folder)
    return manifest


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
