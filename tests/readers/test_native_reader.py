"""The native reader's promises as an object: threads, forks, pickling, pushing, stopping."""

from __future__ import annotations

import copy
import gzip
import json
import os
import pickle
import threading
import warnings
from pathlib import Path

import pytest

from biollm import _native
from biollm.errors import FormatError, InputError, LimitError

LINES = b"".join(json.dumps({"text": f"text {i}"}).encode() + b"\n" for i in range(1000))


def test_it_does_not_pickle_and_says_what_to_do() -> None:
    reader = _native.DocumentReader(None, text=["text"])
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="make a new one with the same arguments"):
            attempt(reader)


def test_a_second_thread_is_refused_while_one_reads(tmp_path: Path) -> None:
    path = tmp_path / "endless.gz"
    path.write_bytes(gzip.compress(b"x" * (1 << 20)) * 1200)
    reader = _native.DocumentReader(path, compression="gzip", text=["text"], max_document_bytes=10, skip=True)
    inside, tried = threading.Event(), threading.Event()

    def progress(done: int, total: int | None) -> None:
        inside.set()
        tried.wait()

    reading = threading.Thread(target=reader.next_batch, args=(progress,))
    reading.start()
    inside.wait()
    with pytest.raises(InputError, match="in use by another thread"):
        reader.next_batch()
    tried.set()
    reading.join()
    assert reader.next_batch() is None
    assert reader.ended


def test_a_forked_child_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    reader = _native.DocumentReader(path, text=["text"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            reader.next_batch()
        except InputError as error:
            os._exit(0 if "after a fork" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    batch = reader.next_batch()
    assert batch is not None
    assert batch[0] == 1000


def test_pushing() -> None:
    reader = _native.DocumentReader(None, name="stream.jsonl", text=["text"], id_prefix="s:")
    for start in range(0, len(LINES), 100):
        reader.push(LINES[start : start + 100])
        assert reader.next_batch() is None
        assert not reader.ended
    assert reader.xxh3_128 is None
    reader.finish()
    batch = reader.next_batch()
    assert batch is not None
    assert batch[0] == 1000
    assert reader.ended
    assert reader.xxh3_128 == _native.hash_bytes(LINES)
    assert reader.bytes_read == len(LINES)
    with pytest.raises(InputError, match="after the end"):
        reader.push(b"x")


def test_what_waits_to_be_decoded_is_bounded() -> None:
    reader = _native.DocumentReader(None, text=["text"], format="text")
    reader.push(b"x" * (5 << 20))
    with pytest.raises(LimitError, match="call next_batch"):
        reader.push(b"x" * (5 << 20))
    assert reader.next_batch() is None
    reader.push(b"x" * (5 << 20))


def test_nothing_is_pushed_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    with pytest.raises(InputError, match="reads a file"):
        _native.DocumentReader(path, text=["text"]).push(b"x")


def test_a_failed_reader_stays_failed() -> None:
    reader = _native.DocumentReader(None, text=["text"])
    reader.push(b'{"text": "a"}\nbroken\n{"text": "b"}\n')
    reader.finish()
    with pytest.raises(FormatError) as caught:
        reader.next_batch()
    assert caught.value.line == 2
    with pytest.raises(InputError, match="failed before"):
        reader.next_batch()


def test_progress_counts_bytes_and_may_stop_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    seen: list[tuple[int, int | None]] = []
    reader = _native.DocumentReader(path, text=["text"])
    assert reader.next_batch(lambda done, total: seen.append((done, total))) is not None
    assert seen[-1] == (len(LINES), len(LINES))

    class EnoughError(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        raise EnoughError

    endless = tmp_path / "endless.gz"
    endless.write_bytes(gzip.compress(b"x" * (1 << 20)) * 1200)
    reader = _native.DocumentReader(endless, compression="gzip", text=["text"], max_document_bytes=10, skip=True)
    with pytest.raises(EnoughError):
        reader.next_batch(stop)
    # A stop is no failure: the reading can go on.
    assert reader.next_batch() is not None


def test_buffers_hold_what_they_say() -> None:
    reader = _native.DocumentReader(None, text=["text"])
    reader.push(b'{"text": "ab", "source": "s", "k": 1}\n{"text": ""}\n')
    reader.finish()
    batch = reader.next_batch()
    assert batch is not None
    rows, ids, texts, sources, metas, rejected = batch
    assert rows == 2
    assert rejected == []
    assert [bytes(buffer) for buffer in texts] == [b"".join(n.to_bytes(8, "little") for n in (0, 2, 2)), b"ab"]
    assert [bytes(b) for b in sources][1:] == [b"s", b"\x01"]
    assert bytes(metas[1]) == b'{"k": 1}{}'
    assert bytes(ids[1]) == b"01"


def test_the_declared_limits_are_those_of_the_kernel() -> None:
    from biollm.readers.options import MAX_DOCUMENT_BYTES_CEILING

    _native.DocumentReader(None, text=["text"], max_document_bytes=MAX_DOCUMENT_BYTES_CEILING)
    with pytest.raises(LimitError) as caught:
        _native.DocumentReader(None, text=["text"], max_document_bytes=MAX_DOCUMENT_BYTES_CEILING + 1)
    assert caught.value.limit == MAX_DOCUMENT_BYTES_CEILING
