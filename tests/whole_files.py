"""Whether every visible file of an output folder is whole: opened, parsed, and held against the checksums beside it.

Visible is what a reader may take for a result: not a dot-temporary (`.*.tmp`), not a lock, and of `.partial` not the
counter that is overwritten in place.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from biollm import _native
from biollm.errors import BiollmError, FileError
from biollm.tokenization.shards import Shards

_HIDDEN = re.compile(r"\..*\.tmp|\.lock")
_IN_PLACE = ".partial/reached"
#: Files that are appended to, a line at a time.
_APPENDED = ("log.jsonl",)


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder that a reader may take for results, sorted."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.rglob("*") if not _HIDDEN.fullmatch(path.name))
    return sorted(path for path in files if not path.as_posix().endswith(_IN_PLACE) and not path.is_dir())


def torn(path: Path, *, growing: bool = False) -> str | None:
    """What is wrong with a visible file; `None` where it is whole, or gone by now.

    Args:
        path: of the file.
        growing: whether its writer may be at work this moment: then the last line of a log may lack its end.
    """
    try:
        _open(path, growing)
    except (ValueError, SafetensorError, pa.ArrowException, EOFError, BiollmError) as error:
        return f"{path}: {type(error).__name__}: {error}" if path.exists() else None
    except OSError as error:
        return f"{path}: {error}" if path.exists() else None
    return None


def torn_files(folder: Path) -> list[str]:
    """What is wrong with the visible files of a folder at rest, each by itself and held against its manifest."""
    files = visible_files(folder)
    found = [complaint for path in files if (complaint := torn(path)) is not None]
    for path in files:
        if path.name == "manifest.json":
            found += manifest_complaints(path.parent)
        elif path.name == "shards.json":
            try:
                Shards.open(path.parent)
            except BiollmError as error:
                found.append(f"{path.parent}: {error}")
    return found


def manifest_complaints(folder: Path) -> list[str]:
    """Outputs that are not what the folder's manifest says; nothing where that is replaced or removed meanwhile."""
    path = folder / "manifest.json"
    found = []
    try:
        before = path.stat()
        outputs = json.loads(path.read_bytes())["outputs"]
        for name, checksum in outputs.items():
            try:
                if _native.hash_file(folder / name) != checksum:
                    found.append(f"{folder / name}: not what the manifest says")
            except FileError as error:
                found.append(f"{folder / name}: {error.message}, but the manifest lists it")
        after = path.stat()
    except OSError:
        return []
    return found if (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns) else []


def _open(path: Path, growing: bool) -> None:
    name = path.name
    if name.endswith(".parquet"):
        pq.read_table(path)
    elif name.endswith(".safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            tensors.keys()
    elif name.endswith(".jsonl"):
        lines = path.read_bytes().split(b"\n")
        if lines.pop() and not (growing and name in _APPENDED):
            raise ValueError("the last line has no end")
        for line in lines:
            json.loads(line)
    elif name.endswith(".json"):
        _whole_json(path.read_bytes())
    elif name.endswith(".gz"):
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    elif name.endswith(".html"):
        if not path.read_bytes().rstrip().endswith(b"</html>"):
            raise ValueError("it does not end with </html>")
    elif name.endswith((".tokens", ".offsets")):
        width = 8 if name.endswith(".offsets") else 2
        if path.stat().st_size % width:
            raise ValueError(f"its size is no multiple of {width}")


def _whole_json(data: bytes) -> Any:
    if not data:
        raise ValueError("empty")
    return json.loads(data)
