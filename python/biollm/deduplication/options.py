"""The options of `dedup`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Literal

from biollm.errors import ConfigError, LimitError

__all__ = ["ALGORITHM_VERSION", "PIECE_METHODS", "UNMATCHED_OPTIONS", "DedupOptions", "Keep", "Method"]

Keep = Literal["first", "longest", "shortest"]
Method = Literal["fuzzy", "exact", "url", "line", "paragraph", "sentence"]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and documents give other clusters."""
UNMATCHED_OPTIONS: Final = frozenset({"max_document_bytes", "threads"})
"""Options that do not change the output."""
MAX_SHINGLE_WORDS: Final = 64
MAX_NUM_PERM: Final = 4096
MAX_MIN_LENGTH: Final = 2**31
MAX_SEED: Final = 2**64 - 1
UNITS: Final = ("word", "alnum")
STEPS: Final = ("nfc", "case", "space")
"""What `normalize` may do, in the order in which it is done."""
METHOD_OPTIONS: Final = {
    "fuzzy": ("threshold", "shingle", "num_perm", "bands", "seed"),
    "exact": ("normalize",),
    "url": ("url",),
    **dict.fromkeys(("line", "paragraph", "sentence"), ("normalize", "min_length")),
}
"""The methods, and the options that only some of them have."""
PIECE_METHODS: Final = ("line", "paragraph", "sentence")
"""Those that cut pieces out of documents."""


@dataclass(frozen=True, kw_only=True)
class DedupOptions:
    """Options of a deduplication. Raises ConfigError or LimitError, naming the field, where a value makes no sense.

    An option of another method than the one that is asked for must have its default.

    Attributes:
        method: what makes two documents duplicates: "fuzzy", similar sets of shingles; "exact", equal texts; "url",
            equal URLs; or what is cut out where an earlier document has it: a "line", "paragraph" or "sentence".
        threshold: least Jaccard similarity of duplicates, over 0 and at most 1.
        shingle: what is compared: "word:N" for N words (UAX 29), "alnum:N" for N runs of letters and digits.
        num_perm: MinHash permutations; more find more of the pairs near the threshold.
        bands: bands the permutations are cut into, a divisor of num_perm; more make more candidates.
        normalize: what is done to a text or piece before it is compared: "none", or some of "nfc", "case" and "space"
            with commas between.
        min_length: fewest characters of a line, paragraph or sentence that is cut.
        url: column of the URL.
        keep: document of a cluster that stays: the first, the longest or the shortest in bytes.
        text: column of the text, or several joined by a blank line.
        id: column of the ids; without one a row is known by its file and row number.
        seed: draws the permutations.
        max_document_bytes: longest document in bytes of UTF-8; a longer one is an error.
        threads: worker threads; without a number, the cores this process may use.
    """

    method: Method = "fuzzy"
    threshold: float = 0.8
    shingle: str = "word:5"
    num_perm: int = 256
    bands: int = 32
    normalize: str = "none"
    min_length: int = 32
    url: str = "url"
    keep: Keep = "first"
    text: str | tuple[str, ...] = "text"
    id: str | None = None
    seed: int = 0
    max_document_bytes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "num_perm", "bands", "min_length", "seed", "threads", "max_document_bytes"):
            value = getattr(self, name)
            if not isinstance(value, Real) and not (value is None and name in ("threads", "max_document_bytes")):
                raise TypeError(f"{name} is {type(value).__name__}, not a number")
        for name in ("normalize", "url"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {type(getattr(self, name)).__name__}, not str")
        self._check_method()
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
        _check_range("min_length", "min_length", self.min_length, MAX_MIN_LENGTH)
        if self.method in PIECE_METHODS:
            self._check_pieces()
        if not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed is {self.seed}: give 0 to 2**64 - 1", field="seed", value=self.seed)
        for name in ("max_document_bytes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: give 1 or more", field=name, value=value)

    def _check_pieces(self) -> None:
        if self.keep != "first":
            message = f"keep is {self.keep!r}, but with method={self.method!r} the first document keeps a piece"
            raise ConfigError(message, field="keep", value=self.keep)
        if not isinstance(self.text, str):
            message = f"text is {self.text!r}: with method={self.method!r} give the one column to cut"
            raise ConfigError(message, field="text", value=self.text)

    def _check_method(self) -> None:
        if self.method not in METHOD_OPTIONS:
            message = f"method is {self.method!r}: give {', '.join(map(repr, METHOD_OPTIONS))}"
            raise ConfigError(message, field="method", value=self.method)
        own = METHOD_OPTIONS[self.method]
        for name in sorted({name for names in METHOD_OPTIONS.values() for name in names} - set(own)):
            value = getattr(self, name)
            if value != getattr(DedupOptions, name):
                others = " or ".join(repr(method) for method, names in METHOD_OPTIONS.items() if name in names)
                message = f"{name} is an option of method {others}, and method is {self.method!r}: leave it out"
                raise ConfigError(message, field=name, value=value)
        _ = self.steps

    @property
    def steps(self) -> tuple[str, ...]:
        """What `normalize` does, in the order in which it is done.

        Raises:
            ConfigError: it names something else.
        """
        steps = self.normalize.split(",") if self.normalize != "none" else []
        if any(step not in STEPS for step in steps) or len(set(steps)) != len(steps):
            message = f"normalize is {self.normalize!r}: give 'none', or some of 'nfc,case,space'"
            raise ConfigError(message, field="normalize", value=self.normalize)
        return tuple(step for step in STEPS if step in steps)

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
        """The options that change the output of the method, as plain JSON values."""
        own = {name: getattr(self, name) for name in METHOD_OPTIONS[self.method]}
        if "normalize" in own:
            own["normalize"] = ",".join(self.steps) or "none"
        return {
            "method": self.method,
            **own,
            "keep": self.keep,
            "text": list(self.text) if isinstance(self.text, tuple) else self.text,
            "id": self.id,
        }


def _check_range(what: str, field: str, value: int, limit: int) -> None:
    if value < 1:
        raise ConfigError(f"{what} is {value}: give 1 or more", field=field, value=value)
    if value > limit:
        raise LimitError(
            f"{what} is {value}, over the limit of {limit}: give fewer", field=field, value=value, limit=limit
        )
