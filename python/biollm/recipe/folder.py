"""The folders of a run: one run at a time, and nothing removed that this library did not write."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from biollm.atomic import make_folder
from biollm.errors import FileError, FormatError, InputError
from biollm.manifest import Manifest
from biollm.partial import FOLDER_NAME, is_partial, open_partial
from biollm.report.folders import CARD_NAME, is_card

LOCK_NAME: Final = ".lock"
_OUR_SUFFIXES: Final = frozenset(
    {".parquet", ".json", ".jsonl", ".gz", ".zst", ".tokens", ".offsets", ".mask", ".safetensors", ".jinja"}
)
_TEMPORARY: Final = re.compile(r"\..*\.tmp\Z")
_ALWAYS_OURS: Final = re.compile(r"(manifest|summary|report_extra)\.json|report\.html|compare-[^/]*\.html")


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds an exclusive `flock` on the file `path`, made with its folder where missing and removed afterwards.

    The system lets go of the lock when the process ends, however it ends; a file left behind then means nothing.

    Raises:
        FileError: another process holds it (`errno` EWOULDBLOCK), or the file system has no locks.
    """
    make_folder(path.parent)
    try:
        descriptor = _acquire(path)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError.from_os_error(error, path) from error
    try:
        os.pwrite(descriptor, f"{os.getpid():<20}\n".encode(), 0)
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have removed the file between our open and our lock: then this one locks nothing.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            message = f"another run is at work in this folder (process {holder or 'unknown'}): wait for it or stop it"
            raise FileError(message, path=path.parent, errno=errno.EWOULDBLOCK) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def prepare_folder(folder: Path, *, ours: bool = False) -> None:
    """Makes `folder` exist and be empty, removing only what this library wrote there.

    Raises:
        InputError, FileError: as `refuse_foreign` and `clear`, which this is.
    """
    refuse_foreign(folder, ours=ours)
    clear(folder)


def refuse_foreign(folder: Path, *, ours: bool = False) -> None:
    """Refuses a folder that holds files which this library did not write.

    What a finished stage wrote is listed in its manifest. A stage that did not finish has none: with `ours` (the run's
    record says that it made the folder) files of the kinds this library writes are taken for its own.

    Raises:
        InputError: the folder holds other files, or is a file or a link.
        FileError: the system refused.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError("a stage needs a folder of its own here: move this away", path=folder)
    listed = _listed(folder)
    foreign = [name for name in _walk(folder)[0] if not _is_ours(name, listed, ours)]
    if CARD_NAME in foreign and is_card(folder / CARD_NAME):
        foreign.remove(CARD_NAME)
    if foreign:
        names = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else "")
        message = f"the folder holds files that no stage wrote ({names}): move them away, or choose another output"
        raise InputError(message, path=folder)


def clear(folder: Path) -> None:
    """Empties a folder, making it where it is missing; the manifest goes first, so that it counts as unfinished.

    Work in progress (`biollm.partial`) stays: the verb finds out whether it can go on from it.

    Raises:
        FileError: the system refused.
    """
    make_folder(folder)
    files, folders = _walk(folder)
    try:
        for name in sorted(files, key=lambda name: name != "manifest.json"):
            if not is_partial(name):
                (folder / name).unlink(missing_ok=True)
        for name in reversed(folders):
            if name != FOLDER_NAME and not is_partial(name):
                (folder / name).rmdir()
    except OSError as error:
        raise FileError.from_os_error(error, folder) from error


def has_unfinished_work(folder: Path) -> bool:
    """Whether a verb began here, or was about to, and did not finish: its work in progress lies in the folder."""
    partial = folder / FOLDER_NAME
    return partial.is_dir() and not partial.is_symlink()


def drop_unfinished_work(folder: Path) -> None:
    """Removes work in progress of a folder whose result stands: nobody will go on with it.

    Raises:
        FileError: the system refused.
    """
    if has_unfinished_work(folder):
        open_partial(folder, None)


def remove_temporary(folder: Path, names: Iterable[str]) -> None:
    """Removes what killed runs were writing under temporary names (`biollm.atomic`) for the files `names`."""
    for name in names:
        for left in folder.glob(f".{glob.escape(name)}.*.tmp"):
            with suppress(OSError):
                left.unlink()


def is_finished(folder: Path) -> bool:
    """Whether a stage has committed its folder."""
    return (folder / "manifest.json").is_file()


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Files and folders below `folder`, as relative paths, parents before children; links count as files."""
    files: list[str] = []
    folders: list[str] = []
    for parent, subfolders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        for name in sorted(subfolders):
            is_link = (Path(parent) / name).is_symlink()
            (files if is_link else folders).append((inside / name).as_posix())
        files.extend((inside / name).as_posix() for name in sorted(names))
    return files, folders


def _listed(folder: Path) -> frozenset[str]:
    try:
        return frozenset(Manifest.read(folder).outputs)
    except (FileError, FormatError):
        return frozenset()


def _is_ours(name: str, listed: frozenset[str], ours: bool) -> bool:
    base = name.rpartition("/")[2]
    if name in listed or is_partial(name) or _TEMPORARY.match(base):
        return True
    if (listed or ours) and _ALWAYS_OURS.fullmatch(name):
        return True
    return ours and not base.startswith(".") and Path(base).suffix in _OUR_SUFFIXES
