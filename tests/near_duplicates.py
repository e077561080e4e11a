"""A corpus with planted near-duplicates, and its truth: every pair with its exact Jaccard similarity.

Words and lengths are drawn as in natural text (Zipf, log-normal); copies are edited by scattered replacements, by one
replaced block, or by a cut or grown end, so that similarities lie all over 0.5 to 1. All words are ASCII letters, so
every definition of a word gives the same ones.
"""

from __future__ import annotations

import bisect
import itertools
import random
import string
from collections import Counter, defaultdict

SIMILARITIES = (1.0, 1.0, 0.97, 0.94, 0.91, 0.88, 0.86, 0.84, 0.83, 0.82, 0.81, 0.8, 0.79, 0.76, 0.72, 0.66, 0.6, 0.5)


def make(documents: int, seed: int) -> list[str]:
    """Texts in random order; about four in ten belong to a family."""
    rng = random.Random(seed)
    letters = string.ascii_lowercase
    vocabulary = ["".join(rng.choices(letters, k=rng.randrange(2, 11))) for _ in range(20_000)]
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(vocabulary))))

    def draw(count: int) -> list[str]:
        return [vocabulary[bisect.bisect(weights, rng.random() * weights[-1])] for _ in range(count)]

    texts: list[str] = []
    while len(texts) < documents:
        base = draw(int(min(max(rng.lognormvariate(5.0, 0.5), 40), 1200)))
        family = rng.choice((1, 1, 1, 2, 4)) if rng.random() < 0.25 else 0
        texts.append(" ".join(base))
        texts.extend(" ".join(edited(base, rng.choice(SIMILARITIES), rng, draw)) for _ in range(family))
    texts = texts[:documents]
    rng.shuffle(texts)
    return texts


def edited(base: list[str], similarity: float, rng: random.Random, draw) -> list[str]:  # type: ignore[no-untyped-def]
    """A copy whose 5-gram Jaccard similarity to `base` is about `similarity`."""
    if similarity == 1.0:
        return list(base)
    shingles = len(base) - 4
    lost = round(shingles * (1 - similarity) / (1 + similarity))
    copy = list(base)
    kind = rng.randrange(4)
    if kind == 0:  # scattered: each replaced word costs five shingles
        for at in rng.sample(range(len(copy)), k=max(1, round(lost / 5))):
            copy[at] = draw(1)[0]
    elif kind == 1:  # one block
        size = max(1, lost - 4)
        at = rng.randrange(len(copy) - size + 1)
        copy[at : at + size] = draw(size)
    elif kind == 2:  # cut at the end
        del copy[len(copy) - round(shingles * (1 - similarity)) :]
    else:  # grown at the end
        copy += draw(round(shingles * (1 / similarity - 1)))
    return copy


def similar_pairs(texts: list[str], least: float, n: int = 5) -> dict[tuple[int, int], float]:
    """Every pair of rows a < b with an exact word n-gram Jaccard similarity of at least `least`."""
    sets = []
    rows_of: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        words = text.lower().split()
        shingles = {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))}
        sets.append(len(shingles))
        for shingle in shingles:
            rows_of[shingle].append(row)
    common: Counter[tuple[int, int]] = Counter()
    for rows in rows_of.values():
        if len(rows) > 1:
            common.update(itertools.combinations(rows, 2))
    pairs = {}
    for (a, b), shared in common.items():
        jaccard = shared / (sets[a] + sets[b] - shared)
        if jaccard >= least:
            pairs[a, b] = jaccard
    return pairs


def recall(cluster_id: list[int], pairs: dict[tuple[int, int], float], threshold: float) -> float:
    """Share of the pairs at or above the threshold that are in one cluster."""
    found = [cluster_id[a] == cluster_id[b] for (a, b), jaccard in pairs.items() if jaccard >= threshold]
    return sum(found) / len(found)


def precision(cluster_id: list[int], pairs: dict[tuple[int, int], float], threshold: float) -> float:
    """Share of the clustered documents that have a partner at or above the threshold in their cluster."""
    sizes = Counter(cluster_id)
    clustered = {row for row, cluster in enumerate(cluster_id) if sizes[cluster] > 1}
    partnered = set()
    for (a, b), jaccard in pairs.items():
        if jaccard >= threshold and cluster_id[a] == cluster_id[b]:
            partnered |= {a, b}
    return len(clustered & partnered) / len(clustered) if clustered else 1.0
