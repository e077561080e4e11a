"""Files that are whole or absent: temporary name, flush to disk, rename, flush of the folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from biollm import _native
from biollm.errors import FileError

__all__ = ["PublishedFile", "atomic_path", "make_folder", "write_bytes", "write_json"]


class PublishedFile:
    """Where `atomic_path` lets one write: `path` now, `target` once it is published.

    `xxh3_128` (32 hexadecimal digits) is known from then on, and `None` before.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        self.xxh3_128: str | None = None

    def __fspath__(self) -> str:
        return str(self.path)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[PublishedFile]:
    """Gives a temporary name in the folder of `target`; publishes it when the block ends, removes it when it fails.

    Raises:
        FileError: the system refused (missing folder, permission, full disk); `errno` says why.
    """
    file = PublishedFile(Path(target))
    try:
        yield file
        file.xxh3_128 = _native.publish(file.path, file.target)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError.from_os_error(error, file.target) from error
    finally:
        # A published file is gone from here; whatever else is left is not worth keeping.
        with suppress(OSError):
            file.path.unlink(missing_ok=True)


def write_bytes(target: str | os.PathLike[str], data: bytes) -> str:
    """Writes `data` as the whole file `target`, atomically; gives its xxh3-128.

    Raises:
        FileError: as `atomic_path`.
    """
    with atomic_path(target) as file:
        file.path.write_bytes(data)
    assert file.xxh3_128 is not None
    return file.xxh3_128


def write_json(target: str | os.PathLike[str], value: Any) -> str:
    """Writes `value` as JSON to `target`, atomically (UTF-8, two blanks of indent, NaN refused); gives its xxh3-128."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return write_bytes(target, f"{text}\n".encode())


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Makes the folder `path` and its parents where they are missing; gives it.

    Raises:
        FileError: the system refused.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError.from_os_error(error, folder) from error
    return folder
