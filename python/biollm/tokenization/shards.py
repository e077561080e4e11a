"""Token shards, version 1: documents as token ids on disk, mapped into memory when read.

A folder of shards holds `shards.json` (written last: it is the commit) and, for each shard NAME:

* `NAME.tokens`: the ids, raw little-endian uint16 (while the vocabulary has at most 65,536 ids) or uint32, no header;
* `NAME.offsets`: uint64 x (num_documents + 1): document i is `tokens[offsets[i]:offsets[i + 1]]`, its EOS counted in;
* `NAME.documents.parquet`: row i = document i (`id`, `source`, `bytes` of UTF-8);
* `NAME.mask`, optional: uint8 a token, 1 = in the loss.

This module knows the format only: nothing of tokenizers, text or training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from biollm import _native
from biollm.atomic import make_folder, write_bytes
from biollm.errors import FileError, FormatError, InputError
from biollm.manifest import Manifest
from biollm.results import Summary

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["FORMAT", "INDEX_NAME", "MAX_UINT16_VOCAB", "SUFFIXES", "VERSION", "Shard", "Shards", "token_dtype"]

FORMAT: Final = "biollm-shards"
VERSION: Final = 1
INDEX_NAME: Final = "shards.json"
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer_config.json")
MAX_UINT16_VOCAB: Final = 65_536
#: Part of a shard → the ending of its file.
SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {"tokens": ".tokens", "offsets": ".offsets", "documents": ".documents.parquet", "mask": ".mask"}
)
_REQUIRED: Final = ("tokens", "offsets", "documents")


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The type of the ids: little-endian uint16 while every id fits, else uint32."""
    return np.dtype("<u2" if vocab_size <= MAX_UINT16_VOCAB else "<u4")


