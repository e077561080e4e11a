"""Ids against `tiktoken` and `tokenizers`: adversarial texts, real texts, hypothesis."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from biollm.tokenization import Tokenizer
from parity.tokenize_reference import (
    REGEX,
    VOCABULARIES,
    adversarial_texts,
    pieces,
    real_texts,
    reference_pieces,
    tiktoken_encoding,
    vocabulary,
)
from shared_data import shared_file

TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from(list("'sS tLl\n\r 1²a\u0301Aǅ中/ſ"))), max_size=60
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabularies")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_adversarial_texts_have_tiktokens_ids(name: str, folder: Path) -> None:
    path = vocabulary(name, folder)
    ours, theirs = Tokenizer.from_file(path), tiktoken_encoding(name, path)
    texts = list(adversarial_texts())
    batch = ours.encode_batch(texts, threads=2)
    wrong = [text for text, ids in zip(texts, batch, strict=True) if ids.tolist() != theirs.encode_ordinary(text)]
    assert wrong == []
    assert [ours.encode(text).ids.tolist() for text in texts[::7]] == [ids.tolist() for ids in list(batch)[::7]]
    assert ours.decode_batch(batch) == texts


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_texts_have_tiktokens_ids(name: str, folder: Path) -> None:
    path = vocabulary(name, folder)
    ours, theirs = Tokenizer.from_file(path), tiktoken_encoding(name, path)
    for kind, texts in real_texts().items():
        batch = ours.encode_batch(texts)
        assert all(ids.tolist() == theirs.encode_ordinary(text) for text, ids in zip(texts, batch, strict=True)), kind
        assert ours.decode_batch(batch) == texts


@pytest.mark.parametrize("name", ["gpt2", "cl100k"])
def test_tokenizers_loads_what_is_saved_with_equal_ids(name: str, folder: Path) -> None:
    ours = Tokenizer.from_file(vocabulary(name, folder))
    path = folder / f"{name}.json"
    ours.save(path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    again = Tokenizer.from_file(path)
    theirs.encode_special_tokens = True  # as text, which is our default
    texts = [text for text in adversarial_texts()[::9] if len(text) < 5000]
    for text in texts:
        ids = ours.encode(text).ids.tolist()
        assert ids == theirs.encode(text).ids == again.encode(text).ids.tolist(), text[:80]
    theirs.encode_special_tokens = False
    marked = "a<|endoftext|>b <|endoftext|><|endoftext"
    assert again.encode(marked, allow_special="all").ids.tolist() == theirs.encode(marked).ids


def test_gpt2_from_its_own_files(folder: Path) -> None:
    vocab = json.loads(gzip.decompress(shared_file("tokenizers/encoder.json.gz").read_bytes()))
    merges = gzip.decompress(shared_file("tokenizers/vocab.bpe.gz").read_bytes()).decode().splitlines()[1:]
    pairs = [(left, right) for left, right in (line.split(" ") for line in merges if line)]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, pairs))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_special_tokens(["<|endoftext|>"])
    path = folder / "own.json"
    theirs.save(str(path))
    ours, ranked = Tokenizer.from_file(path), Tokenizer.from_file(vocabulary("gpt2", folder))
    assert (ours.vocab_size, ours.eos_id, ours.pattern) == (50_257, 50_256, "gpt2")
    for text in (text for text in adversarial_texts()[::3] if len(text) < 5000):
        ids = ours.encode(text, allow_special="all").ids.tolist()
        assert ids == theirs.encode(text).ids == ranked.encode(text, allow_special="all").ids.tolist(), text[:80]
        assert ours.decode(ids) == text


@pytest.mark.parametrize("pattern", REGEX)
def test_adversarial_texts_have_the_regex_pieces(pattern: str) -> None:
    for text in adversarial_texts():
        if len(text) < 4000:
            assert pieces(pattern, text) == reference_pieces(pattern, text), text[:80]


@pytest.mark.parametrize("pattern", REGEX)
@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_any_text_has_the_regex_pieces(pattern: str, text: str) -> None:
    assert pieces(pattern, text) == reference_pieces(pattern, text)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_any_text_has_tiktokens_ids_and_comes_back(name: str, folder: Path) -> None:
    path = vocabulary(name, folder)
    ours, theirs = Tokenizer.from_file(path), tiktoken_encoding(name, path)

    @settings(max_examples=400, deadline=None)
    @given(text=TEXTS)
    def check(text: str) -> None:
        ids = ours.encode(text).ids
        assert ids.tolist() == theirs.encode_ordinary(text)
        assert ours.decode(ids) == text

    check()
