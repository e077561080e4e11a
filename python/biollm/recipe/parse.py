"""Recipes as text: TOML with one `[[stage]]` after another.

    [[stage]]
    name = "clean"                  # becomes the folder RUN/clean
    verb = "dedup"
    inputs = ["abstracts", "more/*.jsonl.gz"]     # stages above, or files
    threshold = 0.8                 # and any other option of the verb

This module knows the form of a recipe, not which verbs there are nor what they take: `graph` does.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from biollm.errors import ConfigError, FileError, LimitError
from biollm.recipe.options import nearest, toml_text

MAX_RECIPE_BYTES: Final = 1 << 20
MAX_STAGES: Final = 1000
_STAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_STAGE_KEYS: Final = ("name", "verb", "inputs")


@dataclass(frozen=True)
class StageSpec:
    """One `[[stage]]` as written.

    Attributes:
        name: of the stage and its folder.
        verb: what it does.
        inputs: stages above it, paths, globs or URLs, in order.
        options: the other keys, as TOML gave them.
        base: the folder that relative inputs start from.
    """

    name: str
    verb: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any]
    base: Path


@dataclass(frozen=True)
class Recipe:
    """A recipe as written, overrides applied.

    Attributes:
        path: of its file.
        text: the file's text, unchanged.
        stages: in written order.
        overrides: the `NAME.KEY=VALUE` that were applied.
    """

    path: Path
    text: str
    stages: tuple[StageSpec, ...]
    overrides: tuple[str, ...] = ()


def read_recipe(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in the file `path`, with `overrides` (each `NAME.KEY=VALUE`) applied.

    VALUE is written as in TOML (`0.9`, `true`, `["a", "b"]`); what is not TOML is taken as text, so
    `clean.keep=longest` needs no quotes. Overridden `inputs` start from the working directory, not from the recipe.

    Raises:
        FileError: the file cannot be read.
        LimitError: it is larger than 1 MiB, or has more than 1,000 stages.
        ConfigError: it is not TOML, not a list of stages, or an override names none of them.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise FileError.from_os_error(error, file) from error
    if len(data) > MAX_RECIPE_BYTES:
        raise LimitError(f"a recipe may have {MAX_RECIPE_BYTES} bytes at most", path=file, limit=MAX_RECIPE_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text at byte {error.start}", path=file) from error
    return parse_recipe(text, file, overrides)


def parse_recipe(text: str, path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from its `text`, with `overrides` applied; `path` is where it stands, for messages and relative inputs.

    Raises:
        ConfigError, LimitError: as `read_recipe`.
    """
    document = _load_toml(text, path)
    for key in document:
        if key != "stage":
            message = f"unknown key {key!r} at the top of the recipe{nearest(key, ['stage'])}"
            raise ConfigError(f"{message}; a recipe is a list of [[stage]] tables", path=path, field=key)
    tables = document.get("stage", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError("stage must be a list of tables: write [[stage]] with two brackets", path=path, field="stage")
    if not tables:
        raise ConfigError("the recipe has no stage: write at least one [[stage]]", path=path, field="stage")
    if len(tables) > MAX_STAGES:
        message = f"{len(tables)} stages, at most {MAX_STAGES}"
        raise LimitError(message, path=path, field="stage", value=len(tables), limit=MAX_STAGES)
    base = path.absolute().parent
    stages = [_stage(table, number, path, base) for number, table in enumerate(tables, start=1)]
    _check_names(stages, path)
    applied = tuple(overrides)
    for override in applied:
        _apply(override, stages, path)
    return Recipe(path, text, tuple(stages), applied)


def _load_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("values are nested too deep", path=path) from None
    except ValueError as error:  # TOMLDecodeError, and a number of more digits than Python converts
        raise ConfigError(f"not TOML: {error}", path=path) from error


def _stage(table: dict[str, Any], number: int, path: Path, base: Path) -> StageSpec:
    name = table.get("name")
    where = f"stage {name!r}" if isinstance(name, str) else f"stage number {number}"
    for key in ("name", "verb"):
        value = table.get(key)
        if value is None:
            raise ConfigError(f'{where}: {key} is missing: write {key} = "…"', path=path, field=key)
        if not isinstance(value, str):
            message = f'{where}: {key} is {toml_text(value)}, but must be a string: write {key} = "…"'
            raise ConfigError(message, path=path, field=key, value=value)
    if not _STAGE_NAME.match(table["name"]):
        message = (
            f"{where}: the name becomes a folder, so it may hold letters a-z, digits, - and _, begins with a letter or "
            "digit, and has at most 64 characters"
        )
        raise ConfigError(message, path=path, field="name", value=name)
    inputs = _inputs(table.get("inputs", []), where, path)
    options = {key: value for key, value in table.items() if key not in _STAGE_KEYS}
    return StageSpec(table["name"], table["verb"], inputs, options, base)


def _inputs(value: Any, where: str, path: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        message = f"{where}: inputs must be a list: write inputs = [{toml_text(value)}]"
        raise ConfigError(message, path=path, field="inputs", value=value)
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        message = f'{where}: inputs must be a list of stage names, paths or globs: write inputs = ["…"]'
        raise ConfigError(message, path=path, field="inputs", value=value)
    for item in value:
        if "\0" in item:
            raise ConfigError(f"{where}: an input holds a NUL character", path=path, field="inputs", value=item)
        if value.count(item) > 1:
            message = f"{where}: the input {item!r} is named twice"
            raise ConfigError(message, path=path, field="inputs", value=item)
    return tuple(value)


def _check_names(stages: list[StageSpec], path: Path) -> None:
    seen: dict[str, str] = {}
    for stage in stages:
        folded = stage.name.lower()  # on some file systems "Clean" and "clean" are one folder
        if folded in seen:
            same = "" if seen[folded] == stage.name else f" (and {seen[folded]!r}, the same folder on some systems)"
            message = f"two stages are named {stage.name!r}{same}: give each a name of its own"
            raise ConfigError(message, path=path, field="name", value=stage.name)
        seen[folded] = stage.name


def _apply(override: str, stages: list[StageSpec], path: Path) -> None:
    """Applies one `NAME.KEY=VALUE` to `stages` in place."""
    target, equals, text = override.partition("=")
    name, dot, key = target.strip().partition(".")
    if not (equals and dot and name and key):
        message = f"--set {override}: write --set NAME.KEY=VALUE, as in --set {stages[0].name}.seed=1"
        raise ConfigError(message, field="set", value=override)
    index = next((i for i, stage in enumerate(stages) if stage.name == name), None)
    if index is None:
        message = f"--set {override}: no stage {name!r} in {path}{nearest(name, [s.name for s in stages])}"
        raise ConfigError(message, field="set", value=override)
    stage = stages[index]
    if key in ("name", "verb"):
        raise ConfigError(f"--set {override}: {key} cannot be set: edit the recipe", field="set", value=override)
    value = parse_value(text, f"--set {override}")
    if key == "inputs":
        inputs = _inputs(value, f"--set {override}", path)
        stages[index] = replace(stage, inputs=inputs, base=Path.cwd())
        return
    stages[index] = replace(stage, options=_with(stage.options, key.split("."), value))


def parse_value(text: str, where: str) -> Any:
    """One value written as in TOML; text that is not TOML is taken as it is, if it does not look like a broken value.

    Raises:
        ConfigError: empty, or a broken list, table or quoted string.
    """
    stripped = text.strip()
    if not stripped:
        raise ConfigError(f"{where}: no value behind the = (an empty string is written '\"\"')", field="set")
    try:
        parsed = tomllib.loads(f"value = {stripped}")
    except RecursionError:
        raise ConfigError(f"{where}: the value is nested too deep", field="set") from None
    except ValueError as error:
        if stripped[0] in "[{\"'":
            raise ConfigError(f"{where}: not a TOML value: {error}", field="set", value=text) from error
        return stripped
    # A value with a line break could smuggle in a second key; then all of it is text.
    return parsed["value"] if len(parsed) == 1 else stripped


def _with(options: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """`options` with the value at a dotted key."""
    changed = dict(options)
    inner = changed
    for key in keys[:-1]:
        table = inner.get(key)
        inner[key] = dict(table) if isinstance(table, Mapping) else {}
        inner = inner[key]
    inner[keys[-1]] = value
    return changed
