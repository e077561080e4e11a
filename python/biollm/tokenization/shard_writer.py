"""Writes token shards (format: `shards.py`): each file under a temporary name first, `shards.json` last.

With work in progress (`biollm.partial`) the shards lie there until all are written; finished ones are kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from biollm import _native
from biollm.atomic import PublishedFile, atomic_path, make_folder, write_json
from biollm.errors import FileError, InputError
from biollm.partial import Partial
from biollm.tokenization.options import DEFAULT_SHARD_TOKENS
from biollm.tokenization.shards import FORMAT, INDEX_NAME, SUFFIXES, VERSION, Shard, Shards, token_dtype

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DEFAULT_SHARD_TOKENS", "ShardWriter"]


class ShardWriter:
    """Appends batches of tokenized documents to the splits of one folder.

    A context manager: leaving it normally writes `shards.json` (then `.shards` opens the folder); leaving it by an
    exception removes what was written; but with `partial`, finished shards stay there.

    Args:
        folder: made where it is missing; must not hold shards.
        vocab_size: every id is less; decides uint16 or uint32.
        eos_id: the id that ends a document, recorded. append_eos: whether the documents carry it, recorded.
        tokenizer_sha256: of the `tokenizer.json` that the caller puts into the folder.
        splits: names, in the order of `shards.json`; a split without documents is an empty list.
        shard_tokens: a shard is closed by the document that reaches this many tokens.
        masked: whether each batch brings a loss mask.
        partial: the folder's work in progress. Shards that an earlier run finished there are taken over: documents are
            then added from behind those on (`finished_documents`).

    Attributes:
        dtype: of the ids in the files.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        vocab_size: int,
        eos_id: int | None,
        append_eos: bool,
        tokenizer_sha256: str | None = None,
        splits: Sequence[str] = ("train", "validation"),
        shard_tokens: int = DEFAULT_SHARD_TOKENS,
        masked: bool = False,
        partial: Partial | None = None,
    ) -> None:
        if vocab_size < 1 or vocab_size > 1 << 32:
            raise InputError(f"vocab_size is {vocab_size}, not 1..2**32", field="vocab_size", value=vocab_size)
        if shard_tokens < 1:
            raise InputError(f"shard_tokens is {shard_tokens}, not 1 or more", field="shard_tokens", value=shard_tokens)
        self.folder = make_folder(folder)
        if (self.folder / INDEX_NAME).exists():
            raise InputError("the folder holds shards already: give another one", path=self.folder, field="output")
        self.dtype = token_dtype(vocab_size)
        self.vocab_size = vocab_size
        self.shard_tokens = shard_tokens
        self.masked = masked
        self._head = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": self.dtype.str,
            "vocab_size": vocab_size,
            "eos_id": eos_id,
            "append_eos": append_eos,
            "tokenizer_sha256": tokenizer_sha256,
        }
        self._partial = partial
        self._work = self.folder if partial is None else partial.path
        self._open: dict[str, _OpenShard | None] = dict.fromkeys(splits)
        self._done: dict[str, list[dict[str, Any]]] = {split: self._finished(split) for split in splits}

    def add(
        self,
        split: str,
        tokens: NDArray[Any],
        offsets: NDArray[Any],
        *,
        ids: pa.Array | pa.ChunkedArray | Sequence[str],
        sources: pa.Array | pa.ChunkedArray | Sequence[str | None] | None = None,
        num_bytes: ArrayLike,
        mask: NDArray[Any] | None = None,
    ) -> None:
        """Appends documents to a split.

        Args:
            split: one of the writer's.
            tokens: ids of all documents end to end, shape (n,), any integer type.
            offsets: shape (documents + 1,), rising from 0 to n.
            ids: of the documents, (documents,).
            sources: of the documents, (documents,); without them, nulls.
            num_bytes: UTF-8 bytes of each document's text, (documents,).
            mask: 1 where a token is in the loss, (n,); given exactly when the writer is `masked`.

        Raises:
            InputError: shapes that do not fit each other, an id outside the vocabulary, an unknown split.
            FileError: the system refused (a full disk).
        """
        import pyarrow as pa

        if split not in self._open:
            raise InputError(f"split {split!r} is not one of {sorted(self._open)}", field="split", value=split)
        count = len(offsets) - 1
        if count < 0 or int(offsets[0]) != 0 or int(offsets[-1]) != len(tokens) or np.any(offsets[1:] < offsets[:-1]):
            raise InputError(f"offsets do not rise from 0 to {len(tokens)}", field="offsets")
        if len(tokens) and not (int(tokens.min()) >= 0 and int(tokens.max()) < self.vocab_size):
            message = f"ids {int(tokens.min())}..{int(tokens.max())} are not in a vocabulary of {self.vocab_size}"
            raise InputError(message, field="tokens")
        if (mask is not None) != self.masked or (mask is not None and len(mask) != len(tokens)):
            raise InputError("a mask is given with each batch of a masked writer, one value a token", field="mask")
        columns = {
            "id": pa.array(ids, pa.large_string()) if not isinstance(ids, pa.ChunkedArray) else ids,
            "source": pa.nulls(count, pa.large_string()) if sources is None else sources,
            "bytes": np.asarray(num_bytes, np.int64),
        }
        if any(len(column) != count for column in columns.values()):
            raise InputError(f"ids, sources and num_bytes are not {count} each", field="ids")
        documents = pa.table(columns).cast(_documents_schema())
        ids_on_disk = np.ascontiguousarray(tokens, self.dtype)
        ends = np.asarray(offsets, np.uint64)
        first = 0
        while first < count:
            shard = self._open[split] or self._begin(split)
            # The first document at whose end the shard is full belongs to it as well.
            room = np.uint64(int(ends[first]) + self.shard_tokens - shard.num_tokens)
            last = min(count, int(np.searchsorted(ends, room, side="left")))
            last = max(last, first + 1)
            begin, end = int(ends[first]), int(ends[last])
            shard.append(
                ids_on_disk[begin:end],
                ends[first : last + 1],
                documents.slice(first, last - first),
                None if mask is None else np.ascontiguousarray(mask[begin:end] != 0, np.uint8),
            )
            if shard.num_tokens >= self.shard_tokens:
                entry = self._end(split)
                if self._partial is not None:
                    self._partial.keep(entry["name"], (), **entry)
            first = last

    def finished_documents(self, split: str) -> int:
        """Documents of `split` in shards that are finished."""
        return sum(entry["num_documents"] for entry in self._done[split])

    def finished_shards(self, split: str) -> list[Shard]:
        """The shards of `split` that are finished, where they lie now."""
        return [
            Shard(self._work, e["name"], split, self.dtype, e["num_tokens"], e["num_documents"], e["xxh3_128"])
            for e in self._done[split]
        ]

    def close(self) -> None:
        """Publishes the open shards, then `shards.json`."""
        for split in self._open:
            if self._open[split] is not None:
                self._end(split)
        if self._partial is not None:
            self._partial.place(self.outputs)
        write_json(self.folder / INDEX_NAME, {**self._head, "splits": self._done})

    @property
    def shards(self) -> Shards:
        """The folder, opened; after `close`."""
        return Shards.open(self.folder, verify=False)

    @property
    def outputs(self) -> dict[str, str]:
        """File name → xxh3-128 of all shard files published so far."""
        return {
            f"{entry['name']}{SUFFIXES[part]}": checksum
            for entries in self._done.values()
            for entry in entries
            for part, checksum in entry["xxh3_128"].items()
        }

    def _begin(self, split: str) -> _OpenShard:
        shard = _OpenShard(self._work, f"{split}-{len(self._done[split]):05d}", self.masked)
        self._open[split] = shard
        return shard

    def _end(self, split: str) -> dict[str, Any]:
        shard = self._open[split]
        assert shard is not None
        self._done[split].append(shard.publish())
        self._open[split] = None
        return self._done[split][-1]

    def _finished(self, split: str) -> list[dict[str, Any]]:
        """The entries of the shards that an earlier run finished, up to the first that is missing or damaged."""
        entries: list[dict[str, Any]] = []
        if self._partial is None:
            return entries
        for piece in self._partial.kept_run(split):
            entry = dict(piece.facts)
            for part, checksum in entry["xxh3_128"].items():
                try:
                    if _native.hash_file(self._work / f"{entry['name']}{SUFFIXES[part]}") != checksum:
                        return entries
                except FileError:
                    return entries
            entries.append(entry)
        return entries

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self.close()
                return
            except BaseException as failed:
                self._abandon(failed)
                raise
        self._abandon(error)

    def _abandon(self, error: BaseException) -> None:
        for shard in self._open.values():
            if shard is not None:
                shard.abandon(error)
        if self._partial is None:
            for name in self.outputs:
                (self.folder / name).unlink(missing_ok=True)


