"""What a run would do, and what it would take: nothing is run, nothing written, no folder made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from biollm.errors import BiollmError, FileError, InputError
from biollm.manifest import Manifest
from biollm.partial import FOLDER_NAME
from biollm.recipe.estimate import Estimate, Past, estimate, train_work
from biollm.recipe.folder import has_unfinished_work, is_finished, refuse_foreign
from biollm.recipe.graph import Node, plan
from biollm.recipe.match import Match, match_stage, matched_options
from biollm.recipe.options import plain
from biollm.recipe.parse import Recipe, read_recipe
from biollm.recipe.rates import Rates
from biollm.recipe.run import RECORD_NAME, refuse_own_output, unfinished_stages
from biollm.recipe.scope import Scope, make_scope, require_finished
from biollm.recipe.usage import memory_available
from biollm.recipe.volumes import Volume, folder_bytes, of_files, of_folder, total
from biollm.stages import Stage

Action = Literal["matches", "runs", "goes on", "kept", "skipped", "refused"]
"""What a run would do with a stage: "goes on" runs from where it was cut off, "kept" is taken though it no longer
matches, "skipped" is left out, "refused" cannot run (files of others lie in its folder)."""
_WORKING = ("runs", "goes on")


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with one stage.

    Attributes:
        name, verb: of the stage.
        action: see `Action`.
        reason: why; empty where it matches.
        reached: units of work (optimizer steps, documents) that the run which was cut off had done, where it goes on.
        takes: what comes in.
        estimate: what it will take and leave; of one that does not run, what it left, and no time.
    """

    name: str
    verb: str
    action: Action
    reason: str
    reached: int | None
    takes: Volume
    estimate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "verb": self.verb,
            "action": self.action,
            "reason": self.reason,
            "reached": self.reached,
            "input": self.takes.to_dict(),
            "output": self.estimate.gives.to_dict(),
            "wall_s": self.estimate.wall_s,
            "memory_bytes": _whole(self.estimate.memory_bytes),
            "scratch_bytes": _whole(self.estimate.scratch_bytes),
            "basis": self.estimate.basis,
        }


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    Attributes:
        folder: of the run.
        stages: in order.
        disk_free_bytes: where the folder lies or would lie.
        memory_free_bytes: that a process could take now.
        replaced_bytes: in the folders of the stages that run, which make room.
    """

    folder: Path
    stages: tuple[PlannedStage, ...]
    disk_free_bytes: int
    memory_free_bytes: int
    replaced_bytes: float = 0.0

    @property
    def wall_s(self) -> float | None:
        """Seconds that the stages which run take together; `None` where one of them is unknown."""
        return _sum([stage.estimate.wall_s for stage in self._working])

    @property
    def disk_bytes(self) -> float | None:
        """The most that the run adds to the disk: what stages leave and need for a while, less what they replace."""
        written = _sum([stage.estimate.gives.size_bytes for stage in self._working])
        scratch = max((stage.estimate.scratch_bytes for stage in self._working), default=0.0)
        return max(0.0, written + scratch - self.replaced_bytes) if written is not None else None

    @property
    def memory_bytes(self) -> float | None:
        """The highest of the stages that run; `None` where one of them is unknown."""
        needs = [stage.estimate.memory_bytes for stage in self._working]
        known = [need for need in needs if need is not None]
        return max(known, default=0.0) if len(known) == len(needs) else None

    @property
    def disk_suffices(self) -> bool | None:
        """Whether the disk has room; `None` where that is unknown."""
        return self.disk_bytes <= self.disk_free_bytes if self.disk_bytes is not None else None

    @property
    def memory_suffices(self) -> bool | None:
        """Whether there is as much memory free now; `None` where that is unknown."""
        return self.memory_bytes <= self.memory_free_bytes if self.memory_bytes is not None else None

    @property
    def _working(self) -> list[PlannedStage]:
        return [stage for stage in self.stages if stage.action in _WORKING]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "output": str(self.folder),
            "stages": [stage.to_dict() for stage in self.stages],
            "total": {
                "wall_s": self.wall_s,
                "disk_bytes": _whole(self.disk_bytes),
                "memory_bytes": _whole(self.memory_bytes),
                "disk_free_bytes": self.disk_free_bytes,
                "memory_free_bytes": self.memory_free_bytes,
                "disk_suffices": self.disk_suffices,
                "memory_suffices": self.memory_suffices,
            },
        }


def dry_run(  # noqa: D417  (most arguments are those of `run`)
    recipe: str | os.PathLike[str] | Recipe,
    *,
    output: str | os.PathLike[str],
    set: Iterable[str] = (),  # noqa: A002 (the name of the command's option)
    from_: str | None = None,
    only: str | None = None,
    verify: bool = False,
    stages: Mapping[str, Stage] | None = None,
    rates: Rates | None = None,
) -> DryRun:
    """What `run` with the same arguments would do, and about what it would take.

    Args:
        recipe, output, set, from_, only, verify, stages: as for `run`.
        rates: for verbs that have not run in this folder; by default those of the package, scaled to this machine.

    Returns:
        The plan. Times are estimates; what they rest on stands with each stage.

    Raises:
        ConfigError, FileError: as `run` before its first stage.
    """
    parsed = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, set)
    nodes = plan(parsed, stages)
    scope = make_scope(nodes, from_, only)
    folder = Path(output).absolute()
    refuse_own_output(nodes, folder)
    require_finished(nodes, scope, folder)
    return _Plan(nodes, scope, folder, verify, rates or Rates()).make()


@dataclass
class _Plan:
    nodes: tuple[Node, ...]
    scope: Scope
    folder: Path
    verify: bool
    rates: Rates
    planned: dict[str, PlannedStage] = field(default_factory=dict)
    replaced_bytes: float = 0.0

    def make(self) -> DryRun:
        self.unfinished = unfinished_stages(self.folder)
        self.recorded = _recorded_options(self.folder)
        self.past = _manifests(self.folder, self.nodes)
        for position, node in enumerate(self.nodes):
            self.planned[node.name] = self._stage(node, position)
        free = shutil.disk_usage(_existing(self.folder)).free
        return DryRun(self.folder, tuple(self.planned.values()), free, memory_available(), self.replaced_bytes)

    def _stage(self, node: Node, position: int) -> PlannedStage:
        folder = self.folder / node.name
        action, reason = self._action(node, position)
        takes = [self._volume(node, index) for index in range(len(node.sources))]
        if action not in _WORKING:
            gives = _filled(of_folder(folder), total(takes)) if is_finished(folder) else Volume()
            return PlannedStage(
                node.name, node.stage.verb, action, reason, None, total(takes), Estimate(gives=gives, basis="")
            )
        options = matched_options(node)
        guess = estimate(node.stage.verb, options, takes, self._past(node), self.rates)
        reached = _reached(folder) if action == "goes on" else None
        if reached and node.stage.verb == "train" and guess.wall_s is not None:
            work = train_work(options, total(takes))
            share = 1 - reached / work.steps if work is not None else 1.0
            guess = replace(guess, wall_s=guess.wall_s * max(0.0, share))
        self.replaced_bytes += folder_bytes(folder)
        return PlannedStage(node.name, node.stage.verb, action, reason, reached, total(takes), guess)

    def _action(self, node: Node, position: int) -> tuple[Action, str]:
        place, folder = self.scope.place(position), self.folder / node.name
        if place == "left" or (place == "above" and not is_finished(folder)):
            return "skipped", f"{self.scope.option} leaves it out"
        match = self._match(node)
        if place == "above":
            return ("matches", "") if match.manifest is not None else ("kept", f"no longer matches: {match.reason}")
        if place == "named":
            match = Match(None, f"asked for by {self.scope.option}")
        above = self._running_above(node)
        if match.manifest is not None and not above:
            return "matches", ""
        reason = match.reason or f"unless {above!r} comes out as it was"
        try:
            refuse_foreign(folder, ours=node.name in self.unfinished)
        except InputError as error:
            return "refused", error.message
        if has_unfinished_work(folder) and not above and self._same_options(node):
            return "goes on", f"{reason}; it was cut off"
        return "runs", reason

    def _match(self, node: Node) -> Match:
        try:
            return match_stage(node, self.folder, verify=self.verify, renew=False)
        except FileError:
            raise
        except BiollmError as error:
            return Match(None, str(error))

    def _running_above(self, node: Node) -> str | None:
        """The first of its inputs that would be made anew."""
        names = [source.stage for source in node.sources if source.stage is not None]
        return next((name for name in names if self.planned[name].action in _WORKING), None)

    def _same_options(self, node: Node) -> bool:
        """Whether the run that was cut off had the options of now, as far as they change the output."""
        recorded = self.recorded.get(node.name)
        now = plain(node.options)
        names = [name for name in now if name not in node.stage.unmatched_options]
        return recorded is not None and all(recorded.get(name) == now[name] for name in names)

    def _volume(self, node: Node, index: int) -> Volume:
        source = node.sources[index]
        if source.stage is not None:
            return self.planned[source.stage].estimate.gives
        if source.folder is not None:
            return of_folder(source.folder)
        return of_files(source.files, self.rates.table["files"])

    def _past(self, node: Node) -> Past | None:
        """The stage's own earlier run, else the last of another stage of its verb."""
        own = self.past.get(node.name)
        if own is not None and own.manifest.verb == node.stage.verb:
            return own
        same = [past for past in self.past.values() if past.manifest.verb == node.stage.verb]
        return replace(same[-1], own=False) if same else None


def _filled(gives: Volume, takes: Volume) -> Volume:
    """A manifest that counts documents but no bytes of text: they are as long as those that came in."""
    if gives.text_bytes is None and gives.documents and takes.text_bytes and takes.documents:
        return replace(gives, text_bytes=gives.documents * takes.text_bytes / takes.documents)
    return gives


def _manifests(folder: Path, nodes: Iterable[Node]) -> dict[str, Past]:
    found = {}
    for node in nodes:
        try:
            found[node.name] = Past(Manifest.read(folder / node.name), folder_bytes(folder / node.name))
        except BiollmError:
            continue
    return found


def _recorded_options(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The options that the last run in the folder had, by stage."""
    try:
        stages = json.loads((folder / RECORD_NAME).read_bytes())["stages"]
        return {stage["name"]: stage["options"] for stage in stages}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _reached(folder: Path) -> int | None:
    try:
        return int((folder / FOLDER_NAME / "reached").read_bytes())
    except (OSError, ValueError):
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _whole(value: float | None) -> int | None:
    return round(value) if value is not None else None
