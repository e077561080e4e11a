"""Packed batches of whole examples: conversations, or labelled documents.

An answer without its question, or a label without the half of its document, would teach something else. So no example
is cut: each lies in one row, several in a row where they fit, padding behind them. As in `batches`, attention and
positions stay within each example, and a batch is a pure function of its position in the stream.

Rows are filled best-fit among a few open ones (the fullest into which the next example of the shuffled order fits),
so that which examples share a row, and in what order rows come, stays close to random.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from biollm.errors import ConfigError, FormatError
from biollm.training.batches import IGNORED, PADDING_DOCUMENT, Batch, DocumentTokens, shuffled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

OPEN_ROWS: Final = 64


@dataclass(frozen=True)
class Examples:
    """Examples in memory, end to end, as a shard has them.

    ``tokens`` (num_tokens,); ``offsets`` (examples + 1,); ``mask`` (num_tokens,), 1 = in the loss, None = all;
    ``labels`` (examples,) the class of each, None where it is tokens that are predicted.
    """

    tokens: Ints
    offsets: NDArray[np.uint64]
    mask: NDArray[np.uint8] | None = None
    labels: Ints | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1


class WholeStream:
    """A stream of rows of whole examples; see `batches.Stream`.

    Parameters: ``examples``, none of them longer than ``seq_len``; ``vocab_size``: a larger id raises FormatError;
    ``seed`` of their order, None = as they lie; ``epochs``: passes over all, may be a fraction, None = without end.

    With labels, the target of an example is its class, at its last token and with ``label_every`` at every so many
    tokens before it; else each next token in the loss.

    A causal model that is asked once a document hears little of what made the class: asked along the way, it learns
    several times as much from each (the "linear gain" of Dai and Le 2015, arXiv 1511.01432, without the gain).

    ``token_noise``: this share of the tokens, an example's last apart, is replaced by tokens drawn from all examples
    ("unigram noising", Xie et al. 2017, arXiv 1703.02573), anew in each row of the stream; needs a ``seed``.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        seq_len: int,
        vocab_size: int,
        seed: int | None,
        epochs: float | None = None,
        label_every: int = 0,
        token_noise: float = 0.0,
    ) -> None:
        self.documents = DocumentTokens([examples])
        self.examples = examples
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.seed = seed
        self.label_every = label_every
        self.token_noise = token_noise
        longest = int(self.documents.lengths.max())
        if longest > seq_len:
            raise ConfigError(
                f"an example has {longest} tokens, over seq_len {seq_len}",
                field="seq_len",
                value=seq_len,
                limit=longest,
            )
        if int(examples.tokens.max()) >= vocab_size:
            raise FormatError(f"there is a token id {int(examples.tokens.max())}, but the model has {vocab_size} ids")
        self._first_rows = [0]  # of each epoch laid out so far, and of the one behind them
        self._layouts: dict[int, list[list[int]]] = {}
        self.num_tokens: int | None = None
        if epochs is not None:
            whole, rest = divmod(epochs, 1.0)
            rows = self._first_row(int(whole))
            rows += math.ceil(rest * len(self._layout(int(whole)))) if rest else 0
            self.num_tokens = max(1, rows) * seq_len

    def num_batches(self, rows: int) -> int:
        """Batches of ``rows`` rows up to the stream's end. Raises ConfigError for an endless stream."""
        if self.num_tokens is None:
            raise ConfigError("an endless stream has no number of batches: give epochs", field="epochs", value=None)
        return -(-self.num_tokens // (rows * self.seq_len))

    def batches(self, rows: int) -> Iterator[Batch]:
        """All batches up to the stream's end; the last has as few rows as are left."""
        for index in range(self.num_batches(rows)):
            position = index * rows * self.seq_len
            yield self.batch(position, min(rows, ((self.num_tokens or 0) - position) // self.seq_len))

    def batch(self, position: int, rows: int) -> Batch:
        """``rows`` rows from token ``position`` of the stream on, padding included; padding behind its end."""
        shape = (rows, self.seq_len)
        tokens, targets = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
        positions = np.tile(np.arange(self.seq_len, dtype=np.int64), (rows, 1))
        document_ids = np.full(shape, PADDING_DOCUMENT, np.int64)
        for i, members in enumerate(self._members(position // self.seq_len, rows)):
            at = 0
            for number, example in enumerate(members):
                begin, end = (int(offset) for offset in self.examples.offsets[example : example + 2])
                place = slice(at, at + end - begin)
                tokens[i, place] = self.examples.tokens[begin:end]
                if self.token_noise:
                    self._add_noise(tokens[i, at : at + end - begin - 1], position // self.seq_len + i, number)
                positions[i, place] = np.arange(end - begin)
                document_ids[i, place] = number
                targets[i, place] = self._targets(example, begin, end)
                at += end - begin
        return Batch(
            tokens=tokens,
            targets=targets,
            positions=positions,
            document_ids=document_ids,
            loss_tokens=int(np.count_nonzero(targets != IGNORED)),
            num_tokens=int(np.count_nonzero(document_ids != PADDING_DOCUMENT)),
        )

    def _add_noise(self, tokens: Ints, row: int, number: int) -> None:
        """Replace tokens in place: those of example ``number`` of ``row`` of the stream."""
        assert self.seed is not None
        generator = np.random.default_rng((self.seed, row, number))
        (places,) = np.nonzero(generator.random(len(tokens)) < self.token_noise)
        every = self.examples.tokens
        tokens[places] = every[generator.integers(0, len(every), len(places))]

    def _targets(self, example: int, begin: int, end: int) -> Ints:
        targets = np.full(end - begin, IGNORED, np.int64)
        if self.examples.labels is not None:
            targets[:: -(self.label_every or len(targets))] = self.examples.labels[example]
            return targets
        following = self.examples.tokens[begin + 1 : end]
        mask = self.examples.mask
        targets[:-1] = following if mask is None else np.where(mask[begin + 1 : end] != 0, following, IGNORED)
        return targets

    def _members(self, first: int, rows: int) -> Iterator[Sequence[int]]:
        """The examples of each of ``rows`` rows from row ``first`` of the stream on."""
        last = None if self.num_tokens is None else self.num_tokens // self.seq_len
        for row in range(first, first + rows):
            if last is not None and row >= last:
                yield ()
                continue
            epoch = bisect.bisect_right(self._first_rows, row) - 1
            while row - self._first_row(epoch) >= len(layout := self._layout(epoch)):
                epoch += 1
            yield layout[row - self._first_row(epoch)]

    def _first_row(self, epoch: int) -> int:
        while len(self._first_rows) <= epoch:
            self._first_rows.append(self._first_rows[-1] + len(self._layout(len(self._first_rows) - 1)))
        return self._first_rows[epoch]

    def _layout(self, epoch: int) -> list[list[int]]:
        """The rows of an epoch, each with the examples in it."""
        if epoch not in self._layouts:
            count = self.documents.num_documents
            order = np.arange(count) if self.seed is None else shuffled(self.seed, epoch, count)
            self._layouts = {key: value for key, value in self._layouts.items() if key == epoch - 1}
            self._layouts[epoch] = pack(order.tolist(), self.documents.lengths.tolist(), self.seq_len)
        return self._layouts[epoch]


def pack(order: Sequence[int], lengths: Sequence[int], seq_len: int) -> list[list[int]]:
    """Rows of examples, each row of at most ``seq_len`` tokens, in the order in which they were closed.

    Each example of ``order`` goes into the fullest open row that has room for it, else into a new one; of more than
    ``OPEN_ROWS`` open rows the fullest is closed. ``lengths``: of all examples, by number.
    """
    closed: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, number of the row), rising
    rows: list[list[int]] = []
    for example in order:
        at = bisect.bisect_left(room, (lengths[example], -1))
        if at < len(room):
            left, row = room.pop(at)
        else:
            left, row = seq_len, len(rows)
            rows.append([])
        rows[row].append(example)
        bisect.insort(room, (left - lengths[example], row))
        if len(room) > OPEN_ROWS or room[0][0] == 0:
            closed.append(rows[room.pop(0)[1]])
    return closed + [rows[row] for _, row in sorted(room, key=lambda item: item[1])]
