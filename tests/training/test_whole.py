"""Rows of whole examples: none cut, none lost, and a batch a function of its position."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biollm.errors import ConfigError, FormatError
from biollm.models import Llama, model_config
from biollm.training.batches import IGNORED, PADDING_DOCUMENT
from biollm.training.engines import summed_loss
from biollm.training.placement import resolve
from biollm.training.whole import OPEN_ROWS, Examples, WholeStream, pack

SEQ = 16


def examples(lengths: list[int], *, labels: bool = False, seed: int = 0) -> Examples:
    generator = np.random.default_rng(seed)
    total = sum(lengths)
    return Examples(
        tokens=generator.integers(2, 50, total),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64),
        mask=None if labels else (generator.random(total) < 0.5).astype(np.uint8),
        labels=generator.integers(0, 3, len(lengths)) if labels else None,
    )


def stream(data: Examples, *, epochs: float | None = 1.0, seed: int | None = 3) -> WholeStream:
    return WholeStream(data, seq_len=SEQ, vocab_size=50, seed=seed, epochs=epochs)


@given(st.lists(st.integers(1, SEQ), min_size=1, max_size=300))
def test_packing_cuts_and_loses_nothing(lengths: list[int]) -> None:
    order = list(range(len(lengths)))[::-1]
    rows = pack(order, lengths, SEQ)
    assert sorted(example for row in rows for example in row) == sorted(order)
    assert all(0 < sum(lengths[example] for example in row) <= SEQ for row in rows)
    # No two neighbours in the order of closing could have shared a row while both were open.
    assert len(rows) <= 2 * -(-sum(lengths) // SEQ) + 1 or len(rows) > OPEN_ROWS


def test_every_example_comes_once_an_epoch_whole_and_apart() -> None:
    data = examples([5, 16, 3, 7, 9, 2, 1, 11] * 9)
    seen = []
    for batch in stream(data).batches(4):
        for row in range(len(batch.tokens)):
            ids = batch.document_ids[row]
            for number in range(int(ids.max()) + 1):
                (place,) = np.nonzero(ids == number)
                assert place.tolist() == list(range(place[0], place[-1] + 1))
                assert batch.positions[row, place].tolist() == list(range(len(place)))
                seen.append(batch.tokens[row, place].tolist())
        assert batch.num_tokens == int((batch.document_ids != PADDING_DOCUMENT).sum())
        assert batch.loss_tokens == int((batch.targets != IGNORED).sum())
        assert (batch.targets[batch.document_ids == PADDING_DOCUMENT] == IGNORED).all()
    offsets = data.offsets.astype(int).tolist()
    expected = [data.tokens[a:b].tolist() for a, b in pairwise(offsets)]
    assert sorted(seen) == sorted(expected)


def test_the_loss_is_on_the_masked_tokens_and_of_labels_on_the_last() -> None:
    data = examples([5, 9, 7])
    targets = [batch.targets[batch.targets != IGNORED] for batch in stream(data, seed=None).batches(2)]
    inside = np.ones(21, bool)
    inside[data.offsets[:-1].astype(int)] = False  # nothing predicts the first token of an example
    assert data.mask is not None
    assert sorted(np.concatenate(targets)) == sorted(data.tokens[inside & (data.mask != 0)])
    data = examples([5, 9, 7, 1], labels=True)
    (batch,) = stream(data, seed=None).batches(2)
    assert batch.loss_tokens == 4
    ends = [(batch.document_ids[row] == number).nonzero()[0][-1] for row, number in ((0, 0), (0, 1))]
    assert data.labels is not None
    assert sorted(batch.targets[batch.targets != IGNORED]) == sorted(data.labels)
    assert (batch.targets[0, ends] != IGNORED).all()


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_label_is_asked_along_the_way(every: int) -> None:
    data = examples([5, 9, 7, 1, 16], labels=True)
    whole = WholeStream(data, seq_len=SEQ, vocab_size=50, seed=None, epochs=1.0, label_every=every)
    asked = []
    for batch in whole.batches(3):
        for ids, targets in zip(batch.document_ids, batch.targets, strict=True):
            assert (targets[ids == PADDING_DOCUMENT] == IGNORED).all()
            for number in range(int(ids.max()) + 1):
                own = targets[ids == number]
                places = (own != IGNORED).nonzero()[0]
                assert places.tolist() == sorted(range(len(own) - 1, -1, -every))
                (label,) = set(own[places].tolist())
                asked.append((len(own), label))
    assert data.labels is not None
    assert sorted(asked) == sorted(zip([5, 9, 7, 1, 16], data.labels.tolist(), strict=True))


def test_noise_replaces_a_share_of_the_tokens_and_nothing_else() -> None:
    data = examples([16] * 400, labels=True)

    def noisy(share: float) -> WholeStream:
        return WholeStream(data, seq_len=SEQ, vocab_size=50, seed=3, epochs=2.0, token_noise=share)

    clean, changed = noisy(0.0).batch(0, 400), noisy(0.3).batch(0, 400)
    for name in ("targets", "positions", "document_ids"):
        np.testing.assert_array_equal(getattr(clean, name), getattr(changed, name))
    differ = clean.tokens != changed.tokens
    assert not differ[:, -1].any()  # the last, where the label is asked
    assert differ[:, :-1].mean() == pytest.approx(0.3 * 47 / 48, abs=0.03)  # of 48 ids one draw is the same
    assert set(np.unique(changed.tokens)) <= set(np.unique(data.tokens))
    np.testing.assert_array_equal(noisy(0.3).batch(SEQ * 37, 5).tokens, changed.tokens[37:42])
    rows = {row.tobytes() for row in changed.tokens} | {
        row.tobytes() for row in noisy(0.3).batch(SEQ * 400, 400).tokens
    }
    assert len(rows) > 790  # the second epoch has other noise


def test_a_batch_needs_nothing_that_went_before() -> None:
    data = examples([5, 16, 3, 7, 9, 2, 1, 11] * 9)
    endless = stream(data, epochs=None)
    rows = 4
    inorder = [endless.batch(index * rows * SEQ, rows) for index in range(40)]
    for index in (37, 0, 11, 39):
        fresh = stream(data, epochs=None).batch(index * rows * SEQ, rows)
        for name in ("tokens", "targets", "positions", "document_ids"):
            np.testing.assert_array_equal(getattr(fresh, name), getattr(inorder[index], name))


def test_epochs_end_and_differ() -> None:
    data = examples([5, 16, 3, 7, 9, 2, 1, 11] * 9)
    one, two, half = stream(data), stream(data, epochs=2.0), stream(data, epochs=0.5)
    assert one.num_tokens is not None
    assert two.num_tokens is not None
    tokens = [sum(batch.num_tokens for batch in s.batches(4)) for s in (one, two)]
    assert tokens == [len(data.tokens), 2 * len(data.tokens)]
    assert half.num_tokens == -(-one.num_tokens // SEQ // 2) * SEQ
    second = two.batch(one.num_tokens, 4).tokens
    assert second.tolist() != two.batch(0, 4).tokens.tolist()
    behind = two.batch(two.num_tokens, 2)
    assert (behind.num_tokens, behind.loss_tokens) == (0, 0)


def test_what_shares_a_row_does_not_see_each_other() -> None:
    data = examples([5, 9, 7, 3, 12, 4])
    placement = resolve("cpu", "float64")
    torch.manual_seed(0)
    model = Llama(model_config("tiny", 50, max_seq_len=SEQ)).double()
    together = sum(float(summed_loss(model, batch, placement).detach()) for batch in stream(data).batches(3))
    alone = 0.0
    offsets = data.offsets.astype(int).tolist()
    assert data.mask is not None
    for begin, end in pairwise(offsets):
        tokens = torch.from_numpy(data.tokens[begin:end])[None]
        nats = torch.nn.functional.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:], reduction="none")
        alone += float((nats * torch.from_numpy(data.mask[begin + 1 : end])).sum().detach())
    assert together == pytest.approx(alone, rel=1e-12)


def test_what_cannot_be_streamed() -> None:
    with pytest.raises(ConfigError, match="17 tokens, over seq_len 16"):
        stream(examples([17]))
    with pytest.raises(FormatError, match="token id 49, but the model has 20"):
        WholeStream(examples([9] * 30), seq_len=SEQ, vocab_size=20, seed=0)
    with pytest.raises(ConfigError, match="endless"):
        stream(examples([5]), epochs=None).num_batches(2)
