"""A slow, readable twin of deduplication: all pairs, exact, on ASCII text (Python's `set`, no hashes, no LSH)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import combinations

# Letters, digits and _ never part; ' . : stand between letters, ' . , ; between digits (UAX 29, WB5 to WB13b).
_SEGMENT = re.compile(r"\w(?:\w|(?<=[A-Za-z])['.:](?=[A-Za-z])|(?<=[0-9])['.,;](?=[0-9]))*", re.ASCII)


def words(text: str) -> list[str]:
    """The words of an ASCII text, in lower case."""
    segments = (match.group() for match in _SEGMENT.finditer(text))
    return [segment.lower() for segment in segments if re.search("[A-Za-z0-9]", segment)]


def runs(text: str) -> list[str]:
    r"""What `\w+` finds, in lower case."""
    return [run.lower() for run in re.findall(r"\w+", text)]


def shingles(text: str, n: int, unit: str = "word") -> set[Hashable]:
    """The set a document is compared by."""
    found = words(text) if unit == "word" else runs(text)
    if not found:
        return {text}
    return {tuple(found[i : i + n]) for i in range(max(len(found) - n + 1, 1))}


def jaccard(a: set[Hashable], b: set[Hashable]) -> float:
    """Shared shingles over all."""
    return len(a & b) / len(a | b)


def similar_pairs(texts: Sequence[str], threshold: float, n: int, unit: str = "word") -> dict[tuple[int, int], float]:
    """All pairs of rows at or above the threshold."""
    sets = [shingles(text, n, unit) for text in texts]
    pairs = combinations(range(len(texts)), 2)
    return {(a, b): j for a, b in pairs if (j := jaccard(sets[a], sets[b])) >= threshold}


def components(n: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The smallest row of each row's connected component."""
    smallest = list(range(n))
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(smallest[a], smallest[b])
            changed |= (smallest[a], smallest[b]) != (low, low)
            smallest[a] = smallest[b] = low
    return smallest
