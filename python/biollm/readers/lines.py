"""The lines of a text file, bounded: for files whose lines are not all text documents (pairs, questions).

Documents come by the native reader; here a line goes to a parser of Python's, which wants all of it in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from biollm.errors import BiollmError, FileError, FormatError, LimitError

__all__ = ["MAX_LINE_BYTES", "bounded_lines"]

MAX_LINE_BYTES: Final = 64 << 20
"""Bytes of one line, decompressed."""


def bounded_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, plain, .gz or .zst, with their line feeds; counted from 1. No other line end splits.

    Args:
        path: of a file of this machine.

    Raises:
        FileError: it cannot be read. FormatError: what is compressed is damaged or cut off.
        LimitError: a line is over 64 MiB; no more than that is decompressed of it.
    """
    import pyarrow as pa

    try:
        with path.open("rb"):  # whose error has an errno
            pass
        with pa.input_stream(str(path), compression="detect") as stream:
            lines, number = io.BufferedReader(stream), 0
            while line := lines.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise LimitError(
                        f"a line is over {MAX_LINE_BYTES:,} bytes", path=path, line=number, limit=MAX_LINE_BYTES
                    )
                yield number, line
    except BiollmError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError.from_os_error(error, path) from error
        raise FormatError(f"damaged or cut off: {error}", path=path) from error