class _OpenShard:
    """The files of one shard under their temporary names."""

    def __init__(self, folder: Path, name: str, masked: bool) -> None:
        import pyarrow.parquet as pq

        self.name = name
        self.num_tokens = 0
        self.num_documents = 0
        self._stack = ExitStack()
        self._published: dict[str, PublishedFile] = {}
        parts = [part for part in SUFFIXES if masked or part != "mask"]
        try:
            # Closing runs backwards: each file is closed before it is published.
            for part in parts:
                self._published[part] = self._stack.enter_context(atomic_path(folder / f"{name}{SUFFIXES[part]}"))
            self._files: dict[str, IO[bytes]] = {}
            for part, file in self._published.items():
                self._files[part] = self._stack.enter_context(file.path.open("wb"))
            self._documents = self._stack.enter_context(
                pq.ParquetWriter(self._files["documents"], _documents_schema(), compression="zstd")
            )
        except BaseException as error:
            self.abandon(error)
            if isinstance(error, OSError) and not isinstance(error, FileError):
                raise FileError.from_os_error(error, folder / name) from error
            raise

    def append(
        self, tokens: NDArray[Any], ends: NDArray[np.uint64], documents: pa.Table, mask: NDArray[np.uint8] | None
    ) -> None:
        """`ends`: (documents + 1,) offsets in the batch, the first of them where `tokens` begins."""
        starts = ends[:-1] - ends[0] + np.uint64(self.num_tokens)
        try:
            self._files["tokens"].write(tokens.data)
            self._files["offsets"].write(starts.astype("<u8").data)
            if mask is not None:
                self._files["mask"].write(mask.data)
            self._documents.write_table(documents)
        except OSError as error:
            raise FileError.from_os_error(error, self._published["tokens"].target) from error
        self.num_tokens += len(tokens)
        self.num_documents += len(documents)

    def publish(self) -> dict[str, Any]:
        """Closes and publishes the files; gives the shard's entry in `shards.json`."""
        try:
            self._files["offsets"].write(np.array([self.num_tokens], "<u8").data)
            self._stack.close()
        except OSError as error:
            self.abandon(error)
            if isinstance(error, FileError):
                raise
            raise FileError.from_os_error(error, self._published["offsets"].target) from error
        return {
            "name": self.name,
            "num_tokens": self.num_tokens,
            "num_documents": self.num_documents,
            "xxh3_128": {part: file.xxh3_128 for part, file in self._published.items()},
        }

    def abandon(self, error: BaseException) -> None:
        """Removes the files; `error` tells the context managers that the block has failed."""
        with suppress(BaseException):  # the same error, on its way already; or a full disk while closing
            self._stack.__exit__(type(error), error, error.__traceback__)
        for file in self._published.values():
            file.path.unlink(missing_ok=True)
            file.target.unlink(missing_ok=True)


def _documents_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [pa.field("id", pa.large_string(), False), ("source", pa.large_string()), pa.field("bytes", pa.int64(), False)]
    )
