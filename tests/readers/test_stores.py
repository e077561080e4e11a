"""URLs: file:// and an in-memory fsspec store; unknown schemes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

import biollm
from biollm.errors import FileError, FormatError, InputError
from biollm.readers import as_documents
from biollm.readers.stores import _find_with_arrow, as_url, glob_pattern, local_path

fsspec = pytest.importorskip("fsspec")

LINES = b"".join(json.dumps({"text": f"text {i}", "id": i}).encode() + b"\n" for i in range(5000))
TEXTS = [f"text {i}" for i in range(5000)]


@pytest.fixture
def store() -> Iterator[str]:
    memory = fsspec.filesystem("memory")
    memory.pipe("/biollm/a.jsonl", LINES)
    memory.pipe("/biollm/deep/b.jsonl.gz", gzip.compress(LINES))
    memory.pipe("/biollm/c.jsonl.zst", pa.compress(LINES, "zstd", asbytes=True))
    memory.pipe("/biollm/d.txt", b"one\ntwo")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": TEXTS}), sink)
    memory.pipe("/biollm/e.parquet", sink.getvalue().to_pybytes())
    yield "memory://biollm"
    memory.rm("/biollm", recursive=True)


@pytest.mark.parametrize("name", ["a.jsonl", "deep/b.jsonl.gz", "c.jsonl.zst", "e.parquet"])
def test_files_of_a_store(store: str, name: str) -> None:
    documents = as_documents(f"{store}/{name}")
    assert documents.to_table().column("text").to_pylist() == TEXTS
    assert documents.to_table().num_rows == 5000
    (record,) = documents.inputs
    assert record.kind == "url"
    assert record.name.endswith(name)
    if name != "e.parquet":
        content = fsspec.filesystem("memory").cat(f"/biollm/{name}")
        assert record.xxh3_128 == biollm._native.hash_bytes(content)
        assert record.size_bytes == len(content)


def test_globs_in_a_store(store: str) -> None:
    documents = as_documents(f"{store}/**/*.jsonl*")
    assert documents.to_table().num_rows == 15_000
    assert as_documents(f"{store}/d.txt", lines=True).to_table().to_pylist() == [
        {"id": "d.txt:0", "text": "one"},
        {"id": "d.txt:1", "text": "two"},
    ]
    with pytest.raises(InputError, match="matches no file"):
        as_documents(f"{store}/*.none")


def test_a_url_that_path_has_mangled(store: str) -> None:
    assert str(Path(f"{store}/a.jsonl")) == "memory:/biollm/a.jsonl"
    assert as_documents(Path(f"{store}/a.jsonl")).to_table().num_rows == 5000


def test_a_missing_or_broken_file_of_a_store(store: str) -> None:
    with pytest.raises(FileError) as caught:
        as_documents(f"{store}/absent.jsonl")
    assert caught.value.errno == 2
    with pytest.raises(FileError, match="folder"):
        as_documents(f"{store}/deep")
    fsspec.filesystem("memory").pipe("/biollm/cut.jsonl.gz", gzip.compress(LINES)[:-3])
    with pytest.raises(FormatError, match="cut off") as broken:
        as_documents(f"{store}/cut.jsonl.gz").to_table()
    assert broken.value.path is not None
    assert broken.value.path.endswith("cut.jsonl.gz")


def test_file_urls_are_paths(tmp_path: Path) -> None:
    path = tmp_path / "a b.jsonl"
    path.write_bytes(LINES)
    documents = as_documents(path.as_uri())
    assert documents.to_table().num_rows == 5000
    assert documents.inputs[0].name == str(path)
    assert as_documents(f"file://{tmp_path}/*.jsonl").to_table().num_rows == 5000
    with pytest.raises(InputError, match="another host"):
        as_documents("file://elsewhere/a.jsonl")
    assert local_path("s3://bucket/key") is None
    assert as_url("C:/x") is None
    assert as_url("a/b") is None


def test_an_unknown_scheme_names_both_packages() -> None:
    with pytest.raises(InputError, match=r"pyarrow\.fs does not open gopher://.*fsspec"):
        as_documents("gopher://host/a.jsonl")


def test_stores_that_pyarrow_knows(tmp_path: Path) -> None:
    # The same code that opens s3:// and gs://, over the local file system.
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "c.txt").write_bytes(b"")
    local = pafs.LocalFileSystem()

    def find(pattern: str) -> list[tuple[str, int | None]]:
        path = f"{tmp_path}/{pattern}"
        return [
            (file.url.removeprefix(f"s3:/{tmp_path}/"), file.size_bytes)
            for file in _find_with_arrow(local, path, f"s3:/{path}")
        ]

    assert find("x/a.jsonl") == [("x/a.jsonl", len(LINES))]
    assert [name for name, _ in find("**/*.jsonl*")] == ["b.jsonl.gz", "x/a.jsonl"]
    assert [name for name, _ in find("*.jsonl*")] == ["b.jsonl.gz"]
    # A stream that is opened stays compressed: the native reader decodes it.
    (file,) = _find_with_arrow(local, f"{tmp_path}/b.jsonl.gz", f"s3:/{tmp_path}/b.jsonl.gz")
    with file.open() as stream:
        assert stream.read(2) == b"\x1f\x8b"
    with pytest.raises(InputError, match="matches no file"):
        find("*.none")
    for name, errno in (("absent.jsonl", 2), ("x", 21)):
        with pytest.raises(FileError) as caught:
            find(name)
        assert caught.value.errno == errno


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("a/*.gz", ["a/b.gz", "a/.gz"], ["a/b/c.gz", "xa/b.gz", "a/b.gz2"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "b"]),
        ("a?[!b][c-e]", ["axad"], ["axbd", "a/ad", "axaz"]),
        ("a.b[", ["a.b["], ["axb["]),
    ],
)
def test_glob_patterns(glob: str, yes: list[str], no: list[str]) -> None:
    pattern = glob_pattern(glob)
    assert [p for p in yes if not pattern.fullmatch(p)] == []
    assert [p for p in no if pattern.fullmatch(p)] == []
