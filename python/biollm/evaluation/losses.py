"""The loss of a model on each document: what perplexity, bits a byte and comparisons over documents are made of.

A document longer than the model's context is read in overlapping windows: each of its tokens but the first is scored
once, those behind the first window with `context - stride` tokens before them at least. The first token of a document
has nothing before it and is not scored, and neither are its bytes counted; training validates in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from biollm.errors import ConfigError, FormatError, InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from biollm.models.llama import Llama
    from biollm.results import Progress
    from biollm.tokenization import Shards, Tokenizer

__all__ = ["DocumentLosses", "document_losses", "shard_losses", "text_losses", "token_bytes"]


@dataclass(frozen=True)
class DocumentLosses:
    """The losses of n documents, in their order.

    Attributes:
        nats: negative log-likelihood of the scored tokens, summed a document: (n,) float64.
        tokens: scored tokens: (n,) int64.
        num_bytes: bytes of text that these stand for, special tokens none: (n,) int64; zeros where not asked for.
        windows: forward passes that the document took: (n,) int64; more than 1 where it is longer than the context.
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    windows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.nats)

    @property
    def nats_per_token(self) -> float:
        """Mean over all scored tokens; NaN where there are none."""
        return _ratio(self.nats.sum(), self.tokens.sum())

    @property
    def perplexity(self) -> float:
        """The exponential of `nats_per_token`."""
        return float(np.exp(self.nats_per_token))

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers, as perplexity is not; NaN where no bytes were counted."""
        return _ratio(self.nats.sum() / math.log(2.0), self.num_bytes.sum())

    @property
    def totals(self) -> NDArray[np.float64]:
        """Nats, tokens, bytes: (n, 3) float64, as `bootstrap` takes them."""
        return np.stack([self.nats, self.tokens.astype(np.float64), self.num_bytes.astype(np.float64)], axis=1)

    def take(self, rows: NDArray[Any]) -> DocumentLosses:
        """The losses of some documents: `rows` are their numbers, or a mask (n,)."""
        return DocumentLosses(self.nats[rows], self.tokens[rows], self.num_bytes[rows], self.windows[rows])


def document_losses(
    model: Llama,
    documents: Sequence[ArrayLike],
    *,
    masks: Sequence[ArrayLike] | None = None,
    token_bytes: NDArray[np.int64] | None = None,
    context: int | None = None,
    stride: int | None = None,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> DocumentLosses:
    """The losses of documents of token ids.

    Args:
        model: a `Llama`, quantized or not; its dtype decides how exact the losses are. Batching changes nothing but the
            last bits of rounding.
        documents: token ids of each, (tokens,) integers; what `Tokenizer.encode_batch` gives will do.
        masks: of each document, (tokens,), true where a token is in the loss; without, all are.
        token_bytes: bytes of each id, (vocab,), as the function of this name gives; without, `num_bytes` is zeros.
        context: tokens of a window at most; by default the model's context.
        stride: new tokens of each window behind a document's first; by default half the context.
        batch_tokens: tokens of one batch, padding among them.
        progress: called with windows done and in all.

    Returns:
        The losses, one a document. A document of fewer than two tokens has 0 nats over 0 tokens.

    Raises:
        InputError: an id outside the model's vocabulary, a mask of another length, a loss that is not finite.
        ConfigError: `context` or `stride` out of range.
    """
    from biollm.inference.scoring import Span, token_losses

    context, stride = _window(context, stride, model.config.max_seq_len)
    if masks is not None and len(masks) != len(documents):
        raise InputError(f"{len(masks)} masks for {len(documents)} documents", field="masks")
    spans: list[Span] = []
    homes: list[tuple[int, int]] = []  # document of a span, and where in it the scored tokens begin
    rows = [_checked(index, ids, model.config.vocab_size) for index, ids in enumerate(documents)]
    for index, ids in enumerate(rows):
        for begin, first, end in _windows(len(ids), context, stride):
            spans.append(Span(ids[begin:end], first - begin))
            homes.append((index, first))
    losses = token_losses(
        model,
        spans,
        batch_tokens=batch_tokens,
        after_batch=None if progress is None else lambda done: progress(done, len(spans)),
    )
    nats, tokens = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    num_bytes, windows = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for (index, first), values in zip(homes, losses, strict=True):
        part = slice(first, first + len(values))
        scored = _mask(index, masks[index], len(rows[index]))[part] if masks is not None else np.ones(len(values), bool)
        nats[index] += values[scored].sum()
        tokens[index] += np.count_nonzero(scored)
        windows[index] += 1
        if token_bytes is not None:
            num_bytes[index] += token_bytes[rows[index][part][scored]].sum()
    return DocumentLosses(nats, tokens, num_bytes, windows)


def text_losses(
    model: Llama,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    append_eos: bool = False,
    context: int | None = None,
    stride: int | None = None,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> DocumentLosses:
    """The losses of texts; bytes are counted.

    Args:
        model: as for `document_losses`.
        tokenizer: the model's own.
        texts: the documents.
        append_eos: score the end of each document too, as it is trained on; it adds no bytes.
        context: tokens of a window at most; by default the model's context.
        stride: new tokens of each window behind a document's first; by default half the context.
        batch_tokens: tokens of one batch, padding among them.
        progress: called with windows done and in all.

    Returns:
        The losses, one a text.

    Raises:
        InputError, ConfigError: as `document_losses`, and as `Tokenizer.encode_batch`.
    """
    return document_losses(
        model,
        list(tokenizer.encode_batch(texts, append_eos=append_eos)),
        token_bytes=token_bytes(tokenizer, model.config.vocab_size),
        context=context,
        stride=stride,
        batch_tokens=batch_tokens,
        progress=progress,
    )


def shard_losses(
    model: Llama,
    shards: Shards,
    *,
    split: str = "validation",
    max_documents: int | None = None,
    context: int | None = None,
    stride: int | None = None,
    batch_tokens: int = 8192,
    progress: Progress | None = None,
) -> DocumentLosses:
    """The losses of the documents of token shards, in order; loss masks are heeded, bytes are counted.

    Args:
        model: as for `document_losses`.
        shards: with its tokenizer in the folder.
        split: whose documents.
        max_documents: only the first so many.
        context: tokens of a window at most; by default the model's context.
        stride: new tokens of each window behind a document's first; by default half the context.
        batch_tokens: tokens of one batch, padding among them.
        progress: called with windows done and in all.

    Returns:
        The losses, one a document.

    Raises:
        InputError: there is no such split; as `document_losses`. ConfigError: as there.
        FileError, FormatError: the shards or their tokenizer cannot be read.
    """
    from biollm.tokenization import Tokenizer

    if split not in shards.splits:
        known = ", ".join(sorted(shards.splits)) or "none"
        raise InputError(f"the shards have no split {split!r} (there are: {known})", path=shards.folder, field="split")
    documents: list[NDArray[Any]] = []
    masks: list[NDArray[Any]] = []
    for shard in shards.splits[split]:
        starts = shard.offsets.astype(np.int64)
        if (starts[1:] < starts[:-1]).any():
            raise FormatError("offsets do not rise", path=shard.path("offsets"), field="offsets")
        whole = np.ones(shard.num_tokens, np.uint8) if shard.mask is None else shard.mask
        for begin, end in pairwise(starts):
            documents.append(shard.tokens[begin:end])
            masks.append(whole[begin:end])
    return document_losses(
        model,
        documents[:max_documents],
        masks=masks[:max_documents],
        token_bytes=token_bytes(Tokenizer.from_file(shards.tokenizer_path), model.config.vocab_size),
        context=context,
        stride=stride,
        batch_tokens=batch_tokens,
        progress=progress,
    )


def token_bytes(tokenizer: Tokenizer, vocab_size: int | None = None) -> NDArray[np.int64]:
    """How many bytes of text each id stands for, (vocab,) int64: 0 for special tokens and ids that no token has.

    Args:
        tokenizer: whose ids.
        vocab_size: length of the table, where a model has more ids than its tokenizer.
    """
    size = max(tokenizer.vocab_size, vocab_size or 0)
    special = set(tokenizer.special_tokens.values())
    table = np.zeros(size, np.int64)
    for token_id in range(tokenizer.vocab_size):
        if token_id not in special:
            table[token_id] = len(tokenizer.id_to_token(token_id) or b"")
    return table


def _window(context: int | None, stride: int | None, max_seq_len: int) -> tuple[int, int]:
    context = max_seq_len if context is None else context
    if not 1 <= context <= max_seq_len:
        message = f"context is {context}, the model reads 1 to {max_seq_len} tokens"
        raise ConfigError(message, field="context", value=context)
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride <= context:
        raise ConfigError(f"stride is {stride}, not in 1 to {context}", field="stride", value=stride)
    return context, stride


def _windows(length: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first scored, end) of each window: it reads `context` tokens at most, the end is its last target."""
    end = min(length, context + 1)
    if length >= 2:
        yield 0, 1, end
    while end < length:
        first, end = end, min(length, end + stride)
        yield max(0, end - context - 1), first, end


def _checked(index: int, ids: ArrayLike, vocab_size: int) -> NDArray[Any]:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"document {index} is no row of token ids", row=index, field="documents")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < vocab_size:
        raise InputError(
            f"document {index} has a token id outside the model's vocabulary of {vocab_size}",
            row=index,
            field="documents",
        )
    return array


def _mask(index: int, mask: ArrayLike, length: int) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.shape != (length,):
        raise InputError(f"the mask of document {index} is not as long as the document", row=index, field="masks")
    scored: NDArray[np.bool_] = array != 0
    return scored


def _ratio(total: float, count: float) -> float:
    return float(total) / float(count) if count else math.nan
