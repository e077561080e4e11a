"""From a recipe as written to stages that can run: verbs looked up, options typed, inputs found, kinds counted.

All of it happens before anything runs, so that a misspelt key in the last stage costs no hours of the first. Stages may
name only stages above them: the written order is the order of running, and a cycle cannot be written.
"""

from __future__ import annotations

import difflib
import glob
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

from biollm.errors import ConfigError, FileError, FormatError
from biollm.manifest import Manifest
from biollm.recipe.options import build, nearest
from biollm.recipe.parse import Recipe, StageSpec
from biollm.stages import Stage

VERBS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "read": "biollm.readers.stage",
        "dedup": "biollm.deduplication.stage",
        "select": "biollm.selection.stage",
        "tokenize": "biollm.tokenization.stage",
        "train": "biollm.training.stage",
        "align": "biollm.alignment.stage",
        "quantize": "biollm.quantization.stage",
        "generate": "biollm.inference.stage",
        "evaluate": "biollm.evaluation.stage",
    }
)
"""Verb → the module that holds its `STAGE`, imported only when a recipe names it."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """One input of a stage, found.

    Attributes:
        name: as the recipe writes it.
        kind: "files", or the kind of the folder.
        stage: the stage above that it names, else `None`.
        folder: a folder of another run or a model's, else `None`.
        files: for kind "files": the file, the glob's files in order of their names, or the URL.
    """

    name: str
    kind: str
    stage: str | None = None
    folder: Path | None = None
    files: tuple[Path | str, ...] = ()


@dataclass(frozen=True)
class Node:
    """A stage ready to run.

    Attributes:
        name: of the stage and its folder.
        stage: the verb.
        options: an instance of the verb's options dataclass, checked.
        sources: its inputs, found.
    """

    name: str
    stage: Stage
    options: Any
    sources: tuple[Source, ...]


def load_stage(verb: str) -> Stage:
    """The `Stage` of a `verb`; imports the package that implements it.

    Raises:
        ConfigError: there is no such verb.
        MissingExtra: the verb's package needs one that is not installed.
    """
    module = VERBS.get(verb)
    if module is None:
        raise ConfigError(f"unknown verb {verb!r}{nearest(verb, VERBS)}", field="verb", value=verb)
    stage = importlib.import_module(module).STAGE
    assert isinstance(stage, Stage)
    return stage


def plan(recipe: Recipe, stages: Mapping[str, Stage] | None = None) -> tuple[Node, ...]:
    """Checks a whole recipe and gives its stages in the order of running.

    Args:
        recipe: as `parse` gives it.
        stages: verb → `Stage`, for verbs that are not this library's; by default `VERBS`.

    Raises:
        ConfigError: an unknown verb, key or input, a value of the wrong type, an input of a kind the verb does not
            take, or too few or too many of one.
    """
    nodes: list[Node] = []
    kinds: dict[str, str] = {}
    for position, spec in enumerate(recipe.stages):
        stage = _stage_of(spec, recipe, stages)
        where = f"stage {spec.name!r}"
        options = build(stage.options, spec.options, where=where, path=recipe.path, base=spec.base)
        below = {later.name for later in recipe.stages[position + 1 :]}
        sources = tuple(_find(name, spec, kinds, below, recipe.path) for name in spec.inputs)
        check_inputs(stage, [(s.name, s.kind) for s in sources], options, where=where, path=recipe.path)
        nodes.append(Node(spec.name, stage, options, sources))
        kinds[spec.name] = stage.gives
    return tuple(nodes)


def check_inputs(
    stage: Stage, inputs: list[tuple[str, str]], options: Any, *, where: str, path: Path | None = None
) -> None:
    """Holds inputs, each (name, kind), against what a verb takes with its `options`.

    Raises:
        ConfigError: a kind it does not take, too few or too many of one, no input at all, or what `Stage.fits` says.
    """
    accepted = _accepted(stage)
    for name, kind in inputs:
        if kind not in stage.takes:
            what = "a file" if kind == "files" else f"of kind {kind!r}"
            readable = kind == "files" and "documents" in stage.takes
            hint = '; put a stage with verb = "read" between' if readable else ""
            message = f"{where}: the input {name!r} is {what}, but {stage.verb} takes {accepted}{hint}"
            raise ConfigError(message, path=path, field="inputs", value=name)
    if stage.takes and not inputs:
        raise ConfigError(f"{where}: no inputs, but {stage.verb} takes {accepted}", path=path, field="inputs")
    for kind, (least, most) in stage.takes.items():
        count = sum(k == kind for _, k in inputs)
        if count < least or (most is not None and count > most):
            given = f"{count} of kind {kind!r}" if count else f"none of kind {kind!r}"
            message = f"{where}: {given} among the inputs, but {stage.verb} takes {accepted}"
            raise ConfigError(message, path=path, field="inputs", value=count)
    if stage.fits is not None and (why := stage.fits(inputs, options)):
        raise ConfigError(f"{where}: {why}", path=path, field="inputs")


def find_input(name: str, base: Path, *, where: str, path: Path | None = None) -> Source | None:
    """A path, glob, folder or URL as a source; `None` where nothing is there.

    Raises:
        ConfigError: a folder that is not of a known kind.
    """
    local = _local_path(name)
    if _URL.match(local):
        return Source(name, "files", files=(name,))
    target = base / Path(local).expanduser()
    try:
        if target.is_dir():
            return Source(name, _folder_kind(target, where, path), folder=target)
        if target.exists():
            return Source(name, "files", files=(target,))
        if _GLOB.search(local):
            # Only the input itself is a pattern, not the folder it starts from.
            pattern = str(Path(local).expanduser())
            found = sorted(base / match for match in glob.iglob(pattern, root_dir=base, recursive=True))
            files = tuple(match for match in found if match.is_file())
            return Source(name, "files", files=files) if files else None
    except OSError as error:  # a name too long, a folder that may not be listed
        raise FileError.from_os_error(error, target) from error
    return None


def _local_path(name: str) -> str:
    """A `file://` URL as the path it stands for, so that it is known by its size and times; else the name itself."""
    if not name.lower().startswith("file://"):
        return name
    host, slash, path = name[len("file://") :].partition("/")
    return unquote(slash + path) if host in ("", "localhost") else name


def _stage_of(spec: StageSpec, recipe: Recipe, stages: Mapping[str, Stage] | None) -> Stage:
    known = VERBS if stages is None else stages
    if spec.verb not in known:
        message = f"stage {spec.name!r}: unknown verb {spec.verb!r}{nearest(spec.verb, known)}"
        raise ConfigError(message, path=recipe.path, field="verb", value=spec.verb)
    return load_stage(spec.verb) if stages is None else stages[spec.verb]


def _find(name: str, spec: StageSpec, above: Mapping[str, str], below: set[str], path: Path) -> Source:
    where = f"stage {spec.name!r}"
    if name in above:
        return Source(name, above[name], stage=name)
    if name == spec.name or name in below:
        what = "itself" if name == spec.name else f"{name!r}, which stands below it"
        message = f"{where} names {what} as input: a stage takes stages above it, or files (a file is written ./{name})"
        raise ConfigError(message, path=path, field="inputs", value=name)
    source = find_input(name, spec.base, where=where, path=path)
    if source is None:
        target = spec.base / Path(name).expanduser()
        what = "matches no file" if _GLOB.search(name) else "is neither a stage above it nor a file"
        message = f"{where}: the input {name!r} {what} (looked for {target}){_near_input(name, above, target)}"
        raise ConfigError(message, path=path, field="inputs", value=name)
    return source


def _near_input(name: str, above: Mapping[str, str], target: Path) -> str:
    """The nearest stage above, else the nearest file beside the one looked for."""
    close = difflib.get_close_matches(name, above, n=1, cutoff=0.6)
    if not close:
        try:
            beside = sorted(p.name for p in target.parent.iterdir())[:10_000]
        except OSError:
            beside = []
        close = [str(Path(name).parent / c) for c in difflib.get_close_matches(target.name, beside, n=1, cutoff=0.6)]
    if close:
        return f": did you mean {close[0]!r}?"
    return f"; stages above it: {', '.join(above)}" if above else "; no stage stands above it"


def _folder_kind(folder: Path, where: str, path: Path | None) -> str:
    if (folder / "manifest.json").is_file():
        try:
            return Manifest.read(folder).kind
        except (FileError, FormatError) as error:
            raise ConfigError(f"{where}: the folder {folder} cannot be used: {error}", path=path) from error
    if (folder / "shards.json").is_file():
        return "shards"
    if (folder / "config.json").is_file():
        return "checkpoint"
    message = (
        f"{where}: {folder} is a folder, but not one of a finished stage (no manifest.json) nor of a model (no "
        f"config.json); for the files in it write a glob, as in {folder.name}/*.jsonl.gz"
    )
    raise ConfigError(message, path=path, field="inputs", value=str(folder))


def _accepted(stage: Stage) -> str:
    """What a verb takes, in words: "shards (1 or more), checkpoint (at most 1)"."""
    words = []
    for kind, (least, most) in stage.takes.items():
        if most is None:
            count = f"{least} or more" if least else "any number"
        elif least == most:
            count = str(least)
        else:
            count = f"at most {most}" if least == 0 else f"{least} to {most}"
        words.append(f"{kind} ({count})")
    return ", ".join(words) or "no inputs"
