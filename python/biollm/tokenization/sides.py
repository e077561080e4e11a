"""The two sides of a tokenization: documents for training, and those held out for validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from biollm import _native
from biollm.columns import text_array, text_chunks, values
from biollm.document_files import blocks
from biollm.errors import ConfigError, InputError
from biollm.tokenization.options import TokenizeOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from biollm.documents import Documents

__all__ = ["SPLITS", "Sides", "held_out"]

SPLITS: Final = ("train", "validation")


class Sides:
    """Which documents are held out: by hash of the group, of the ids where there is none.

    Args:
        schema: of the documents.
        options: checked ones.

    Raises:
        ConfigError: there is no such column to group by.
    """

    def __init__(self, schema: pa.Schema, options: TokenizeOptions) -> None:
        self.group = options.group or ("cluster_id" if "cluster_id" in schema.names else None)
        if self.group is not None and self.group not in schema.names:
            message = f"there is no column {self.group!r} to group by: {schema.names}"
            raise ConfigError(message, field="group", value=self.group)
        self.seed = options.seed
        self.threads = options.threads
        self.fraction = options.validation_fraction

    def blocks(self, documents: Documents) -> Iterator[tuple[pa.Table, NDArray[np.bool_]]]:
        """The `documents` block by block, each with its mask (rows,) of those held out."""
        for block in blocks(documents.reader()):
            yield block, held_out(self._names(block), fraction=self.fraction, seed=self.seed, threads=self.threads)

    def _names(self, block: pa.Table) -> pa.ChunkedArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = block.column("id")
        if self.group is None:
            return ids
        try:
            groups = block.column(self.group).cast(pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            message = f"column {self.group!r} cannot name groups: {error}"
            raise InputError(message, field="group", value=self.group) from None
        return pc.coalesce(groups, ids)


def held_out(
    names: Sequence[str] | pa.ChunkedArray, *, fraction: float, seed: int, threads: int | None = None
) -> NDArray[np.bool_]:
    """Which of the groups go to the validation side.

    Args:
        names: of the groups, shape (rows,); the same name is always on the same side.
        fraction: share of the names on the validation side, in [0, 1).
        seed: draws the split.
        threads: worker threads; `None` is the cores this process may use.

    Returns:
        Mask of shape (rows,).
    """
    import pyarrow as pa

    column = names if isinstance(names, pa.ChunkedArray) else text_array(list(names))
    hashes = _native.hash_texts(text_chunks(column), seed=seed, threads=threads)
    return values(hashes, np.uint64) < np.uint64(min(int(fraction * 2**64), 2**64 - 1))
