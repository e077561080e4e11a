"""Byte-pair encoding as one would explain it: the slow twin of the native merges and trainer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

Pair = tuple[bytes, bytes]


def encode(piece: bytes, ranks: Mapping[Pair, int]) -> list[bytes]:
    """Merges the pair of the lowest rank, leftmost first, until no pair has one."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]
        if not found:
            return parts
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def train(words: Mapping[bytes, int], merges: int, order: Sequence[bytes]) -> list[Pair]:
    """The pairs that greedy training merges: each time the most frequent, of equals that of the smaller ids.

    Args:
        words: word → count.
        merges: how many, at most.
        order: single bytes in order of their ids. A pair that would make a token that exists ends the training: what
            a trainer does with those is not a matter of the algorithm.
    """
    ids = {token: i for i, token in enumerate(order)}
    split = {word: [word[i : i + 1] for i in range(len(word))] for word in words}
    learned: list[Pair] = []
    while len(learned) < merges:
        counts: Counter[Pair] = Counter()
        for word, count in words.items():
            parts = split[word]
            i = 0
            while i + 1 < len(parts):
                counts[parts[i], parts[i + 1]] += count
                i += 1
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        token = best[0] + best[1]
        if token in ids:
            break
        ids[token] = len(ids)
        learned.append(best)
        for word, parts in split.items():
            split[word] = _merged(parts, best)
    return learned


def _merged(parts: list[bytes], pair: Pair) -> list[bytes]:
    merged: list[bytes] = []
    i = 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == pair:
            merged.append(parts[i] + parts[i + 1])
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged
