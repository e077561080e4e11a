"""The reader of document files."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations, scratch

RECORDS = [
    {"id": i, "text": f"caf\u00e9 \u2028 \U0001f9ec {i}\n", "source": "s", "nested": {"a": [1, None, {"b": "\\"}]}}
    for i in range(20)
]
JSONL = "".join(json.dumps(record, ensure_ascii=i % 2 == 0) + "\n" for i, record in enumerate(RECORDS)).encode()
CODED = {"none": JSONL, "gzip": gzip.compress(JSONL, mtime=0), "zstd": pa.compress(JSONL, "zstd", asbytes=True)}


def _read_all(reader: _native.DocumentReader) -> tuple[Any, ...]:
    """What a reader gives from where it stands."""
    out: list[Any] = []
    while (batch := reader.next_batch()) is not None:
        rows, *columns, rejected = batch
        out.append((rows, [[bytes(buffer) for buffer in column] for column in columns], rejected))
    return (*out, reader.xxh3_128, reader.bytes_read)


def _prepare_next_batch(size: int) -> Call:
    # One endless line: passed over in one call, a MiB a member.
    path = scratch(f"endless-{size}.gz")
    path.write_bytes(gzip.compress(b"x" * (1 << 20), mtime=0) * size)

    def call() -> tuple[Any, ...]:
        options = {"compression": "gzip", "text": ["text"], "max_document_bytes": 1000, "skip": True}
        return _read_all(_native.DocumentReader(path, **options))

    return call


def _prepare_new(size: int) -> Call:
    path = scratch("new.jsonl")
    path.write_bytes(JSONL)
    return lambda: _native.DocumentReader(path, text=[f"field {i}" for i in range(min(size, 64))]).bytes_read


def _prepare_push(size: int) -> Call:
    data = b"x" * min(size, 8 << 20)

    def call() -> int:
        reader = _native.DocumentReader(None, format="lines", text=["text"])
        reader.push(data)
        return reader.bytes_read

    return call


def _prepare_finish(size: int) -> Call:
    def call() -> tuple[Any, ...]:
        reader = _native.DocumentReader(None, text=["text"])
        reader.push(JSONL)
        reader.finish()
        return _read_all(reader)

    return call


def _push_through(data: bytes, piece: int, **options: Any) -> tuple[Any, ...]:
    reader = _native.DocumentReader(None, text=["text"], max_document_bytes=1 << 20, **options)
    out = []
    for start in range(0, len(data), piece):
        reader.push(data[start : start + piece])
        out.append(_read_all(reader))
    reader.finish()
    return (*out, _read_all(reader))


def _malformed_streams(rng: random.Random) -> Iterator[Call]:
    for compression, coded in CODED.items():
        for i, data in enumerate(mutations(coded, rng, 150)):
            options = {"compression": compression, "format": ("jsonl", "jsonl", "lines", "text")[i % 4]}
            yield partial(_push_through, data, rng.choice((7, 100, 1 << 20)), skip=bool(i % 3), **options)
    bombs = [b"[" * 10_000_000, b'{"text": ' + b'{"a":' * 1_000_000, b'{"":0,' + b'"":0,' * 500_000 + b'"text":""}']
    zeros = gzip.compress(b"0" * (64 << 20), mtime=0)
    for bomb in (*bombs, b"\xff" * 1_000_000, b'{"text": "' + b"\\ud800" * 100_000 + b'"}', b"\n" * 5_000_000):
        yield partial(_push_through, bomb, 8 << 20)
        yield partial(_push_through, bomb, 8 << 20, skip=True)
    yield partial(_push_through, zeros, 8 << 20, compression="gzip")
    yield partial(_push_through, zeros, 8 << 20, compression="gzip", format="text", skip=True)


def _malformed_push(rng: random.Random) -> Iterator[Call]:
    for value in ODD_VALUES:
        yield partial(_native.DocumentReader(None, text=["text"]).push, value)
    yield partial(_native.DocumentReader(None, text=["text"]).push, b"x" * (9 << 20))
    yield from _malformed_streams(rng)


def _malformed_new(rng: random.Random) -> Iterator[Call]:
    path = scratch("options.jsonl")
    path.write_bytes(JSONL)
    names = ("name", "format", "compression", "text", "id", "source", "id_prefix", "max_document_bytes", "skip")
    for value in ODD_VALUES:
        for name in names:
            yield lambda value=value, name=name: _read_all(
                _native.DocumentReader(path, **{"text": ["text"], name: value})
            )
        yield partial(_native.DocumentReader, path, text=[value])
        yield partial(_native.DocumentReader, value, text=["text"])
        if not callable(value):  # What a callback raises comes out as it is.
            yield lambda value=value: _native.DocumentReader(path, text=["text"]).next_batch(value)
    yield partial(_native.DocumentReader, path, text=["text"] * 2)
    yield partial(_native.DocumentReader, path, text=[str(i) for i in range(1000)])


READ_CASES = [
    NativeCase("DocumentReader", "short", _prepare_new, _malformed_new),
    NativeCase("DocumentReader.next_batch", "long", _prepare_next_batch, _malformed_streams),
    NativeCase("DocumentReader.push", "short", _prepare_push, _malformed_push),
    NativeCase("DocumentReader.finish", "short", _prepare_finish),
    NativeCase("DocumentReader.ended", "property"),
    NativeCase("DocumentReader.bytes_read", "property"),
    NativeCase("DocumentReader.xxh3_128", "property"),
    NativeCase("DocumentReader.__reduce__", "property"),
]
