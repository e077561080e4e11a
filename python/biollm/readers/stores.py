"""Files behind a URL: `pyarrow.fs` where it knows the scheme, else `fsspec`."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast
from urllib.parse import unquote, urlsplit

from biollm.errors import BiollmError, FileError, InputError

if TYPE_CHECKING:
    import pyarrow.fs as pafs

__all__ = ["RemoteFile", "as_url", "find_remote", "local_path"]

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# What `Path("s3://bucket/key")` makes of a URL.
_URL_AS_PATH: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
_MAGIC: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class RemoteFile:
    """A file in a store.

    Attributes:
        url: its whole URL.
        open: gives a fresh binary stream.
        handle: what `pyarrow.parquet` can seek in: a fresh one at each call.
        size_bytes: where the store says it.
    """

    url: str
    open: Callable[[], BinaryIO]
    handle: Callable[[], Any]
    size_bytes: int | None


def as_url(path: str | Path) -> str | None:
    """The URL that `path` is, also one that `Path` has taken a slash from; `None` for a path of this machine."""
    text = str(path)
    if _URL.match(text):
        return text
    if isinstance(path, Path) and _URL_AS_PATH.match(text) and not path.exists():
        return _URL_AS_PATH.sub(r"\1://", text, count=1)
    return None


def local_path(url: str) -> str | None:
    """The path that a `file://` URL names, `None` for others.

    Raises:
        InputError: it names another host.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise InputError(f"{url}: a file on another host", path=url, value=parts.netloc)
    return unquote(parts.path)


def find_remote(url: str) -> list[RemoteFile]:
    """The file that `url` names, or the files its glob matches, sorted.

    Raises:
        InputError: neither pyarrow.fs nor fsspec knows the scheme, or a glob matches nothing.
        FileError: the file is missing or may not be read.
    """
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        filesystem, path = pafs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ImportError) as error:
        return _find_with_fsspec(url, str(error))
    except OSError as error:
        raise _file_error(error, url) from error
    return _find_with_arrow(filesystem, path, url)


def _find_with_arrow(filesystem: pafs.FileSystem, path: str, url: str) -> list[RemoteFile]:
    import pyarrow.fs as pafs

    prefix = url[: len(url) - len(path)] if url.endswith(path) else f"{_URL.match(url)[0]}"  # type: ignore[index]
    try:
        if _MAGIC.search(path):
            base = path[: _MAGIC.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
            selector = pafs.FileSelector(base, allow_not_found=True, recursive=True)
            pattern = glob_pattern(path)
            infos = [i for i in filesystem.get_file_info(selector) if i.is_file and pattern.fullmatch(i.path)]
            if not infos:
                raise InputError(f"{url} matches no file", path=url)
        else:
            infos = [filesystem.get_file_info(path)]
            if not infos[0].is_file:
                kind = errno.EISDIR if infos[0].type == pafs.FileType.Directory else errno.ENOENT
                raise FileError(
                    "a folder, not a file" if kind == errno.EISDIR else "no such file", errno=kind, path=url
                )
    except OSError as error:
        raise _file_error(error, url) from error

    def remote(info: pafs.FileInfo) -> RemoteFile:
        def open_stream() -> BinaryIO:
            return cast(BinaryIO, filesystem.open_input_stream(info.path, compression=None))

        return RemoteFile(prefix + info.path, open_stream, lambda: filesystem.open_input_file(info.path), info.size)

    return [remote(info) for info in sorted(infos, key=lambda info: info.path)]


def _find_with_fsspec(url: str, arrow_says: str) -> list[RemoteFile]:
    scheme = urlsplit(url).scheme
    wrong = f"{url}: pyarrow.fs does not open {scheme}:// ({arrow_says.splitlines()[0]})"
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{wrong}, and fsspec is not installed: pip install fsspec", path=url, value=scheme) from None
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"{wrong}, nor does fsspec ({error})", path=url, value=scheme) from error
    except OSError as error:
        raise _file_error(error, url) from error
    try:
        # The `?` of a web address begins its query.
        is_glob = _MAGIC.search(path) is not None and scheme not in ("http", "https")
        paths = sorted(filesystem.glob(path)) if is_glob else [path]
        files = [RemoteFile(*_fsspec_file(filesystem, name)) for name in paths if not filesystem.isdir(name)]
    except OSError as error:
        raise _file_error(error, url) from error
    if not files:
        if paths:
            raise FileError("a folder, not a file", errno=errno.EISDIR, path=url)
        raise InputError(f"{url} matches no file", path=url)
    return files


def _fsspec_file(filesystem: Any, path: str) -> tuple[str, Callable[[], BinaryIO], Callable[[], Any], int | None]:
    size = filesystem.info(path).get("size")

    def open_file() -> BinaryIO:
        return cast(BinaryIO, filesystem.open(path, "rb"))

    return filesystem.unstrip_protocol(path), open_file, open_file, size if isinstance(size, int) else None


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: `*` and `?` stay inside one folder, `**/` crosses any number of them."""
    parts = re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", pattern)
    fixed = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    translated = "".join(
        fixed.get(part) or (re.sub(r"^\[!", "[^", part) if part.startswith("[") and part != "[" else re.escape(part))
        for part in parts
    )
    return re.compile(translated)


def _file_error(error: OSError, url: str) -> BiollmError:
    if isinstance(error, BiollmError):
        return error
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return FileError("no such file", errno=errno.ENOENT, path=url)
    return FileError.from_os_error(error, url)
