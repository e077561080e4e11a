"""How a native function or public method declares itself to the tests of the border. A case:

- `name`: "function", or "Class.method" (constructors are "Class"; properties and dunder methods such as `__len__`
  are declared with kind "property": no other test runs on them).
- `kind`: "long" (Ctrl-C, fork, threads, bad input), "short" (under 10 ms of CPU at its limits; fork, threads, bad
  input) or "property".
- `prepare(size)`: makes valid arguments of a size (1 is small; the cost should grow about linearly) and gives a
  function without arguments that makes the call and returns something comparable with `==`. For "long" the size
  is doubled until the call takes 2 s, so it must reach that by arguments alone (a sparse file, a repeated text).
- `malformed(rng)`: for whatever takes bytes, text or a path: at least 200 functions without arguments, each of
  which makes one call with bad input (mutations of valid files and values). A call may succeed; otherwise only
  `BiollmError`, `TypeError` or, for sizes, `MemoryError` may come out, within 1 s of CPU.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Call = Callable[[], Any]


@dataclass(frozen=True)
class NativeCase:
    name: str
    kind: Literal["long", "short", "property"]
    prepare: Callable[[int], Call] | None = None
    malformed: Callable[[random.Random], Iterator[Call]] | None = None


_FOLDER = tempfile.TemporaryDirectory(prefix="biollm-native-cases-")


def scratch(name: str) -> Path:
    """A path in a folder of this process, removed when it ends."""
    return Path(_FOLDER.name) / f"{os.getpid()}-{name}"


# Values that have broken argument handling somewhere: wrong types, extremes, surrogates, NULs.
ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 1 << 200, 0.0, -0.5, 1.5,
    float("nan"), float("inf"), "", "\0", "a\0b", "\ud800", "x" * 5000, "../..", "/", "/dev/null", "/proc/self/mem",
    b"", b"\0", b"\xff\xfe", bytearray(b"x"), memoryview(b"x"), [], [None], (), {}, {"a": 1}, set(), object(), int,
    [b""], [("", "")], [(b"", b"")], [(b"", b"", 1)], [(b"\0" * 8, b"", -1)], [(b"\0" * 8, b"", 1 << 62)],
    [(b"\xff" * 16, b"abc", 1)], [(b"\0" * 16, b"", 1)], "\U0010ffff", "a" * 300 + "/" + "b" * 300,
)  # fmt: skip


def mutations(valid: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Damaged copies of valid bytes: flips, cuts, repeats, insertions, splices."""
    for i in range(count):
        data = bytearray(valid)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(data) + 1)
            kind = (i + rng.randrange(2)) % 6
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[at:]
            elif kind == 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif kind == 3:
                del data[at : at + rng.randrange(1, 64)]
            elif kind == 4:
                data[at:at] = data[at : at + rng.randrange(1, 256)] * rng.choice((1, 2, 50))
            elif at < len(data):
                data[at : at + 4] = rng.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"[[[[", b'"\\"')
                )
        yield bytes(data)
