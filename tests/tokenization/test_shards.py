"""The format of token shards: written, read, and refused where it is not what it says."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biollm.errors import FileError, FormatError, InputError
from biollm.tokenization import Shards, ShardWriter

DOCUMENTS = [[5, 6, 0], [0], [7, 8, 9, 10, 0], [1, 2, 3, 0], [4, 0]]


def write(folder: Path, *, vocab_size: int = 300, masked: bool = False, shard_tokens: int = 7) -> Shards:
    tokens = np.array([t for d in DOCUMENTS for t in d])
    offsets = np.cumsum([0, *(len(d) for d in DOCUMENTS)])
    mask = (tokens != 0).astype(np.uint8) if masked else None
    with ShardWriter(
        folder, vocab_size=vocab_size, eos_id=0, append_eos=True, shard_tokens=shard_tokens, masked=masked
    ) as writer:
        writer.add("train", tokens, offsets, ids=list("abcde"), num_bytes=range(5), mask=mask)
        last = (tokens[:3], np.array([0, 3]))
        writer.add("train", *last, ids=["f"], sources=["x"], num_bytes=[9], mask=None if mask is None else mask[:3])
    return writer.shards


def test_documents_come_back(tmp_path: Path) -> None:
    shards = write(tmp_path)
    got = []
    for shard in shards.splits["train"]:
        assert (shard.tokens.dtype, shard.offsets.dtype) == (np.dtype("<u2"), np.dtype("<u8"))
        assert not shard.tokens.flags.writeable
        assert shard.mask is None
        bounds = zip(shard.offsets, shard.offsets[1:], strict=False)
        got += [shard.tokens[int(a) : int(b)].tolist() for a, b in bounds]
    assert got == [*DOCUMENTS, DOCUMENTS[0]]
    assert (shards.num_tokens, shards.num_documents) == (18, 6)
    # A shard is closed by the document that reaches 7 tokens.
    assert [s.num_tokens for s in shards.splits["train"]] == [9, 9]
    assert shards.splits["validation"] == ()
    tables = [s.documents().to_pylist() for s in shards.splits["train"]]
    assert [row["id"] for table in tables for row in table] == list("abcdef")
    assert tables[1][-1] == {"id": "f", "source": "x", "bytes": 9}


def test_files_are_raw_and_little_endian(tmp_path: Path) -> None:
    write(tmp_path, shard_tokens=100)
    whole = [t for d in [*DOCUMENTS, DOCUMENTS[0]] for t in d]
    assert (tmp_path / "train-00000.tokens").read_bytes() == np.array(whole, "<u2").tobytes()
    assert np.fromfile(tmp_path / "train-00000.offsets", "<u8").tolist() == [0, 3, 4, 9, 13, 15, 18]
    index = json.loads((tmp_path / "shards.json").read_bytes())
    assert (index["format"], index["version"], index["dtype"], index["eos_id"]) == ("biollm-shards", 1, "<u2", 0)
    assert set(index["splits"]["train"][0]["xxh3_128"]) == {"tokens", "offsets", "documents"}
    assert not list(tmp_path.glob(".*"))


def test_uint16_up_to_65536_ids(tmp_path: Path) -> None:
    assert write(tmp_path / "a", vocab_size=65_536).dtype == np.dtype("<u2")
    large = write(tmp_path / "b", vocab_size=65_537)
    assert large.dtype == large.splits["train"][0].tokens.dtype == np.dtype("<u4")


def test_a_mask(tmp_path: Path) -> None:
    shards = write(tmp_path, masked=True, shard_tokens=100)
    shard = shards.splits["train"][0]
    assert shard.mask is not None
    assert shard.mask.tolist() == [int(t != 0) for t in shard.tokens.tolist()]
    (tmp_path / "train-00000.mask").write_bytes(b"\1" * 17)
    with pytest.raises(FormatError) as caught:
        Shards.open(tmp_path, verify=False)
    assert caught.value.field == "mask"


def test_a_shard_pickles_without_its_data(tmp_path: Path) -> None:
    shard = write(tmp_path).splits["train"][0]
    before = shard.tokens.tolist()
    data = pickle.dumps(shard)
    assert len(data) < 1000
    assert pickle.loads(data).tokens.tolist() == before


def test_a_copy(tmp_path: Path) -> None:
    shards = write(tmp_path / "a")
    shards.write(tmp_path / "b")
    assert Shards.open(tmp_path / "b").num_tokens == 18
    with pytest.raises(InputError, match="already"):
        shards.write(tmp_path / "b")
    with pytest.raises(InputError, match="already"):
        write(tmp_path / "b")
    assert shards.summary().facts["train tokens"] == 18


@pytest.mark.parametrize("name", ["train-00000.tokens", "train-00001.offsets", "train-00000.documents.parquet"])
def test_a_changed_byte_is_found_by_its_checksum(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[8] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FormatError, match="checksum") as caught:
        Shards.open(tmp_path)
    assert caught.value.path == str(tmp_path / name)


@pytest.mark.parametrize("name", ["train-00000.tokens", "train-00001.offsets"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0\0", lambda data: b""])
def test_a_torn_file_is_found_without_checksums(name: str, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(FormatError, match="bytes") as caught:
        Shards.open(tmp_path, verify=False)
    assert caught.value.field == name.split(".")[1]


def test_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train-00000.tokens").unlink()
    with pytest.raises(FormatError, match="lacks"):
        Shards.open(tmp_path)
    with pytest.raises(FileError) as caught:
        Shards.open(tmp_path / "absent")
    assert caught.value.errno == errno.ENOENT


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            data = data[int(parent)] if isinstance(data, list) else data[parent]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("format", "other", "format"),
        ("version", 2, "version"),
        ("version", None, "version"),
        ("dtype", "<u4", "dtype"),
        ("vocab_size", -1, "vocab_size"),
        ("vocab_size", True, "vocab_size"),
        ("eos_id", 300, "eos_id"),
        ("append_eos", 1, "append_eos"),
        ("tokenizer_sha256", 5, "tokenizer_sha256"),
        ("tokenizer_sha256", "ab", "tokenizer_sha256"),
        ("splits", [], "splits"),
        ("splits.train", {}, "splits.train"),
        ("splits.train.0.name", "../x", "splits.train[0].name"),
        ("splits.train.0.name", "", "splits.train[0].name"),
        ("splits.train.0.num_tokens", 10, "tokens"),
        ("splits.train.0.num_tokens", 2**62, "splits.train[0].num_tokens"),
        ("splits.train.0.num_documents", "3", "splits.train[0].num_documents"),
        ("splits.train.0.num_documents", 4, "offsets"),
        ("splits.train.1.xxh3_128", {"tokens": "0"}, "splits.train[1].xxh3_128"),
        ("splits.train.1.xxh3_128.other", "0", "splits.train[1].xxh3_128"),
        ("splits.train.1.xxh3_128.tokens", "0" * 32, "tokens"),
    ],
)
def test_an_index_that_is_wrong_names_the_field(path: str, value: Any, field: str, tmp_path: Path) -> None:
    write(tmp_path)
    index = tmp_path / "shards.json"
    data = json.loads(index.read_bytes())
    _set(path, value)(data)
    index.write_text(json.dumps(data))
    with pytest.raises(FormatError) as caught:
        Shards.open(tmp_path)
    assert caught.value.field == field


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_an_index_that_is_no_index(data: bytes, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "shards.json").write_bytes(data)
    with pytest.raises(FormatError):
        Shards.open(tmp_path)


def test_offsets_that_do_not_rise(tmp_path: Path) -> None:
    write(tmp_path, shard_tokens=100)
    path = tmp_path / "train-00000.offsets"
    for offsets, verify in (([1, 3, 4, 9, 13, 15, 18], False), ([0, 3, 4, 9, 13, 15, 17], False)):
        np.array(offsets, "<u8").tofile(path)
        with pytest.raises(FormatError, match="offsets run"):
            Shards.open(tmp_path, verify=verify)


def test_what_the_writer_refuses(tmp_path: Path) -> None:
    good: dict[str, Any] = {"ids": ["a"], "num_bytes": [1]}
    tokens, offsets = np.array([1, 2]), np.array([0, 2])
    for arguments, options in (
        (("other", tokens, offsets), good),
        (("train", np.array([1, 300]), offsets), good),
        (("train", np.array([1, -1]), offsets), good),
        (("train", tokens, np.array([0, 3])), good),
        (("train", tokens, np.array([1, 2])), good),
        (("train", tokens, np.array([0, 2, 1, 2])), {"ids": ["a"] * 3, "num_bytes": [1] * 3}),
        (("train", tokens, np.zeros(0, int)), good),
        (("train", tokens, offsets), {**good, "ids": ["a", "b"]}),
        (("train", tokens, offsets), {**good, "mask": np.array([1, 1])}),
    ):
        with (
            pytest.raises(InputError),
            ShardWriter(tmp_path / "s", vocab_size=300, eos_id=0, append_eos=True) as writer,
        ):
            writer.add(*arguments, **options)
    for vocab_size, shard_tokens in ((0, 1), (2**33, 1), (300, 0)):
        with pytest.raises(InputError):
            ShardWriter(tmp_path, vocab_size=vocab_size, eos_id=0, append_eos=True, shard_tokens=shard_tokens)


def test_nothing_is_left_of_a_writer_that_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        ShardWriter(tmp_path, vocab_size=300, eos_id=0, append_eos=True, shard_tokens=3) as writer,
    ):
        writer.add("train", np.array([1, 2, 3, 4]), np.array([0, 3, 4]), ids=["a", "b"], num_bytes=[1, 1])
        assert (tmp_path / "train-00000.tokens").exists()
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_file_error(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, vocab_size=300, eos_id=0, append_eos=True)
    writer.add("train", np.array([1, 2]), np.array([0, 2]), ids=["a"], num_bytes=[1])
    shard = writer._open["train"]
    assert shard is not None

    class Full:
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    shard._files["tokens"] = Full()  # type: ignore[assignment]
    with pytest.raises(FileError) as caught:
        writer.add("train", np.array([1, 2]), np.array([0, 2]), ids=["b"], num_bytes=[1])
    assert caught.value.errno == errno.ENOSPC
    writer._abandon(caught.value)
    assert list(tmp_path.iterdir()) == []
