"""Rules: thresholds over statistics, in named presets, each threshold changeable by its name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from biollm.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["GOPHER_QUALITY", "GOPHER_REPETITION", "PRESETS", "Rule", "Threshold", "failed_rules", "resolve"]

Threshold = float | str | None
"""A number; `None` or "off" takes the rule out (TOML has no null)."""


@dataclass(frozen=True)
class Rule:
    """Drops a document whose statistic lies below, or above, a threshold; one exactly on it stays.

    Attributes:
        name: of the rule and of its threshold.
        statistic: a column of scores.
        drop_if: "<" or ">".
        threshold: in the unit of the statistic.
    """

    name: str
    statistic: str
    drop_if: Literal["<", ">"]
    threshold: float


# Gopher, section A1.1; thresholds and directions as in datatrove's GopherQualityFilter, in its order.
GOPHER_QUALITY: Final = (
    Rule("min_words", "words", "<", 50),
    Rule("max_words", "words", ">", 100_000),
    Rule("min_mean_word_length", "mean_word_length", "<", 3),
    Rule("max_mean_word_length", "mean_word_length", ">", 10),
    Rule("max_hash_ratio", "hash_ratio", ">", 0.1),
    Rule("max_ellipsis_ratio", "ellipsis_ratio", ">", 0.1),
    Rule("max_bullet_line_fraction", "bullet_line_fraction", ">", 0.9),
    Rule("max_ellipsis_line_fraction", "ellipsis_line_fraction", ">", 0.3),
    Rule("min_alphabetic_fraction", "alphabetic_fraction", "<", 0.8),
    Rule("min_stop_words", "stop_words", "<", 2),
)
"""The rules of Gopher's section on quality, with its thresholds."""

# Gopher, table A1; in the order of datatrove's GopherRepetitionFilter, which first drops what is empty.
GOPHER_REPETITION: Final = (
    Rule("min_characters", "characters", "<", 1),
    Rule("max_duplicate_paragraph_fraction", "duplicate_paragraph_fraction", ">", 0.3),
    Rule("max_duplicate_paragraph_character_fraction", "duplicate_paragraph_character_fraction", ">", 0.2),
    Rule("max_duplicate_line_fraction", "duplicate_line_fraction", ">", 0.3),
    Rule("max_duplicate_line_character_fraction", "duplicate_line_character_fraction", ">", 0.2),
    Rule("max_top_2_gram_character_fraction", "top_2_gram_character_fraction", ">", 0.20),
    Rule("max_top_3_gram_character_fraction", "top_3_gram_character_fraction", ">", 0.18),
    Rule("max_top_4_gram_character_fraction", "top_4_gram_character_fraction", ">", 0.16),
    Rule("max_duplicate_5_gram_character_fraction", "duplicate_5_gram_character_fraction", ">", 0.15),
    Rule("max_duplicate_6_gram_character_fraction", "duplicate_6_gram_character_fraction", ">", 0.14),
    Rule("max_duplicate_7_gram_character_fraction", "duplicate_7_gram_character_fraction", ">", 0.13),
    Rule("max_duplicate_8_gram_character_fraction", "duplicate_8_gram_character_fraction", ">", 0.12),
    Rule("max_duplicate_9_gram_character_fraction", "duplicate_9_gram_character_fraction", ">", 0.11),
    Rule("max_duplicate_10_gram_character_fraction", "duplicate_10_gram_character_fraction", ">", 0.10),
)
"""The rules of Gopher's section on repetition, with its thresholds."""

PRESETS: Final[Mapping[str, tuple[Rule, ...]]] = {
    "gopher_quality": GOPHER_QUALITY,
    "gopher_repetition": GOPHER_REPETITION,
}
"""Name → rules, as `select(rules=...)` takes them."""


def resolve(presets: Sequence[str], thresholds: Mapping[str, Threshold] | None = None) -> tuple[Rule, ...]:
    """The rules of the presets in order, with the thresholds given by name put in.

    Raises:
        ConfigError: no preset is named, one is named twice or unknown, a threshold is unknown, belongs to a preset that
            is not named, or is not a finite number; the message names the nearest known one.
    """
    if isinstance(presets, str):
        raise ConfigError(f"rules must be a list of names: write [{presets!r}]", field="rules", value=presets)
    for preset in presets:
        if preset not in PRESETS:
            message = f"unknown rules {preset!r}{_nearest(preset, PRESETS)}"
            raise ConfigError(message, field="rules", value=preset)
    if not presets or len(set(presets)) < len(presets):
        raise ConfigError(f"rules must name presets, each once: {', '.join(PRESETS)}", field="rules", value=presets)
    rules = {rule.name: rule for preset in presets for rule in PRESETS[preset]}
    for name, threshold in (thresholds or {}).items():
        if name not in rules:
            raise ConfigError(_unknown_threshold(name, rules), field="thresholds", value=name)
        if threshold is None or threshold == "off":
            del rules[name]
        elif isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
            message = f"threshold {name} is {threshold!r}: give a finite number, or 'off' to leave the rule out"
            raise ConfigError(message, field="thresholds", value=threshold)
        else:
            rules[name] = replace(rules[name], threshold=threshold)
    return tuple(rules.values())


def failed_rules(scores: pa.Table, rules: Sequence[Rule]) -> npt.NDArray[np.uint64]:
    """Which rules each document fails.

    Args:
        scores: one column a statistic.
        rules: at most 64.

    Returns:
        uint64, shape (rows,); bit i is set where rule i fails, so 0 is a document to keep.

    Raises:
        ConfigError: a rule's statistic is not among the scores, or is null somewhere.
    """
    import numpy as np

    failed = np.zeros(len(scores), dtype=np.uint64)
    for i, rule in enumerate(rules):
        if rule.statistic not in scores.column_names:
            message = f"rule {rule.name} looks at {rule.statistic!r}, which was not measured"
            raise ConfigError(f"{message}: the scores hold {', '.join(scores.column_names)}", field=rule.statistic)
        column = scores.column(rule.statistic)
        if column.null_count:
            message = f"rule {rule.name} looks at {rule.statistic!r}, which is missing for {column.null_count:,} rows"
            raise ConfigError(message, field=rule.statistic)
        values = column.to_numpy()
        fails = values < rule.threshold if rule.drop_if == "<" else values > rule.threshold
        failed |= fails.astype(np.uint64) << np.uint64(i)
    return failed


def _unknown_threshold(name: Any, rules: Mapping[str, Rule]) -> str:
    for preset, members in PRESETS.items():
        if any(rule.name == name for rule in members):
            return f"threshold {name} belongs to {preset!r}, which is not among the rules: add it or leave this out"
    return f"unknown threshold {name!r}{_nearest(name, rules)}"


def _nearest(name: Any, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else f" (known: {', '.join(names)})"
