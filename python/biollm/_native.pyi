"""The compiled part of biollm. Its functions are called by the packages beside it, not by users."""

from collections.abc import Callable
from os import PathLike
from typing import Never, final

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

# --- read -----------------------------------------------------------------------------------------------------------

_Column = tuple[Buffer, Buffer]

@final
class DocumentReader:
    """Reads documents from a file, or (`path=None`) from bytes that are pushed in. Not for two threads at once, nor
    for a forked child; does not pickle.
    """

    def __new__(
        cls,
        path: str | PathLike[str] | None,
        *,
        name: str | PathLike[str] | None = None,
        format: str = "jsonl",
        compression: str = "none",
        text: list[str],
        id: str | None = None,
        source: str | None = None,
        id_prefix: str = "",
        max_document_bytes: int | None = None,
        skip: bool = False,
    ) -> DocumentReader: ...
    def next_batch(
        self, progress: _Progress | None = None
    ) -> tuple[int, _Column, _Column, tuple[Buffer, Buffer, Buffer], _Column, list[tuple[int, str]]] | None:
        """Rows; the columns id, text, source (offsets, data, validity) and meta; (line, reason) of what was passed over.

        `None` at the end, or where what was pushed does not yet fill a batch.
        """

    def push(self, data: bytes) -> None:
        """The next bytes of the stream, at most 8 MiB at a time."""

    def finish(self) -> None:
        """Declares the end of what is pushed."""

    @property
    def ended(self) -> bool: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def xxh3_128(self) -> str | None: ...
    def __reduce__(self) -> Never: ...

# --- select ---------------------------------------------------------------------------------------------------------

def gopher_statistics(
    texts: list[tuple[object, object, int]],
    *,
    quality: bool = True,
    repetition: bool = True,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> list[tuple[str, str, Buffer]]:
    """Statistics of each text for the Gopher rules: (name, "int64" or "float64", values) for each."""
