from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biollm.tokenization.shard_writer import ShardWriter

MakeShards = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_shards(tmp_path: Path, make_shards_in: MakeShards) -> MakeShards:
    """`make_shards_in` the test's own folder."""
    return functools.partial(make_shards_in, tmp_path)


@pytest.fixture(scope="session")
def make_shards_in() -> MakeShards:
    """Writes documents (lists of ids; id 0 ends a text) as a folder of shards with a tokenizer of whole words."""

    def make(
        parent: Path,
        train: Sequence[Sequence[int]],
        validation: Sequence[Sequence[int]] = (),
        *,
        vocab_size: int = 61,
        masks: Sequence[Sequence[int]] | None = None,
        shard_tokens: int = 1 << 20,
        name: str = "shards",
        words: str = "w",
    ) -> Path:
        folder = parent / name
        folder.mkdir()
        tokenizer = json.dumps(word_tokenizer(vocab_size, words)).encode()
        (folder / "tokenizer.json").write_bytes(tokenizer)
        settings = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        with ShardWriter(
            folder,
            vocab_size=vocab_size,
            eos_id=0,
            append_eos=True,
            tokenizer_sha256=hashlib.sha256(tokenizer).hexdigest(),
            shard_tokens=shard_tokens,
            masked=masks is not None,
        ) as writer:
            for split, documents in (("train", train), ("validation", validation)):
                if not documents:
                    continue
                mask = None
                if masks is not None:
                    mask = np.concatenate(masks) if split == "train" else np.ones(sum(map(len, documents)), np.uint8)
                writer.add(
                    split,
                    np.concatenate([np.asarray(document, np.int64) for document in documents]),
                    np.cumsum([0, *map(len, documents)]),
                    ids=[f"{split}-{i}" for i in range(len(documents))],
                    num_bytes=[4 * len(document) for document in documents],
                    mask=mask,
                )
        return folder

    return make


def word_tokenizer(vocab_size: int, words: str) -> dict[str, Any]:
    special = ["<|endoftext|>", "<|pad|>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = special + [f"{words}{i}" for i in range(vocab_size - len(special))]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for i, name in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {name: i for i, name in enumerate(names)}, "unk_token": names[2]},
    }


@pytest.fixture(scope="session")
def documents() -> list[list[int]]:
    """80 documents of 2 to 60 ids with something to learn: each id tends to be followed by its successor."""
    generator = np.random.default_rng(7)
    made = []
    for length in generator.integers(2, 60, 80):
        ids = [int(generator.integers(2, 61))]
        for _ in range(length - 2):
            step = 1 if generator.random() < 0.8 else int(generator.integers(1, 59))
            ids.append(2 + (ids[-1] - 2 + step) % 59)
        made.append([*ids, 0])
    return made
