"""From paths, globs and URLs to the files they name, each with its format and its short name."""

from __future__ import annotations

import errno
import glob
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal
from urllib.parse import urlsplit

from biollm.errors import FileError, InputError
from biollm.manifest import InputRecord
from biollm.readers.stores import RemoteFile, as_url, find_remote, local_path

__all__ = ["SourceFile", "file_record", "find_files"]

Format = Literal["jsonl", "text", "lines", "parquet", "xml"]
Compression = Literal["none", "gzip", "zstd"]

_FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xml": "xml",
    ".nxml": "xml",
    ".tar": "xml",
    ".tgz": "xml",
}
_COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gzip", ".tgz": "gzip", ".zst": "zstd"}
READ: Final = (
    ".jsonl, .ndjson, .txt, .xml, .nxml and .tar (of XML files), all also with .gz or .zst behind, .tgz and .parquet"
)


@dataclass(frozen=True)
class SourceFile:
    """One file to read.

    Attributes:
        path: of this machine, or the URL.
        name: short, the same wherever the data lies: what ids are made of.
        remote: the file in its store; `None` for one of this machine.
        regular: whether it can be read again; a pipe cannot.
        tar: whether it is a tar, of which the XML files are read.
    """

    path: str
    name: str
    format: Format
    compression: Compression
    remote: RemoteFile | None
    regular: bool
    size_bytes: int | None
    tar: bool = False


def file_record(path: str) -> InputRecord:
    """A file of this machine as it is now, its content not hashed.

    Raises:
        FileError: it is not there, or may not be looked at.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
    times = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return InputRecord(path, "file", None, *times)


def find_files(paths: list[str | Path], *, lines: bool) -> list[SourceFile]:
    """The files that paths, globs and URLs name: in the order given, those of a glob sorted.

    Args:
        paths: of files; `**` in a glob crosses folders. A path that exists is taken as it is, whatever it holds.
        lines: whether each line of a text file is a document.

    Raises:
        FileError: a file is missing or may not be looked at; `errno` says why.
        InputError: a glob matches nothing, a folder is given, or a suffix is not known.
    """
    found: list[tuple[str, RemoteFile | None]] = []
    for path in paths:
        url = as_url(path)
        local = os.fspath(path) if url is None else local_path(url)
        if local is None:
            assert url is not None
            found.extend((file.url, file) for file in find_remote(url))
        else:
            found.extend((name, None) for name in _find_local(local))
    names = _short_names([name for name, _ in found])
    return [_source_file(path, name, remote, lines) for (path, remote), name in zip(found, names, strict=True)]


def _find_local(path: str) -> list[str]:
    try:
        encodable = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        encodable = False
    if not encodable:
        raise InputError(f"{path!r} is no path: it holds a NUL or half a character", field="source", value=path)
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(path):
        raise FileError("no such file", errno=errno.ENOENT, path=path)
    matched = sorted(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))
    if not matched:
        raise InputError("this glob matches no file", path=path)
    return matched


def _source_file(path: str, name: str, remote: RemoteFile | None, lines: bool) -> SourceFile:
    regular, size_bytes = True, remote.size_bytes if remote else None
    if remote is None:
        try:
            status = os.stat(path)
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        if stat.S_ISDIR(status.st_mode):
            message = f"a folder: name its files with a glob, as in {os.path.join(path, '*.jsonl.gz')!r}"
            raise InputError(message, path=path)
        regular, size_bytes = stat.S_ISREG(status.st_mode), status.st_size
    is_web = remote is not None and path.startswith(("http://", "https://"))
    suffixes = [suffix.lower() for suffix in PurePosixPath(urlsplit(path).path if is_web else path).suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1], "none") if suffixes else "none"
    # .tgz says both.
    inner = suffixes[:-1] if compression != "none" and suffixes[-1] not in _FORMATS else suffixes
    kind = _FORMATS.get(inner[-1]) if inner else None
    if kind is None or (kind == "parquet" and compression != "none"):
        raise InputError(f"the format of this file is not known: read are {READ}", path=path, value="".join(suffixes))
    if kind == "text" and lines:
        kind = "lines"
    tar = kind == "xml" and inner[-1] in (".tar", ".tgz")
    return SourceFile(path, name, kind, compression, remote, regular, size_bytes if regular else None, tar)


def _short_names(paths: list[str]) -> list[str]:
    """Each path from the folder that all have in common: it does not change with where the data lies."""
    if not paths:
        return []
    folders = [os.path.dirname(path) for path in paths]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # Absolute and relative paths, or URLs, beside each other.
        return paths
    names = [os.path.relpath(path, common) if common else os.path.normpath(path) for path in paths]
    # Names become ids, which are UTF-8; names of files need not be.
    return [name.encode(errors="surrogateescape").decode(errors="replace") for name in names]
