"""The truth about a corpus, measured: every pair of documents whose word 5-grams have a high Jaccard similarity.

Written to be read, not to be fast, and to share nothing with the deduplication it judges: plain Python sets of word
tuples, no hashing, no sampling, no estimate. `similar_pairs` finds *all* pairs at or above a threshold, planted or by
accident, by a prefix filter, which is exact.

Reference for the filter: Chaudhuri, Ganti, Kaushik, "A primitive operator for similarity joins in data cleaning",
ICDE 2006; Bayardo, Ma, Srikant, "Scaling up all pairs similarity search", WWW 2007.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHINGLE_WORDS = 5

# Letters and digits, joined by a dot or comma between digits (1.42 and 2,400 are one word each) and by an apostrophe
# between letters: on plain text like this corpus, the words of Unicode Annex 29.
_WORD = re.compile(r"[^\W_]+(?:(?:(?<=\d)[.,](?=\d)|(?<=[^\W\d_])['’](?=[^\W\d_]))[^\W_]+)*")

Shingles = frozenset[tuple[str, ...]]


@dataclass(frozen=True)
class SimilarPair:
    """Two rows, a < b, and the exact Jaccard similarity of their shingle sets, above 0 and at most 1."""

    a: int
    b: int
    jaccard: float


def words(text: str) -> list[str]:
    """Lower-cased words in their order."""
    return [word.lower() for word in _WORD.findall(text)]


def shingles(text: str) -> Shingles:
    """The set of runs of five words; a shorter text is one shingle of all its words, an empty one has none."""
    sequence = words(text)
    if len(sequence) < SHINGLE_WORDS:
        return frozenset([tuple(sequence)] if sequence else [])
    return frozenset(zip(*(sequence[start:] for start in range(SHINGLE_WORDS)), strict=False))


def jaccard(a: Shingles, b: Shingles) -> float:
    """Shared over all: 1.0 for equal sets, 0.0 for disjoint ones or where both are empty."""
    shared = len(a & b)
    union = len(a) + len(b) - shared
    return shared / union if union else 0.0


def similar_pairs(documents: Sequence[Shingles], at_least: float) -> list[SimilarPair]:
    """All pairs with jaccard >= at_least (in (0, 1]), ordered by (a, b).

    Two sets with Jaccard >= t share at least t * |larger| shingles. So with shingles in one global order, rarest first,
    their first |set| - ceil(t * |set|) + 1 must have one in common: only those are put into the inverted index.
    """
    if not 0.0 < at_least <= 1.0:
        raise ValueError(f"at_least must be in (0, 1], not {at_least}")
    frequency = Counter(shingle for document in documents for shingle in document)
    rows_of: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    found: list[SimilarPair] = []
    for row, document in enumerate(documents):
        needed = -int(-at_least * len(document) // 1)  # the ceiling
        prefix = len(document) - needed + 1
        # Shingles of this document alone come first in the order and lead nowhere.
        common = [shingle for shingle in document if frequency[shingle] > 1]
        prefix -= len(document) - len(common)
        candidates: set[int] = set()
        if prefix > 0:
            common.sort(key=lambda shingle: (frequency[shingle], shingle))
            for shingle in common[:prefix]:
                candidates.update(rows_of[shingle])
                rows_of[shingle].append(row)
        for other in candidates:
            small, large = sorted((len(document), len(documents[other])))
            if small >= at_least * large and (measured := jaccard(document, documents[other])) >= at_least:
                found.append(SimilarPair(other, row, measured))
    return sorted(found, key=lambda pair: (pair.a, pair.b))


def best_partner(pairs: Iterable[SimilarPair], rows: int) -> list[float]:
    """For each row the highest similarity it has to any other, 0.0 where no pair names it."""
    best = [0.0] * rows
    for pair in pairs:
        best[pair.a] = max(best[pair.a], pair.jaccard)
        best[pair.b] = max(best[pair.b], pair.jaccard)
    return best
