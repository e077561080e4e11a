"""The error tree. Every exception this library raises of its own accord derives from `BiollmError`.

Outside the tree, and never wrapped: `KeyboardInterrupt` and whatever a signal handler raises, an exception from a
user's callback or iterator, `MemoryError`, and `TypeError` for an argument of the wrong type.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "BiollmError",
    "ConfigError",
    "FileError",
    "FormatError",
    "InputError",
    "InternalError",
    "LimitError",
    "MissingExtra",
    "ProcessError",
    "require",
]


class BiollmError(Exception):
    """Base of all errors of this library. All but the message are keyword-only, and `None` where they do not apply.

    Attributes:
        message: what is wrong, without the place; `str(error)` puts `path` and `line` before it.
        path: the file or folder concerned.
        line: line of the file, counted from 1.
        row: row of the input, counted from 0.
        field: argument, option, column or field concerned.
        value: the offending value, or the size found.
        limit: the declared limit that would be exceeded.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        row: int | None = None,
        field: str | None = None,
        value: object = None,
        limit: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = os.fspath(path) if path is not None else None
        self.line = line
        self.row = row
        self.field = field
        self.value = value
        self.limit = limit

    def _attributes(self) -> dict[str, Any]:
        names = ("path", "line", "row", "field", "value", "limit")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        # Native messages about files already begin with the path.
        return f"{place}: {self.message}" if place and not self.message.startswith(place) else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self._attributes())


def _rebuild(cls: type[BiollmError], message: str, attributes: dict[str, Any]) -> BiollmError:
    return cls(message, **attributes)


class InputError(BiollmError, ValueError):
    """A value, row or file given by the caller cannot be used."""


class FileError(BiollmError, OSError):
    """A file is missing, may not be read or written, or the disk is full.

    `errno`, `strerror` and `filename` are as in `OSError`; `message` and the other `attributes` as in `BiollmError`.
    """

    def __init__(self, message: str, *, errno: int | None = None, **attributes: Any) -> None:
        BiollmError.__init__(self, message, **attributes)
        self.errno = errno
        self.strerror = os.strerror(errno) if errno is not None else message
        self.filename = self.path

    def _attributes(self) -> dict[str, Any]:
        attributes = super()._attributes()
        if self.errno is not None:
            attributes["errno"] = self.errno
        return attributes

    @classmethod
    def from_os_error(cls, error: OSError, path: str | os.PathLike[str] | None = None) -> FileError:
        """The failure `error` as one of ours; `path` where the system did not name it."""
        name = path if path is not None else error.filename
        reason = error.strerror or str(error)
        return cls(reason, errno=error.errno, path=name if isinstance(name, (str, os.PathLike)) else None)


class FormatError(BiollmError, ValueError):
    """Bytes are not what their format says: broken JSON, a torn shard, a wrong checksum."""


class LimitError(BiollmError, ValueError):
    """A declared limit would be exceeded; found before memory is taken. `value` and `limit` are numbers."""


class ConfigError(BiollmError, ValueError):
    """An option, recipe or model configuration is unknown, contradictory or out of range."""


class MissingExtra(BiollmError, ImportError):
    """A package is needed that an extra of this library brings; the `message` (also `msg`) says the pip command.

    `name` is the package, as in `ImportError`; other `attributes` as in `BiollmError`.
    """

    def __init__(self, message: str, **attributes: Any) -> None:
        BiollmError.__init__(self, message, **attributes)
        self.name = self.field
        self.msg = message


class ProcessError(BiollmError):
    """A process of a run by several ended before its work was done; `value` is its rank, `field` "rank"."""


class InternalError(BiollmError):
    """A fault of this library (a caught panic, a broken invariant). Please report it with the input."""


def require(module: str, *, extra: str) -> ModuleType:
    """Imports and returns `module` (an absolute name), or raises `MissingExtra` with the pip command for `extra`.

    An import error from *inside* an installed package is raised as it is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        message = f"{package} is not installed: pip install 'biollm[{extra}]'"
        raise MissingExtra(message, field=package) from error
