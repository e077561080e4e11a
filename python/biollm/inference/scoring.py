"""How likely a model finds given tokens: the losses of continuations of prompts, in padded batches.

Prompts are batched by length and padded on the right; under causal attention padding changes nothing before it, so a
continuation has the losses it would have alone. Several continuations of one prompt stand behind it in one row, each
at the positions it would have alone and seeing only the prompt and itself, so that the prompt is read once. Only
scored positions go through the output layer, a bounded number at once: no logits of (batch, seq, vocab) are held.
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

__all__ = ["BATCH_TOKENS", "Branches", "token_losses"]

BATCH_TOKENS: Final = 8192
"""Tokens of one batch, padding among them; a longer row is a batch by itself."""
MAX_LOGITS: Final = 1 << 24
"""Logits held at once (64 MiB of float32)."""
_PADDING: Final = -1


@dataclass(frozen=True)
class Branches:
    """A prompt and what may follow it.

    Attributes:
        prompt: ids, shape (n,), integers, one at least; read only.
        continuations: ids of each, every one of them scored given the prompt and those before it.
    """

    prompt: NDArray[Any]
    continuations: tuple[NDArray[Any], ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of its row: the last of a continuation is only a target."""
        return len(self.prompt) + sum(max(0, len(ids) - 1) for ids in self.continuations)


@torch.no_grad()
def token_losses(
    model: Llama,
    branches: Sequence[Branches],
    *,
    batch_tokens: int = BATCH_TOKENS,
    after_batch: Callable[[int], None] | None = None,
) -> list[tuple[NDArray[np.float64], ...]]:
    """The negative log-likelihood of each token of each continuation, nats: (tokens,) float64 a continuation.

    The log-softmax is taken in float32 (float64 for a float64 model). The caller keeps prompt and continuation within
    the model's context.

    Args:
        model: whose likelihood is asked.
        branches: prompts with their continuations.
        batch_tokens: of one batch, padding among them.
        after_batch: called with the number of prompts done; what it raises ends the work.

    Raises:
        InputError: a loss is not finite (`row` is the prompt).
    """
    losses: list[tuple[NDArray[np.float64], ...]] = [()] * len(branches)
    done = 0
    for batch in _batches(branches, batch_tokens):
        for index, values in zip(batch, _batch_losses(model, [branches[index] for index in batch]), strict=True):
            if not all(np.isfinite(part).all() for part in values):
                raise InputError(f"the model gives no finite likelihood of sequence {index}", row=index)
            losses[index] = values
        done += len(batch)
        if after_batch is not None:
            after_batch(done)
    return losses


def _batches(branches: Sequence[Branches], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of rows by length, the longest first: what memory will be needed shows at once."""
    batch: list[int] = []
    for index in sorted(range(len(branches)), key=lambda index: -branches[index].num_tokens):
        if batch and (len(batch) + 1) * branches[batch[0]].num_tokens > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _batch_losses(model: Llama, batch: Sequence[Branches]) -> list[tuple[NDArray[np.float64], ...]]:
    counts = [[len(ids) for ids in row.continuations] for row in batch]
    if not sum(map(sum, counts)):
        return [tuple(np.zeros(0) for _ in row.continuations) for row in batch]
    device = model.model.embed_tokens.weight.device
    shape = (len(batch), max(row.num_tokens for row in batch))
    tokens, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    branch = np.full(shape, _PADDING)  # 0: the prompt; k: continuation k
    scored: list[NDArray[np.int64]] = []  # place in the flattened batch of what predicts each target
    for number, row in enumerate(batch):
        end = len(row.prompt)
        tokens[number, :end], positions[number, :end], branch[number, :end] = row.prompt, np.arange(end), 0
        for part, ids in enumerate(row.continuations, start=1):
            inner = slice(end, end + max(0, len(ids) - 1))
            tokens[number, inner], branch[number, inner] = ids[:-1], part
            positions[number, inner] = len(row.prompt) + np.arange(inner.stop - end)
            places = np.arange(end - 1, inner.stop)
            places[0] = len(row.prompt) - 1
            scored.append(number * shape[1] + places[: len(ids)])
            end = inner.stop
    targets = np.concatenate([np.asarray(ids).astype(np.int64) for row in batch for ids in row.continuations])
    tree = _Tree(torch.from_numpy(branch).to(device)) if max(map(len, counts)) > 1 else None
    hidden = model.model(
        torch.from_numpy(tokens).to(device), positions=torch.from_numpy(positions).to(device), cache=tree
    )  # (batch, seq, dim)
    places_of = torch.from_numpy(np.concatenate(scored)).to(device)
    values = _cross_entropies(model, hidden.flatten(0, 1)[places_of], torch.from_numpy(targets).to(device))
    parts = iter(np.split(values.double().cpu().numpy(), np.cumsum([n for row in counts for n in row])[:-1]))
    return [tuple(next(parts) for _ in row) for row in counts]


class _Tree:
    """Attention along branches, in the place of a cache: what `models.llama.Cache` asks for; nothing is kept."""

    def __init__(self, branch: Tensor) -> None:
        """branch: (batch, seq), 0 in the prompt, k in continuation k."""
        seq = branch.shape[1]
        visible = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
        causal = torch.ones(seq, seq, dtype=torch.bool, device=branch.device).tril()
        self._mask = (visible & causal)[:, None]  # (batch, 1, seq, seq)

    def mask(self, positions: Tensor) -> Tensor | None:
        """The mask of the whole row."""
        return self._mask

    def update(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values as they come."""
        return keys, values


def _cross_entropies(model: Llama, hidden: Tensor, targets: Tensor) -> Tensor:
    """Hidden (scored, dim), targets (scored,) → nats (scored,)."""
    step = max(1, MAX_LOGITS // model.config.vocab_size)
    parts = []
    for begin in range(0, len(targets), step):
        logits = model.logits(hidden[begin : begin + step])  # (step, vocab)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        parts.append(functional.cross_entropy(logits, targets[begin : begin + step], reduction="none"))
    return torch.cat(parts)
