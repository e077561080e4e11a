"""Packed batches: documents laid end to end in a shuffled order and cut into rows of ``seq_len`` tokens.

A stream is a pure function of a token position: ``stream.batch(position, rows)`` needs nothing that went before, so
a run resumes from one integer, and any number of readers can share an epoch. Every token of an epoch is an input
exactly once. What a token may see and predict stays within its document:

* ``document_ids`` differ between documents, so that attention can be kept inside each (block-diagonal causal);
* ``positions`` restart at each document and at each row (rotary embeddings are relative: a piece cut by a row's end
  has the distances of the whole);
* the last token of a document predicts nothing; a document cut by a row's end predicts across the cut.

The order is a permutation by hash of (seed, epoch, document number): the same on every platform and numpy version.
This module knows nothing of torch, of models or of splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from biollm.errors import ConfigError, FormatError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

IGNORED: Final = -100
"""Target of a position that is not in the loss (torch's ``ignore_index``)."""
PADDING_DOCUMENT: Final = -1
"""Document id of the padding behind the last token of a stream."""


class TokenShard(Protocol):
    """What is needed of a shard: `tokenization.Shard` has it."""

    @property
    def tokens(self) -> NDArray[Any]:
        """(num_tokens,) uint16 or uint32."""

    @property
    def offsets(self) -> NDArray[Any]:
        """(num_documents + 1,) uint64."""

    @property
    def mask(self) -> NDArray[np.uint8] | None:
        """(num_tokens,) uint8, 1 = in the loss; None = all are."""


@dataclass(frozen=True)
class Batch:
    """One batch; arrays are (rows, seq_len) int64, C-contiguous."""

    tokens: Ints
    targets: Ints  # the next token of the same document, or IGNORED
    positions: Ints
    document_ids: Ints  # counted from 0 in each row; PADDING_DOCUMENT behind the stream's end
    loss_tokens: int  # targets that are in the loss
    num_tokens: int  # inputs that are not padding

    def split(self, parts: int) -> list[Batch]:
        """The batch as ``parts`` batches of an equal number of rows."""
        pieces = []
        for rows in np.split(np.arange(len(self.tokens)), parts):
            part = slice(rows[0], rows[-1] + 1)
            targets, document_ids = self.targets[part], self.document_ids[part]
            pieces.append(
                Batch(
                    self.tokens[part],
                    targets,
                    self.positions[part],
                    document_ids,
                    int(np.count_nonzero(targets != IGNORED)),
                    int(np.count_nonzero(document_ids != PADDING_DOCUMENT)),
                )
            )
        return pieces


class DocumentTokens:
    """The documents of several shards under one numbering, read in place.

    Raises InputError where the shards hold no tokens.
    """

    def __init__(self, shards: Sequence[TokenShard]) -> None:
        self.shards = tuple(shards)
        counts = [len(shard.offsets) - 1 for shard in self.shards]
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])  # (shards + 1,) first document of each
        lengths = [np.diff(shard.offsets.astype(np.int64)) for shard in self.shards]
        self.lengths: Ints = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)  # (documents,) tokens
        self.num_documents = len(self.lengths)
        self.num_tokens = int(self.lengths.sum())
        self.masked = any(shard.mask is not None for shard in self.shards)
        if self.num_tokens == 0:
            raise InputError("the shards hold no tokens: tokenize at least one document that is not empty")

    def locate(self, document: int) -> tuple[TokenShard, int]:
        """The shard of a document and the document's first token in it."""
        index = int(np.searchsorted(self._first, document, side="right")) - 1
        shard = self.shards[index]
        return shard, int(shard.offsets[document - int(self._first[index])])


class Stream(Protocol):
    """Batches as a pure function of a position, in tokens with padding: `PackedStream`, `whole.WholeStream`."""

    documents: DocumentTokens
    seq_len: int
    vocab_size: int
    num_tokens: int | None  # where it ends, padding within it counted; None: never

    def num_batches(self, rows: int) -> int:
        """Batches of ``rows`` rows up to the end. Raises ConfigError for an endless stream."""

    def batches(self, rows: int) -> Iterator[Batch]:
        """All batches from the first token to the end."""

    def batch(self, position: int, rows: int) -> Batch:
        """``rows`` rows from ``position``, a multiple of ``seq_len``, on."""


@dataclass(frozen=True)
class _Flat:
    """A stretch of a stream: (n,) each."""

    tokens: Ints
    documents: Ints  # ordinal of the document in the stream, PADDING_DOCUMENT where it ended
    offsets: Ints  # of the token in its document
    in_loss: NDArray[np.bool_]


