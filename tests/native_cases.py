"""One table of every native function and public method, and how each is put to the test.

`test_native_border.py` compares the table with `_native.pyi`: what is not declared here fails the suite. What a
case holds is said in `native_case.py`; each kernel's cases stand in a module of their own, `native_cases_<kernel>.py`.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations, scratch
from native_cases_dedup import DEDUP_CASES
from native_cases_parquet import PARQUET_CASES
from native_cases_read import READ_CASES
from native_cases_select import SELECT_CASES
from native_cases_tokenize import TOKENIZE_CASES
from native_cases_xml import XML_CASES

# --- buffers, files -------------------------------------------------------------------------------------------------


def _sparse_file(name: str, size: int) -> Path:
    path = scratch(name)
    with path.open("wb") as file:
        file.truncate(size << 20)
    return path


def _forget(path: Path) -> None:
    """Drops a file from the page cache, so that reading it takes as long each time."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _prepare_hash_file(size: int) -> Call:
    path = _sparse_file("hash", size)

    def call() -> str:
        _forget(path)
        return _native.hash_file(path)

    return call


def _prepare_publish(size: int) -> Call:
    # The rename consumes the temporary file, so the call is made repeatable by a hard link beside it.
    source, temporary, target = _sparse_file("publish", size), scratch("publish.tmp"), scratch("published")

    def call() -> str:
        _forget(source)
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(source)
        return _native.publish(temporary, target.with_name(f"{target.name}-{os.getpid()}"))

    return call if size > 1 else _publish_anywhere


def _publish_anywhere() -> str:
    # Threads and forks must not share one temporary name.
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "a.tmp")
        temporary.write_bytes(b"content")
        return _native.publish(temporary, Path(folder, "a"))


def _odd_paths(rng: random.Random) -> Iterator[Any]:
    yield from ODD_VALUES
    yield from (
        "",
        ".",
        "/",
        "/nonexistent/x",
        "/etc/shadow/x",
        "/dev/full/x",
        "x" * 10_000,
        "/tmp/\udcff",
        b"/nonexistent",
    )
    for _ in range(200):
        yield "/nonexistent/" + "".join(chr(rng.choice((0, 10, 47, 46, 255, 0x2028, 0x10FFFF))) for _ in range(8))


def _malformed_hash_file(rng: random.Random) -> Iterator[Call]:
    for path in _odd_paths(rng):
        # Descriptor numbers and endless devices are no paths to try.
        if path not in ("/dev/null", "/proc/self/mem"):
            yield partial(_native.hash_file, path)
        yield partial(_native.hash_file, scratch("absent"), path)


def _malformed_publish(rng: random.Random) -> Iterator[Call]:
    for path in _odd_paths(rng):
        yield partial(_native.publish, path, path)
        yield partial(_native.publish, scratch("absent"), path)


def _malformed_bytes(function: Callable[[Any], Any], rng: random.Random) -> Iterator[Call]:
    for value in ODD_VALUES:
        yield partial(function, value)
    for data in mutations(b"some bytes " * 20, rng, 200):
        yield partial(function, data)


_BORDER = [
    NativeCase("available_threads", "short", lambda size: _native.available_threads),
    NativeCase("Buffer.__len__", "property"),
    NativeCase("Buffer.__buffer__", "property"),
    NativeCase("hash_file", "long", _prepare_hash_file, _malformed_hash_file),
    NativeCase("publish", "long", _prepare_publish, _malformed_publish),
    NativeCase(
        "hash_bytes",
        "short",
        lambda size: partial(_native.hash_bytes, b"x" * min(size, 32 << 20)),
        partial(_malformed_bytes, _native.hash_bytes),
    ),
]

# --- the table ------------------------------------------------------------------------------------------------------

CASES: dict[str, NativeCase] = {
    case.name: case
    for case in [*_BORDER, *DEDUP_CASES, *PARQUET_CASES, *READ_CASES, *SELECT_CASES, *TOKENIZE_CASES, *XML_CASES]
}
