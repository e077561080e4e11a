"""The native cases of tokenize."""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Iterator
from functools import cache, partial
from itertools import islice, product
from typing import Any

import numpy as np

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations

TEXT = "The trial's 1,024 patients – naïve or treated – were followed; ßΩ中文 🧬\n\n  Deaths: 3.5 %. <|endoftext|>\n"
SPECIAL = [(f"<|{i}|>", 300_000 + 2 * i) for i in range(2_000)]
#: Unicode runs that split patterns and merges could be slow on.
UNITS = (
    "a",
    "a ",
    " ",
    "\n",
    " \n",
    "'s",
    "1",
    "é",
    "\u0301",
    "中",
    "\u200d",
    "🧬",
    "Aa",
    "A\u0301",
    "<|",
    "/",
    "\u2028",
)

Chunk = tuple[bytes, bytes, int]


def _chunk(*texts: bytes) -> Chunk:
    offsets = [0]
    for text in texts:
        offsets.append(offsets[-1] + len(text))
    return struct.pack(f"={len(offsets)}q", *offsets), b"".join(texts), len(texts)


def _ranks(tokens: Iterator[bytes]) -> bytes:
    """A .tiktoken file of the 256 bytes and other tokens."""
    known = {bytes([b]): None for b in range(256)} | dict.fromkeys(tokens)
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(known))


def _products(count: int) -> Iterator[bytes]:
    """All words over four letters, short ones first: each split of each is a merge."""
    words = (bytes(word) for length in range(2, 12) for word in product(b"ACGT", repeat=length))
    return islice(words, count)


@cache
def tokenizer() -> _native.Tokenizer:
    words = [b"th", b"the", b" th", b" the", b"re", b"ea", b"eat", b"ed", b"nt", b"ent", b"ss", b"aa", b"aaaa"]
    return _native.Tokenizer(_ranks(iter([*words, *_products(500)])), "cl100k", SPECIAL)


@cache
def _trained() -> _native.Tokenizer:
    words, counts = _chunk(b"the", b" cell", b"cells"), np.array([5, 4, 3], np.uint64)
    return _native.train_tokenizer(
        [words], counts, vocab_size=262, special_tokens=["<|x|>"], min_frequency=1, pattern="llama3"
    )


def _plain(result: Any) -> Any:
    """Buffers as bytes, so that results compare."""
    return tuple(bytes(part) for part in result) if isinstance(result, tuple) else bytes(result)


# --- making and writing ---------------------------------------------------------------------------------------------


def _prepare_new(size: int) -> Call:
    # The cost of a long token is that of all its splits.
    rng = random.Random(3)
    data = _ranks(rng.randbytes(1 << 13) for _ in range(size))
    return lambda: _native.Tokenizer(data, "gpt2").vocab_size


def _malformed_new(rng: random.Random) -> Iterator[Call]:
    for value in ODD_VALUES:
        yield partial(_native.Tokenizer, value)
        yield partial(_native.Tokenizer, _ranks(iter(())), value)
        yield partial(_native.Tokenizer, _ranks(iter(())), "gpt2", value)
        yield partial(_native.Tokenizer, _ranks(iter(())), "gpt2", [(value, 300)])
        yield partial(_native.Tokenizer, _ranks(iter(())), "gpt2", [("<|x|>", value)])
    ours = _trained().to_json()
    for data in mutations(ours, rng, 300):
        yield partial(_native.Tokenizer, data)
    for data in mutations(_ranks(iter([b"th", b"the"])), rng, 200):
        yield partial(_native.Tokenizer, data, "gpt2")
    whole = json.loads(ours)
    for path in ("model", "model.vocab", "model.merges", "pre_tokenizer", "added_tokens", "decoder", "post_processor"):
        for value in (None, True, -1, 2**70, 1.5, "", "\0", [], {}, [[]], [None], {"type": "x"}, {"": -1}, "[" * 100):
            changed = json.loads(ours)
            *parents, last = path.split(".")
            node = changed
            for parent in parents:
                node = node[parent]
            node[last] = value
            yield partial(_native.Tokenizer, json.dumps(changed).encode())
    whole["model"]["merges"] *= 2
    yield partial(_native.Tokenizer, json.dumps(whole).encode())
    for bomb in (b"[" * 1_000_000, b'{"a":' * 100_000, b'{"model":' + b"[" * 1_000_000, b'"' + b"\\" * 1_000_001):
        yield partial(_native.Tokenizer, bomb)


def _prepare_to_json(size: int) -> Call:
    made = _native.Tokenizer(_ranks(_products(min(16 * size, 1 << 20))), "gpt2")
    return made.to_json


# --- encoding -------------------------------------------------------------------------------------------------------


