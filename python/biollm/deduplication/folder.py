"""The kept documents of a deduplication, with their clusters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from biollm.document_files import document_writer
from biollm.errors import InputError
from biollm.partial import Partial

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.deduplication.result import DedupResult

__all__ = ["write_documents"]


def write_documents(
    result: DedupResult, folder: Path, schema: pa.Schema, tables: Iterable[pa.Table], partial: Partial | None = None
) -> dict[str, str]:
    """Writes the documents that stay, without what is cut from them, with an int64 column `cluster_id` at the end (in
    place of one they have).

    Args:
        result: says which stay.
        folder: to hold `documents/`.
        schema: of the tables.
        tables: all documents that were deduplicated, in order.
        partial: the folder's work in progress.

    Returns:
        File name in the folder → xxh3-128.

    Raises:
        InputError: there are more or fewer documents than the result has. FileError: the system refused.
    """
    import pyarrow as pa

    carried = [name for name in schema.names if name != "cluster_id"]
    cluster_id = pa.field("cluster_id", pa.int64(), nullable=False)
    written = pa.schema([*(schema.field(name) for name in carried), cluster_id], metadata=schema.metadata)
    row = 0
    with document_writer(folder, written, partial) as writer:
        for table in tables:
            end = row + len(table)
            if end > len(result):
                break
            labelled = (
                result.cut(table, row).select(carried).append_column(cluster_id, pa.array(result.cluster_id[row:end]))
            )
            writer.write(labelled.filter(pa.array(result.keep_mask[row:end])))
            row = end
        else:
            end = row
        if end != len(result):
            message = f"the source has not the {len(result):,} rows the result was made of: pass the same source"
            raise InputError(message, field="source", value=end)
    return writer.outputs
