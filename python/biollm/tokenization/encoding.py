"""Texts as ids: what encoding gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BatchEncoding", "Encoding"]


@dataclass(frozen=True)
class Encoding:
    """One text as ids.

    Attributes:
        ids: shape (tokens,), uint32, read-only.
    """

    ids: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class BatchEncoding:
    """Texts as ids, end to end: text i is `ids[offsets[i]:offsets[i + 1]]`, which is also item i.

    Attributes:
        ids: shape (tokens,), uint32, read-only.
        offsets: shape (texts + 1,), uint64, read-only.
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint32]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        index %= len(self)
        return self.ids[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def __iter__(self) -> Iterator[NDArray[np.uint32]]:
        return (self[i] for i in range(len(self)))
