"""How likely a model finds given tokens: the losses of many token sequences, in padded batches.

Sequences are batched by length and padded on the right; under causal attention padding changes nothing before it, so a
sequence has the losses it would have alone. Only scored positions go through the output layer, a bounded number at
once, so no logits of (batch, seq, vocab) are ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from biollm.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.models.llama import Llama

__all__ = ["BATCH_TOKENS", "Span", "token_losses"]

BATCH_TOKENS: Final = 8192
"""Tokens of one batch, padding among them; a longer sequence is a batch by itself."""
MAX_LOGITS: Final = 1 << 24
"""Logits held at once (64 MiB of float32)."""


@dataclass(frozen=True)
class Span:
    """A sequence of which the end is scored.

    Attributes:
        tokens: ids, shape (n,), integers.
        first: the first one scored, at least 1; those before it are read only.
    """

    tokens: NDArray[Any]
    first: int


@torch.no_grad()
def token_losses(
    model: Llama,
    spans: Sequence[Span],
    *,
    batch_tokens: int = BATCH_TOKENS,
    after_batch: Callable[[int], None] | None = None,
) -> list[NDArray[np.float64]]:
    """The negative log-likelihood of each scored token given all before it in its span: nats, (n - first,) a span.

    The log-softmax is taken in float32 (float64 for a float64 model).

    Args:
        model: whose likelihood is asked.
        spans: each with at most the model's context of tokens, and one more.
        batch_tokens: of one batch, padding among them.
        after_batch: called with the number of spans done; what it raises ends the work.

    Raises:
        InputError: a loss is not finite (`row` is the span).
    """
    losses: list[NDArray[np.float64]] = [np.zeros(0)] * len(spans)
    done = 0
    for batch in _batches(spans, batch_tokens):
        for index, values in zip(batch, _batch_losses(model, [spans[index] for index in batch]), strict=True):
            if not np.isfinite(values).all():
                raise InputError(f"the model gives no finite likelihood of sequence {index}", row=index)
            losses[index] = values
        done += len(batch)
        if after_batch is not None:
            after_batch(done)
    return losses


def _batches(spans: Sequence[Span], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of spans by length, the longest first: what memory will be needed shows at once."""
    batch: list[int] = []
    for index in sorted(range(len(spans)), key=lambda index: -len(spans[index].tokens)):
        if batch and (len(batch) + 1) * len(spans[batch[0]].tokens) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _batch_losses(model: Llama, spans: Sequence[Span]) -> list[NDArray[np.float64]]:
    device = model.model.embed_tokens.weight.device
    counts = [max(0, len(span.tokens) - span.first) for span in spans]
    if not sum(counts):
        return [np.zeros(0)] * len(spans)
    longest = max(len(span.tokens) for span in spans) - 1  # the last token is only a target
    inputs = np.zeros((len(spans), longest), np.int64)
    for row, span in enumerate(spans):
        inputs[row, : len(span.tokens) - 1] = span.tokens[:-1]
    rows = np.repeat(np.arange(len(spans)), counts)
    columns = np.concatenate([np.arange(s.first - 1, s.first - 1 + n) for s, n in zip(spans, counts, strict=True)])
    targets = np.concatenate([np.asarray(span.tokens[span.first :]).astype(np.int64) for span in spans])
    hidden = model.model(torch.from_numpy(inputs).to(device))  # (batch, seq, dim)
    scored = hidden[torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)]  # (scored, dim)
    values = _cross_entropies(model, scored, torch.from_numpy(targets).to(device))
    ends = np.cumsum(counts)[:-1]
    return np.split(values.double().cpu().numpy(), ends)


def _cross_entropies(model: Llama, hidden: Tensor, targets: Tensor) -> Tensor:
    """Hidden (scored, dim), targets (scored,) → nats (scored,)."""
    step = max(1, MAX_LOGITS // model.config.vocab_size)
    parts = []
    for begin in range(0, len(targets), step):
        logits = model.logits(hidden[begin : begin + step])  # (step, vocab)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        parts.append(functional.cross_entropy(logits, targets[begin : begin + step], reduction="none"))
    return torch.cat(parts)
