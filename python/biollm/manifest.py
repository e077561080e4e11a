"""Manifests: what a folder was made of, by what, and whether it still stands.

`manifest.json` is written last: it is the commit of a stage's folder.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from biollm import _native
from biollm.atomic import write_json
from biollm.errors import FileError, FormatError

__all__ = ["FORMAT_VERSION", "InputRecord", "Manifest", "Resumption", "StageTimer", "match_key", "package_versions"]

FORMAT_VERSION = 1
"""Of `manifest.json`; a file of another version is refused."""
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class InputRecord:
    """One input: a file (by size, times, inode and content), a stage's folder (by its manifest's hash), or data
    in memory (by content where it was hashed).

    Attributes:
        name: path, URL or stage name, as given.
        kind: "file", "stage", "memory" or "url".
        xxh3_128: of the file's bytes, or of the stage's manifest; `None` where it was not computed.
        size_bytes, mtime_ns, ctime_ns, inode: of a local file, else `None`.
    """

    name: str
    kind: str
    xxh3_128: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    inode: int | None = None

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> InputRecord:
        """The record of the local file `path`, its content hashed.

        Raises:
            FileError: it cannot be read.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        return cls(
            os.fspath(path),
            "file",
            _native.hash_file(os.fspath(path)),
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
        )

    @classmethod
    def of_stage(cls, folder: str | os.PathLike[str], name: str | None = None) -> InputRecord:
        """The record of a stage's `folder`, called `name` (by default as the folder): the hash of its manifest."""
        return cls(name or Path(folder).name, "stage", Manifest.read(folder).hash)

    def same_content(self, now: InputRecord) -> bool:
        """Whether this and the record `now` are known to be of the same bytes."""
        return self.kind == now.kind and self.xxh3_128 is not None and self.xxh3_128 == now.xxh3_128

    def unchanged_file(self, path: str | os.PathLike[str]) -> bool:
        """Whether size, times and inode of the file `path` are as recorded, so that it need not be hashed again."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return now == (self.size_bytes, self.mtime_ns, self.ctime_ns, self.inode)


def match_key(verb: str, algorithm_version: int, options: Mapping[str, Any], inputs: tuple[InputRecord, ...]) -> str:
    """The hash that decides whether a stage must run: of `verb`, `algorithm_version`, `options` (only those that change
    the output) and the content of its `inputs` in order.
    """
    contents = [i.xxh3_128 if i.xxh3_128 is not None else f"{i.kind}:{i.name}" for i in inputs]
    return _hash_json([verb, algorithm_version, dict(options), contents])


def package_versions() -> dict[str, str]:
    """The versions that a result may depend on, package → version: recorded, never matched."""
    return dict(_package_versions())


@functools.cache
def _package_versions() -> dict[str, str]:
    # Looked up once a process: a look costs some 25 ms, as much as deduplicating 50 MB.
    versions = {"python": platform.python_version()}
    for package in ("biollm", "numpy", "pyarrow", "torch", "safetensors"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True)
class Resumption:
    """How a run went on from one that was cut off.

    Attributes:
        unit: what is counted ("steps", "documents").
        kept: units that the run before had done and kept.
        done: units that it had done; those above `kept` were done again.
    """

    unit: str
    kept: int
    done: int

    @property
    def repeated(self) -> int:
        """Units done twice."""
        return self.done - self.kept


@dataclass(frozen=True)
class Manifest:
    """The record of one run of one verb.

    Attributes:
        verb: what ran. kind: of the folder ("documents", "shards", "checkpoint", "completions").
        algorithm_version: raised when the same options give another output.
        options: those that change output. inputs: in order.
        counts: what came in and went out. outputs: file name in the folder → xxh3-128.
        versions: package → version at the time; recorded, never matched.
        wall_s, cpu_s: seconds of the run (cpu: user + system, all threads); of one that was cut off and gone on with,
            those of its last part.
        resumptions: how the run went on after each cut; empty for one that was never cut off.
    """

    verb: str
    kind: str
    algorithm_version: int
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[InputRecord, ...] = ()
    counts: Mapping[str, int | float] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=package_versions)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    resumptions: tuple[Resumption, ...] = ()

    @property
    def match_key(self) -> str:
        """See the function of this name."""
        return match_key(self.verb, self.algorithm_version, self.options, self.inputs)

    @property
    def hash(self) -> str:
        """Identifies what the folder holds: the match key and the outputs, not the times it took."""
        return _hash_json([self.match_key, dict(sorted(self.outputs.items()))])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        data = {"format": "biollm-manifest", "version": FORMAT_VERSION, **asdict(self)}
        return {**data, "match_key": self.match_key}

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Writes `manifest.json` atomically; call it when every other file of the `folder` is in place."""
        write_json(Path(folder) / FILE_NAME, self.to_dict())

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Manifest:
        """The manifest of a `folder`.

        Raises:
            FileError: there is none, or it cannot be read.
            FormatError: it is not one of ours, or of another version.
        """
        path = Path(folder) / FILE_NAME
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        except (ValueError, RecursionError) as error:
            raise FormatError(f"not JSON: {error}", path=path) from error
        if not isinstance(data, dict) or data.get("format") != "biollm-manifest":
            raise FormatError("not a biollm manifest", path=path, field="format")
        if data.get("version") != FORMAT_VERSION:
            message = f"manifest version {data.get('version')!r}, this library reads {FORMAT_VERSION}"
            raise FormatError(message, path=path, field="version")
        try:
            data.setdefault("resumptions", [])  # the first manifests had none
            fields = {name: data[name] for name in cls.__dataclass_fields__}
            fields["inputs"] = tuple(InputRecord(**record) for record in data["inputs"])
            fields["resumptions"] = tuple(Resumption(**record) for record in data["resumptions"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise FormatError(f"the manifest lacks or misnames {error}", path=path) from error


class StageTimer:
    """Wall and CPU seconds since it was made, or of all that a process started for the work has done.

    Args:
        began: the `began` of the process that began the work and started this one for it, on the same machine; `None`
            for one that begins it itself.

    Attributes:
        began: when the work began, on the machine's monotonic clock, in seconds.
    """

    def __init__(self, *, began: float | None = None) -> None:
        self.began = time.monotonic() if began is None else began
        self._cpu = _cpu_s() if began is None else 0.0

    @property
    def wall_s(self) -> float:
        """Seconds on the clock."""
        return time.monotonic() - self.began

    @property
    def cpu_s(self) -> float:
        """User and system seconds of this process's threads and its ended children."""
        return _cpu_s() - self._cpu


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _hash_json(value: Any) -> str:
    return _native.hash_bytes(json.dumps(value, sort_keys=True, allow_nan=False).encode())
