"""What a source is known by before it is read: the key of work that a killed run left (`biollm.partial`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from biollm.errors import FileError
from biollm.manifest import Manifest
from biollm.readers.files import find_files
from biollm.readers.stores import as_url, local_path

__all__ = ["is_verb_folder", "source_identities"]


def source_identities(source: Any) -> list[list[Any]] | None:
    """What tells whether a source is the same again, without reading it.

    Args:
        source: documents, or a folder of a verb, as any verb takes them.

    Returns:
        For each file of paths and globs, in order, [path, size in bytes, mtime in ns, ctime in ns, inode]; for each
        folder that a verb left, ["stage", the hash of its manifest]. `None` where a part of the source cannot be known
        again: data in memory, URLs, pipes, folders that no verb finished.

    Raises:
        FileError: a file is missing, or a manifest cannot be read. FormatError: a manifest is not one.
        InputError: a glob matches nothing, or the format of a file is not known.
    """
    if isinstance(source, (str, os.PathLike)):
        paths = [source]
    elif isinstance(source, (list, tuple)) and any(isinstance(item, os.PathLike) for item in source):
        paths = list(source)
    else:
        return None
    identities: list[list[Any]] = []
    for path in paths:
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
            return None
        found = _of_path(path if isinstance(path, str) else Path(cast("os.PathLike[str]", path)))
        if found is None:
            return None
        identities.extend(found)
    return identities


def is_verb_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a verb has left, and finished, this folder."""
    try:
        return (Path(path) / "manifest.json").is_file()
    except (OSError, ValueError):
        return False


def _of_path(path: str | Path) -> list[list[Any]] | None:
    url = as_url(path)
    if url is not None and local_path(url) is None:
        return None
    if is_verb_folder(path):
        return [["stage", Manifest.read(path).hash]]
    if url is None and Path(path).is_dir():
        return None
    files = find_files([path], lines=False)
    return [_of_file(file.path) for file in files] if all(file.regular for file in files) else None


def _of_file(path: str) -> list[Any]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
    return [path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
