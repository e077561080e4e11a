"""The options of `select`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from biollm.errors import ConfigError
from biollm.selection.rules import PRESETS, Threshold, resolve

__all__ = ["ALGORITHM_VERSION", "DEFAULT_RULES", "UNMATCHED_OPTIONS", "SelectOptions"]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and documents give other scores or decisions."""
UNMATCHED_OPTIONS: Final = frozenset({"max_document_bytes", "threads"})
"""Options that do not change the output."""
DEFAULT_RULES: Final = ("gopher_quality", "gopher_repetition")


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """Options of a selection. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    Attributes:
        rules: presets by name: gopher_quality, gopher_repetition.
        thresholds: threshold by rule name, in place of the preset's; "off" leaves a rule out.
        text: column of the text, or several joined by a blank line.
        id: column of the ids; without one a row is known by its file and row number.
        max_document_bytes: longest document in bytes of UTF-8; a longer one is an error.
        threads: worker threads; without a number, the cores this process may use.
    """

    rules: tuple[str, ...] = DEFAULT_RULES
    thresholds: Mapping[str, Threshold] | None = None
    text: str | tuple[str, ...] = "text"
    id: str | None = None
    max_document_bytes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        resolve(self.rules, self.thresholds)
        for name in ("max_document_bytes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: give 1 or more", field=name, value=value)

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values."""
        return {
            "rules": list(self.rules),
            "thresholds": dict(self.thresholds) if self.thresholds is not None else None,
            "text": list(self.text) if isinstance(self.text, tuple) else self.text,
            "id": self.id,
        }

    def groups(self) -> frozenset[str]:
        """The groups of statistics the rules look at."""
        return frozenset(preset.removeprefix("gopher_") for preset in self.rules if preset in PRESETS)
