"""What documents say of themselves in their fields: licences and sources, counted over a stage's Parquet files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

LICENCE_FIELDS: Final = ("licence", "license")
MOST_VALUES: Final = 20
_IN_META: Final = r'"licen[cs]e"\s*:\s*"(?P<value>(?:[^"\\]|\\.)*)"'


def licences_of(folder: Path) -> dict[str | None, int] | None:
    """Documents by what their field `licence` or `license` says, the most frequent first.

    Args:
        folder: of a stage of documents.

    Returns:
        Value → documents, `None` for those without; a column counts before a key of `meta`. `None` where the files
        cannot be read.
    """
    return _counted(folder, (*LICENCE_FIELDS, "meta"), _licences)


def sources_of(folder: Path) -> dict[str | None, int] | None:
    """Documents by their column `source`, as `licences_of`."""
    return _counted(folder, ("source",), lambda batch: batch.column("source"))


def _counted(
    folder: Path, wanted: tuple[str, ...], values_of: Callable[[pa.RecordBatch], Any]
) -> dict[str | None, int] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = Counter[str | None]()
    try:
        for batch, rows in _batches(folder, wanted):
            values = values_of(batch) if batch is not None else None
            if values is None:
                counts[None] += rows
                continue
            for found in pc.value_counts(values.cast(pa.large_string())).to_pylist():
                counts[found["values"] or None] += found["counts"]
    except (OSError, pa.ArrowException):
        return None
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0] or ""))
    rest = ordered[MOST_VALUES:]
    others: dict[str | None, int] = {f"{len(rest):,} others": sum(count for _, count in rest)} if rest else {}
    return dict(ordered[:MOST_VALUES]) | others


def _batches(folder: Path, wanted: tuple[str, ...]) -> Iterator[tuple[pa.RecordBatch | None, int]]:
    """The wanted columns of all parts, and the rows of each batch; no batch of a part that has none of them."""
    import pyarrow.parquet as pq

    for path in sorted((folder / "documents").glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            there = [name for name in wanted if name in file.schema_arrow.names]
            if there:
                yield from ((batch, len(batch)) for batch in file.iter_batches(columns=there))
            else:
                yield None, file.metadata.num_rows


def _licences(batch: pa.RecordBatch) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for name in batch.schema.names:
        column = batch.column(name)
        if name in LICENCE_FIELDS:
            found.append(column.cast(pa.large_string()))
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            inside = pc.extract_regex(column.cast(pa.large_string()), _IN_META)
            found.append(pc.struct_field(inside, "value").cast(pa.large_string()))
    return pc.coalesce(*found) if found else None
