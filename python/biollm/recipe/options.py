"""Options dataclasses from plain values: the one place where TOML values and command-line text become typed options.

The dataclass of a verb is the single list of its options; its docstring holds the one sentence each option has. What is
read from there makes both the keys of a recipe's stage and the options of the verb's command.

This module knows no verb.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from biollm.errors import BiollmError, ConfigError, InputError, LimitError

_MISSING: Final = dataclasses.MISSING
_NAMES: Final = re.compile(r"(?:^|(?<=[.;] ))([a-z_]\w*(?:, [a-z_]\w*)*)(?: \([^)]*\))?: (?=\S)")


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of an options dataclass.

    Attributes:
        name: of the field, the TOML key.
        annotation: its type, resolved.
        default: its default value; `MISSING` of `dataclasses` where it has none.
        help: its sentence, empty where the dataclass says nothing.
        is_path: whether it names a file or folder (`field(metadata={"path": True})`).
    """

    name: str
    annotation: Any
    default: Any
    help: str
    is_path: bool = False

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is _MISSING


def describe(options: type) -> tuple[Option, ...]:
    """The fields of an options dataclass in order, with types, defaults and the sentences of its docstring.

    A sentence is taken from `field(metadata={"help": …})`, else from the docstring: `name: sentence`, or
    `name, other: sentence` for several.
    """
    hints = typing.get_type_hints(options)
    sentences = _sentences(options)
    described = []
    for field in dataclasses.fields(options):
        if not field.init:
            continue
        default = field.default_factory() if field.default_factory is not _MISSING else field.default
        sentence = field.metadata.get("help", sentences.get(field.name, ""))
        is_path = bool(field.metadata.get("path", False))
        described.append(Option(field.name, hints[field.name], default, sentence, is_path))
    return tuple(described)


def build(
    options: type, values: Mapping[str, Any], *, where: str, path: Path | None = None, base: Path | None = None
) -> Any:
    """An instance of an options dataclass from plain values (what TOML gives), each checked against its type.

    A whole number is taken for a float, a list for a tuple; nothing else is converted.

    Args:
        options: the dataclass.
        values: key → value.
        where: what the values belong to, for messages: "stage 'clean'".
        path: the recipe, for messages.
        base: the folder that relative paths among the options start from; by default the working directory.

    Raises:
        ConfigError: an unknown or missing key, a path where nothing is, a value of the wrong type, or one that the
            dataclass refuses.
    """
    known = {option.name: option for option in describe(options)}
    for key in values:
        if key not in known:
            message = f"{where}: unknown key {key!r}{nearest(key, known)}"
            raise ConfigError(message, path=path, field=key, value=values[key])
    typed: dict[str, Any] = {}
    for name, option in known.items():
        if name not in values:
            if option.required:
                message = f"{where}: {name} is missing: write {_example(option)}"
                raise ConfigError(message, path=path, field=name)
            continue
        try:
            typed[name] = _coerce(values[name], option.annotation)
        except _MismatchError:
            value = values[name]
            expected = type_name(option.annotation)
            message = f"{where}: {name} is {_show(value)} ({_value_kind(value)}), but must be {expected}"
            raise ConfigError(f"{message}: write {_example(option)}", path=path, field=name, value=value) from None
        if option.is_path and isinstance(typed[name], (str, Path)):
            typed[name] = _found(typed[name], base or Path.cwd(), f"{where}: {name}", path)
    try:
        return options(**typed)
    except (ConfigError, InputError, LimitError) as error:
        raise ConfigError(f"{where}: {error.message}", path=path, field=error.field, value=error.value) from error
    except BiollmError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}", path=path) from error


def accepts(value: Any, annotation: Any) -> bool:
    """Whether a plain value is of a type, as `build` checks it."""
    try:
        _coerce(value, annotation)
    except _MismatchError:
        return False
    return True


def plain(options: Any) -> dict[str, Any]:
    """An options instance as plain JSON values: tuples as lists, paths as text."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, else all of them."""
    names = list(known)
    folded = name.replace("-", "_").lower()
    close = difflib.get_close_matches(folded, [n.lower() for n in names], n=1, cutoff=0.6)
    if close:
        return f": did you mean {next(n for n in names if n.lower() == close[0])!r}?"
    return f" (known: {', '.join(sorted(names))})" if names else ""