def _prepare_encode(size: int) -> Call:
    text = TEXT * (8 * size)
    return lambda: bytes(tokenizer().encode(text, allow_special=None))


def _malformed_encode(rng: random.Random) -> Iterator[Call]:
    made = tokenizer()
    for value in ODD_VALUES:
        yield partial(made.encode, value)
        yield partial(made.encode, TEXT, allow_special=value)
        yield partial(made.encode, TEXT, allow_special=[value])
        yield partial(made.encode, TEXT, add_special=value)
    for unit in UNITS:
        yield partial(made.encode, unit * (1 << 17))
    for _ in range(100):
        yield partial(made.encode, "".join(chr(rng.randrange(0x110000)) for _ in range(20)))


def _prepare_encode_batch(size: int) -> Call:
    chunks = [_chunk(*[TEXT.encode()] * 64), _chunk((TEXT * min(16 * size, 1 << 14)).encode())] * max(1, size >> 8)
    return lambda: _plain(tokenizer().encode_batch(chunks, append=300_000, threads=2))


def _malformed_encode_batch(rng: random.Random) -> Iterator[Call]:
    call = tokenizer().encode_batch
    for value in ODD_VALUES:
        yield partial(call, value)
        yield partial(call, [value])
        for name in ("add_special", "allow_special", "append", "max_document_bytes", "threads"):
            yield partial(call, [_chunk(b"a b")], **{name: value})
        if not callable(value):  # What a callback raises comes out as it is.
            yield partial(call, [_chunk(b"a b")], progress=value)
    yield from _malformed_chunks(call, rng)


def _malformed_chunks(call: Any, rng: random.Random) -> Iterator[Call]:
    offsets, data, rows = _chunk(TEXT.encode(), b"", TEXT.encode())
    for bad in mutations(data, rng, 100):
        yield partial(call, [(offsets, bad, rows)])
        yield partial(call, [_chunk(bad)])
    for bad in mutations(offsets, rng, 60):
        yield partial(call, [(bad, data, rows)])


# --- decoding -------------------------------------------------------------------------------------------------------


def _special_ids(size: int) -> np.ndarray[Any, Any]:
    # Special tokens are searched for, and left out of what comes back: time without memory.
    rng = np.random.default_rng(5)
    return 300_000 + 2 * rng.integers(0, len(SPECIAL), 512 * size, dtype=np.uint32)


def _prepare_decode(size: int) -> Call:
    ids = np.append(_special_ids(size), np.uint32(65))
    return lambda: tokenizer().decode(ids, skip_special=True)


def _prepare_decode_batch(size: int) -> Call:
    ids = _special_ids(size)
    offsets = np.linspace(0, len(ids), 4 * size + 1).astype(np.uint64)
    return lambda: _plain(tokenizer().decode_batch(ids, offsets, skip_special=True, threads=1))


def _odd_ids(rng: random.Random) -> Iterator[Any]:
    yield from ODD_VALUES
    for dtype in ("u1", "i4", "u8", "f4", ">u4", "O", "U3"):
        yield np.zeros(3, dtype)
    yield np.zeros((2, 2), np.uint32)
    yield np.arange(20, dtype=np.uint32)[::3]
    for _ in range(250):
        yield np.array([rng.choice((0, 65, 299_999, 300_001, 2**31, 2**32 - 1)) for _ in range(4)], np.uint32)


def _malformed_decode(rng: random.Random) -> Iterator[Call]:
    for ids in _odd_ids(rng):
        yield partial(tokenizer().decode, ids)


def _malformed_decode_batch(rng: random.Random) -> Iterator[Call]:
    call, ids, offsets = tokenizer().decode_batch, np.arange(9, dtype=np.uint32), np.array([0, 4, 9], np.uint64)
    for odd in _odd_ids(rng):
        yield partial(call, odd, offsets)
        yield partial(call, ids, odd)
    for value in ODD_VALUES:
        yield partial(call, ids, offsets, skip_special=value)
        yield partial(call, ids, offsets, threads=value)
    for _ in range(100):
        yield partial(call, ids, np.array([rng.choice((0, 3, 9, 10, 2**63, 2**64 - 1)) for _ in range(3)], np.uint64))


def _malformed_lookup(name: str, rng: random.Random) -> Iterator[Call]:
    call = getattr(tokenizer(), name)
    for value in ODD_VALUES:
        yield partial(call, value)
    for data in mutations(b" the cells", rng, 200):
        yield partial(call, data)


# --- training -------------------------------------------------------------------------------------------------------


