"""What is counted of answers, and intervals for it: plain arithmetic on texts and numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

Z: Final = 1.959963984540054
"""Of a two-sided 95 % interval."""

_WORD: Final = re.compile(r"\w+(?:[-'’]\w+)*")
_MIN_WORDS: Final = 3
_REPEATED: Final = 4  # words


@dataclass(frozen=True)
class Share:
    """`hits` of `total`, with its 95 % interval (Wilson 1927, the score interval)."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """Hits / total; 0 of nothing."""
        return self.hits / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        if not self.total:
            return 0.0, 1.0
        n, p = self.total, self.value
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
        return max(0.0, middle - half), min(1.0, middle + half)


def difference_interval(before: Share, after: Share) -> tuple[float, float]:
    """The 95 % interval of after − before, two independent shares.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17, 873–890): built from the two score intervals, it stays sound
    near 0 and 1.
    """
    (low_b, high_b), (low_a, high_a) = before.interval, after.interval
    b, a = before.value, after.value
    difference = a - b
    return (
        difference - math.hypot(a - low_a, high_b - b),
        difference + math.hypot(high_a - a, b - low_b),
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and its normal 95 % interval: (mean, low, high)."""
    n = len(values)
    if not n:
        return 0.0, 0.0, 0.0
    mean = sum(values) / n
    half = Z * math.sqrt(sum((v - mean) ** 2 for v in values) / max(n - 1, 1) / n)
    return mean, mean - half, mean + half


def words(text: str) -> list[str]:
    """The words of a text, lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def well_formed(text: str, *, finished: bool) -> bool:
    """Whether an answer is a finished piece of prose: ended by itself, of three words at least, with a capital (or
    digit) in front and an end mark behind, without a word twice in a row or the same four words twice.
    """
    if not finished or "\ufffd" in text or not text or text[-1] not in ".!?…)\"”'":
        return False
    if not (text[0].isupper() or text[0].isdigit() or not text[0].isascii()):
        return False
    found = words(text)
    if len(found) < _MIN_WORDS or any(a == b for a, b in pairwise(found)):
        return False
    runs = [tuple(found[i : i + _REPEATED]) for i in range(len(found) - _REPEATED + 1)]
    return len(set(runs)) == len(runs)


def distinct_bigrams(texts: Sequence[str]) -> float:
    """distinct-2 (Li et al. 2016, arXiv 1510.03055, section 5.3): different word bigrams over all bigrams, of all texts
    together; 0 where there are none.
    """
    bigrams = [pair for text in texts for pair in pairwise(words(text))]
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0


def most_frequent(texts: Sequence[str]) -> tuple[str, int]:
    """The answer given most often, and how often."""
    if not texts:
        return "", 0
    ((text, count),) = Counter(texts).most_common(1)
    return text, count


def win_scores(before: Sequence[bool], after: Sequence[bool]) -> list[float]:
    """Prompt by prompt, whether the later answer is good and the earlier is not: 1, ½ for a tie, 0 the other way."""
    return [0.5 + (int(a) - int(b)) / 2 for b, a in zip(before, after, strict=True)]
