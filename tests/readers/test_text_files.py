"""Text files: how they are split, decompressed and refused."""

from __future__ import annotations

import gzip
import json
import os
import threading
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from biollm.errors import FileError, FormatError, InputError, LimitError
from biollm.readers import as_documents
from shared_data import shared_file


def texts(source: Any, **options: Any) -> list[str]:
    return as_documents(source, **options).to_table().column("text").to_pylist()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


def lines_of(count: int) -> bytes:
    return b"".join(json.dumps({"text": f"text {i}"}).encode() + b"\n" for i in range(count))


@pytest.mark.parametrize("name", ["eval/pubmedqa_dev500.jsonl.gz", "eval/bioasq_7_9.jsonl.gz"])
def test_real_files_with_line_separators_inside_strings(name: str) -> None:
    path = shared_file(name)
    raw = gzip.decompress(path.read_bytes())
    assert len(raw.decode().splitlines()) > raw.count(b"\n")
    assert len(texts(path, text="question")) == raw.count(b"\n")


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    odd = "a\u2028b\u2029c\u0085d\x1ce\x0bf\x0cg\x7f"
    record = json.dumps({"text": odd}, ensure_ascii=False)
    path.write_bytes(f"\ufeff{record}\r\n\r\n \t\n{record}".encode())
    assert texts(path) == [odd, odd]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "A.JSONL", "b.c.jsonl"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".GZ"])
def test_names_say_format_and_compression(tmp_path: Path, name: str, suffix: str) -> None:
    coders = {"": bytes, ".gz": gzip.compress, ".GZ": gzip.compress, ".zst": zstd}
    path = tmp_path / (name + suffix)
    path.write_bytes(coders[suffix](lines_of(3)))
    assert texts(path) == ["text 0", "text 1", "text 2"]


def test_many_members_frames_and_padding(tmp_path: Path) -> None:
    data = lines_of(3000)
    cuts = [0, 1, 500, 501, 20_000, len(data)]
    pieces = [data[a:b] for a, b in pairwise(cuts)]
    skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    gz, zst = tmp_path / "a.jsonl.gz", tmp_path / "a.jsonl.zst"
    gz.write_bytes(b"".join(gzip.compress(piece) for piece in pieces) + gzip.compress(b"") + bytes(100))
    zst.write_bytes(skippable + b"".join(zstd(piece) + skippable for piece in pieces))
    want = [f"text {i}" for i in range(3000)]
    assert texts(gz) == texts(zst) == want


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_cut_or_continued_file_is_an_error_even_when_skipping(tmp_path: Path, suffix: str) -> None:
    whole = {".gz": gzip.compress, ".zst": zstd}[suffix](lines_of(50))
    path = tmp_path / f"a.jsonl{suffix}"
    for damaged in (*(whole[:cut] for cut in range(0, len(whole), 7)), whole + b"x", whole + whole[:9], b""):
        path.write_bytes(damaged)
        for on_error in ("raise", "skip"):
            with pytest.raises(FormatError) as caught:
                texts(path, on_error=on_error)
            assert caught.value.path == str(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_no_flipped_byte_passes_unseen(tmp_path: Path, suffix: str) -> None:
    # pyarrow's zstd frames carry no checksum, so there only the result may differ; gzip's CRC must catch all.
    data = lines_of(50)
    whole = {".gz": lambda d: gzip.compress(d, mtime=0), ".zst": zstd}[suffix](data)
    path = tmp_path / f"a.jsonl{suffix}"
    for at in range(10, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            got = texts(path)
        except (FormatError, LimitError):
            continue
        assert suffix == ".zst" or got == [f"text {i}" for i in range(50)], at


def test_a_plain_file_named_gz_and_the_other_way_round(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"
    plain.write_bytes(lines_of(2))
    packed.write_bytes(gzip.compress(lines_of(2)))
    with pytest.raises(FormatError, match="not a gzip file"):
        texts(plain)
    with pytest.raises(FormatError, match="UTF-8"):
        texts(packed)
    packed.write_bytes(zlib.compress(b""))
    with pytest.raises(FormatError):
        texts(packed)


def test_a_text_file_is_one_document_or_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028three\n\n  \nfour".encode())
    whole = as_documents(path).to_table()
    assert whole.to_pylist() == [{"id": "a.txt:0", "text": "one\r\ntwo\u2028three\n\n  \nfour"}]
    lines = as_documents(path, lines=True).to_table()
    assert lines.to_pylist() == [
        {"id": "a.txt:0", "text": "one"},
        {"id": "a.txt:1", "text": "two\u2028three"},
        {"id": "a.txt:2", "text": "four"},
    ]
    path.write_bytes(b"")
    assert texts(path) == [""]
    assert texts(path, lines=True) == []


def test_bytes_that_are_not_utf_8_name_their_line(tmp_path: Path) -> None:
    for name, line in (("a.txt", 2), ("a.jsonl", 2)):
        path = tmp_path / name
        path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
        with pytest.raises(FormatError, match="UTF-8") as caught:
            texts(path)
        assert caught.value.line == line


def test_errors_say_file_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines_of(2) + b'{"text": 5}\n')
    with pytest.raises(FormatError, match="is a number, not a string") as caught:
        texts(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 3, "text")
    assert str(caught.value).startswith(f"{path}:3: ")
    path.write_bytes(lines_of(1) + b'{"text": "' + b"x" * 100 + b'"}\n')
    with pytest.raises(LimitError, match="max_document_bytes") as limited:
        texts(path, max_document_bytes=50)
    assert (limited.value.line, limited.value.limit) == (2, 50)
    assert limited.value.value is not None


def test_a_missing_or_forbidden_file_has_its_errno(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        as_documents(tmp_path / "absent.jsonl")
    assert (caught.value.errno, caught.value.path) == (2, str(tmp_path / "absent.jsonl"))
    assert isinstance(caught.value, OSError)
    if os.getuid() != 0:
        path = tmp_path / "a.jsonl"
        path.touch(mode=0)
        with pytest.raises(FileError):
            texts(path)


def test_a_file_that_goes_away_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines_of(2))
    documents = as_documents(path)
    assert len(documents.to_table()) == 2
    path.unlink()
    with pytest.raises(FileError) as caught:
        documents.to_table()
    assert (caught.value.errno, caught.value.path) == (2, str(path))


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jsonl.gz"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(gzip.compress(lines_of(1000))))
    writer.start()
    documents = as_documents(path)
    assert documents.one_shot
    assert len(documents.to_table()) == 1000
    writer.join()
    with pytest.raises(InputError, match="materialize"):
        documents.reader()
