"""What a tokenization says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from biollm.results import Series, Summary, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.tokenization.shards import Shard
    from biollm.tokenization.tokenizer import Tokenizer

__all__ = ["TokenStatistics"]

#: Tokens shown in each table of samples.
SHOWN_TOKENS: Final = 20
#: Token lengths from here on are one bar.
LONGEST_BAR_BYTES: Final = 16
#: Tokens of a shard taken in at a time.
SLICE_TOKENS: Final = 1 << 22


class TokenStatistics:
    """Counts by split, gathered batch by batch."""

    def __init__(self, tokenizer: Tokenizer, splits: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.vocab_size)]
        self._token_bytes = [token or b"" for token in tokens]
        self._uses = np.zeros(tokenizer.vocab_size, np.int64)  # (vocab_size,)
        self._documents = dict.fromkeys(splits, 0)
        self._tokens = dict.fromkeys(splits, 0)
        self._bytes = dict.fromkeys(splits, 0)
        self._lengths = {split: np.zeros(64, np.int64) for split in splits}  # documents of 2^(i-1) < tokens <= 2^i

    def add(self, split: str, ids: NDArray[Any], offsets: NDArray[Any], num_bytes: NDArray[Any]) -> None:
        """Takes in a batch: ids (tokens,), offsets (documents + 1,), UTF-8 bytes (documents,)."""
        lengths = np.diff(offsets.astype(np.int64))
        self._uses += np.bincount(ids, minlength=len(self._uses))
        self._documents[split] += len(lengths)
        self._tokens[split] += len(ids)
        self._bytes[split] += int(np.sum(num_bytes))
        bins = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
        self._lengths[split] += np.bincount(bins, minlength=64)

    def add_shard(self, shard: Shard) -> None:
        """Takes in a finished `shard`, a slice of documents at a time.

        Raises:
            FileError, FormatError: its files cannot be read.
        """
        num_bytes = shard.documents().column("bytes").to_numpy()
        offsets = shard.offsets
        first = 0
        while first < shard.num_documents:
            room = np.uint64(int(offsets[first]) + SLICE_TOKENS)
            last = max(first + 1, int(np.searchsorted(offsets, room, side="right")) - 1)
            begin, end = int(offsets[first]), int(offsets[last])
            self.add(
                shard.split, shard.tokens[begin:end], offsets[first : last + 1] - offsets[first], num_bytes[first:last]
            )
            first = last

    @property
    def all_documents(self) -> int:
        """Documents of all splits."""
        return sum(self._documents.values())

    def tokens(self, split: str) -> int:
        """Tokens of a split."""
        return self._tokens[split]

    def counts(self) -> dict[str, int | float]:
        """For the manifest: documents, tokens and bytes of each split, and the size of the vocabulary."""
        counts: dict[str, int | float] = {"vocab_size": len(self._uses)}
        for split in self._documents:
            counts[f"{split}_documents"] = self._documents[split]
            counts[f"{split}_tokens"] = self._tokens[split]
            counts[f"{split}_bytes"] = self._bytes[split]
        return counts

    def summary(self, *, trained: bool) -> Summary:
        """Facts, counts by split, histograms of token and document lengths, samples of the vocabulary."""
        tokens, size = sum(self._tokens.values()), sum(self._bytes.values())
        facts = {
            "vocabulary": len(self._uses),
            "vocabulary trained here": trained,
            "documents": self.all_documents,
            "tokens": tokens,
            "bytes per token": _ratio(size, tokens),
            "tokens per document": _ratio(tokens, self.all_documents),
            "ids never used": int(np.count_nonzero(self._uses == 0)),
        }
        rows = tuple(
            (
                split,
                self._documents[split],
                self._tokens[split],
                self._bytes[split],
                _ratio(self._bytes[split], self._tokens[split]),
            )
            for split in self._documents
        )
        splits = Table("Splits", ("split", "documents", "tokens", "bytes", "bytes per token"), rows)
        return Summary(
            "tokenize",
            facts,
            (splits, *self._samples()),
            (*self._document_lengths(), self._token_lengths()),
        )

    def _samples(self) -> tuple[Table, ...]:
        special = set(self._tokenizer.special_tokens.values())
        plain = [i for i in range(len(self._uses)) if self._token_bytes[i] and i not in special]
        longest = sorted(plain, key=lambda i: (-len(self._token_bytes[i]), i))[:SHOWN_TOKENS]
        frequent = sorted(plain, key=lambda i: (-self._uses[i], i))[:SHOWN_TOKENS]
        columns = ("token", "id", "bytes", "uses")
        return tuple(
            Table(
                title,
                columns,
                tuple((self._shown(i), i, len(self._token_bytes[i]), int(self._uses[i])) for i in ids),
            )
            for title, ids in (("Longest tokens", longest), ("Most frequent tokens", frequent))
        )

    def _shown(self, token_id: int) -> str:
        return repr(self._token_bytes[token_id].decode(errors="backslashreplace"))[1:-1]

    def _document_lengths(self) -> tuple[Series, ...]:
        used = [int(bins.nonzero()[0].max(initial=0)) for bins in self._lengths.values()]
        labels = tuple(f"≤ {1 << i:,}" for i in range(max(used) + 1))
        return tuple(
            Series(
                "Document lengths",
                "tokens",
                "documents",
                labels,
                tuple(float(n) for n in bins[: len(labels)]),
                "bar",
                split,
            )
            for split, bins in self._lengths.items()
        )

    def _token_lengths(self) -> Series:
        lengths = np.array([len(token) for token in self._token_bytes])
        bins = np.bincount(np.minimum(lengths, LONGEST_BAR_BYTES), self._uses, LONGEST_BAR_BYTES + 1)[1:]
        labels = (*(str(n) for n in range(1, LONGEST_BAR_BYTES)), f"≥ {LONGEST_BAR_BYTES}")
        return Series("Token lengths", "bytes", "tokens in the text", labels, tuple(map(float, bins)), "bar")


def _ratio(a: int, b: int) -> float:
    return a / b if b else 0.0
