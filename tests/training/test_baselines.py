from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biollm.training import baselines
from biollm.training.baselines import HELD_OUT, measure
from biollm.training.batches import DocumentTokens

VOCAB = 7
documents_of = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=12), min_size=1, max_size=50).filter(
    lambda documents: any(documents)
)


def shard(documents: list[list[int]], mask: list[list[int]] | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        tokens=np.array([t for d in documents for t in d], np.uint16),
        offsets=np.cumsum([0, *map(len, documents)]).astype(np.uint64),
        mask=None if mask is None else np.array([m for d in mask for m in d], np.uint8),
    )


def slow(train: list[list[int]], validation: list[list[int]], weight: float) -> tuple[float, float, int]:
    """The same two cross entropies, a token at a time."""
    counts = Counter(t for d in train for t in d)
    total = sum(counts.values())
    pairs = Counter((a, b) for d in train for a, b in pairwise(d))
    firsts = Counter(a for d in train for a in d[:-1])
    unigram_nats = bigram_nats = 0.0
    scored = 0
    for document in validation:
        for a, b in pairwise(document):
            unigram = (counts[b] + 1) / (total + VOCAB)
            bigram = pairs[a, b] / firsts[a] if firsts[a] else 0.0
            unigram_nats -= math.log(unigram)
            bigram_nats -= math.log(weight * bigram + (1 - weight) * unigram)
            scored += 1
    return unigram_nats / scored, bigram_nats / scored, scored


@settings(max_examples=60, deadline=None)
@given(documents_of, documents_of.filter(lambda ds: any(len(d) > 1 for d in ds)), st.integers(0, 50))
def test_both_equal_the_slow_twin(train: list[list[int]], validation: list[list[int]], cut: int) -> None:
    parts = [part for part in (train[:cut], train[cut:]) if part]
    found = measure(
        DocumentTokens([shard(part) for part in parts]), DocumentTokens([shard(validation)]), vocab_size=VOCAB
    )
    unigram, bigram, scored = slow(train, validation, found.bigram_weight)
    assert found.scored_tokens == scored
    assert found.unigram_nats == pytest.approx(unigram, rel=1e-12)
    assert found.bigram_nats == pytest.approx(bigram, rel=1e-12)


def test_chunks_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    make = lambda n: [generator.integers(0, VOCAB, 9).tolist() for _ in range(n)]  # noqa: E731
    train, validation = DocumentTokens([shard(make(40)), shard(make(33))]), DocumentTokens([shard(make(10))])
    whole = measure(train, validation, vocab_size=VOCAB)
    monkeypatch.setattr(baselines, "CHUNK_TOKENS", 5)
    cut = measure(train, validation, vocab_size=VOCAB)
    assert cut.bigram_nats == pytest.approx(whole.bigram_nats, rel=1e-12)
    assert cut.bigram_weight == whole.bigram_weight


def test_weight_is_the_likeliest_on_the_held_out_documents() -> None:
    generator = np.random.default_rng(1)
    train = []
    for _ in range(200):  # half of the time the successor, else any: neither weight 0 nor 1 is best
        document = [int(generator.integers(0, VOCAB))]
        for _ in range(10):
            next_token = (document[-1] + 1) % VOCAB if generator.random() < 0.5 else int(generator.integers(0, VOCAB))
            document.append(next_token)
        train.append(document)
    held = [d for i, d in enumerate(train) if i % HELD_OUT == HELD_OUT - 1]
    counted = [d for i, d in enumerate(train) if i % HELD_OUT != HELD_OUT - 1]
    found = measure(DocumentTokens([shard(train)]), DocumentTokens([shard(held)]), vocab_size=VOCAB).bigram_weight
    counts = Counter(t for d in train for t in d)
    pairs = Counter((a, b) for d in counted for a, b in pairwise(d))
    firsts = Counter(a for d in counted for a in d[:-1])

    def likelihood(weight: float) -> float:
        return sum(
            math.log(weight * pairs[a, b] / firsts[a] + (1 - weight) * (counts[b] + 1) / (sum(counts.values()) + VOCAB))
            for d in held
            for a, b in pairwise(d)
        )

    assert likelihood(found) >= max(likelihood(found - 1e-4), likelihood(min(found + 1e-4, 1 - 1e-9))) - 1e-9
    assert 0.1 < found < 1.0


def test_masked_tokens_are_not_scored() -> None:
    train = DocumentTokens([shard([[1, 2, 3, 4]] * 30)])
    masked = DocumentTokens([shard([[1, 2, 3, 4]], [[1, 1, 0, 0]])])
    only = DocumentTokens([shard([[1, 2]])])
    assert measure(train, masked, vocab_size=VOCAB) == measure(train, only, vocab_size=VOCAB)


def test_nothing_to_score_is_not_a_number() -> None:
    found = measure(DocumentTokens([shard([[1, 2]])]), DocumentTokens([shard([[1], [2]])]), vocab_size=VOCAB)
    assert math.isnan(found.unigram_nats)
    assert math.isnan(found.bigram_nats)
    assert found.scored_tokens == 0
