"""Whether a stage's folder already holds what the stage would make, by its manifest; and if not, why not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biollm import _native
from biollm.errors import BiollmError
from biollm.manifest import InputRecord, Manifest, package_versions
from biollm.recipe.folder import is_finished
from biollm.recipe.graph import Node, Source
from biollm.recipe.options import plain, toml_text
from biollm.stages import StageInput

Files = tuple[Path | str, ...]


@dataclass(frozen=True)
class Match:
    """What holding a stage against its folder found.

    Attributes:
        manifest: the folder's, where it matches; else `None`.
        reason: why the stage must run; empty where it matches.
        warnings: package versions that differ from those of the manifest.
    """

    manifest: Manifest | None
    reason: str = ""
    warnings: tuple[str, ...] = ()


def stage_inputs(node: Node, run_folder: Path) -> tuple[StageInput, ...]:
    """A node's sources as the stage is given them; every stage above has finished.

    A glob becomes one input a file, in order of the names, so that what is read and what is matched are the same files.
    """
    inputs: list[StageInput] = []
    for source in node.sources:
        if source.kind == "files":
            inputs.extend(StageInput(file, "files", source.name) for file in source.files)
        else:
            folder = _folder(source, run_folder)
            inputs.append(StageInput(folder, source.kind, source.name, _folder_record(source, folder)))
    return tuple(inputs)


def match_stage(node: Node, run_folder: Path, *, verify: bool = False, renew: bool = True) -> Match:
    """`match_folder` of a stage's own folder, where the stages above may be unfinished as well."""
    for source in node.sources:
        if source.stage is not None and not is_finished(run_folder / source.stage):
            return Match(None, f"its input {source.stage!r} is not finished")
    return match_folder(node, stage_inputs(node, run_folder), run_folder / node.name, verify=verify, renew=renew)


def match_folder(
    node: Node, inputs: tuple[StageInput, ...], folder: Path, *, verify: bool = False, renew: bool = True
) -> Match:
    """Holds what a stage would do against the manifest of its folder.

    A file whose size, times and inode are as recorded counts as unchanged; where only the times differ its bytes are
    hashed, and with `renew` the record is renewed if they are equal. With `verify` every input and output is hashed.
    """
    try:
        manifest = Manifest.read(folder)
    except BiollmError as error:
        return Match(None, "not finished before" if not (folder / "manifest.json").exists() else str(error))
    stage = node.stage
    if manifest.verb != stage.verb:
        return Match(None, f"the folder was made by {manifest.verb}")
    if manifest.algorithm_version != stage.algorithm_version:
        change = f"{manifest.algorithm_version} → {stage.algorithm_version}"
        return Match(None, f"the algorithm of {stage.verb} changed (version {change})")
    if reason := _options_differ(manifest.options, matched_options(node)):
        return Match(None, reason)
    records, reason = _match_inputs(manifest.inputs, inputs, verify)
    if reason:
        return Match(None, reason)
    if reason := _outputs_differ(manifest.outputs, folder, verify):
        return Match(None, reason)
    if records != manifest.inputs and renew:
        manifest = replace(manifest, inputs=records)
        manifest.write(folder)
    return Match(manifest, warnings=_version_changes(manifest.versions))


def matched_options(node: Node) -> dict[str, Any]:
    """The options that change a stage's output, as plain JSON values.

    An options dataclass may say so itself by a method `matched`, as where an option names a file, whose content counts.
    """
    own = getattr(node.options, "matched", None)
    options = own() if own is not None else plain(node.options)
    return _as_json({name: value for name, value in options.items() if name not in node.stage.unmatched_options})


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(value))
    return loaded


def _options_differ(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    changes = [
        f"{name} {_shown(recorded, name)} → {_shown(wanted, name)}"
        for name in sorted({*recorded, *wanted})
        if name not in recorded or name not in wanted or recorded[name] != wanted[name]
    ]
    return f"options changed: {', '.join(changes)}" if changes else ""


def _shown(options: Mapping[str, Any], name: str) -> str:
    if name not in options:
        return "(no such option)"
    return "(unset)" if options.get(name) is None else toml_text(options[name])


def _match_inputs(
    recorded: tuple[InputRecord, ...], inputs: tuple[StageInput, ...], verify: bool
) -> tuple[tuple[InputRecord, ...], str]:
    """The records as they stand now, and why they do not match (empty where they do)."""
    if len(recorded) != len(inputs):
        return recorded, f"the number of inputs changed ({len(recorded)} → {len(inputs)})"
    renewed: list[InputRecord] = []
    for before, now in zip(recorded, inputs, strict=True):
        if now.record is not None:
            if not before.same_content(now.record):
                return recorded, f"the input {now.name!r} changed"
            renewed.append(now.record)
            continue
        if isinstance(now.path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", now.path):
            return recorded, f"the input {now.name!r} is a URL, whose content is known only by reading it"
        if Path(before.name).name != Path(now.path).name:
            return recorded, f"the input {before.name!r} became {str(now.path)!r}"
        if before.unchanged_file(now.path) and not verify:
            renewed.append(before)
            continue
        hashed = replace(InputRecord.of_file(now.path), name=before.name)
        if not before.same_content(hashed):
            return recorded, f"the file {now.path} changed"
        renewed.append(hashed)
    return tuple(renewed), ""


def _outputs_differ(outputs: Mapping[str, str], folder: Path, verify: bool) -> str:
    for name, xxh3_128 in outputs.items():
        if not (folder / name).is_file():
            return f"its output {name} is missing"
        if verify and _native.hash_file(folder / name) != xxh3_128:
            return f"its output {name} is not what was written"
    return ""


def _version_changes(recorded: Mapping[str, str]) -> tuple[str, ...]:
    now = package_versions()
    return tuple(
        f"made with {package} {version}, now {now.get(package, 'not installed')}: taken as it is"
        for package, version in recorded.items()
        if now.get(package) != version
    )


def _folder(source: Source, run_folder: Path) -> Path:
    if source.stage is not None:
        return run_folder / source.stage
    assert source.folder is not None
    return source.folder


def _folder_record(source: Source, folder: Path) -> InputRecord:
    """A finished stage is known by its manifest's hash, any other folder (a downloaded model) by its files' bytes."""
    if (folder / "manifest.json").is_file():
        return InputRecord.of_stage(folder, source.name)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    contents = [[path.name, _native.hash_file(path)] for path in files]
    return InputRecord(source.name, "folder", _native.hash_bytes(json.dumps(contents).encode()))
