"""Runs a recipe: stage after stage into `RUN/<name>/`, each only if its folder does not match already.

`RUN/run.json` records what was asked and how each stage ended; it is written before and after every stage, so a run
that was killed still says how far it came. `RUN/log.jsonl` (`biollm.telemetry`) tells what happened and when. A failed
or interrupted run leaves the stages above valid, and of the stage itself the work in progress that its verb kept.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from biollm.atomic import write_json
from biollm.errors import BiollmError, ConfigError, InternalError
from biollm.manifest import Manifest, StageTimer, package_versions
from biollm.recipe.folder import (
    LOCK_NAME,
    clear,
    drop_unfinished_work,
    has_unfinished_work,
    is_finished,
    lock,
    refuse_foreign,
    remove_temporary,
)
from biollm.recipe.graph import Node, plan
from biollm.recipe.match import Match, match_stage, stage_inputs
from biollm.recipe.options import plain
from biollm.recipe.parse import Recipe, read_recipe
from biollm.recipe.profiling import StageProfile
from biollm.recipe.scope import Scope, make_scope, require_finished
from biollm.recipe.usage import Usage, machine
from biollm.results import Progress, Result
from biollm.stages import Stage, StageContext
from biollm.telemetry import LOG_NAME, RunLog, event
from biollm.training import environment

RECORD_NAME: Final = "run.json"
REPORT_NAME: Final = "report.html"
Status = Literal["waiting", "running", "complete", "matched", "kept", "skipped", "failed", "interrupted"]
"""How a stage stands: "kept" is taken as it stands though it no longer matches, "skipped" was not asked for."""
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
        status: "complete" (it ran), "matched" (its folder already held the result), "kept" (its folder holds a result
            that no longer matches, and was taken as it stands) or "skipped" (not asked for).
        reason: why it ran, no longer matches or was skipped; empty where it matched.
        wall_s: seconds this run spent on it.
        manifest: of its folder; `None` for one that was skipped.
        out_of_date: why the folder of one that was skipped no longer matches; empty where it does, or holds no result.
    """

    name: str
    verb: str
    folder: Path
    status: Status
    reason: str
    wall_s: float
    manifest: Manifest | None
    out_of_date: str = ""


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
    from_: str | None = None,
    only: str | None = None,
    verify: bool = False,
    profile: bool = False,
    progress: RunProgress | None = None,
    stages: Mapping[str, Stage] | None = None,
) -> RunResult:
    """Runs a recipe into the folder `output`, skipping stages whose manifests match, and writes `output/report.html`.

    A stage that was cut off is gone on with, where its verb kept work in progress of the same options and inputs.

    Args:
        recipe: a TOML file, or one already read.
        output: the run's folder; made where it is missing. One process at a time may run in it.
        set: overrides `NAME.KEY=VALUE`, applied to a recipe given as a file.
        from_: name of a stage that runs even where it matches. Those above it are taken as they stand: each must be
            finished, and one that no longer matches is a warning. Those below it run where they do not match.
        only: as `from_`, but nothing below it runs, and of those above only its inputs must be finished.
        verify: hash every input and output, even where size and times say that nothing changed.
        profile: watch memory, processor and functions of each stage that runs, into `output/profile/`.
        progress: told of each stage.
        stages: verb → `Stage`, instead of this library's verbs.

    Returns:
        How each stage ended, and where the report lies.

    Raises:
        ConfigError: the recipe is wrong; found before anything runs. Or `from_` or `only` name no stage, are both
            given, or a stage above is not finished. Or this is one process of several that `torchrun` started.
        FileError: a file is missing, or another process runs in `output`.
        InputError: a stage's folder holds files that no stage wrote.
        Whatever a stage raises; the stages before it stay valid and are not run again next time.
    """
    if environment.size() > 1:
        message = "a recipe's stages start their processes themselves: give them nproc, and run it without torchrun"
        raise ConfigError(message, field="nproc", value=environment.size())
    parsed = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, set)
    nodes = plan(parsed, stages)
    scope = make_scope(nodes, from_, only)
    folder = Path(output).absolute()
    refuse_own_output(nodes, folder)
    require_finished(nodes, scope, folder)
    with lock(folder / LOCK_NAME):
        return _Run(parsed, nodes, scope, folder, verify, profile, progress).run()


