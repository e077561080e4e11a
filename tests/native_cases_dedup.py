"""The native cases of dedup."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations

TEXT = "The trial's 1,024 patients (n=512 each) – naïve or treated – were followed for 3.5 years… ΣΟΦΟΣ "

Chunk = tuple[bytes, bytes, int]


def _chunk(*texts: bytes) -> Chunk:
    offsets = [0]
    for text in texts:
        offsets.append(offsets[-1] + len(text))
    return struct.pack(f"={len(offsets)}q", *offsets), b"".join(texts), len(texts)


DEFAULTS = {"threshold": 0.8, "unit": "word", "ngram": 5, "num_perm": 256, "bands": 32, "seed": 0, "keep": "first"}


def _found(texts: Any, **options: Any) -> list[bytes | int]:
    found = _native.dedup_fuzzy(texts, **{**DEFAULTS, **options})
    return [part if isinstance(part, int) else bytes(part) for part in found]


def _signed(texts: Any, **options: Any) -> bytes:
    signing = {name: value for name, value in DEFAULTS.items() if name not in ("threshold", "keep")}
    return bytes(_native.dedup_signatures(texts, **{**signing, **options}))


def _column(size: int) -> list[Chunk]:
    # Families of near-duplicates, copies (a chunk may occur in a column as often as one likes) and a long document.
    texts = [f"{TEXT * (3 + family % 5)} w{family} x{copy}" for family in range(64) for copy in range(4)]
    short, long = _chunk(*(text.encode() for text in texts)), _chunk((TEXT * min(16 * size, 1 << 18)).encode())
    return [short] * max(1, size >> 4) + [long] * max(1, size >> 10)


def _prepare(size: int) -> Call:
    return partial(_found, _column(size), threads=2)


def _prepare_signing(size: int) -> Call:
    return partial(_signed, _column(size), threads=2)


def _malformed(rng: random.Random) -> Iterator[Call]:
    valid = [_chunk(b"a b c d e f", b"a b c d e f.")]
    for value in ODD_VALUES:
        yield partial(_found, value)
        yield partial(_found, [value])
        for name in (*DEFAULTS, "max_document_bytes", "threads"):
            yield partial(_found, valid, **{name: value})
        if not callable(value):  # What a callback raises comes out as it is.
            yield partial(_found, valid, progress=value)
        yield partial(_found, [(value, b"abc", 1)])
        yield partial(_found, [(b"\0" * 16, value, 1)])
        yield partial(_found, [(b"\0" * 16, b"", value)])
    for num_perm, bands in ((2**40, 1), (2**40, 2**40), (4096, 4096), (256, 3), (1, 1), (0, 0), (7, 7), (256, 257)):
        yield partial(_found, valid, num_perm=num_perm, bands=bands)
    offsets, data, rows = _chunk(TEXT.encode(), b"", TEXT.encode())
    for bad in mutations(data, rng, 150):
        yield partial(_found, [(offsets, bad, rows)])
        yield partial(_found, [_chunk(bad, bad + b" x", b"")])
    for bad in mutations(offsets, rng, 100):
        yield partial(_found, [(bad, data, rows)])
    # Valid, but made to be slow somewhere: one thing over and over, marks that attach, many copies, one shingle's sets.
    for unit in ("a", "a ", "\n", ".", "é", "\u0301", "a:\u0301", "\U0001f1e6", "\u200d", "_", "한", "Σ"):
        yield partial(_found, [_chunk((unit * (1 << 17)).encode())])
    yield partial(_found, [_chunk(*[b"the same words over again"] * 20_000)])
    yield partial(_found, [_chunk(*[b"spam " * n for n in range(5, 1005)])])
    yield partial(_found, [_chunk(*[b""] * 20_000)])

    # Signatures of other rows, or of nothing; and damaged ones, which only bring other candidates together.
    copies = [_chunk(*[TEXT.encode()] * 130)]
    signed = _signed([_chunk(*[TEXT.encode()] * 128)])
    for value in (
        *ODD_VALUES,
        signed[:-8],
        signed[1:],
        signed * 2,
        memoryview(signed)[::2],
        struct.pack("=35d", *[0] * 35),
    ):
        yield partial(_found, copies, signatures=value)
        yield partial(_found, copies, signatures=[value])
    for bad in mutations(signed, rng, 100):
        yield partial(_found, copies, signatures=[bad])


def _malformed_signing(rng: random.Random) -> Iterator[Call]:
    valid = [_chunk(b"a b c d e f", b"a b c d e f.")]
    for value in ODD_VALUES:
        yield partial(_signed, value)
        yield partial(_signed, [value])
        for name in ("unit", "ngram", "num_perm", "bands", "seed", "max_document_bytes", "threads"):
            yield partial(_signed, valid, **{name: value})
    offsets, data, rows = _chunk(TEXT.encode(), b"", TEXT.encode())
    for bad in mutations(data, rng, 100):
        yield partial(_signed, [(offsets, bad, rows)])
    for bad in mutations(offsets, rng, 100):
        yield partial(_signed, [(bad, data, rows)])


STEPS = {"nfc": True, "case": True, "space": True}


def _equal(texts: Any, **options: Any) -> list[bytes | int]:
    found = _native.dedup_exact(texts, **{**STEPS, "keep": "first", **options})
    return [part if isinstance(part, int) else bytes(part) for part in found]


def _of_one_url(urls: Any, texts: Any, **options: Any) -> list[bytes | int]:
    found = _native.dedup_url(urls, texts, **{"keep": "longest", **options})
    return [part if isinstance(part, int) else bytes(part) for part in found]


def _prepare_exact(size: int) -> Call:
    # Marks that compose, capital sigmas and spaces: nothing goes the fast way.
    texts = [f"{TEXT * 8} e\u0301 \u1100\u1161  {family} ".encode() * 4 for family in range(64)] * 2
    long = (TEXT * min(16 * size, 1 << 18)).encode()
    return partial(_equal, [_chunk(*texts)] * max(1, size >> 2) + [_chunk(long)] * max(1, size >> 10), threads=2)


URL = "HTTPS://www.Example.org:443/a/./b/../%7eabstracts/%e2/?utm_source=x&id={}&fbclid=y#part"


def _prepare_url(size: int) -> Call:
    urls = _chunk(*(URL.format(i % 1000).encode() for i in range(4096)))
    texts = _chunk(*(b"x" * (i % 7) for i in range(4096)))
    return partial(_of_one_url, [urls] * max(1, size >> 3), [texts] * max(1, size >> 3), threads=2)


def _malformed_exact(rng: random.Random) -> Iterator[Call]:
    valid = [_chunk(b"a b", b"A  b")]
    for value in ODD_VALUES:
        yield partial(_equal, value)
        yield partial(_equal, [value])
        for name in (*STEPS, "keep", "max_document_bytes", "threads"):
            yield partial(_equal, valid, **{name: value})
        if not callable(value):
            yield partial(_equal, valid, progress=value)
    offsets, data, rows = _chunk(TEXT.encode(), b"", TEXT.encode())
    for bad in mutations(data, rng, 100):
        yield partial(_equal, [(offsets, bad, rows)])
    for bad in mutations(offsets, rng, 100):
        yield partial(_equal, [(bad, data, rows)])
    # Made to be slow somewhere: marks without end, sigmas whose word has no end, spaces, many copies.
    for unit in (
        "\u0301",
        "\u0323\u0301",
        "\u1161",
        "Σ",
        "Σ'",
        "Σ\u0301",
        "\u3000",
        "\n",
        "İ",
        "\u212b",
        "a\u0301",
        "가\u11a8",
    ):
        yield partial(_equal, [_chunk((unit * (1 << 17)).encode())])
    yield partial(_equal, [_chunk(*[b""] * 20_000)])


def _malformed_url(rng: random.Random) -> Iterator[Call]:
    urls, texts = [_chunk(URL.encode(), b"", b"doi:10.1/x")], [_chunk(b"a", b"b", b"c")]
    for value in ODD_VALUES:
        yield partial(_of_one_url, value, texts)
        yield partial(_of_one_url, urls, [value])
        for name in ("keep", "max_document_bytes", "threads"):
            yield partial(_of_one_url, urls, texts, **{name: value})
    yield partial(_of_one_url, urls, texts * 2)
    for bad in mutations(URL.encode(), rng, 150):
        yield partial(_of_one_url, [_chunk(bad, bad, bad)], texts)
    for unit in (
        "/",
        "/..",
        "/a",
        "?",
        "&",
        "#",
        ":",
        "@",
        "%",
        "%2e",
        "%2e/",
        ".",
        "www.",
        "&utm_=",
        "//",
        "[",
        "é",
        "a:",
    ):
        for start in ("", "http://a.org/", "//a.org?"):
            yield partial(_of_one_url, [_chunk((start + unit * (1 << 16)).encode())], [_chunk(b"")])


PIECES = {"unit": "sentence", "min_length": 4, **STEPS}


def _repeated(texts: Any, **options: Any) -> list[bytes | int]:
    found = _native.dedup_pieces(texts, **{**PIECES, **options})
    return [part if isinstance(part, int) else bytes(part) for part in found]


def _prepare_pieces(size: int) -> Call:
    return partial(_repeated, _column(size), threads=2)


def _malformed_pieces(rng: random.Random) -> Iterator[Call]:
    valid = [_chunk(b"a b. C d.", b"A  b. x")]
    for value in ODD_VALUES:
        yield partial(_repeated, value)
        yield partial(_repeated, [value])
        for name in (*PIECES, "max_document_bytes", "threads"):
            yield partial(_repeated, valid, **{name: value})
    offsets, data, rows = _chunk(TEXT.encode(), b"", TEXT.encode())
    for bad in mutations(data, rng, 100):
        yield partial(_repeated, [(offsets, bad, rows)], unit=rng.choice(("line", "paragraph", "sentence")))
    for bad in mutations(offsets, rng, 100):
        yield partial(_repeated, [(bad, data, rows)])
    # Made to be slow somewhere: what a segmentation looks far ahead for, blank lines, one piece over and over.
    for unit in (".", ".)", ". ", ".;", "a", "a. ", "\n", " \n", "\r", "a\n", "\u0301", "한", "\u3000"):
        for kind in ("line", "paragraph", "sentence"):
            yield partial(_repeated, [_chunk(*[(unit * (1 << 14)).encode()] * 2)], unit=kind, min_length=1)
    yield partial(_repeated, [_chunk(("." + ")" * (1 << 16)).encode())])


DEDUP_CASES = [
    NativeCase("dedup_pieces", "long", _prepare_pieces, _malformed_pieces),
    NativeCase("dedup_exact", "long", _prepare_exact, _malformed_exact),
    NativeCase("dedup_url", "long", _prepare_url, _malformed_url),
    NativeCase("dedup_fuzzy", "long", _prepare, _malformed),
    NativeCase("dedup_signatures", "long", _prepare_signing, _malformed_signing),
]
