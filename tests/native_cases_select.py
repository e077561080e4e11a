"""The native cases of select."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations

TEXT = (
    "The trial's 1,024 patients (n=512 each) – naïve or treated – were followed…\n\n- Deaths: 3.5 %\n# of of of of of\n"
)

Chunk = tuple[bytes, bytes, int]


def _chunk(*texts: bytes) -> Chunk:
    offsets = [0]
    for text in texts:
        offsets.append(offsets[-1] + len(text))
    return struct.pack(f"={len(offsets)}q", *offsets), b"".join(texts), len(texts)


def _measured(texts: Any, **options: Any) -> list[tuple[str, str, bytes]]:
    return [(name, dtype, bytes(values)) for name, dtype, values in _native.gopher_statistics(texts, **options)]


def _prepare(size: int) -> Call:
    # Half in long documents, half in short ones; a chunk may occur in a column as often as one likes.
    short, long = _chunk(*[TEXT.encode()] * 256), _chunk((TEXT * min(64 * size, 1 << 16)).encode())
    return partial(_measured, [short, long] * max(1, size >> 10), threads=2)


def _malformed(rng: random.Random) -> Iterator[Call]:
    for value in ODD_VALUES:
        yield partial(_measured, value)
        yield partial(_measured, [value])
        for name in ("quality", "repetition", "max_document_bytes", "threads"):
            yield partial(_measured, [_chunk(b"a b")], **{name: value})
        if not callable(value):  # What a callback raises comes out as it is.
            yield partial(_measured, [_chunk(b"a b")], progress=value)
        yield partial(_measured, [(value, b"abc", 1)])
        yield partial(_measured, [(b"\0" * 16, value, 1)])
        yield partial(_measured, [(b"\0" * 16, b"", value)])
    offsets, data, rows = _chunk(TEXT.encode(), b"", TEXT.encode())
    for bad in mutations(data, rng, 150):
        yield partial(_measured, [(offsets, bad, rows)])
        yield partial(_measured, [_chunk(bad)])
    for bad in mutations(offsets, rng, 100):
        yield partial(_measured, [(bad, data, rows)])
    # Valid, but made to be slow somewhere: one character, word, line or mark over and over, marks that attach.
    for unit in (
        "a",
        "a ",
        "a\n",
        "\n",
        ".",
        "é",
        "\u0301",
        "a:\u0301",
        "\U0001f1e6",
        "\u200d",
        "ab ba ",
        "\r",
        "#",
        "…",
    ):
        yield partial(_measured, [_chunk((unit * (1 << 18)).encode())])


SELECT_CASES = [NativeCase("gopher_statistics", "long", _prepare, _malformed)]