@dataclass
class _Run:
    recipe: Recipe
    nodes: tuple[Node, ...]
    scope: Scope
    folder: Path
    verify: bool
    profile: bool
    progress: RunProgress | None
    outcomes: list[StageOutcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    started: str = ""
    versions: dict[str, str] = field(default_factory=package_versions)
    machine: dict[str, Any] = field(default_factory=machine)

    def run(self) -> RunResult:
        self.unfinished = unfinished_stages(self.folder)
        self.started = _now()
        self.records = [_record(node) for node in self.nodes]
        remove_temporary(self.folder, (RECORD_NAME, REPORT_NAME))
        timer = StageTimer()
        with RunLog(self.folder / LOG_NAME) as self.log:
            try:
                self._write("running")
                self._tell_start()
                for position, node in enumerate(self.nodes):
                    self._stage(node, self.records[position], position)
                self._write("complete")
                report = self._report(after_failure=False)
            except BaseException as error:
                status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                self.log.event(
                    "run_failed",
                    f"{status}: {error}",
                    status=status,
                    wall_s=timer.wall_s,
                    error=type(error).__name__,
                    error_message=str(error),
                )
                self._write(status, error)
                self._report(after_failure=True)
                raise
            event(
                _log,
                "run_finished",
                f"complete in {timer.wall_s:.1f} s",
                level=logging.DEBUG,
                status="complete",
                wall_s=timer.wall_s,
                warnings=len(self.warnings),
            )
        if self.log.failed:
            _log.warning("%s lacks %d lines: %s", LOG_NAME, self.log.failed, self.log.problem)
        return RunResult(self.folder, tuple(self.outcomes), report, tuple(self.warnings))

    def _stage(self, node: Node, record: dict[str, Any], position: int) -> None:
        self.log.stage = node.name
        place = self.scope.place(position)
        record["started"] = _now(timespec="milliseconds")
        if place == "left" or (place == "above" and not is_finished(self.folder / node.name)):
            outcome = self._skip(node, record)
        else:
            outcome = self._hold_or_run(node, record, position)
        record["finished"] = _now(timespec="milliseconds")
        self.outcomes.append(outcome)
        self._write("running")
        self.log.stage = None

    def _skip(self, node: Node, record: dict[str, Any]) -> StageOutcome:
        """Leaves a stage as it is, and finds out whether it still matches what stands above."""
        folder, out_of_date = self.folder / node.name, ""
        if is_finished(folder):
            out_of_date = self._out_of_date(node)
        reason = f"{self.scope.option} {self._named} leaves it out"
        record.update(status="skipped", reason=reason, out_of_date=out_of_date or None)
        note = f"; what lies there is out of date ({out_of_date})" if out_of_date else ""
        message = f"{node.name}: not run, {reason}{note}"
        event(_log, "stage_skipped", message, verb=node.stage.verb, reason=reason, out_of_date=out_of_date)
        return StageOutcome(node.name, node.stage.verb, folder, "skipped", reason, 0.0, None, out_of_date)

    def _out_of_date(self, node: Node) -> str:
        stale = {outcome.name for outcome in self.outcomes if outcome.out_of_date}
        above = next((source.stage for source in node.sources if source.stage in stale), None)
        if above is not None:
            return f"its input {above!r} is out of date"
        try:
            return match_stage(node, self.folder, verify=self.verify).reason
        except BiollmError as error:  # an input that cannot be read any more
            return str(error)

    def _hold_or_run(self, node: Node, record: dict[str, Any], position: int) -> StageOutcome:
        """Holds a stage against its folder, and runs it where it must."""
        folder, verb = self.folder / node.name, node.stage.verb
        own = self.progress.begin(node.name, verb, position, len(self.nodes)) if self.progress else None
        timer = StageTimer()
        status: Status = "failed"
        usage: Usage | None = None
        try:
            match = self._match(node, position)
            if match.manifest is not None:
                status, manifest = self._stands(node, match)
            else:
                profile = StageProfile(self.folder, node.name, verb) if self.profile else None
                usage = (profile.usage if profile else Usage()).start()
                try:
                    status, manifest = self._make(node, record, match.reason, own, profile)
                except BaseException as error:
                    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                    raise
                finally:
                    usage.stop()
                    if profile:
                        profile.write(status)
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            error.add_note(f"in stage {node.name!r} ({verb}) of {self.recipe.path}")
            self._tell_failure(node, status, error, timer, usage)
            raise
        finally:
            record.update(status=status, wall_s=timer.wall_s, cpu_s=timer.cpu_s)
            record["peak_rss_bytes"] = usage.peak_rss_bytes if usage else None
            if self.progress:
                self.progress.end(node.name, status, timer.wall_s)
            if usage:
                gc.collect()  # a stage's tensors and tables go before the next one's come
        record["resumptions"] = [{**asdict(cut), "repeated": cut.repeated} for cut in manifest.resumptions]
        if usage:
            self._tell_finish(node, manifest, usage)
        return StageOutcome(node.name, verb, folder, status, match.reason, timer.wall_s, manifest)

    def _match(self, node: Node, position: int) -> Match:
        """How the stage stands; without a manifest it runs. One that is taken as it stands has one in any case."""
        place, folder = self.scope.place(position), self.folder / node.name
        if place == "named":
            return Match(None, f"asked for by {self.scope.option}")
        if place == "usual":
            return match_stage(node, self.folder, verify=self.verify)
        manifest = Manifest.read(folder)
        if manifest.kind != node.stage.gives:
            message = f"{node.name!r} is to be taken as it stands, but its folder was made by {manifest.verb}"
            raise ConfigError(f"{message}: run with --from {node.name}", path=folder, field=self.scope.option[2:])
        try:
            match = match_stage(node, self.folder, verify=self.verify)
        except BiollmError as error:
            match = Match(None, str(error))
        return match if match.manifest is not None else Match(manifest, match.reason)

    def _stands(self, node: Node, match: Match) -> tuple[Status, Manifest]:
        """Takes a finished folder."""
        assert match.manifest is not None
        for warning in match.warnings:
            self._warn(f"{node.name}: {warning}")
        if match.reason:
            self.records[self.nodes.index(node)]["reason"] = match.reason
            message = f"{node.name}: taken as it stands, but it no longer matches ({match.reason})"
            self._warn(message, "stage_kept", verb=node.stage.verb, reason=match.reason)
            return "kept", match.manifest
        drop_unfinished_work(self.folder / node.name)
        event(_log, "stage_matched", f"{node.name}: matches, not run again", verb=node.stage.verb)
        return "matched", match.manifest

    def _make(
        self, node: Node, record: dict[str, Any], reason: str, own: Progress | None, profile: StageProfile | None
    ) -> tuple[Status, Manifest]:
        """Runs a stage."""
        folder, verb = self.folder / node.name, node.stage.verb
        left = has_unfinished_work(folder)
        event(_log, "stage_started", f"{node.name}: runs ({reason})", verb=verb, reason=reason, unfinished_work=left)
        refuse_foreign(folder, ours=node.name in self.unfinished)
        record.update(status="running", reason=reason)
        self.unfinished.append(node.name)
        self._write("running")  # from here on, what lies in the folder is known to be ours
        clear(folder)
        inputs = stage_inputs(node, self.folder)
        progress = profile.progress(own) if profile else own
        context = StageContext(folder, inputs, progress, logging.getLogger(f"biollm.{verb}.{node.name}"))

        def work() -> Result:
            return node.stage.run(context, node.options)

        if profile:
            profile.call(work)
        else:
            work()
        manifest = _finished_manifest(node, folder)
        drop_unfinished_work(folder)
        self.unfinished = [name for name in self.unfinished if name != node.name]
        return "complete", manifest

    @property
    def _named(self) -> str:
        return self.nodes[self.scope.named].name if self.scope.named is not None else ""

    def _tell_start(self) -> None:
        versions = {f"version_{package}": version for package, version in self.versions.items()}
        event(
            _log,
            "run_started",
            f"{self.recipe.path} into {self.folder}",
            level=logging.DEBUG,
            recipe=str(self.recipe.path),
            set=" ".join(self.recipe.overrides),
            **{"from": self._asked("--from"), "only": self._asked("--only")},
            stages=len(self.nodes),
            **self.machine,
            **versions,
        )

    def _asked(self, option: str) -> str | None:
        return self._named if self._named and self.scope.option == option else None

    def _tell_finish(self, node: Node, manifest: Manifest, usage: Usage) -> None:
        counts = {f"count_{name}": count for name, count in manifest.counts.items()}
        event(
            _log,
            "stage_finished",
            f"{node.name}: complete in {usage.wall_s:.1f} s",
            level=logging.DEBUG,
            verb=node.stage.verb,
            status="complete",
            wall_s=usage.wall_s,
            cpu_s=usage.cpu_s,
            peak_rss_bytes=usage.peak_rss_bytes,
            resumptions=len(manifest.resumptions),
            repeated=sum(cut.repeated for cut in manifest.resumptions),
            **counts,
        )

    def _tell_failure(
        self, node: Node, status: Status, error: BaseException, timer: StageTimer, usage: Usage | None
    ) -> None:
        # Into the log alone: whoever called is told by the exception.
        self.log.event(
            "stage_failed",
            f"{node.name}: {status}: {error}",
            verb=node.stage.verb,
            status=status,
            wall_s=timer.wall_s,
            cpu_s=timer.cpu_s,
            peak_rss_bytes=usage.peak_rss_bytes if usage else None,
            error=type(error).__name__,
            error_message=str(error),
        )

    def _warn(self, message: str, name: str = "warning", **fields: str) -> None:
        self.warnings.append(message)
        event(_log, name, message, level=logging.WARNING, **fields)

    def _write(self, status: str, error: BaseException | None = None) -> None:
        """Writes `run.json`. After an error that already speaks, a second one (a full disk) must not hide it."""
        record = {
            "format": "biollm-run",
            "version": 1,
            "status": status,
            "error": f"{type(error).__name__}: {error}" if error is not None else None,
            "recipe": {"path": str(self.recipe.path), "text": self.recipe.text, "set": list(self.recipe.overrides)},
            "from": self._asked("--from"),
            "only": self._asked("--only"),
            "profile": self.profile,
            "log": LOG_NAME,
            "started": self.started,
            "written": _now(),
            "versions": self.versions,
            "machine": self.machine,
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
            return self.folder / REPORT_NAME


def refuse_own_output(nodes: tuple[Node, ...], folder: Path) -> None:
    """A file inside a stage's folder must come as that stage's name: read as a file it may be removed beneath us.

    Args:
        nodes: of the recipe.
        folder: of the run.

    Raises:
        ConfigError: naming the stage, the input and whose folder it lies in.
    """
    own = {folder.resolve() / node.name: node.name for node in nodes}
    for node in nodes:
        for source in node.sources:
            for path in (*source.files, *([source.folder] if source.folder else [])):
                whole = Path(path).resolve()
                inside = next((own[parent] for parent in (whole, *whole.parents) if parent in own), None)
                if inside is not None:
                    message = f"stage {node.name!r}: the input {source.name!r} lies in the folder of stage {inside!r}"
                    raise ConfigError(f"{message}: name the stage instead", path=path, field="inputs")


def unfinished_stages(folder: Path) -> list[str]:
    """Stages that earlier runs in `folder` began and did not finish: what lies in their folders is ours to clear."""
    try:
        names = json.loads((folder / RECORD_NAME).read_bytes())["unfinished"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _record(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "verb": node.stage.verb,
        "inputs": [source.name for source in node.sources],
        "options": plain(node.options),
        "status": "waiting",
        "reason": "",
        "out_of_date": None,
        "started": None,
        "finished": None,
        "wall_s": 0.0,
        "cpu_s": 0.0,
        "peak_rss_bytes": None,
        "resumptions": [],
    }


def _finished_manifest(node: Node, folder: Path) -> Manifest:
    if not is_finished(folder):
        raise InternalError(f"{node.stage.verb} ended without a manifest", path=folder)
    manifest = Manifest.read(folder)
    if (manifest.verb, manifest.kind) != (node.stage.verb, node.stage.gives):
        made = f"{manifest.verb} ({manifest.kind})"
        raise InternalError(f"{node.stage.verb} left a folder made by {made}", path=folder)
    return manifest


def _now(timespec: Literal["seconds", "milliseconds"] = "seconds") -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec=timespec)
