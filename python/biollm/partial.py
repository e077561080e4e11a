"""Work that survives a kill: what a verb has finished so far, beside its output, for the next run to go on from.

`OUT/.partial/` holds `key.json`, which says what the work was made from, and whatever files the verb puts there, each
whole or absent. It is of use only to a run of the same key; it goes when the manifest is written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from biollm import _native
from biollm.atomic import make_folder, write_json
from biollm.errors import FileError
from biollm.manifest import Resumption

__all__ = ["FOLDER_NAME", "Partial", "is_partial", "open_partial", "work_key"]

FOLDER_NAME: Final = ".partial"
"""Of the work in progress, inside the verb's output folder."""
_KEY: Final = "key.json"
_REACHED: Final = "reached"
_RESUMPTIONS: Final = "resumptions.json"
_TEMPORARY: Final = re.compile(r"\..*\.tmp")


def is_partial(name: str) -> bool:
    """Whether a file's `name`, relative to a verb's folder and with `/`, is of the work in progress."""
    return name.startswith(f"{FOLDER_NAME}/")


def work_key(
    verb: str, algorithm_version: int, options: Mapping[str, Any], identities: Sequence[Sequence[Any]] | None
) -> str | None:
    """The key of a piece of work: the same only where going on from what it left gives what a whole run would.

    Args:
        verb: that works.
        algorithm_version: the verb's own.
        options: those that change the output, as plain JSON values.
        identities: of the inputs in order, each by what is known before it is read: a stage's manifest hash, a file's
            path, size, times and inode. `None` where an input cannot be known again (data in memory).

    Returns:
        32 hexadecimal digits, or `None` where the work cannot be gone on with.
    """
    if identities is None:
        return None
    plain = json.dumps([verb, algorithm_version, dict(options), identities], sort_keys=True, allow_nan=False)
    return _native.hash_bytes(plain.encode())


class Partial:
    """The work in progress of one folder. Made by `open_partial`.

    Attributes:
        path: the folder for the verb's own files; exists.
        resumed: whether an earlier run of the same key was at work here.
        resumptions: how much each earlier run had done and how much of it was kept; grows by `resume`.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self.path = path
        self.resumed = resumed
        self.resumptions = _read_resumptions(path) if resumed else ()
        self._reached = self._read_reached() if resumed else 0
        try:
            self._descriptor = os.open(path / _REACHED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FileError.from_os_error(error, path / _REACHED) from error

    def reached(self, done: int) -> None:
        """Notes that `done` units of work are done, kept or not: one small write, which a kill does not undo.

        Raises:
            FileError: the system refused.
        """
        try:
            os.pwrite(self._descriptor, b"%020d\n" % done, 0)
        except OSError as error:
            raise FileError.from_os_error(error, self.path / _REACHED) from error

    def resume(self, kept: int, unit: str) -> Resumption | None:
        """Notes from where this run goes on; call it once, where `resumed`.

        Args:
            kept: units of the earlier run that need not be done again.
            unit: what is counted ("steps", "documents").

        Returns:
            What was kept and what is repeated; `None` where the earlier run had done nothing yet.
        """
        done = max(self._reached, kept)
        if not done:
            return None
        resumption = Resumption(unit, kept=kept, done=done)
        self.resumptions = (*self.resumptions, resumption)
        write_json(self.path / _RESUMPTIONS, [asdict(item) for item in self.resumptions])
        self.reached(kept)
        return resumption

    def discard(self) -> None:
        """Removes the folder: the work is finished, or no longer wanted."""
        self.close()
        _remove(self.path)

    def close(self) -> None:
        """Lets go of the files and leaves them for the next run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            self.close()

    def _read_reached(self) -> int:
        try:
            return int((self.path / _REACHED).read_bytes())
        except (OSError, ValueError):
            return 0


def open_partial(folder: Path, key: str | None) -> Partial | None:
    """The work in progress of a folder, begun where there is none; that of another key is removed.

    Args:
        folder: a verb's output, made ready by `begin_folder`.
        key: of `work_key`; `None` where the work cannot be gone on with: then nothing is kept.

    Raises:
        FileError: the system refused.
    """
    path = folder / FOLDER_NAME
    if key is None:
        _remove(path)
        return None
    resumed = _key_of(path) == key
    if not resumed:
        _remove(path)
        make_folder(path)
        write_json(path / _KEY, {"format": "biollm-partial", "version": 1, "key": key})
    else:
        _remove_temporary(path)
    return Partial(path, resumed=resumed)


def _key_of(path: Path) -> str | None:
    try:
        data = json.loads((path / _KEY).read_bytes())
        return str(data["key"]) if (data["format"], data["version"]) == ("biollm-partial", 1) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_resumptions(path: Path) -> tuple[Resumption, ...]:
    try:
        return tuple(Resumption(**item) for item in json.loads((path / _RESUMPTIONS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return ()


def _remove_temporary(path: Path) -> None:
    """What a killed run was writing when it ended."""
    try:
        for file in [item for item in path.rglob("*") if _TEMPORARY.fullmatch(item.name)]:
            if not file.is_dir():
                file.unlink()
    except OSError as error:
        raise FileError.from_os_error(error, path) from error


def _remove(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    try:
        # The key goes first: half a removal is then nothing anyone would go on from.
        (path / _KEY).unlink(missing_ok=True)
        shutil.rmtree(path)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
