"""The compiled part of biollm. Its functions are called by the packages beside it, not by users."""

from collections.abc import Callable
from os import PathLike
from typing import final

__version__: str

# What `progress` arguments take: units done, and the total where it is known.
_Progress = Callable[[int, int | None], object]

# --- buffers, files -------------------------------------------------------------------------------------------------

@final
class Buffer:
    """Read-only bytes made by a kernel; numpy.frombuffer and pyarrow.py_buffer take it with no copy."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def hash_file(path: str | PathLike[str], progress: _Progress | None = None) -> str:
    """xxh3-128 of a file, 32 hexadecimal digits."""

def hash_bytes(data: bytes) -> str:
    """xxh3-128 of bytes, 32 hexadecimal digits."""

def publish(temporary: str | PathLike[str], target: str | PathLike[str]) -> str:
    """Makes a finished file durable under its final name; gives its xxh3-128."""