def type_name(annotation: Any) -> str:
    """A type in words: "a whole number", "a list of strings", "a string or a list of strings"."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if annotation in _SCALAR_NAMES:
        return _SCALAR_NAMES[annotation]
    if origin is typing.Literal:
        return "one of " + ", ".join(_show(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        arms = [type_name(arm) for arm in arguments if arm is not type(None)]
        return " or ".join(dict.fromkeys(arms))
    if _is_sequence(annotation, origin):
        if not arguments:
            return "a list"
        if origin is tuple and not _is_open_tuple(arguments):
            return "a list of " + ", ".join(type_name(item) for item in arguments)
        return "a list, each item " + type_name(arguments[0])
    return "a table"


class _MismatchError(Exception):
    """The value is not of the type."""


_SCALAR_NAMES: Final[Mapping[Any, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path (a string)",
    Any: "any value",
    object: "any value",
}


def _coerce(value: Any, annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if annotation in (Any, object):
        return value
    if annotation in (str, bool):
        return _same(value, annotation)
    if annotation is int:
        return _same(value, int)
    if annotation is float:
        return _float(value)
    if annotation is Path:
        return Path(_same(value, str))
    if origin is typing.Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return choice
        raise _MismatchError
    if origin in (typing.Union, types.UnionType):
        return _union(value, arguments)
    if _is_sequence(annotation, origin):
        return _sequence(value, origin or annotation, arguments)
    if annotation is dict or (origin is not None and issubclass(origin, Mapping)):
        if not isinstance(value, dict):
            raise _MismatchError
        item = arguments[1] if len(arguments) == 2 else Any
        return {key: _coerce(member, item) for key, member in value.items()}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type) and isinstance(value, dict):
        return build(annotation, value, where=annotation.__name__)
    raise _MismatchError


def _found(value: str | Path, base: Path, where: str, path: Path | None) -> str | Path:
    target = base / Path(value).expanduser()
    if not target.exists():
        raise ConfigError(f"{where} names no file or folder (looked for {target})", path=path, value=str(value))
    return type(value)(target)


def _same(value: Any, kind: type) -> Any:
    if type(value) is not kind:  # bool is an int: `1` is not `true` here, nor the other way round
        raise _MismatchError
    return value


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise _MismatchError
    try:
        number = float(value)
    except OverflowError:
        raise _MismatchError from None
    if not math.isfinite(number):
        raise _MismatchError
    return number


def _union(value: Any, arms: Sequence[Any]) -> Any:
    for arm in arms:
        if type(value) is arm:  # so that `int | float` and `float | int` both keep a whole number whole
            return _coerce(value, arm)
    for arm in arms:
        if arm is type(None):
            continue  # TOML has no null: an optional key is left out
        try:
            return _coerce(value, arm)
        except _MismatchError:
            continue
    raise _MismatchError


def _sequence(value: Any, kind: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _MismatchError
    if kind is tuple and arguments and not _is_open_tuple(arguments):
        if len(value) != len(arguments):
            raise _MismatchError
        return tuple(_coerce(member, item) for member, item in zip(value, arguments, strict=True))
    item = arguments[0] if arguments else Any
    members = [_coerce(member, item) for member in value]
    if kind is list:
        return members
    return frozenset(members) if kind is frozenset else tuple(members)


def _is_sequence(annotation: Any, origin: Any) -> bool:
    kind = origin or annotation
    return kind in (tuple, list, frozenset) or kind is Sequence


def _is_open_tuple(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 2 and arguments[1] is Ellipsis


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(member) for member in value)
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    return str(value) if isinstance(value, Path) else value


def _value_kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    return _SCALAR_NAMES.get(type(value), "a date or time")


def _show(value: Any) -> str:
    text = toml_text(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _example(option: Option) -> str:
    if not option.required and option.default is not None and option.default != ():
        return f"{option.name} = {toml_text(option.default)}, as by default"
    return f"{option.name} = {_example_value(option.annotation)}"


def _example_value(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return toml_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _example_value(next((arm for arm in arguments if arm is not type(None)), str))
    if _is_sequence(annotation, origin):
        return f"[{_example_value(arguments[0])}]" if arguments else "[]"
    return {str: '"…"', int: "1", float: "0.5", bool: "true", Path: '"folder/file"'}.get(annotation, "{ … }")


def toml_text(value: Any) -> str:
    """A plain value as TOML writes it, for messages and help."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(toml_text(member) for member in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_text(member)}" for key, member in value.items()) + " }"
    return str(value)


def _sentences(options: type) -> dict[str, str]:
    """Option → sentence, from `name, other: sentence` in the docstrings of the dataclass and its bases.

    A sentence begins on a line of its own or behind another's full stop, and goes on over the lines below, up to the
    next name, an empty line or a line indented less.
    """
    names = {field.name for field in dataclasses.fields(options)}
    found: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if dataclasses.is_dataclass(base):
            found.update(_sentences_of(inspect.cleandoc(base.__doc__ or ""), names))
    return found


def _sentences_of(text: str, names: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    current: list[str] = []
    depth = 0
    for line in text.splitlines():
        begins = [m for m in _NAMES.finditer(line.strip()) if names.issuperset(m[1].split(", "))]
        indent = len(line) - len(line.lstrip())
        if not line.strip() or (not begins and indent < depth):
            current = []
        head = line.strip()[: begins[0].start()] if begins else line.strip()
        for name in current:
            found[name] = f"{found[name]} {head}".strip()
        ends = [m.start() for m in begins[1:]] + [len(line)]
        for match, end in zip(begins, ends, strict=False):
            current = match[1].split(", ")
            sentence = line.strip()[match.end() : end].strip()
            found.update(dict.fromkeys(current, sentence))
            depth = indent
    return found
