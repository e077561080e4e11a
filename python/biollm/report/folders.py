"""What lies in the folder of a run or of one stage, as a report needs it: read with suspicion, and never changed.

A piece that is missing or broken becomes a line that says so; the others are still shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from biollm.errors import BiollmError, FileError, FormatError, InputError
from biollm.manifest import InputRecord, Manifest, Resumption
from biollm.report.log import LogTail, read_log_tail
from biollm.report.profile import Profile
from biollm.results import Summary

MAX_JSON_BYTES: Final = 64 << 20
SHOWN_INPUTS: Final = 3
LARGEST: Final = 1e18
"""Numbers above are taken for broken ones: nothing that a run counts or times comes near."""
CARD_NAME: Final = "README.md"
CARD_MARK: Final = "<!-- biollm card of manifest "
"""Stands near the beginning of each model card that this library wrote."""
_HEAD_BYTES: Final = 1 << 16
FINISHED: Final = ("complete", "matched", "kept")
"""Statuses of a stage whose folder holds its result."""


@dataclass(frozen=True)
class StageView:
    """What a report knows of one stage.

    Attributes:
        name: of the stage, or of its folder.
        verb: what ran.
        status: how it ended, as the run's record says; "complete" of a folder by itself.
        reason: why it ran, or why it was taken although it does not match.
        inputs: as the recipe names them.
        manifest: of its folder; `None` where it has not finished.
        summary: of its folder; `None` where it has not finished.
        problem: why one of them cannot be read; empty where they can.
        record: the stage's part of `run.json`; empty of a folder by itself.
        profile: what `biollm run --profile` measured.
        card: path of its model card from the report's folder; empty where there is none.
    """

    name: str
    verb: str
    status: str
    reason: str = ""
    inputs: tuple[str, ...] = ()
    manifest: Manifest | None = None
    summary: Summary | None = None
    problem: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None
    card: str = ""

    @property
    def finished(self) -> bool:
        """Whether the folder holds this run's result."""
        return self.status in FINISHED

    @property
    def resumptions(self) -> tuple[Resumption, ...]:
        """How the work went on after it was cut off, by the manifest."""
        return self.manifest.resumptions if self.manifest is not None else ()

    @property
    def wall_s(self) -> float | None:
        """Seconds of making what lies in the folder; of a stage that did not finish, those spent on it."""
        return self.manifest.wall_s if self.manifest is not None else self._spent("wall_s")

    @property
    def cpu_s(self) -> float | None:
        """CPU seconds of the same."""
        return self.manifest.cpu_s if self.manifest is not None else self._spent("cpu_s")

    @property
    def peak_rss_bytes(self) -> int | None:
        """The highest resident memory of the process while the stage ran, where the run noted it."""
        noted = real(self.record, "peak_rss_bytes")
        return int(noted) if noted is not None else None

    def _spent(self, name: str) -> float | None:
        return (real(self.record, name) or None) if self.status not in ("waiting", "skipped") else None


@dataclass(frozen=True)
class RunView:
    """A run's folder, or one stage's.

    Attributes:
        folder: as given.
        record: `run.json`; empty where there is none.
        stages: in the order of the run; of a stage's folder that one.
        log: the end of the run's log; `None` where there is none.
        problems: what could not be read.
        above: of a stage's folder, the stages beside it that it was made from.
    """

    folder: Path
    record: Mapping[str, Any]
    stages: tuple[StageView, ...]
    log: LogTail | None = None
    problems: tuple[str, ...] = ()
    above: tuple[StageView, ...] = ()

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name or str(self.folder)

    @property
    def status(self) -> str:
        """How the run ended, or that it runs."""
        done = all(s.finished or s.status == "skipped" for s in self.stages)
        return text(self.record, "status") or ("complete" if done else "failed")

    @property
    def is_stage(self) -> bool:
        """Whether this is the folder of one stage."""
        return not self.record and (self.folder / "manifest.json").exists()


