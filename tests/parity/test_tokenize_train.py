"""Training against `tokenizers`' trainer and against a slow twin; encoding with what was trained against both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from biollm import _native
from biollm.columns import text_array, text_chunks
from biollm.tokenization import Tokenizer, train
from parity import tokenize_twin as twin
from parity.tokenize_reference import REGEX, adversarial_texts, real_texts

WORDS = st.dictionaries(st.text("abc ", min_size=1, max_size=12), st.integers(1, 9), min_size=1, max_size=8)


def reference(texts: list[str], pattern: str, **options: Any) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(REGEX[pattern]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False, **options)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def model(text: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a tokenizer.json, merges as pairs whichever way they are written."""
    data = json.loads(text)["model"]
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in data["merges"]]
    return data["vocab"], merges


@pytest.mark.parametrize(
    ("pattern", "vocab_size", "min_frequency"), [("llama3", 8_000, 2), ("gpt2", 3_000, 0), ("o200k", 2_000, 5)]
)
def test_vocabulary_and_merges_are_those_of_tokenizers(pattern: str, vocab_size: int, min_frequency: int) -> None:
    texts = [text for kind in real_texts(300).values() for text in kind]
    special = ["<|endoftext|>", "<|pad|>"]
    ours = train(texts, vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special, pattern=pattern)
    theirs = reference(texts, pattern, vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=special)
    assert model(ours.to_json()) == model(theirs.to_str())
    saved = tokenizers.Tokenizer.from_str(ours.to_json())
    for text in [*texts[::40], *(t for t in adversarial_texts()[::30] if len(t) < 5000)]:
        ids = ours.encode(text, allow_special="all").ids.tolist()
        assert ids == theirs.encode(text).ids == saved.encode(text).ids, text[:80]


def test_a_small_text_to_its_last_merge() -> None:
    # Every pair is merged that can be, ties and tokens that two pairs make among them.
    texts = real_texts(12)["abstracts"]
    theirs = reference(texts, "llama3", vocab_size=100_000, min_frequency=1, special_tokens=["<|x|>"])
    vocab_size = theirs.get_vocab_size()
    ours = train(texts, vocab_size=vocab_size, min_frequency=1, special_tokens=["<|x|>"])
    assert model(ours.to_json()) == model(theirs.to_str())


def native(words: dict[str, int], vocab_size: int) -> Tokenizer:
    chunks, counts = text_chunks(text_array(list(words))), np.array(list(words.values()), np.uint64)
    return Tokenizer(
        _native.train_tokenizer(
            chunks, counts, vocab_size=vocab_size, special_tokens=[], min_frequency=1, pattern="llama3"
        )
    )


@settings(max_examples=300, deadline=None)
@given(words=WORDS, merges=st.integers(0, 12))
def test_merges_are_those_of_the_twin(words: dict[str, int], merges: int) -> None:
    alphabet = [ours.id_to_token(i) or b"" for ours in [native({"a": 1}, 256)] for i in range(256)]
    learned = twin.train({word.encode(): n for word, n in words.items()}, merges, alphabet)
    ours = native(words, 256 + len(learned))
    assert [ours.id_to_token(256 + i) for i in range(len(learned))] == [a + b for a, b in learned]
    ranks = {pair: rank for rank, pair in enumerate(learned)}
    # One piece: letters with a blank before them.
    for piece in (" " + "abcabcbabaacab" * 5, "a", " abab"):
        ids = ours.encode(piece).ids.tolist()
        assert [ours.id_to_token(i) for i in ids] == twin.encode(piece.encode(), ranks)


def test_transformers_loads_the_folder_with_equal_ids(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    texts = real_texts(200)["abstracts"]
    ours = train(texts, vocab_size=1_000)
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id) == (0, 1)
    assert len(theirs) == ours.vocab_size == 1_000
    for text in [*texts[:50], *(t for t in adversarial_texts()[::40] if len(t) < 5000)]:
        ids = ours.encode(text, allow_special="all").ids.tolist()
        assert theirs(text)["input_ids"] == ids, text[:80]
        assert theirs.decode(ids) == ours.decode(ids) == text