@dataclass(frozen=True)
class Shard:
    """One shard. The arrays are read-only maps of the files, opened at first use and not carried by a pickle.

    Attributes:
        folder: where its files lie. name: what their names begin with. split: "train", "validation", ….
        dtype: of the ids.
        num_tokens, num_documents: as `shards.json` says; checked against the files.
        checksums: "tokens", "offsets", "documents" and maybe "mask" → xxh3-128 of the file.
    """

    folder: Path
    name: str
    split: str
    dtype: np.dtype[Any]
    num_tokens: int
    num_documents: int
    checksums: Mapping[str, str]

    def path(self, part: str) -> Path:
        """The file of a `part`: "tokens", "offsets", "documents" or "mask"."""
        return self.folder / f"{self.name}{SUFFIXES[part]}"

    @cached_property
    def tokens(self) -> NDArray[Any]:
        """Token ids, shape (num_tokens,), uint16 or uint32."""
        return self._map("tokens", self.dtype, self.num_tokens)

    @cached_property
    def offsets(self) -> NDArray[np.uint64]:
        """Where each document begins in `tokens`, and the end: shape (num_documents + 1,), uint64."""
        return self._map("offsets", np.dtype("<u8"), self.num_documents + 1)

    @cached_property
    def mask(self) -> NDArray[np.uint8] | None:
        """1 where a token is in the loss, shape (num_tokens,), uint8; `None`: every token is."""
        return self._map("mask", np.dtype("u1"), self.num_tokens) if "mask" in self.checksums else None

    def documents(self) -> pa.Table:
        """The documents, one row each in the order of `offsets`: `id`, `source`, `bytes`.

        Raises:
            FileError, FormatError: the file cannot be read, or has another number of rows.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path("documents")
        try:
            table = pq.read_table(path)
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        except pa.ArrowInvalid as error:
            raise FormatError(f"not Parquet: {error}", path=path, field="documents") from error
        if table.num_rows != self.num_documents:
            message = f"{table.num_rows} rows for {self.num_documents} documents"
            raise FormatError(message, path=path, field="documents")
        return table

    def _map(self, part: str, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        path = self.path(part)
        try:
            size = path.stat().st_size
            if size != count * dtype.itemsize:
                message = f"the file has {size} bytes, {count} values of {dtype.itemsize} need {count * dtype.itemsize}"
                raise FormatError(message, path=path, field=part)
            if count == 0:  # an empty file cannot be mapped
                array: NDArray[Any] = np.zeros(0, dtype)
                array.flags.writeable = False
                return array
            return np.memmap(path, dtype=dtype, mode="r", shape=(count,))
        except OSError as error:
            if isinstance(error, FileError):
                raise
            raise FileError.from_os_error(error, path) from error

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("tokens", "offsets", "mask")}
        return {**state, "checksums": dict(self.checksums)}

    def _check(self, verify: bool) -> None:
        """Sizes and the offsets' ends always; checksums and the offsets' order with `verify`."""
        for part in self.checksums:
            path = self.path(part)
            if not path.is_file():
                raise FormatError(f"shard {self.name!r} lacks its file", path=path, field=part)
            if verify:
                found = _native.hash_file(path)
                if found != self.checksums[part]:
                    message = f"the checksum is {found}, {INDEX_NAME} says {self.checksums[part]}: the file was changed"
                    raise FormatError(message, path=path, field=part)
        if self.mask is not None and self.mask.shape != self.tokens.shape:  # `_map` has checked both sizes
            raise FormatError("mask and tokens differ in length", path=self.path("mask"), field="mask")
        offsets = self.offsets
        if int(offsets[0]) != 0 or int(offsets[-1]) != self.tokens.shape[0]:
            message = f"offsets run from {int(offsets[0])} to {int(offsets[-1])}, not from 0 to {self.num_tokens}"
            raise FormatError(message, path=self.path("offsets"), field="offsets")
        if verify and bool(np.any(offsets[1:] < offsets[:-1])):
            raise FormatError("offsets do not rise", path=self.path("offsets"), field="offsets")


@dataclass(frozen=True)
class Shards:
    """A folder of shards, as `tokenize` gives it.

    Attributes:
        folder: the folder. dtype: of the ids. vocab_size: every id is less. eos_id: the id that ends a document.
        append_eos: whether each document ends with it. tokenizer_sha256: of `tokenizer.json` in the folder, or `None`.
        splits: name → its shards, in order.
    """

    folder: Path
    dtype: np.dtype[Any]
    vocab_size: int
    eos_id: int | None
    append_eos: bool
    tokenizer_sha256: str | None
    splits: Mapping[str, tuple[Shard, ...]]

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, verify: bool = True) -> Shards:
        """Opens a folder of shards.

        Args:
            folder: holds `shards.json`.
            verify: compares every file's checksum (a pass over the data at several GB/s) and the order of the
                offsets. Without it, versions, sizes and the ends of the offsets are still checked.

        Returns:
            The shards; their arrays are mapped into memory when they are first looked at.

        Raises:
            FileError: there is no `shards.json`, or a file cannot be read.
            FormatError: another format or version, a wrong size or checksum; `path` and `field` say where.
        """
        root = Path(folder)
        index = root / INDEX_NAME
        try:
            data = json.loads(index.read_bytes())
        except OSError as error:
            raise FileError.from_os_error(error, index) from error
        except (ValueError, RecursionError) as error:
            raise FormatError(f"not JSON: {error}", path=index) from error
        shards = _Index(data, index).shards(root)
        for entries in shards.splits.values():
            for shard in entries:
                shard._check(verify)
        if verify and shards.tokenizer_sha256 is not None:
            shards._check_tokenizer()
        return shards

    @property
    def num_tokens(self) -> int:
        """Tokens of all splits."""
        return sum(shard.num_tokens for entries in self.splits.values() for shard in entries)

    @property
    def num_documents(self) -> int:
        """Documents of all splits."""
        return sum(shard.num_documents for entries in self.splits.values() for shard in entries)

    @property
    def tokenizer_path(self) -> Path:
        """The `tokenizer.json` of the folder."""
        return self.folder / TOKENIZER_FILES[0]

    @property
    def manifest(self) -> Manifest:
        """The record of the run that made the folder.

        Raises:
            FileError: the folder was not made by `tokenize`.
        """
        return Manifest.read(self.folder)

    def summary(self) -> Summary:
        """Counts by split, and what `tokenize` noted when it made the folder.

        Raises:
            FormatError: its `summary.json` is broken.
        """
        path = self.folder / "summary.json"
        if path.is_file():
            try:
                return Summary.from_dict(json.loads(path.read_bytes()))
            except (ValueError, KeyError, TypeError) as error:
                raise FormatError(f"not a summary: {error}", path=path) from error
        counts = {f"{split} tokens": sum(s.num_tokens for s in entries) for split, entries in self.splits.items()}
        return Summary("tokenize", {"vocabulary": self.vocab_size, **counts})

    def write(self, path: str | os.PathLike[str], /) -> None:
        """Copies the folder to `path`; `shards.json` (and the manifest, where there is one) last.

        Raises:
            InputError: `path` holds shards already.
            FileError: the system refused.
        """
        target = make_folder(path)
        if (target / INDEX_NAME).exists():
            raise InputError("the folder holds shards already: give another one", path=target)
        files = [s.path(part) for entries in self.splits.values() for s in entries for part in s.checksums]
        beside = [self.folder / name for name in (*TOKENIZER_FILES, "summary.json")]
        try:
            for file in [*files, *(b for b in beside if b.is_file())]:
                shutil.copyfile(file, target / file.name)
            write_bytes(target / INDEX_NAME, (self.folder / INDEX_NAME).read_bytes())
            if (self.folder / "manifest.json").is_file():
                write_bytes(target / "manifest.json", (self.folder / "manifest.json").read_bytes())
        except OSError as error:
            if isinstance(error, FileError):
                raise
            raise FileError.from_os_error(error, target) from error

    def _check_tokenizer(self) -> None:
        path = self.tokenizer_path
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise FormatError("the folder lacks its tokenizer", path=path, field="tokenizer_sha256") from None
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        if found != self.tokenizer_sha256:
            message = f"sha256 {found}, {INDEX_NAME} says {self.tokenizer_sha256}: not the tokenizer of these shards"
            raise FormatError(message, path=path, field="tokenizer_sha256")


class _Index:
    """Reads the parsed `shards.json`; every complaint names the field."""

    def __init__(self, data: Any, path: Path) -> None:
        self.path = path
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise FormatError("not an index of biollm shards", path=path, field="format")
        if data.get("version") != VERSION:
            message = f"shards of version {data.get('version')!r}, this library reads {VERSION}"
            raise FormatError(message, path=path, field="version")
        self.data = data

    def shards(self, folder: Path) -> Shards:
        vocab_size = self.count(self.data, "vocab_size", "vocab_size")
        dtype = token_dtype(vocab_size)
        if self.data.get("dtype") != dtype.str:
            message = f"dtype is {self.data.get('dtype')!r}, a vocabulary of {vocab_size} has {dtype.str!r}"
            raise FormatError(message, path=self.path, field="dtype")
        eos_id = self.data.get("eos_id")
        if eos_id is not None and self.count(self.data, "eos_id", "eos_id") >= vocab_size:
            raise FormatError(f"eos_id {eos_id} is not in the vocabulary", path=self.path, field="eos_id")
        append_eos = self.data.get("append_eos")
        if not isinstance(append_eos, bool):
            raise FormatError(f"append_eos is {append_eos!r}, not true or false", path=self.path, field="append_eos")
        sha256 = self.data.get("tokenizer_sha256")
        if sha256 is not None and not isinstance(sha256, str):
            raise FormatError("tokenizer_sha256 is not text", path=self.path, field="tokenizer_sha256")
        splits = self.data.get("splits")
        if not isinstance(splits, dict):
            raise FormatError("splits is not an object", path=self.path, field="splits")
        entries = {split: self.split(folder, split, items, dtype) for split, items in splits.items()}
        return Shards(folder, dtype, vocab_size, eos_id, append_eos, sha256, MappingProxyType(entries))

    def split(self, folder: Path, split: str, items: Any, dtype: np.dtype[Any]) -> tuple[Shard, ...]:
        field = f"splits.{split}"
        if not isinstance(items, list):
            raise FormatError(f"{field} is not a list", path=self.path, field=field)
        return tuple(self.shard(folder, split, item, dtype, f"{field}[{i}]") for i, item in enumerate(items))

    def shard(self, folder: Path, split: str, item: Any, dtype: np.dtype[Any], field: str) -> Shard:
        name = item.get("name") if isinstance(item, dict) else None
        # A name is part of a file's name, never a way out of the folder.
        if not isinstance(name, str) or not name or name in (".", "..") or any(c in name for c in "/\\\0"):
            raise FormatError(f"{name!r} is not the name of a shard", path=self.path, field=f"{field}.name")
        checksums = item.get("xxh3_128")
        parts = set(checksums) if isinstance(checksums, dict) else set()
        if not parts.issuperset(_REQUIRED) or not parts.issubset(SUFFIXES):
            message = f"xxh3_128 names {sorted(parts)}, not {list(_REQUIRED)} and maybe 'mask'"
            raise FormatError(message, path=self.path, field=f"{field}.xxh3_128")
        num_tokens = self.count(item, "num_tokens", f"{field}.num_tokens")
        num_documents = self.count(item, "num_documents", f"{field}.num_documents")
        return Shard(folder, name, split, dtype, num_tokens, num_documents, dict(checksums))

    def count(self, item: dict[str, Any], key: str, field: str) -> int:
        value = item.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
            raise FormatError(f"{field} is {value!r}, not a count", path=self.path, field=field)
        return value
