"""What a checkpoint was made of: manifests followed back to the files, and what was measured of it.

A manifest knows a stage by the hash of that stage's manifest, so a folder that was renamed is still found, and one that
was made again since is not taken for the one it replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from biollm.errors import BiollmError, FormatError, InputError
from biollm.manifest import InputRecord, Manifest
from biollm.report.folders import StageView, read_json, stage_view
from biollm.results import Summary

MAX_FOLDERS: Final = 10_000
"""Folders beside a checkpoint that are looked into."""


@dataclass(frozen=True)
class Step:
    """One stage that was found.

    Attributes:
        name: of its folder.
        folder: where it lies.
        manifest: of it.
        summary: of it; empty where it cannot be read.
    """

    name: str
    folder: Path
    manifest: Manifest
    summary: Summary

    @property
    def made_of(self) -> frozenset[str]:
        """Hashes of the manifests of the stages that came in."""
        return frozenset(r.xxh3_128 for r in self.manifest.inputs if r.kind == "stage" and r.xxh3_128 is not None)


@dataclass(frozen=True)
class Given:
    """An input that is no stage that was found: a file, a URL, a foreign folder, data in memory; or a lost stage.

    Attributes:
        record: as the manifest has it.
        used_by: names of the stages that took it.
    """

    record: InputRecord
    used_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """Without the folders it lay in."""
        return self.record.name.rstrip("/").rpartition("/")[2] or self.record.name


@dataclass(frozen=True)
class Lineage:
    """Where a checkpoint comes from.

    Attributes:
        steps: the stages, each behind those it was made of; the checkpoint last.
        sources: inputs from outside.
        lost: stages among the inputs whose folders were not found.
        evaluations: of the checkpoint and of those before it: (evaluation, name of the checkpoint).
        record: `run.json` of the folder the checkpoint lies in; empty where there is none.
    """

    steps: tuple[Step, ...]
    sources: tuple[Given, ...] = ()
    lost: tuple[Given, ...] = ()
    evaluations: tuple[tuple[Step, str], ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Step:
        """The stage that is asked about."""
        return self.steps[-1]

    def of_verb(self, verb: str) -> tuple[Step, ...]:
        """The steps that a verb made."""
        return tuple(step for step in self.steps if step.manifest.verb == verb)


def find_checkpoint(folder: Path, stage: str | None = None) -> Path:
    """The checkpoint's folder that is meant.

    Args:
        folder: of a checkpoint, or of a run.
        stage: of a run's folder, the name of the stage; without it the last that made a checkpoint.

    Raises:
        InputError: there is no manifest, or none of a checkpoint, or no such stage.
        FileError, FormatError: a manifest cannot be read.
    """
    if not folder.is_dir():
        raise InputError("not a folder", path=folder, field="folder")
    if (folder / "manifest.json").is_file():
        if stage is not None:
            message = "this is the folder of one stage: --stage goes with the folder of a run"
            raise InputError(message, path=folder, field="stage", value=stage)
        return _of_checkpoint(folder)
    if stage is not None:
        if stage != Path(stage).name or not (folder / stage / "manifest.json").is_file():
            raise InputError(f"the folder holds no finished stage {stage!r}", path=folder, field="stage", value=stage)
        return _of_checkpoint(folder / stage)
    found = [place for place in _in_order(folder) if Manifest.read(place).kind == "checkpoint"]
    if not found:
        message = "neither a checkpoint nor a run that made one: no manifest.json of a checkpoint is there"
        raise InputError(message, path=folder, field="folder")
    return found[-1]


def trace(folder: Path) -> Lineage:
    """Follows a checkpoint's manifest back as far as its inputs are found.

    Args:
        folder: of the checkpoint.

    Raises:
        FileError, FormatError: its own manifest cannot be read.
    """
    beside = dict(_by_hash(folder.resolve().parent))
    steps: list[Step] = []
    given: dict[tuple[bool, str, str | None], Given] = {}
    seen: set[Path] = set()

    def follow(place: Path, step: Step) -> None:
        seen.add(place.resolve())
        for record in step.manifest.inputs:
            found = _found(record, beside) if record.kind == "stage" else None
            if found is not None:
                if found.folder.resolve() not in seen:
                    follow(found.folder, found)
                continue
            key = (record.kind == "stage", record.name, record.xxh3_128)
            before = given[key].used_by if key in given else ()
            given[key] = Given(record, tuple(dict.fromkeys((*before, step.name))))
        steps.append(step)

    follow(folder, _step(folder))
    known = {step.manifest.hash: step.name for step in steps if step.manifest.kind == "checkpoint"}
    evaluations = [
        (step, known[next(iter(measured))])
        for step in beside.values()
        if step.manifest.kind == "evaluation" and (measured := step.made_of & set(known))
    ]
    record: Mapping[str, Any] = {}
    with suppress(BiollmError):
        record = read_json(folder.resolve().parent / "run.json")
    return Lineage(
        steps=tuple(steps),
        sources=tuple(item for (is_stage, _, _), item in given.items() if not is_stage),
        lost=tuple(item for (is_stage, _, _), item in given.items() if is_stage),
        evaluations=tuple(evaluations),
        record=record if record.get("format") == "biollm-run" else {},
    )


def _of_checkpoint(folder: Path) -> Path:
    manifest = Manifest.read(folder)
    if manifest.kind != "checkpoint":
        message = f"the folder holds {manifest.kind} of {manifest.verb}, no checkpoint: a card is about a model"
        raise InputError(message, path=folder, field="folder")
    return folder


def _in_order(folder: Path) -> list[Path]:
    """The finished stages of a run's folder, in the order of its record, else in that of their manifests' times."""
    found = {place.name: place for place in _stage_folders(folder)}
    names: list[str] = []
    with suppress(BiollmError, KeyError, TypeError):
        names = [stage["name"] for stage in read_json(folder / "run.json")["stages"]]
    if names:
        return [found[name] for name in names if name in found]
    return sorted(found.values(), key=lambda place: (place / "manifest.json").stat().st_mtime_ns)


def _stage_folders(folder: Path) -> Iterator[Path]:
    for number, path in enumerate(sorted(folder.glob("*/manifest.json"))):
        if number >= MAX_FOLDERS:
            return
        yield path.parent


def _by_hash(folder: Path) -> Iterator[tuple[str, Step]]:
    """The stages of a folder that can be read, by the hashes of their manifests."""
    for place in _stage_folders(folder):
        with suppress(BiollmError):
            step = _step(place)
            yield step.manifest.hash, step


def _found(record: InputRecord, beside: Mapping[str, Step]) -> Step | None:
    """The stage of a record: beside the checkpoint, or where its name says, if it is still the same."""
    if record.xxh3_128 is None:
        return None
    if record.xxh3_128 in beside:
        return beside[record.xxh3_128]
    with suppress(BiollmError, OSError, ValueError):
        step = _step(Path(record.name))
        if step.manifest.hash == record.xxh3_128:
            return step
    return None


def _step(folder: Path) -> Step:
    Manifest.read(folder)  # for its own error, where there is none
    view: StageView = stage_view(folder)
    if view.manifest is None:
        raise FormatError(view.problem or "the manifest cannot be shown", path=folder / "manifest.json")
    return Step(view.name, folder, view.manifest, view.summary or Summary(view.verb))