def read_run(folder: str | os.PathLike[str]) -> RunView:
    """Reads what a report shows of a folder.

    Args:
        folder: of a run, finished or not; of one stage; or one that holds folders of stages.

    Raises:
        InputError: it is none of these.
        FileError: the system refused.
        FormatError: `run.json` is not one of ours, and nothing else is there to show.
    """
    place = Path(folder)
    try:
        return _read_run(place)
    except OSError as error:
        if isinstance(error, BiollmError):
            raise
        raise FileError.from_os_error(error, place) from error


def _read_run(place: Path) -> RunView:
    if not place.is_dir():
        raise InputError("not a folder of a run or of a stage", path=place)
    record: Mapping[str, Any] = {}
    stages: list[StageView] = []
    broken: BiollmError | None = None
    if (place / "run.json").exists():
        try:
            record = _run_record(place / "run.json")
            stages = list(_recorded_stages(place, record))
        except FormatError as error:
            record, broken = {}, error
    if not record:
        stages = _found_stages(place)
    if not stages:
        raise broken or InputError("holds neither run.json nor a stage's manifest.json: nothing to report", path=place)
    log = read_log_tail(place / "log.jsonl") if not (place / "manifest.json").exists() else None
    problems = [f"The run's record cannot be read: {broken}"] if broken is not None else []
    above = _above(place, stages[0].manifest) if (place / "manifest.json").exists() else ()
    return RunView(place, record, tuple(stages), log, tuple(problems), tuple(above))


def stage_view(folder: Path) -> StageView:
    """One stage by its folder alone.

    Args:
        folder: with a `manifest.json`; where that is broken, `manifest` of the view is None and `problem` says why.
    """
    return _view(folder, StageView(folder.resolve().name, "", "complete"))


def is_card(path: Path) -> bool:
    """Whether a file is a model card that this library wrote.

    Args:
        path: of the file; one that is not there is none.

    Raises:
        FileError: it cannot be read.
    """
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as opened:
            return CARD_MARK.encode() in opened.read(_HEAD_BYTES)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Args:
        path: of at most `MAX_JSON_BYTES`.

    Raises:
        FileError: it cannot be read.
        FormatError: it is larger, or no JSON object.
    """
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise FormatError(f"larger than {MAX_JSON_BYTES:,} bytes", path=path)
        value = json.loads(data)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise FormatError("not a JSON object", path=path)
    return value


def text(record: Any, *keys: str) -> str:
    """A text from within a record; empty where it is not there or something else."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record if isinstance(record, str) else ""


def texts(record: Any, *keys: str) -> tuple[str, ...]:
    """The texts of a list from within a record."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return tuple(item for item in record if isinstance(item, str)) if isinstance(record, list) else ()


def real(record: Any, *keys: str) -> float | None:
    """A finite number from within a record, at most `LARGEST`; `None` where there is none."""
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return float(record) if _is_real(record) and abs(record) <= LARGEST else None


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= 0


def _run_record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if record.get("format") != "biollm-run":
        raise FormatError("not the record of a biollm run", path=path, field="format")
    return record


def _recorded_stages(folder: Path, record: Mapping[str, Any]) -> Iterator[StageView]:
    try:
        for stage in record["stages"]:
            name, verb, status = (_string(stage[key]) for key in ("name", "verb", "status"))
            if name != Path(name).name:
                raise ValueError(f"the stage's name {name!r}")
            reason, inputs = _string(stage["reason"]), tuple(_string(item) for item in stage["inputs"])
            yield _view(folder / name, StageView(name, verb, status, reason, inputs, record=stage))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"the run's record lacks or misnames {error}", path=folder / "run.json") from error


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}, which is no text")
    return value


def _found_stages(folder: Path) -> list[StageView]:
    if (folder / "manifest.json").exists():
        view = stage_view(folder)
        return [replace(view, card=CARD_NAME if view.card else "")]
    found = [path.parent for path in folder.glob("*/manifest.json")]
    found.sort(key=lambda path: (path / "manifest.json").stat().st_mtime_ns)
    return [_view(path, StageView(path.name, "", "complete")) for path in found]


def _above(folder: Path, manifest: Manifest | None) -> Iterator[StageView]:
    """The stages that lie beside a stage's folder and are still those it was made from."""
    for record in manifest.inputs if manifest is not None else ():
        place = folder.resolve().parent / Path(record.name).name
        if record.kind != "stage" or not (place / "manifest.json").exists():
            continue
        view = _view(place, StageView(place.name, "", "complete"))
        if view.manifest is not None and view.manifest.hash == record.xxh3_128:
            yield view


