"""`train`: learns a byte-level BPE vocabulary from documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from biollm import _native
from biollm.columns import string_array, text_chunks, values
from biollm.document_files import blocks
from biollm.errors import ConfigError, InputError
from biollm.tokenization.options import DEFAULT_PATTERN, TRAINED_PATTERNS
from biollm.tokenization.tokenizer import Tokenizer
from biollm.tokenization.tokenizer_files import ENDOFTEXT, PAD

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["DEFAULT_SPECIAL_TOKENS", "WordCounter", "train"]

SPARE_TOKENS: Final = tuple(f"<|reserved_{i}|>" for i in range(16))
"""Ids kept free for tokens that a later stage may need."""
DEFAULT_SPECIAL_TOKENS: Final = (ENDOFTEXT, PAD, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", *SPARE_TOKENS)


def train(
    source: Any,
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
    min_frequency: int = 2,
    pattern: str = DEFAULT_PATTERN,
    text: str | Sequence[str] = "text",
    max_document_bytes: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Tokenizer:
    """Learn a byte-level BPE vocabulary (Sennrich et al. 2016, arXiv 1508.07909).

    Exact and greedy, with merges identical to those of `tokenizers`' `BpeTrainer` on the same split: of pairs of one
    count, the one of smaller ids comes first. Special tokens get the first ids, then come the 256 bytes, so every text
    can be encoded. Memory is that of the distinct pieces of the text, about 25 bytes for each of their bytes.

    Args:
        source: documents as any verb takes them: list of str, Arrow, polars, pandas, `Documents`, paths, globs, URLs.
        vocab_size: ids in all, special tokens and bytes among them.
        special_tokens: in the order of their ids; by default `<|endoftext|> <|pad|> <|system|> <|user|> <|assistant|>
            <|end|>` and 16 spare ones.
        min_frequency: a pair that occurs less often is not merged.
        pattern: split pattern: "llama3" (words with their blank, numbers by three digits), "gpt2" or "o200k".
        text: column of the text, or several joined by a blank line.
        max_document_bytes: longest document, UTF-8; `None` is 256 MiB.
        threads: worker threads; `None` is the cores this process may use. The result does not depend on it.
        progress: called with documents counted, then with ids learned and ids in all.

    Returns:
        The tokenizer; `save(folder)` writes its `tokenizer.json`.

    Raises:
        ConfigError: an unknown pattern. InputError: the source cannot be used, has no text, or allows fewer ids than
        `vocab_size` (the message says how many). LimitError: a document is too long.
    """
    from biollm.readers import as_documents

    counter = WordCounter(pattern, max_document_bytes=max_document_bytes, threads=threads, progress=progress)
    columns = text if isinstance(text, str) else tuple(text)
    documents = as_documents(source, text=columns)
    for block in blocks(documents.reader()):
        counter.add(block.column("text"))
    return counter.train(
        vocab_size, special_tokens=special_tokens, min_frequency=min_frequency, source=documents.description
    )


class WordCounter:
    """Counts the pieces of texts block by block, and trains on the counts.

    Args:
        pattern: split pattern. max_document_bytes, threads, progress: as in `train`.
    """

    def __init__(
        self,
        pattern: str = DEFAULT_PATTERN,
        *,
        max_document_bytes: int | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        if pattern not in TRAINED_PATTERNS:
            message = f"pattern {pattern!r} is not one of {', '.join(TRAINED_PATTERNS)}"
            raise ConfigError(message, field="pattern", value=pattern)
        self.pattern = pattern
        self.documents = 0
        self._max_document_bytes = max_document_bytes
        self._threads = threads
        self._progress = progress
        self._words: pa.LargeStringArray | None = None
        self._counts = np.zeros(0, np.uint64)  # (words,)

    def add(self, texts: pa.ChunkedArray) -> None:
        """Counts the pieces of a column of text."""
        done, progress = self.documents, self._progress
        offsets, data, counts = _native.count_words(
            text_chunks(texts),
            pattern=self.pattern,
            known=None if self._words is None else (text_chunks(self._words), self._counts),
            max_document_bytes=self._max_document_bytes,
            threads=self._threads,
            progress=None if progress is None else lambda now, _: progress(done + now, None),
        )
        self._words = string_array(offsets, data)
        self._counts = values(counts, np.uint64)
        self.documents += len(texts)

    @property
    def num_pieces(self) -> int:
        """Pieces counted."""
        return int(self._counts.sum())

    @property
    def state_bytes(self) -> int:
        """Size of the state."""
        return self._counts.nbytes + (self._words.nbytes if self._words is not None else 8)

    def state(self) -> tuple[Any, ...]:
        """What was counted, as buffers: to go on from by `restore`."""
        if self._words is None:
            return (bytes(8), self._counts, b"")
        _, offsets, data = self._words.buffers()
        return (offsets, self._counts, data)

    def restore(self, state: Sequence[Any], documents: int) -> None:
        """Goes on from the `state` of a counter of the same pattern that had counted `documents`."""
        offsets, counts, data = state
        self._words = string_array(offsets, data)
        self._counts = values(counts, np.uint64)
        self.documents = documents

    def train(
        self,
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
        min_frequency: int = 2,
        source: str = "what was counted",
    ) -> Tokenizer:
        """A tokenizer of `vocab_size` ids from what was counted; `source` names it in messages.

        Raises:
            InputError: nothing was counted, or the counts allow fewer ids.
        """
        if self._words is None or self.num_pieces == 0:
            message = f"there is no text to train a vocabulary on: {source} holds no documents, or only empty ones"
            raise InputError(message, field="source")
        native = _native.train_tokenizer(
            text_chunks(self._words),
            self._counts,
            vocab_size=vocab_size,
            special_tokens=list(special_tokens),
            min_frequency=min_frequency,
            pattern=self.pattern,
            progress=self._progress,
        )
        return Tokenizer(native)
