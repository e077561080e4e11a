"""Text columns between Arrow, numpy and the native kernels, without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biollm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from biollm._native import Buffer

__all__ = ["TextChunk", "large_string", "string_array", "text_array", "text_chunks", "values"]

TextChunk = tuple[Any, Any, int]
"""(int64 offsets, UTF-8 bytes, rows): how a text column crosses the border."""


def text_array(texts: list[str], *, field: str = "text") -> pa.LargeStringArray:
    """A list of str (`texts`) as an Arrow large_string array; `field` is what messages call it.

    Raises:
        TypeError: an item is not a str; the message names its row.
        InputError: an item holds a lone surrogate and so has no UTF-8 form (`row`, `field`).
    """
    import pyarrow as pa

    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{field}[{row}] is {type(text).__name__}, not str")
    try:
        return pa.array(texts, type=pa.large_string())
    except (UnicodeEncodeError, pa.ArrowInvalid):
        for row, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                message = f"{field}[{row}] is not valid Unicode: {error.reason} at character {error.start}"
                raise InputError(message, row=row, field=field) from None
        raise


def large_string(column: pa.ChunkedArray | pa.Array, *, field: str = "text") -> pa.ChunkedArray:
    """Any Arrow text `column` (string, large_string, string_view, dictionary of these) as chunked large_string.

    `field` is what messages call it.

    Raises:
        InputError: the column is not of text, or holds a null (`row` names the first).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if not pa.types.is_large_string(chunked.type):
        kind = chunked.type.value_type if pa.types.is_dictionary(chunked.type) else chunked.type
        textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        if not textual and not (pa.types.is_null(kind) and len(chunked) == 0):
            raise InputError(f"column {field!r} is {chunked.type}, not text: cast it to string", field=field)
        try:
            chunked = chunked.cast(pa.large_string())
        except pa.ArrowInvalid as error:
            raise InputError(f"column {field!r} does not read as text: {error}", field=field) from None
    if chunked.null_count:
        row = int(pc.index(pc.is_null(chunked), True).as_py())
        message = f"column {field!r} is null in row {row}: drop such rows or fill them with ''"
        raise InputError(message, row=row, field=field)
    return chunked


def text_chunks(column: pa.ChunkedArray | pa.Array, *, field: str = "text") -> list[TextChunk]:
    """The chunks of a text `column` as the native functions take them; shares the column's memory.

    `field` is what messages call it.

    Raises:
        InputError: as `large_string`.
    """
    chunks: list[TextChunk] = []
    for chunk in large_string(column, field=field).chunks:
        if len(chunk) == 0:
            continue
        _, offsets, data = chunk.buffers()
        # A sliced array keeps its whole buffers: the first offset of ours lies `chunk.offset` places in.
        chunks.append((offsets.slice(chunk.offset * 8, (len(chunk) + 1) * 8), data if data else b"", len(chunk)))
    return chunks


def string_array(offsets: Buffer, data: Buffer) -> pa.LargeStringArray:
    """A large_string array over native buffers: int64 `offsets` (rows + 1) and `data`, UTF-8 bytes."""
    import pyarrow as pa

    rows = len(offsets) // 8 - 1
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), rows, buffers)


def values(buffer: Buffer, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A native `buffer` as a read-only numpy array of `dtype`, shape (bytes // itemsize,)."""
    import numpy as np

    array: np.ndarray[Any, Any] = np.frombuffer(memoryview(buffer), dtype=dtype)
    return array
