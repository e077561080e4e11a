"""The options of `read`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from biollm.errors import ConfigError

__all__ = ["ALGORITHM_VERSION", "MAX_DOCUMENT_BYTES", "UNMATCHED_OPTIONS", "ReadOptions"]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and files give other documents."""
UNMATCHED_OPTIONS: Final[frozenset[str]] = frozenset()
"""Options that do not change the output: none; even a limit decides what is skipped."""
MAX_DOCUMENT_BYTES: Final = 256 << 20
"""Longest document unless the caller says otherwise, in bytes of UTF-8; also the longest line or XML record."""
MAX_DOCUMENT_BYTES_CEILING: Final = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of a reading. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    Attributes:
        text: field or column of the text, or several joined by a blank line; in XML title, abstract, body, or text for
            all three.
        id: field or column of the ids, in XML pmid, pmc or doi; by default "id" where there is one, else each
            document's file and row.
        source: field or column that says where a document comes from, in XML source or journal; by default "source"
            where it is text.
        lines: whether each line of a .txt file is a document; otherwise the file is one.
        on_error: "raise" at the first bad record, or "skip" it and write it to rejected.jsonl.
        max_document_bytes: longest document, line or XML record in bytes; by default 256 MiB.
    """

    text: str | tuple[str, ...] = "text"
    id: str | None = None
    source: str | None = None
    lines: bool = False
    on_error: Literal["raise", "skip"] = "raise"
    max_document_bytes: int | None = None

    def __post_init__(self) -> None:
        names = self.text_names
        if not names:
            raise ConfigError("text names no column", field="text")
        named = [*names, *(name for name in (self.id, self.source) if name is not None)]
        for name in named:
            if not isinstance(name, str):
                raise ConfigError(f"{name!r} is no column's name: give a str", field="text", value=name)
            try:
                name.encode()
            except UnicodeEncodeError:
                raise ConfigError(f"{name!r} is not valid Unicode", field="text", value=name) from None
        if len(set(named)) < len(named):
            raise ConfigError(f"a column is named twice among text, id and source: {named}", field="text")
        if self.on_error not in ("raise", "skip"):
            message = f"on_error is {self.on_error!r}: give 'raise' or 'skip'"
            raise ConfigError(message, field="on_error", value=self.on_error)
        limit = self.limit_bytes
        if not 1 <= limit <= MAX_DOCUMENT_BYTES_CEILING:
            message = f"max_document_bytes is {limit:,}: give 1 to {MAX_DOCUMENT_BYTES_CEILING:,}"
            raise ConfigError(message, field="max_document_bytes", value=limit)

    @property
    def text_names(self) -> tuple[str, ...]:
        """The columns that make up the text."""
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)

    @property
    def limit_bytes(self) -> int:
        """`max_document_bytes`, with the default filled in."""
        return MAX_DOCUMENT_BYTES if self.max_document_bytes is None else self.max_document_bytes

    @property
    def skip(self) -> bool:
        """Whether bad records are passed over."""
        return self.on_error == "skip"

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in UNMATCHED_OPTIONS}
        return {**values, "text": list(self.text) if isinstance(self.text, tuple) else self.text}
