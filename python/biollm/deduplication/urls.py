"""The URLs of documents: a column, or a field of what a reader of JSON Lines has kept in `meta`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from biollm.columns import large_string
from biollm.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["url_column"]


def url_column(block: pa.Table, name: str, *, first_row: int = 0) -> pa.ChunkedArray:
    """The URLs of a `block` of documents as large_string, "" where there is none.

    Args:
        block: documents.
        name: of the column; where there is none, of the field of the JSON objects in the column `meta`.
        first_row: of the block, for messages.

    Raises:
        InputError: there is neither a column of that name nor `meta`, or a value is not text (`row`).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if name in block.column_names:
        column = block.column(name)
        if pa.types.is_null(column.type):
            return pa.chunked_array([pa.array([""] * len(block), pa.large_string())])
        large_string(column.slice(0, 0), field=name)  # says what is wrong with a column that is not text
        column = column.cast(pa.large_string())
        return pc.fill_null(column, "") if column.null_count else column
    if "meta" not in block.column_names:
        known = ", ".join(block.column_names)
        raise InputError(f"there is no column {name!r} for the URL (there are: {known}): give url=", field="url")
    urls = [_field(meta, name, first_row + i) for i, meta in enumerate(block.column("meta").to_pylist())]
    return pa.chunked_array([pa.array(urls, pa.large_string())])


def _field(meta: Any, name: str, row: int) -> str:
    found = json.loads(meta).get(name) if meta else None
    if found is None:
        return ""
    if not isinstance(found, str):
        message = f"the URL {name!r} of row {row} is {type(found).__name__}, not text"
        raise InputError(message, field=name, row=row)
    return found
