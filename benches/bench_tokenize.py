"""Texts to ids, ids to texts, and texts to a vocabulary: MB of UTF-8 per CPU-second on one thread, ids compared.

tiktoken and tokenizers stand in the same run where they are installed, over the same vocabulary and pattern. Encoding
is "cold": each round is a fresh call, and no call keeps words for the next. The control is xxh3-128 over the same bytes
(`extra_info["control_gb_per_s"]`). Worst cases, one piece each, show 1 MB over 100 kB (`ratio_1mb_100kb`).

The text is the shared biomedical data beside the checkout.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from biollm import _native
from biollm.tokenization import BatchEncoding, Tokenizer, train
from shared_data import SHARED, shared_records

ROUNDS = 5
VOCAB_SIZE = 16_384
#: Peers this much slower get a part of the text.
PEER_TEXTS = 1_000


@pytest.fixture(scope="module")
def texts() -> list[str]:
    if not (SHARED / "text_bio").is_dir():
        pytest.skip("../shared/data/text_bio is not here: no text to measure on")
    abstracts = [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    questions = shared_records("text_bio/medquad_qa.jsonl.gz")
    return abstracts + ["\n".join(v for v in record.values() if isinstance(v, str)) for record in questions]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train(texts, vocab_size=VOCAB_SIZE)


def measure(benchmark: Any, texts: list[str], call: Callable[[], Any], rounds: int = ROUNDS) -> Any:
    """Times a call; CPU time is that of all threads of this process. Gives its last result."""
    cpu, control = [], []
    result: list[Any] = [None]
    data = "".join(texts).encode()

    def timed() -> None:
        began = time.process_time()
        result[0] = call()
        cpu.append(time.process_time() - began)
        began_control = time.perf_counter()
        _native.hash_bytes(data)
        control.append(len(data) / (time.perf_counter() - began_control))

    benchmark.pedantic(timed, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info.update(
        mb=round(len(data) / 1e6, 1),
        mb_per_cpu_s=round(len(data) / 1e6 / statistics.median(cpu), 1),
        control_gb_per_s=round(statistics.median(control) / 1e9, 1),
    )
    return result[0]


def peer(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


def tiktoken_over(tokenizer: Tokenizer) -> Any:
    """tiktoken with our vocabulary. Its ranks are ours; a token is merged by rank alone, so ids agree on all but the
    rare piece whose merges compete, which the comparison counts."""
    import tiktoken

    special = set(tokenizer.special_tokens.values())
    ranks = {tokenizer.id_to_token(i): i for i in range(tokenizer.vocab_size) if i not in special}
    return tiktoken.Encoding(
        "ours",
        pat_str=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        mergeable_ranks=ranks,
        special_tokens={},
    )


def equal_texts(tokenizer: Tokenizer, texts: list[str], theirs: list[Any]) -> float:
    """Share of the texts whose ids are equal."""
    ours = tokenizer.encode_batch(texts)
    return sum(a.tolist() == list(b) for a, b in zip(ours, theirs, strict=True)) / len(texts)


# --- encode ---------------------------------------------------------------------------------------------------------


@pytest.mark.benchmark(group="tokenize.encode")
def test_biollm_encode(benchmark: Any, texts: list[str], tokenizer: Tokenizer) -> None:
    encoded = measure(benchmark, texts, lambda: tokenizer.encode_batch(texts, threads=1))
    assert tokenizer.decode_batch(encoded) == texts
    benchmark.extra_info["tokens"] = len(encoded.ids)


@pytest.mark.benchmark(group="tokenize.encode")
def test_biollm_encode_arrow_two_threads(benchmark: Any, texts: list[str], tokenizer: Tokenizer) -> None:
    column = pa.array(texts, pa.large_string())
    measure(benchmark, texts, lambda: tokenizer.encode_batch(column, threads=2))


@pytest.mark.benchmark(group="tokenize.encode")
def test_tiktoken_encode(benchmark: Any, texts: list[str], tokenizer: Tokenizer) -> None:
    peer("tiktoken")
    part, encoding = texts[:PEER_TEXTS], tiktoken_over(tokenizer)
    theirs = measure(benchmark, part, lambda: encoding.encode_ordinary_batch(part, num_threads=1), rounds=3)
    benchmark.extra_info["equal_texts"] = equal_texts(tokenizer, part, theirs)
    assert benchmark.extra_info["equal_texts"] > 0.9


@pytest.mark.benchmark(group="tokenize.encode")
def test_tokenizers_encode(benchmark: Any, texts: list[str], tokenizer: Tokenizer) -> None:
    peer("tokenizers")
    import tokenizers

    part, theirs = texts[:PEER_TEXTS], tokenizers.Tokenizer.from_str(tokenizer.to_json())
    encodings = measure(benchmark, part, lambda: theirs.encode_batch_fast(part), rounds=3)
    benchmark.extra_info["equal_texts"] = equal_texts(tokenizer, part, [e.ids for e in encodings])
    assert benchmark.extra_info["equal_texts"] == 1


@pytest.mark.benchmark(group="tokenize.encode.worst")
@pytest.mark.parametrize("unit", ["a", " ", "\n", "ACGT", "🧬"])
def test_biollm_encode_one_piece(benchmark: Any, unit: str, tokenizer: Tokenizer) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit.encode()))
        began = time.process_time()
        tokenizer.encode(text)
        return time.process_time() - began

    long, short = [], []

    def timed() -> None:
        short.append(seconds(100_000))
        long.append(seconds(1_000_000))

    benchmark.pedantic(timed, rounds=ROUNDS)
    benchmark.extra_info["ratio_1mb_100kb"] = round(statistics.median(long) / statistics.median(short), 1)


# --- decode ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoded(texts: list[str], tokenizer: Tokenizer) -> BatchEncoding:
    return tokenizer.encode_batch(texts)


@pytest.mark.benchmark(group="tokenize.decode")
def test_biollm_decode(benchmark: Any, texts: list[str], tokenizer: Tokenizer, encoded: BatchEncoding) -> None:
    assert measure(benchmark, texts, lambda: tokenizer.decode_batch(encoded, threads=1)) == texts


@pytest.mark.benchmark(group="tokenize.decode")
def test_tiktoken_decode(benchmark: Any, texts: list[str], tokenizer: Tokenizer, encoded: BatchEncoding) -> None:
    peer("tiktoken")
    encoding, lists = tiktoken_over(tokenizer), [ids.tolist() for ids in encoded]
    assert measure(benchmark, texts, lambda: encoding.decode_batch(lists, num_threads=1), rounds=3) == texts


@pytest.mark.benchmark(group="tokenize.decode")
def test_tokenizers_decode(benchmark: Any, texts: list[str], tokenizer: Tokenizer, encoded: BatchEncoding) -> None:
    peer("tokenizers")
    import tokenizers

    theirs = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    part, lists = texts[:PEER_TEXTS], [ids.tolist() for ids in list(encoded)[:PEER_TEXTS]]
    assert measure(benchmark, part, lambda: theirs.decode_batch(lists, skip_special_tokens=False), rounds=3) == part


# --- train ----------------------------------------------------------------------------------------------------------


@pytest.mark.benchmark(group="tokenize.train")
def test_biollm_train(benchmark: Any, texts: list[str]) -> None:
    trained = measure(benchmark, texts, lambda: train(texts, vocab_size=VOCAB_SIZE, threads=1), rounds=3)
    assert trained.vocab_size == VOCAB_SIZE


@pytest.mark.benchmark(group="tokenize.train")
def test_tokenizers_train(benchmark: Any, texts: list[str], tokenizer: Tokenizer) -> None:
    peer("tokenizers")
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    made: list[Any] = []

    def call() -> None:
        theirs = tokenizers.Tokenizer(models.BPE())
        theirs.pre_tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_json()).pre_tokenizer
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            min_frequency=2,
            special_tokens=list(tokenizer.special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        theirs.train_from_iterator(texts, trainer)
        made[:] = [theirs]

    measure(benchmark, texts, call, rounds=2)
    assert made[0].get_vocab() == tokenizers.Tokenizer.from_str(tokenizer.to_json()).get_vocab()
