"""The rows of a source that a keep mask leaves, in the source's own type: what dedup's and select's results share."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from biollm.documents import Documents
from biollm.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Mask = npt.NDArray[np.bool_]

__all__ = ["RowDecisions", "filter_rows", "yields_once"]


class RowDecisions:
    """A result that keeps or drops each row of a source: finds rows, and filters the source.

    Attributes:
        ids: of the documents, large_string, (n,).
        keep_mask: whether each document stays; bool, (n,).
    """

    ids: pa.ChunkedArray
    _source: Any
    _open_documents: Callable[[Any], Documents] | None

    @property
    def keep_mask(self) -> Mask:
        """Whether each document stays; bool, (n,)."""
        raise NotImplementedError

    def filter(self, source: Any = None) -> Any:
        """The documents that stay, in the type the source has (see `biollm.filtering.filter_rows`).

        Args:
            source: needed again where it can be read only once (a reader, an Arrow stream); else that of the call.

        Raises:
            InputError: the source is needed again, or has another number of rows.
        """
        return filter_rows(self._source_again(source), self.keep_mask, open_documents=self._documents)

    def _row(self, row_or_id: int | str) -> int:
        """The row that an int is, or that has the id that a str is.

        Raises:
            InputError: there is no such row or id, or several documents have the id.
        """
        row = self._row_of_id(row_or_id) if isinstance(row_or_id, str) else operator.index(row_or_id)
        if not 0 <= row < len(self.ids):
            raise InputError(f"there is no row {row}: the result has {len(self.ids):,}", field="row_or_id", value=row)
        return row

    def _row_of_id(self, wanted: str) -> int:
        import pyarrow.compute as pc

        rows = pc.indices_nonzero(pc.equal(self.ids, wanted))
        if len(rows) == 1:
            return int(rows[0].as_py())
        found = f"{len(rows)} documents have the id {wanted!r}: give the row" if len(rows) else f"no id {wanted!r}"
        raise InputError(found, field="row_or_id", value=wanted)

    def _source_again(self, source: Any) -> Any:
        if source is not None:
            return source
        if self._source is None or yields_once(self._source):
            message = "the source can be read only once: pass it again, or give the verb its output="
            raise InputError(message, field="source")
        return self._source

    def _documents(self, source: Any) -> Documents:
        if self._open_documents is None:
            raise InputError("this result does not know its source: pass it again", field="source")
        return self._open_documents(source)


def yields_once(source: Any) -> bool:
    """Whether a second pass over `source` finds nothing: a reader, or a foreign Arrow stream.

    Tables, frames, lists and paths start anew at each pass.
    """
    import pyarrow as pa

    if isinstance(source, Documents):
        return source.one_shot
    if isinstance(source, (str, os.PathLike, list, tuple, pa.Table, pa.RecordBatch, pa.Array, pa.ChunkedArray)):
        return False
    return _package(source) not in ("polars", "pandas", "datasets")


def filter_rows(source: Any, keep_mask: Mask, *, open_documents: Callable[[Any], Documents]) -> Any:
    """The rows of `source` where `keep_mask` (bool, one a row) is true, in order.

    Args:
        source: as a verb takes it. A list of str, tuple, Arrow table, batch, array or reader, polars or pandas frame
            and `datasets.Dataset` come back as what they are; paths (alone or in a list) and other Arrow streams come
            back as `Documents`.
        keep_mask: shape (rows,).
        open_documents: makes `Documents` of paths, as the verb did.

    Raises:
        InputError: the source has another number of rows than the mask. For a stream it is raised where the stream
            ends.
    """
    import pyarrow as pa

    paths = isinstance(source, (str, os.PathLike)) or (
        isinstance(source, (list, tuple)) and any(isinstance(item, os.PathLike) for item in source)
    )
    if isinstance(source, Documents):
        return _filter_documents(source, keep_mask)
    if isinstance(source, pa.RecordBatchReader):
        return _filter_reader(source, keep_mask)
    if paths:
        return _filter_documents(open_documents(source), keep_mask)
    if isinstance(source, (list, tuple)):
        _check_rows(len(source), keep_mask)
        kept = (item for item, keep in zip(source, keep_mask.tolist(), strict=True) if keep)
        return type(source)(kept)
    if isinstance(source, (pa.Table, pa.RecordBatch, pa.Array, pa.ChunkedArray)):
        _check_rows(len(source), keep_mask)
        return source.filter(pa.array(keep_mask))
    package = _package(source)
    if package == "polars" and hasattr(source, "height"):
        _check_rows(source.height, keep_mask)
        return source.filter(keep_mask)
    if package == "pandas":
        _check_rows(len(source), keep_mask)
        return source[keep_mask]
    if package == "datasets" and hasattr(source, "select"):
        _check_rows(len(source), keep_mask)
        return source.select(keep_mask.nonzero()[0])
    return _filter_documents(open_documents(source), keep_mask)


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _check_rows(rows: int, keep_mask: Mask) -> None:
    if rows != len(keep_mask):
        message = f"the source has {rows:,} rows, but the result was made of {len(keep_mask):,}: pass the same source"
        raise InputError(message, field="source", value=rows)


def _filter_documents(documents: Documents, keep_mask: Mask) -> Documents:
    return Documents(
        lambda: _filter_reader(documents.reader(), keep_mask),
        documents.schema,
        one_shot=documents.one_shot,
        inputs=lambda: documents.inputs,
        description=f"{documents.description}, filtered",
    )


def _filter_reader(reader: pa.RecordBatchReader, keep_mask: Mask) -> pa.RecordBatchReader:
    import pyarrow as pa

    def batches() -> Iterator[pa.RecordBatch]:
        row = 0
        for batch in reader:
            keep = keep_mask[row : row + len(batch)]
            row += len(batch)
            if len(keep) < len(batch):
                _check_rows(row, keep_mask)
            if keep.all():
                yield batch
            elif keep.any():
                yield batch.filter(pa.array(keep))
        _check_rows(row, keep_mask)

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
