from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biollm.errors import ConfigError, FormatError, InputError
from biollm.training.batches import IGNORED, PADDING_DOCUMENT, Batch, DocumentTokens, PackedStream


def shard(documents: Sequence[Sequence[int]], masks: Sequence[Sequence[int]] | None = None) -> SimpleNamespace:
    tokens = np.array([t for document in documents for t in document], np.uint16)
    mask = None if masks is None else np.array([m for document in masks for m in document], np.uint8)
    return SimpleNamespace(tokens=tokens, offsets=np.cumsum([0, *map(len, documents)]).astype(np.uint64), mask=mask)


def numbered(lengths: Sequence[int]) -> list[list[int]]:
    """Documents in which every token of the corpus has an id of its own."""
    ends = np.cumsum(lengths)
    return [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]


def stream(documents: Sequence[Sequence[int]], *, split_at: int | None = None, **options: object) -> PackedStream:
    parts = [documents] if split_at is None else [documents[:split_at], documents[split_at:]]
    settings = {"seq_len": 8, "vocab_size": 60_000, "seed": 3, **options}
    return PackedStream(DocumentTokens([shard(part) for part in parts]), **settings)  # type: ignore[arg-type]


lengths = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda ls: sum(ls) > 0)


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(2, 17), st.integers(1, 5), st.integers(1, 3), st.one_of(st.none(), st.integers(0, 9)))
def test_every_token_is_an_input_once_an_epoch(
    sizes: list[int], seq_len: int, rows: int, epochs: int, seed: int | None
) -> None:
    documents = numbered(sizes)
    total = sum(sizes)
    packed = stream(documents, split_at=len(sizes) // 2, seq_len=seq_len, seed=seed, num_tokens=epochs * total)
    batches = list(packed.batches(rows))
    assert len(batches) == packed.num_batches(rows)
    real = np.concatenate([batch.tokens[batch.document_ids != PADDING_DOCUMENT] for batch in batches])
    assert sum(batch.num_tokens for batch in batches) == len(real) == epochs * total
    for epoch in range(epochs):
        assert sorted(real[epoch * total : (epoch + 1) * total]) == list(range(total))
    # Each token but a document's first is predicted once an epoch, from the token before it.
    targets = np.concatenate([batch.targets.reshape(-1) for batch in batches])
    inputs = np.concatenate([batch.tokens.reshape(-1) for batch in batches])
    predicted = targets != IGNORED
    assert sum(batch.loss_tokens for batch in batches) == int(predicted.sum())
    assert (targets[predicted] == inputs[predicted] + 1).all()
    firsts = {document[0] for document in documents if document}
    assert sorted(targets[predicted]) == sorted(list(set(range(total)) - firsts) * epochs)


@settings(max_examples=40, deadline=None)
@given(lengths, st.integers(2, 17), st.integers(1, 4), st.integers(0, 200))
def test_a_batch_is_what_a_slow_walk_over_the_documents_gives(
    sizes: list[int], seq_len: int, rows: int, position: int
) -> None:
    documents = numbered(sizes)
    packed = stream(documents, seq_len=seq_len)
    batch = packed.batch(position, rows)
    walk = [(k, i, t) for k, i, t in _walk(packed, documents, position + rows * seq_len + 1)][position:]
    for r in range(rows):
        row = walk[r * seq_len : (r + 1) * seq_len + 1]
        starts: dict[int, int] = {}
        for c, (document, offset, token) in enumerate(row[:-1]):
            starts.setdefault(document, offset)
            assert batch.tokens[r, c] == token
            assert batch.positions[r, c] == offset - starts[document]
            same = row[c + 1][0] == document
            assert batch.targets[r, c] == (row[c + 1][2] if same else IGNORED)
            for d, (other, _, _) in enumerate(row[:-1]):
                assert (batch.document_ids[r, c] == batch.document_ids[r, d]) == (document == other)


def _walk(packed: PackedStream, documents: list[list[int]], count: int) -> list[tuple[int, int, int]]:
    """(document's number in the stream, offset, token) of the first tokens of an endless stream."""
    found: list[tuple[int, int, int]] = []
    epoch = 0
    while len(found) < count:
        order, _ = packed._order(epoch)
        for rank, document in enumerate(order):
            found += [(epoch * len(documents) + rank, i, t) for i, t in enumerate(documents[document])]
        epoch += 1
    return found[:count]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    documents = numbered([5] * 50)
    orders = [stream(documents, seed=seed)._order(epoch)[0].tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert stream(documents, seed=0)._order(0)[0].tolist() == orders[0]
    # Pinned: the same on every platform and numpy version, or resumed runs would read other data.
    assert stream(numbered([1] * 8), seed=0)._order(0)[0].tolist() == [4, 0, 1, 7, 6, 2, 5, 3]


def test_batches_do_not_depend_on_what_was_read_before() -> None:
    documents = numbered([7, 3, 11, 2, 9])
    fresh, used = stream(documents), stream(documents)
    for position in (0, 160, 40, 1000):
        used.batch(position, 3)
    _assert_equal(fresh.batch(64, 2), used.batch(64, 2))


def test_split_keeps_rows_and_counts_each_part() -> None:
    batch = stream(numbered([3, 30, 4, 2, 2, 2]), num_tokens=43).batch(0, 6)
    parts = batch.split(3)
    assert [len(part.tokens) for part in parts] == [2, 2, 2]
    assert sum(part.loss_tokens for part in parts) == batch.loss_tokens
    assert sum(part.num_tokens for part in parts) == batch.num_tokens == 43
    assert (np.concatenate([part.targets for part in parts]) == batch.targets).all()


def test_mask_takes_targets_out_of_the_loss() -> None:
    documents, masks = [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 0, 1, 0], [1, 1, 1, 1]]
    masked = DocumentTokens([shard(documents[:1], masks[:1]), shard(documents[1:])])
    batch = PackedStream(masked, seq_len=8, vocab_size=9, seed=None, num_tokens=8).batch(0, 1)
    assert batch.targets.tolist() == [[IGNORED, 3, IGNORED, IGNORED, 6, 7, 8, IGNORED]]
    assert batch.loss_tokens == 4


def test_a_stream_that_ends_inside_a_document_predicts_nothing_beyond() -> None:
    batch = stream([[1, 2, 3, 4, 5, 6]], seed=None, num_tokens=4).batch(0, 1)
    assert batch.targets.tolist() == [[2, 3, 4, IGNORED, IGNORED, IGNORED, IGNORED, IGNORED]]
    assert batch.document_ids.tolist() == [[0] * 4 + [PADDING_DOCUMENT] * 4]


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="hold no tokens"):
        DocumentTokens([])
    with pytest.raises(InputError, match="hold no tokens"):
        DocumentTokens([shard([[], []])])
    with pytest.raises(FormatError, match="token id 70, but their vocabulary has 61"):
        stream([[1, 70, 2]], vocab_size=61).batch(0, 1)
    with pytest.raises(ConfigError, match="at least 2 tokens"):
        stream([[1, 2]], seq_len=1)
    with pytest.raises(ConfigError, match="endless"):
        stream([[1, 2]]).num_batches(1)


def _assert_equal(a: Batch, b: Batch) -> None:
    for name in ("tokens", "targets", "positions", "document_ids"):
        assert (getattr(a, name) == getattr(b, name)).all(), name
