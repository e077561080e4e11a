"""Losses by document: against a naive loop over `transformers`, in windows, by shards and by bytes."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from biollm.errors import ConfigError, InputError  # noqa: E402
from biollm.evaluation import document_losses, shard_losses, text_losses, token_bytes  # noqa: E402
from biollm.models import Llama, load_checkpoint  # noqa: E402
from biollm.tokenization import Tokenizer, tokenize  # noqa: E402
from random_models import random_hf_folder  # noqa: E402

VOCAB = 300
CONTEXT = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Llama]:
    folder = tmp_path_factory.mktemp("llama")
    theirs = random_hf_folder(folder, max_position_embeddings=CONTEXT)
    return theirs, load_checkpoint(folder)


def naive_losses(theirs: Any, ids: list[int]) -> list[float]:
    """Nats of every token but the first, each by a forward pass of its own over all before it."""
    losses = []
    with torch.no_grad():
        for end in range(1, len(ids)):
            logits = theirs(torch.tensor([ids[:end]])).logits[0, -1]
            losses.append(float(-torch.log_softmax(logits, -1)[ids[end]]))
    return losses


def random_documents(*lengths: int) -> list[list[int]]:
    draw = np.random.default_rng(1)
    return [draw.integers(3, VOCAB, n).tolist() for n in lengths]


def test_losses_of_a_batch_are_those_of_a_naive_loop_over_transformers(models: tuple[Any, Llama]) -> None:
    theirs, ours = models
    documents = random_documents(17, 2, 1, 0, 40, 9)
    found = document_losses(ours, documents)
    expected = [naive_losses(theirs, ids) for ids in documents]
    assert found.tokens.tolist() == [len(losses) for losses in expected] == [16, 1, 0, 0, 39, 8]
    np.testing.assert_allclose(found.nats, [sum(losses) for losses in expected], rtol=2e-6, atol=1e-5)
    assert found.perplexity == pytest.approx(math.exp(sum(map(sum, expected)) / 64), rel=1e-5)
    assert found.windows.tolist() == [1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("batch_tokens", [1, 64, 100_000])
def test_batching_changes_nothing(models: tuple[Any, Llama], batch_tokens: int) -> None:
    documents = random_documents(30, 5, 64, 12, 12, 150)
    alone = [document_losses(models[1], [ids]).nats[0] for ids in documents]
    found = document_losses(models[1], documents, batch_tokens=batch_tokens)
    np.testing.assert_allclose(found.nats, alone, rtol=2e-6)


@pytest.mark.parametrize(("context", "stride"), [(16, 16), (16, 5), (16, 1), (64, None)])
def test_a_document_longer_than_the_context_is_read_in_windows(
    models: tuple[Any, Llama], context: int, stride: int | None
) -> None:
    (ids,) = random_documents(100)
    found = document_losses(models[1], [ids], context=context, stride=stride)
    assert found.tokens.tolist() == [99]
    step, begin, end, nats, windows = stride or context // 2, 0, context + 1, 0.0, 1
    nats += sum(naive_losses(models[0], ids[:end]))
    while end < len(ids):
        first, end = end, min(len(ids), end + step)
        begin = end - context - 1
        nats += sum(naive_losses(models[0], ids[begin:end])[first - begin - 1 :])
        windows += 1
    assert found.nats[0] == pytest.approx(nats, rel=2e-6)
    assert found.windows.tolist() == [windows]


def test_a_mask_leaves_tokens_out(models: tuple[Any, Llama]) -> None:
    (ids,) = random_documents(30)
    mask = [index % 3 == 0 for index in range(30)]
    found = document_losses(models[1], [ids], masks=[mask], token_bytes=np.arange(VOCAB))
    expected = [loss for loss, scored in zip(naive_losses(models[0], ids), mask[1:], strict=True) if scored]
    assert found.nats[0] == pytest.approx(sum(expected), rel=2e-6)
    assert found.tokens.tolist() == [9]
    assert found.num_bytes.tolist() == [sum(i for i, scored in zip(ids[1:], mask[1:], strict=True) if scored)]


def test_texts_count_the_bytes_of_all_but_the_first_token(models: tuple[Any, Llama], tmp_path: Path) -> None:
    texts = ["asthma in adults – β-agonists", "ä", "gout of the placebo"]
    tokenizer = small_tokenizer(tmp_path)
    found = text_losses(models[1], tokenizer, texts)
    encoded = [tokenizer.encode(text).ids for text in texts]
    rest = [len(tokenizer.decode_bytes(ids[1:])) for ids in encoded]
    assert found.num_bytes.tolist() == rest
    with_eos = text_losses(models[1], tokenizer, texts, append_eos=True)
    assert with_eos.num_bytes.tolist() == rest
    assert with_eos.tokens.tolist() == [n + 1 for n in found.tokens]
    assert found.bits_per_byte == pytest.approx(found.nats.sum() / math.log(2) / sum(rest))
    first = document_losses(models[1], [encoded[0]])
    assert first.nats[0] == pytest.approx(found.nats[0], rel=2e-6)
    assert math.isnan(first.bits_per_byte)  # nobody counted bytes


def test_shards_give_the_losses_of_their_documents(models: tuple[Any, Llama], tmp_path: Path) -> None:
    rows = [{"id": f"d{i}", "text": f"asthma in adults, trial {i} of the placebo"} for i in range(40)]
    source = tmp_path / "documents.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = tokenize([source], vocab_size=VOCAB, validation_fraction=0.4, output=tmp_path / "shards")
    found = shard_losses(models[1], shards)
    shard = shards.splits["validation"][0]
    ends = shard.offsets.astype(int)
    documents = [shard.tokens[a:b] for a, b in pairwise(ends)]
    assert len(found) == len(documents) > 5
    np.testing.assert_allclose(found.nats, document_losses(models[1], documents).nats, rtol=1e-12)
    sizes = shard.documents().column("bytes").to_pylist()
    firsts = token_bytes(Tokenizer.from_file(shards.folder))[[ids[0] for ids in documents]]
    assert (found.num_bytes + firsts).tolist() == sizes
    assert len(shard_losses(models[1], shards, max_documents=3)) == 3
    with pytest.raises(InputError, match="no split 'test'"):
        shard_losses(models[1], shards, split="test")


def test_bad_input_is_named(models: tuple[Any, Llama]) -> None:
    with pytest.raises(InputError, match="document 1 has a token id outside"):
        document_losses(models[1], [[1, 2], [1, VOCAB]])
    with pytest.raises(InputError, match="document 0 is no row of token ids"):
        document_losses(models[1], [[[1, 2]]])
    with pytest.raises(InputError, match="mask of document 0"):
        document_losses(models[1], [[1, 2]], masks=[[1]])
    with pytest.raises(ConfigError, match="context is 65"):
        document_losses(models[1], [[1, 2]], context=CONTEXT + 1)
    with pytest.raises(ConfigError, match="stride is 0"):
        document_losses(models[1], [[1, 2]], stride=0)
    broken = Llama(models[1].config)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="no finite likelihood"):
        document_losses(broken, [[1, 2, 3]])


def small_tokenizer(folder: Path) -> Tokenizer:
    source = folder / "texts.jsonl"
    source.write_text(
        "".join(
            json.dumps({"text": f"asthma in adults {i}, gout of the placebo: trials {i * i}"}) + "\n" for i in range(40)
        )
    )
    tokenize([source], vocab_size=VOCAB, validation_fraction=0.0, output=folder / "tokens")
    return Tokenizer.from_file(folder / "tokens")