class PackedStream:
    """An endless (or, with ``num_tokens``, ending) stream of packed documents.

    Parameters: ``seq_len`` > 1 tokens a row; ``vocab_size``: a larger id in a shard raises FormatError; ``seed`` of the
    documents' order, None = as they lie; ``num_tokens``: where the stream ends, None = one epoch after another.
    """

    def __init__(
        self,
        documents: DocumentTokens,
        *,
        seq_len: int,
        vocab_size: int,
        seed: int | None,
        num_tokens: int | None = None,
    ) -> None:
        if seq_len < 2:
            raise ConfigError(f"seq_len is {seq_len}: a row needs at least 2 tokens", field="seq_len", value=seq_len)
        self.documents = documents
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.seed = seed
        self.num_tokens = num_tokens
        self._orders: dict[int, tuple[Ints, Ints]] = {}

    def num_batches(self, rows: int) -> int:
        """Batches of ``rows`` rows up to the stream's end. Raises ConfigError for an endless stream."""
        if self.num_tokens is None:
            raise ConfigError(
                "an endless stream has no number of batches: give num_tokens", field="num_tokens", value=None
            )
        return -(-self.num_tokens // (rows * self.seq_len))

    def batches(self, rows: int) -> Iterator[Batch]:
        """All batches from the first token to the stream's end; the last has as few rows as hold its tokens."""
        for index in range(self.num_batches(rows)):
            position = index * rows * self.seq_len
            left = -(-((self.num_tokens or 0) - position) // self.seq_len)
            yield self.batch(position, min(rows, left))

    def batch(self, position: int, rows: int) -> Batch:
        """The ``rows * seq_len`` tokens from token ``position`` of the stream on, padded behind its end."""
        shape = (rows, self.seq_len)
        flat = self._read(position, rows * self.seq_len + 1)
        documents = flat.documents[:-1].reshape(shape)
        real = documents != PADDING_DOCUMENT
        predicts = (flat.documents[1:] == flat.documents[:-1]) & flat.in_loss[1:] & real.reshape(-1)
        targets = np.where(predicts, flat.tokens[1:], IGNORED).reshape(shape)
        offsets = flat.offsets[:-1].reshape(shape)
        continued = documents == documents[:, :1]  # of the row's first document: it may have begun in an earlier row
        positions = np.where(continued, offsets - offsets[:, :1], offsets)
        return Batch(
            tokens=np.ascontiguousarray(flat.tokens[:-1].reshape(shape)),
            targets=targets,
            positions=positions,
            document_ids=np.where(real, documents - documents[:, :1], PADDING_DOCUMENT),
            loss_tokens=int(np.count_nonzero(predicts)),
            num_tokens=int(np.count_nonzero(real)),
        )

    def _order(self, epoch: int) -> tuple[Ints, Ints]:
        """Documents of an epoch in their order, and the ends of each in the epoch's tokens: (documents,) both."""
        if epoch not in self._orders:
            count = self.documents.num_documents
            order = np.arange(count, dtype=np.int64) if self.seed is None else shuffled(self.seed, epoch, count)
            self._orders = {key: value for key, value in self._orders.items() if key == epoch - 1}
            self._orders[epoch] = (order, np.cumsum(self.documents.lengths[order]))
        return self._orders[epoch]

    def _read(self, position: int, count: int) -> _Flat:
        tokens = np.zeros(count, np.int64)
        documents = np.full(count, PADDING_DOCUMENT, np.int64)
        offsets = np.arange(count, dtype=np.int64)
        in_loss = np.ones(count, np.bool_)
        stop = count if self.num_tokens is None else max(0, min(count, self.num_tokens - position))
        epoch, offset = divmod(position, self.documents.num_tokens)
        filled = 0
        while filled < stop:
            order, ends = self._order(epoch)
            rank = int(np.searchsorted(ends, offset, side="right"))
            while filled < stop and rank < len(order):
                length = int(self.documents.lengths[order[rank]])
                begin = offset - (int(ends[rank]) - length)
                take = min(length - begin, stop - filled)
                into = slice(filled, filled + take)
                shard, start = self.documents.locate(int(order[rank]))
                tokens[into] = shard.tokens[start + begin : start + begin + take]
                if shard.mask is not None:
                    in_loss[into] = shard.mask[start + begin : start + begin + take] != 0
                documents[into] = epoch * len(order) + rank
                offsets[into] = np.arange(begin, begin + take)
                filled, offset, rank = filled + take, offset + take, rank + 1
            epoch, offset = (epoch + 1, 0) if rank == len(order) else (epoch, offset)
        if int(tokens.max(initial=0)) >= self.vocab_size:
            raise FormatError(
                f"the shards hold token id {int(tokens.max())}, but their vocabulary has {self.vocab_size} ids"
            )
        return _Flat(tokens, documents, offsets, in_loss)


def shuffled(seed: int, epoch: int, count: int) -> Ints:
    """(count,) the numbers 0..count in an order drawn by (seed, epoch)."""
    return np.argsort(_hash(seed, epoch, count), kind="stable")


def _hash(seed: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """(count,) hashes of 0..count under (seed, epoch): splitmix64 (Steele, Lea and Flood 2014, figure 16)."""
    key = _mix(_mix(np.array([seed % 2**64], np.uint64)) + np.uint64(epoch))
    return _mix(np.arange(count, dtype=np.uint64) + key)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)  # arrays of unsigned integers wrap without a warning
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
