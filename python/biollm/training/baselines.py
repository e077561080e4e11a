"""What a model must beat: cross entropies of two count models on the validation tokens, in nats a token.

* ``unigram``: the entropy of the validation tokens under the counts of the train tokens, add-one smoothed.
* ``bigram``: ``weight * count(previous, token) / count(previous) + (1 - weight) * unigram(token)`` (Jelinek & Mercer
  1980), the weight fitted by maximum likelihood on every ``HELD_OUT``-th train document against the counts of the
  others; the counts scored with are those of all.

Both are scored on the tokens a model is scored on: all but the first of each document, of a loss mask those in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.training.batches import DocumentTokens, TokenShard

    Ints = NDArray[np.int64]

HELD_OUT: Final = 20
"""One train document in so many (of fewer documents, the last one) fits the bigram's weight."""
BIGRAM_TOKENS: Final = 20_000_000
"""Train tokens whose bigrams are counted, at 16 bytes a distinct one: bounds memory. Unigrams are counted over all."""
CHUNK_TOKENS: Final = 4_194_304


@dataclass(frozen=True)
class Baselines:
    """Cross entropies in nats a token, and what they were measured on."""

    unigram_nats: float
    bigram_nats: float
    bigram_weight: float
    scored_tokens: int


@dataclass(frozen=True)
class _Pairs:
    """Successive tokens within documents, and whether the second is in the loss: (n,) each."""

    previous: Ints
    token: Ints
    in_loss: NDArray[np.bool_]


def measure(train: DocumentTokens, validation: DocumentTokens, *, vocab_size: int) -> Baselines:
    """Count the train tokens, score the validation tokens.

    A validation set without a single scored token (all documents of one token) gives NaN.
    """
    unigram = unigram_probabilities(train, vocab_size=vocab_size)  # (vocab,)
    bigrams = _BigramCounts(vocab_size)
    held_out: list[_Pairs] = []
    for pairs, held in _pairs(train, BIGRAM_TOKENS):
        bigrams.add(_where(pairs, ~held))
        held_out.append(_where(pairs, held))
    weight = _fit_weight(
        np.concatenate([bigrams.probabilities(pairs)[pairs.in_loss] for pairs in held_out]),
        np.concatenate([unigram[pairs.token][pairs.in_loss] for pairs in held_out]),
    )
    for pairs in held_out:
        bigrams.add(pairs)
    scored = [_where(pairs, pairs.in_loss) for pairs, _ in _pairs(validation, None)]
    token = np.concatenate([pairs.token for pairs in scored])
    if not len(token):
        return Baselines(float("nan"), float("nan"), weight, 0)
    bigram = np.concatenate([bigrams.probabilities(pairs) for pairs in scored])
    mixed = weight * bigram + (1.0 - weight) * unigram[token]
    return Baselines(
        unigram_nats=float(-np.log(unigram[token]).mean()),
        bigram_nats=float(-np.log(mixed).mean()),
        bigram_weight=weight,
        scored_tokens=len(token),
    )


def unigram_probabilities(documents: DocumentTokens, *, vocab_size: int) -> NDArray[np.float64]:
    """(vocab_size,) add-one smoothed relative frequencies of all tokens."""
    counts = np.zeros(vocab_size, np.int64)
    for shard in documents.shards:
        for begin in range(0, len(shard.tokens), CHUNK_TOKENS):
            counts += np.bincount(shard.tokens[begin : begin + CHUNK_TOKENS], minlength=vocab_size)
    smoothed: NDArray[np.float64] = (counts + 1) / (counts.sum() + vocab_size)
    return smoothed


class _BigramCounts:
    """Counts of (previous, token), kept as sorted unique codes."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.codes: Ints = np.zeros(0, np.int64)
        self.counts: Ints = np.zeros(0, np.int64)
        self.previous: Ints = np.zeros(vocab_size, np.int64)

    def add(self, pairs: _Pairs) -> None:
        codes, counts = np.unique(pairs.previous * self.vocab_size + pairs.token, return_counts=True)
        self.previous += np.bincount(pairs.previous, minlength=self.vocab_size)
        if len(self.codes):
            merged, inverse = np.unique(np.concatenate([self.codes, codes]), return_inverse=True)
            summed = np.zeros(len(merged), np.int64)
            np.add.at(summed, inverse, np.concatenate([self.counts, counts]))
            codes, counts = merged, summed
        self.codes, self.counts = codes, counts

    def probabilities(self, pairs: _Pairs) -> NDArray[np.float64]:
        """(n,) relative frequency of each token after its previous one; 0 after one never seen."""
        if not len(self.codes):
            return np.zeros(len(pairs.token))
        codes = pairs.previous * self.vocab_size + pairs.token
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        found = np.where(self.codes[at] == codes, self.counts[at], 0)
        return found / np.maximum(self.previous[pairs.previous], 1)


def _fit_weight(bigram: NDArray[np.float64], unigram: NDArray[np.float64]) -> float:
    """The weight in [0, 1] of the greatest likelihood: the log-likelihood is concave, so its slope is bisected."""
    low, high = 0.0, 1.0 - 1e-6  # at 1 an unseen pair would have no probability
    for _ in range(30):
        middle = 0.5 * (low + high)
        slope = float(((bigram - unigram) / (middle * bigram + (1.0 - middle) * unigram)).sum())
        low, high = (middle, high) if slope > 0.0 else (low, middle)
    return 0.5 * (low + high) if len(bigram) else 0.0


def _where(pairs: _Pairs, keep: NDArray[np.bool_]) -> _Pairs:
    return _Pairs(pairs.previous[keep], pairs.token[keep], pairs.in_loss[keep])


def _pairs(documents: DocumentTokens, limit: int | None) -> Iterator[tuple[_Pairs, NDArray[np.bool_]]]:
    """Chunks of successive tokens, with a mask of those in held-out documents; stops after about ``limit`` tokens."""
    every = min(HELD_OUT, documents.num_documents)
    first_document = 0
    left = documents.num_tokens if limit is None else limit
    for shard in documents.shards:
        starts = shard.offsets.astype(np.int64)
        for begin in range(0, len(shard.tokens), CHUNK_TOKENS):
            if left <= 0:
                return
            # One token more than the chunk: the pair across its end belongs to it.
            tokens = np.asarray(shard.tokens[begin : begin + CHUNK_TOKENS + 1]).astype(np.int64)
            document = np.searchsorted(starts, np.arange(begin, begin + len(tokens)), side="right") - 1
            inside = document[1:] == document[:-1]
            in_loss = _mask(shard, begin + 1, len(tokens) - 1)
            pairs = _Pairs(tokens[:-1][inside], tokens[1:][inside], in_loss[inside])
            yield pairs, (first_document + document[1:][inside]) % every == every - 1
            left -= CHUNK_TOKENS
        first_document += len(starts) - 1


def _mask(shard: TokenShard, begin: int, count: int) -> NDArray[np.bool_]:
    if shard.mask is None:
        return np.ones(count, np.bool_)
    in_loss: NDArray[np.bool_] = np.asarray(shard.mask[begin : begin + count]) != 0
    return in_loss
