"""The options of `dedup`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Literal

from biollm.errors import ConfigError, LimitError

__all__ = ["ALGORITHM_VERSION", "UNMATCHED_OPTIONS", "DedupOptions", "Keep"]

Keep = Literal["first", "longest", "shortest"]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and documents give other clusters."""
UNMATCHED_OPTIONS: Final = frozenset({"max_document_bytes", "threads"})
"""Options that do not change the output."""
MAX_SHINGLE_WORDS: Final = 64
MAX_NUM_PERM: Final = 4096
MAX_SEED: Final = 2**64 - 1
UNITS: Final = ("word", "alnum")


@dataclass(frozen=True, kw_only=True)
class DedupOptions:
    """Options of a deduplication. Raises ConfigError or LimitError, naming the field, where a value makes no sense.

    Attributes:
        threshold: least Jaccard similarity of duplicates, over 0 and at most 1.
        shingle: what is compared: "word:N" for N words (UAX 29), "alnum:N" for N runs of letters and digits.
        num_perm: MinHash permutations; more find more of the pairs near the threshold.
        bands: bands the permutations are cut into, a divisor of num_perm; more make more candidates.
        keep: document of a cluster that stays: the first, the longest or the shortest in bytes.
        text: column of the text, or several joined by a blank line.
        id: column of the ids; without one a row is known by its file and row number.
        seed: draws the permutations.
        max_document_bytes: longest document in bytes of UTF-8; a longer one is an error.
        threads: worker threads; without a number, the cores this process may use.
    """

    threshold: float = 0.8
    shingle: str = "word:5"
    num_perm: int = 256
    bands: int = 32
    keep: Keep = "first"
    text: str | tuple[str, ...] = "text"
    id: str | None = None
    seed: int = 0
    max_document_bytes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "num_perm", "bands", "seed", "threads", "max_document_bytes"):
            value = getattr(self, name)
            if not isinstance(value, Real) and not (value is None and name in ("threads", "max_document_bytes")):
                raise TypeError(f"{name} is {type(value).__name__}, not a number")
        if not 0 < self.threshold <= 1:  # also refuses NaN
            raise ConfigError(
                f"threshold is {self.threshold}: give more than 0 and at most 1",
                field="threshold",
                value=self.threshold,
            )
        _check_range("words in a shingle", "shingle", self.words_in_shingle, MAX_SHINGLE_WORDS)
        _check_range("num_perm", "num_perm", self.num_perm, MAX_NUM_PERM)
        if not 1 <= self.bands <= self.num_perm or self.num_perm % self.bands:
            near = [n for n in range(1, self.num_perm + 1) if self.num_perm % n == 0]
            best = min(near, key=lambda n: abs(n - self.bands))
            message = f"bands = {self.bands} does not divide num_perm = {self.num_perm}: give {best}, say"
            raise ConfigError(message, field="bands", value=self.bands)
        if self.keep not in ("first", "longest", "shortest"):
            message = f"keep is {self.keep!r}: give 'first', 'longest' or 'shortest'"
            raise ConfigError(message, field="keep", value=self.keep)
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed is {self.seed}: give 0 to 2**64 - 1", field="seed", value=self.seed)
        for name in ("max_document_bytes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: give 1 or more", field=name, value=value)

    @property
    def unit(self) -> str:
        """What a word is: "word" or "alnum"."""
        return self._shingle()[0]

    @property
    def words_in_shingle(self) -> int:
        """Words in a shingle."""
        return self._shingle()[1]

    def _shingle(self) -> tuple[str, int]:
        if not isinstance(self.shingle, str):
            raise TypeError(f"shingle is {type(self.shingle).__name__}, not str")
        unit, _, count = self.shingle.partition(":")
        if unit not in UNITS or not (count.isascii() and count.isdigit() and len(count) <= 9):
            message = f"shingle is {self.shingle!r}: give 'word:N' or 'alnum:N', as in 'word:5'"
            raise ConfigError(message, field="shingle", value=self.shingle)
        return unit, int(count)

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values."""
        return {
            "threshold": self.threshold,
            "shingle": self.shingle,
            "num_perm": self.num_perm,
            "bands": self.bands,
            "keep": self.keep,
            "text": list(self.text) if isinstance(self.text, tuple) else self.text,
            "id": self.id,
            "seed": self.seed,
        }


def _check_range(what: str, field: str, value: int, limit: int) -> None:
    if value < 1:
        raise ConfigError(f"{what} is {value}: give 1 or more", field=field, value=value)
    if value > limit:
        raise LimitError(
            f"{what} is {value}, over the limit of {limit}: give fewer", field=field, value=value, limit=limit
        )
