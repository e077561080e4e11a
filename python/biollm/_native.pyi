"""The compiled part of biollm. Its functions are called by the packages beside it, not by users."""

from collections.abc import Callable
from os import PathLike
from typing import Never, final

__all__ = [
    "Buffer",
    "DocumentReader",
    "Tokenizer",
    "XmlReader",
    "__version__",
    "available_threads",
    "count_words",
    "dedup_exact",
    "dedup_fuzzy",
    "dedup_pieces",
    "dedup_signatures",
    "dedup_url",
    "gopher_statistics",
    "hash_bytes",
    "hash_file",
    "hash_texts",
    "parquet_footer",
    "parquet_longest_value",
    "parquet_pages",
    "publish",
    "scan_pubmed",
    "train_tokenizer",
]

__version__: str

def available_threads() -> int:
    """Threads that native calls take by themselves: cores by this process's affinity mask and its cgroup's quota."""

# What `progress` arguments take: units done, and the total where it is known.
_Progress = Callable[[int, int | None], object]

# --- buffers, files -------------------------------------------------------------------------------------------------

@final
class Buffer:
    """Read-only bytes made by a kernel; numpy.frombuffer and pyarrow.py_buffer take it with no copy."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def hash_file(path: str | PathLike[str], progress: _Progress | None = None) -> str:
    """xxh3-128 of a file, 32 hexadecimal digits."""

def hash_bytes(data: bytes) -> str:
    """xxh3-128 of bytes, 32 hexadecimal digits."""

def publish(temporary: str | PathLike[str], target: str | PathLike[str]) -> str:
    """Makes a finished file durable under its final name; gives its xxh3-128."""

# --- parquet --------------------------------------------------------------------------------------------------------

def parquet_pages(
    path: str | PathLike[str], chunks: list[tuple[int, int, int]], progress: _Progress | None = None
) -> list[tuple[tuple[int, int, int, int] | None, Buffer]]:
    """The pages of column chunks, each (offset, length, values): of each its dictionary page (offset, bytes
    compressed, bytes uncompressed, values) or None, and of its data pages four uint32: bytes compressed, bytes
    uncompressed, values, encoding.
    """

def parquet_footer(data: bytes) -> tuple[int, int]:
    """Bytes of memory that a parser takes for a footer, about, and how deep groups nest in its schema."""

def parquet_longest_value(data: bytes, values: int) -> int:
    """Bytes of the longest of `values` byte arrays that lie plain in a decompressed page."""

# --- read -----------------------------------------------------------------------------------------------------------

_Column = tuple[Buffer, Buffer]

@final
class DocumentReader:
    """Reads documents from a file, or (`path=None`) from bytes that are pushed in. Not for two threads at once, nor
    for a forked child; does not pickle.
    """

    def __new__(
        cls,
        path: str | PathLike[str] | None,
        *,
        name: str | PathLike[str] | None = None,
        format: str = "jsonl",
        compression: str = "none",
        text: list[str],
        id: str | None = None,
        source: str | None = None,
        id_prefix: str = "",
        max_document_bytes: int | None = None,
        skip: bool = False,
    ) -> DocumentReader: ...
    def next_batch(
        self, progress: _Progress | None = None
    ) -> tuple[int, _Column, _Column, tuple[Buffer, Buffer, Buffer], _Column, list[tuple[int, str]]] | None:
        """Rows; the columns id, text, source (offsets, data, validity) and meta; (line, reason) of what is skipped.

        `None` at the end, or where what was pushed does not yet fill a batch.
        """

    def push(self, data: bytes) -> None:
        """The next bytes of the stream, at most 8 MiB at a time."""

    def finish(self) -> None:
        """Declares the end of what is pushed."""

    @property
    def ended(self) -> bool: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def xxh3_128(self) -> str | None: ...
    def __reduce__(self) -> Never: ...

# --- read: PubMed and JATS ------------------------------------------------------------------------------------------

@final
class XmlReader:
    """Reads the records of one PubMed or JATS file, or of a tar of such files. Not for two threads at once, nor for a
    forked child; does not pickle.
    """

    def __new__(
        cls,
        path: str | PathLike[str],
        *,
        name: str | PathLike[str] | None = None,
        compression: str = "none",
        tar: bool = False,
        text: list[str],
        id: str | None = None,
        source: str | None = None,
        id_prefix: str = "",
        max_document_bytes: int | None = None,
        skip: bool = False,
        left_out: Buffer | bytes | None = None,
    ) -> XmlReader: ...
    def next_batch(
        self, progress: _Progress | None = None
    ) -> tuple[int, list[tuple[str, str, tuple[Buffer, ...]]], list[tuple[int, str]]] | None:
        """Rows; (name, kind, buffers) of each column; (line, reason) of what is skipped. `None` at the end.

        Buffers by kind, as Arrow lays them out: "text" (int64 offsets, UTF-8); "optional_text" (the same, validity
        bits); "int32" (values, validity bits); "list_text" (int32 list offsets, int64 offsets, UTF-8); "sections"
        (int32 list offsets, int64 offsets and UTF-8 of the titles, int64 first bytes, int64 ends).
        """

    @property
    def kind(self) -> str | None:
        """Either "pubmed" or "jats", once the first root element has been read."""

    @property
    def ended(self) -> bool: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def xxh3_128(self) -> str | None: ...
    def __reduce__(self) -> Never: ...

def scan_pubmed(
    files: list[tuple[str | PathLike[str], str, bool, str | None]],
    *,
    max_document_bytes: int | None = None,
    skip: bool = False,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> list[tuple[int, Buffer, int, int]]:
    """Which records of PubMed files a later one with the same PMID, or a later DeleteCitation, puts out of force.

    `files`: (path, compression, whether it is a tar, the name that stands for it in messages and in the order of
    files). For each, in the order given: records; a bit a record, least significant first, set where it is left out;
    how many were replaced; how many deleted. A JATS file has 0 records here.
    """

# --- dedup ----------------------------------------------------------------------------------------------------------

def dedup_fuzzy(
    texts: list[tuple[object, object, int]],
    *,
    threshold: float,
    unit: str,
    ngram: int,
    num_perm: int,
    bands: int,
    seed: int,
    keep: str,
    signatures: list[object] | None = None,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> tuple[Buffer, Buffer, Buffer, Buffer, Buffer, Buffer, int]:
    """Clusters texts by MinHash LSH and exact verification: `unit` is "word" or "alnum", `keep` "first", "longest" or
    "shortest". `signatures`: those of the first texts, where `dedup_signatures` made them before with the same options.

    Cluster ids and representatives (int64, a row each); the pairs: a, b (int64), jaccard (float64); verified candidates
    by similarity (uint64, 20 bins); rows whose shingle set an earlier row has.
    """

def dedup_signatures(
    texts: list[tuple[object, object, int]],
    *,
    unit: str,
    ngram: int,
    num_perm: int,
    bands: int,
    seed: int,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> Buffer:
    """Signs texts for `dedup_fuzzy`, which takes those of a multiple of 128 texts: bands + 3 values (uint64) a text."""

def dedup_exact(
    texts: list[tuple[object, object, int]],
    *,
    nfc: bool,
    case: bool,
    space: bool,
    keep: str,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> tuple[Buffer, Buffer, int]:
    """Clusters equal texts: as they are, or composed (`nfc`), in lower case (`case`), with single spaces (`space`).

    Cluster ids and representatives (int64, a row each); rows whose text an earlier row has.
    """

def dedup_url(
    urls: list[tuple[object, object, int]],
    texts: list[tuple[object, object, int]],
    *,
    keep: str,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> tuple[Buffer, Buffer, int]:
    """Clusters texts whose URLs are equal once normalised; one with an empty URL is alone. Gives what `dedup_exact`
    does.
    """

def dedup_pieces(
    texts: list[tuple[object, object, int]],
    *,
    unit: str,
    min_length: int,
    nfc: bool,
    case: bool,
    space: bool,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> tuple[Buffer, Buffer, Buffer, Buffer, Buffer, int]:
    """Finds the pieces of texts that an earlier text has: `unit` is "line", "paragraph" or "sentence".

    By (row, start): row, first byte, end, first row (int64 each); whether a row stays (uint8, one a row); pieces looked
    at.
    """

# --- select ---------------------------------------------------------------------------------------------------------

def gopher_statistics(
    texts: list[tuple[object, object, int]],
    *,
    quality: bool = True,
    repetition: bool = True,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> list[tuple[str, str, Buffer]]:
    """Statistics of each text for the Gopher rules: (name, "int64" or "float64", values) for each."""

# --- tokenize -------------------------------------------------------------------------------------------------------

_TextChunks = list[tuple[object, object, int]]

@final
class Tokenizer:
    """A byte-level BPE tokenizer, immutable: from the bytes of a `tokenizer.json`, or with `pattern` from those of a
    `.tiktoken` file.
    """

    def __new__(
        cls, data: bytes, pattern: str | None = None, special_tokens: list[tuple[str, int]] = ...
    ) -> Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def pattern(self) -> str: ...
    @property
    def added_tokens(self) -> list[tuple[int, str, bool]]:
        """(id, content, whether it is special)."""

    def encode(self, text: str, *, add_special: bool = True, allow_special: list[str] | None = ...) -> Buffer:
        """Ids (uint32). `allow_special`: special tokens that are looked for in the text, `None` for all."""

    def encode_batch(
        self,
        texts: _TextChunks,
        *,
        add_special: bool = True,
        allow_special: list[str] | None = ...,
        append: int | None = None,
        max_document_bytes: int | None = None,
        threads: int | None = None,
        progress: _Progress | None = None,
    ) -> tuple[Buffer, Buffer]:
        """Ids (uint32) end to end, and offsets (uint64, texts + 1)."""

    def decode(self, ids: object, *, skip_special: bool = False) -> bytes:
        """The bytes of ids (a buffer of uint32)."""

    def decode_batch(
        self,
        ids: object,
        offsets: object,
        *,
        skip_special: bool = False,
        threads: int | None = None,
        progress: _Progress | None = None,
    ) -> tuple[Buffer, Buffer]:
        """Bytes end to end, and offsets (int64, lists + 1), of ids (uint32) and offsets (uint64)."""

    def token_to_id(self, token: bytes) -> int | None: ...
    def id_to_token(self, id: int) -> bytes | None: ...
    def to_json(self) -> bytes:
        """A `tokenizer.json`: the one it was loaded from, where it was."""

    def __getnewargs__(self) -> tuple[bytes, str | None, list[tuple[str, int]]]: ...

def count_words(
    texts: _TextChunks,
    *,
    pattern: str,
    known: tuple[_TextChunks, object] | None = None,
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: _Progress | None = None,
) -> tuple[Buffer, Buffer, Buffer]:
    """Pieces in byte order (int64 offsets, UTF-8) and their counts (uint64), added to those of `known`."""

def train_tokenizer(
    words: _TextChunks,
    counts: object,
    *,
    vocab_size: int,
    special_tokens: list[str],
    min_frequency: int,
    pattern: str,
    progress: _Progress | None = None,
) -> Tokenizer:
    """Learns a vocabulary of exactly `vocab_size` ids."""

def hash_texts(
    texts: _TextChunks, *, seed: int, threads: int | None = None, progress: _Progress | None = None
) -> Buffer:
    """xxh3-64 (uint64) of each text under a seed."""