def _view(folder: Path, known: StageView) -> StageView:
    """A stage as its folder shows it; a folder that is being written, or broken, is said to be so."""
    profile = Profile.read(folder.parent / "profile" / f"{known.name}.json") if known.record else None
    said = known.__dict__ | {"profile": profile}
    # While a stage waits or fails, what an earlier run left in its folder is not this run's.
    if known.status not in (*FINISHED, "skipped"):
        return StageView(**said)
    if not (folder / "manifest.json").exists():
        gone = "its folder holds no manifest.json any more" if known.finished else ""
        return StageView(**said | {"problem": gone})
    problems = []
    manifest = summary = None
    try:
        manifest = _checked(Manifest.read(folder), folder)
    except BiollmError as error:
        problems.append(f"manifest.json cannot be shown: {error}")
    try:
        summary = _summary(folder / "summary.json")
    except BiollmError as error:
        problems.append(f"summary.json cannot be shown: {error}")
    given = known.inputs or _input_names(manifest.inputs if manifest else ())
    verb = known.verb or (manifest.verb if manifest else "")
    found = {"verb": verb, "inputs": given, "manifest": manifest, "summary": summary, "problem": "\n".join(problems)}
    card = f"{known.name}/{CARD_NAME}" if is_card(folder / CARD_NAME) else ""
    return StageView(**said | found | {"card": card})


def _summary(path: Path) -> Summary:
    data = read_json(path)
    try:
        return Summary.from_dict(data)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"not a summary: {error!r}", path=path) from error


def _checked(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest, if all in it is of the type it must be."""
    plain = (str, int, float, bool, type(None))
    m = manifest
    wrong = {
        "verb": not isinstance(m.verb, str) or not isinstance(m.kind, str),
        "algorithm_version": not isinstance(m.algorithm_version, int),
        "options": not isinstance(m.options, dict),
        "counts": not isinstance(m.counts, dict)
        or not all(_is_real(v) and abs(v) <= LARGEST for v in m.counts.values()),
        "outputs": not _maps_to_text(m.outputs),
        "versions": not _maps_to_text(m.versions),
        "wall_s": not all(_is_real(v) and 0 <= v <= LARGEST for v in (m.wall_s, m.cpu_s)),
        "inputs": not all(
            isinstance(i.name, str) and isinstance(i.kind, str) and isinstance(i.xxh3_128, str | None)
            and all(isinstance(v, plain) for v in (i.size_bytes, i.mtime_ns))
            for i in m.inputs
        ),
        "resumptions": not all(
            isinstance(r.unit, str) and isinstance(r.kept, int) and isinstance(r.done, int) for r in m.resumptions
        ),
    }  # fmt: skip
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise FormatError("of another type than it must be", path=folder / "manifest.json", field=name)
    return manifest


def _maps_to_text(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _input_names(inputs: tuple[InputRecord, ...]) -> tuple[str, ...]:
    """The first few, files without their folders."""
    names = [Path(i.name).name if i.kind == "file" else i.name for i in inputs[:SHOWN_INPUTS]]
    more = len(inputs) - len(names)
    return (*names, f"{more:,} more") if more else tuple(names)