def _prepare_count_words(size: int) -> Call:
    # A chunk may occur in a column as often as one likes.
    chunks = [_chunk((TEXT * min(64 * size, 1 << 14)).encode())] * max(1, size >> 8)
    known = ([_chunk(b" the")], np.array([7], np.uint64))
    return lambda: _plain(_native.count_words(chunks, pattern="o200k", known=known, threads=2))


def _malformed_count_words(rng: random.Random) -> Iterator[Call]:
    call = partial(_native.count_words, pattern="llama3")
    for value in ODD_VALUES:
        yield partial(call, value)
        yield partial(_native.count_words, [_chunk(b"a b")], pattern=value)
        for name in ("known", "max_document_bytes", "threads"):
            yield partial(call, [_chunk(b"a b")], **{name: value})
        yield partial(call, [_chunk(b"a b")], known=([_chunk(b"a")], value))
        yield partial(call, [_chunk(b"a b")], known=(value, np.array([1], np.uint64)))
    yield partial(call, [_chunk(b"a b")], known=([_chunk(b"a")], np.array([2**64 - 1], np.uint64)))
    yield from _malformed_chunks(call, rng)


def _prepare_train(size: int) -> Call:
    rng = random.Random(9)
    words = [bytes(rng.choice(b"ACDEFGHIKLMNPQRSTVWY") for _ in range(64)) for _ in range(16 * size)]
    counts = np.arange(1, len(words) + 1, dtype=np.uint64)
    options = {"special_tokens": ["<|x|>"], "min_frequency": 1, "pattern": "llama3"}
    chunk = _chunk(*words)
    return lambda: _native.train_tokenizer([chunk], counts, vocab_size=300 + 8 * size, **options).to_json()


def _malformed_train(rng: random.Random) -> Iterator[Call]:
    words, counts = _chunk(b"the", b" cell", b"cells"), np.array([5, 4, 3], np.uint64)
    options: dict[str, Any] = {"vocab_size": 260, "special_tokens": ["<|x|>"], "min_frequency": 1, "pattern": "gpt2"}
    for value in ODD_VALUES:
        yield partial(_native.train_tokenizer, value, counts, **options)
        yield partial(_native.train_tokenizer, [words], value, **options)
        for name in options:
            yield partial(_native.train_tokenizer, [words], counts, **{**options, name: value})
        yield partial(_native.train_tokenizer, [words], counts, **{**options, "special_tokens": [value]})
    for huge in (2**62, 2**63, 2**64 - 1):
        yield partial(_native.train_tokenizer, [words], np.full(3, huge, np.uint64), **options)
    yield from _malformed_chunks(lambda chunks: _native.train_tokenizer(chunks, counts, **options), rng)


def _prepare_hash(size: int) -> Call:
    chunk = _chunk(*[b"PMID %d" % i for i in range(1 << 16)])
    return lambda: bytes(_native.hash_texts([chunk] * (4 * size), seed=1, threads=1))


def _malformed_hash(rng: random.Random) -> Iterator[Call]:
    for value in ODD_VALUES:
        yield partial(_native.hash_texts, value, seed=0)
        for name in ("seed", "threads"):
            yield partial(_native.hash_texts, [_chunk(b"a b")], **{"seed": 0, name: value})
    yield from _malformed_chunks(partial(_native.hash_texts, seed=0), rng)


TOKENIZE_CASES = [
    NativeCase("Tokenizer", "long", _prepare_new, _malformed_new),
    *(
        NativeCase(f"Tokenizer.{name}", "property")
        for name in ("vocab_size", "pattern", "added_tokens", "__getnewargs__")
    ),
    NativeCase("Tokenizer.encode", "long", _prepare_encode, _malformed_encode),
    NativeCase("Tokenizer.encode_batch", "long", _prepare_encode_batch, _malformed_encode_batch),
    NativeCase("Tokenizer.decode", "long", _prepare_decode, _malformed_decode),
    NativeCase("Tokenizer.decode_batch", "long", _prepare_decode_batch, _malformed_decode_batch),
    NativeCase(
        "Tokenizer.token_to_id",
        "short",
        lambda size: partial(tokenizer().token_to_id, b" the" * min(size, 1 << 20)),
        partial(_malformed_lookup, "token_to_id"),
    ),
    NativeCase(
        "Tokenizer.id_to_token",
        "short",
        lambda size: partial(tokenizer().id_to_token, size),
        partial(_malformed_lookup, "id_to_token"),
    ),
    NativeCase("Tokenizer.to_json", "long", _prepare_to_json),
    NativeCase("count_words", "long", _prepare_count_words, _malformed_count_words),
    NativeCase("train_tokenizer", "long", _prepare_train, _malformed_train),
    NativeCase("hash_texts", "long", _prepare_hash, _malformed_hash),
]
