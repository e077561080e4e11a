"""Work that survives a kill: what a verb has finished so far, beside its output, for the next run to go on from.

`OUT/.partial/` holds `key.json`, which says what the work was made from, and whatever files the verb puts there, each
whole or absent. It is of use only to a run of the same key and version of this library; it goes when the manifest is
written.

What is no file of the output is kept as pieces. `NAME.piece` holds the parts end to end, then a JSON object (`sizes` of
the parts in bytes, `xxh3_128` of their slices of 16 MiB, `facts`), then that object's own xxh3-128 (32 hexadecimal
digits) and its length (20 decimal digits).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from biollm import _native
from biollm.atomic import atomic_path, make_folder, write_json
from biollm.errors import FileError
from biollm.manifest import Resumption
from biollm.results import Progress
from biollm.telemetry import event

__all__ = ["FOLDER_NAME", "Partial", "Piece", "is_partial", "open_partial", "reporting", "work_key"]

FOLDER_NAME: Final = ".partial"
"""Of the work in progress, inside the verb's output folder."""
_KEY: Final = "key.json"
_REACHED: Final = "reached"
_RESUMPTIONS: Final = "resumptions.json"
_TEMPORARY: Final = re.compile(r"\..*\.tmp")
#: What `hash_bytes` takes at a time, with room.
_HASHED_BYTES: Final = 16 << 20
_DIGITS: Final = 20
_CHECKSUM: Final = 32


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
    versions = [algorithm_version, _native.__version__]
    plain = json.dumps([verb, versions, dict(options), identities], sort_keys=True, allow_nan=False)
    return _native.hash_bytes(plain.encode())


@dataclass(frozen=True)
class Piece:
    """A piece of work as it was kept.

    Attributes:
        parts: the bytes of each part, aligned to 8 bytes where those before it are multiples of 8 bytes.
        facts: plain JSON values.
    """

    parts: tuple[memoryview, ...]
    facts: Mapping[str, Any]


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

    def resume(self, kept: int, unit: str, log: logging.Logger | None = None) -> Resumption | None:
        """Notes from where this run goes on; call it once, where `resumed`.

        Args:
            kept: units of the earlier run that need not be done again.
            unit: what is counted ("steps", "documents").
            log: gets an event "resumed" (unit, kept, done, repeated).

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
        if log is not None:
            message = f"going on from {kept:,} of {done:,} {unit} that an interrupted run had done"
            event(log, "resumed", message, unit=unit, kept=kept, done=done, repeated=resumption.repeated)
        return resumption

    def keep(self, name: str, parts: Iterable[Any], /, **facts: Any) -> None:
        """Keeps a piece of work, in place of an earlier one of the name.

        Args:
            name: of the piece.
            parts: contiguous buffers.
            facts: plain JSON values.

        Raises:
            FileError: the system refused.
        """
        views = [memoryview(part).cast("B") for part in parts]
        trailer = {"sizes": [view.nbytes for view in views], "xxh3_128": _checksum(views), "facts": facts}
        written = json.dumps(trailer, allow_nan=False).encode()
        with atomic_path(self._piece(name)) as file, file.path.open("wb") as stream:
            for view in views:
                stream.write(view)
            stream.write(written + _native.hash_bytes(written).encode() + b"%0*d" % (_DIGITS, len(written)))

    def kept(self, name: str) -> Piece | None:
        """The piece `name` of an earlier run; `None` where there is none, or not as it was written."""
        try:
            whole = memoryview(self._piece(name).read_bytes())
            end = len(whole) - _DIGITS - _CHECKSUM
            start = end - int(bytes(whole[-_DIGITS:]))
            written = bytes(whole[start:end])
            if start < 0 or _native.hash_bytes(written).encode() != bytes(whole[end:-_DIGITS]):
                return None
            trailer = json.loads(written)
        except (OSError, ValueError):
            return None
        parts, at = [], 0
        for size in trailer["sizes"]:
            parts.append(whole[at : at + size])
            at += size
        return Piece(tuple(parts), trailer["facts"]) if _checksum(parts) == trailer["xxh3_128"] else None

    def kept_run(self, name: str) -> Iterator[Piece]:
        """The pieces `name`-00000, -00001 and so on, up to the first that is missing or damaged."""
        number = 0
        while (piece := self.kept(f"{name}-{number:05}")) is not None:
            yield piece
            number += 1

    def drop(self, name: str) -> None:
        """Removes the piece `name`, which is of no more use, if it is there."""
        with suppress(OSError):
            self._piece(name).unlink(missing_ok=True)

    def place(self, names: Iterable[str]) -> None:
        """Gives finished files their `names` in the output: `.partial/NAME` becomes `NAME`.

        They keep the old name too, where the file system can, so that a kill before the manifest loses none.

        Raises:
            FileError: the system refused.
        """
        folders = set()
        for name in names:
            source, target = self.path / name, self.path.parent / name
            folders.add(make_folder(target.parent))
            try:
                target.unlink(missing_ok=True)
                try:
                    os.link(source, target)
                except OSError:  # no hard links here
                    source.replace(target)
            except OSError as error:
                raise FileError.from_os_error(error, target) from error
        for folder in folders:
            _sync(folder)

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

    def _piece(self, name: str) -> Path:
        return self.path / f"{name}.piece"

    def _read_reached(self) -> int:
        try:
            return int((self.path / _REACHED).read_bytes())
        except (OSError, ValueError):
            return 0


def reporting(partial: Partial | None, progress: Progress | None, before: int, *, earlier: int = 0) -> Progress | None:
    """The progress of one native call of several: with what the calls before have done, and noted in `partial`.

    Args:
        partial: the work in progress, if any.
        progress: the caller's, if any; it is told no total.
        before: units that the calls before have done.
        earlier: units of earlier passes, which count only for `partial`.
    """
    if partial is None and progress is None:
        return None

    def report(done: int, _: int | None) -> None:
        if partial is not None:
            partial.reached(earlier + before + done)
        if progress is not None:
            progress(before + done, None)

    return report


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


def _checksum(parts: Iterable[memoryview]) -> str:
    starts = ((part, start) for part in parts for start in range(0, part.nbytes, _HASHED_BYTES))
    hashes = [_native.hash_bytes(bytes(part[start : start + _HASHED_BYTES])) for part, start in starts]
    return _native.hash_bytes("".join(hashes).encode())


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable; some file systems (network ones) refuse, and the names are there anyway."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
