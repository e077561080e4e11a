"""Continuing a batch of prompts, token by token, until every one has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from biollm.inference.completion import Row, TokenLogprob
from biollm.inference.decode import DecodeStep, prefill
from biollm.inference.kv_cache import KVCache
from biollm.inference.sampling import SamplingOptions, log_probabilities, sample
from biollm.models.llama import Llama

__all__ = ["complete_rows"]


@torch.no_grad()
def complete_rows(
    model: Llama,
    cache: KVCache,
    step: DecodeStep,
    rows: Sequence[Row],
    options: SamplingOptions,
    draws: Tensor | None,
    after_step: Callable[[], None] | None = None,
) -> None:
    """Feed every row its tokens until all are finished.

    cache: of at least as many rows, and as long as the longest prompt + max_tokens; rows beyond `rows` repeat the last
    one (a compiled step has a fixed batch size). draws: of `sampling.uniforms` for `rows`. after_step: called after
    each token; what it raises ends the work.
    """
    device = model.model.embed_tokens.weight.device
    repeated = [*rows, *[rows[-1]] * (cache.batch - len(rows))]
    lengths = torch.tensor([len(row.prompt_ids) for row in repeated], device=device)  # (batch,)
    prompts = torch.zeros(cache.batch, int(lengths.max()), dtype=torch.int64)
    for index, row in enumerate(repeated):
        prompts[index, : len(row.prompt_ids)] = torch.tensor(row.prompt_ids)
    if draws is not None:
        draws = torch.cat((draws, draws[:, -1:].expand(-1, cache.batch - len(rows))), dim=1)  # (max_tokens, batch)

    logits = prefill(model, cache, prompts.to(device), lengths)  # (batch, vocab)
    for index in range(options.max_tokens):
        tokens = sample(logits, options, None if draws is None else draws[index])  # (batch,)
        _append(rows, tokens, logits, options.logprobs)
        if after_step is not None:
            after_step()
        if all(row.finished for row in rows):
            return
        # The newest token of a row lies behind its prompt and the tokens before. Finished rows run along unread.
        logits = step(model, cache, tokens[:, None], (lengths + index)[:, None])


def _append(rows: Sequence[Row], tokens: Tensor, logits: Tensor, top: int) -> None:
    token_ids = tokens.tolist()  # waits for the device: the one synchronisation of a step
    if not top:
        for row, token_id in zip(rows, token_ids, strict=False):
            row.append(token_id, None)
        return
    chosen, values, ids = (part.tolist() for part in log_probabilities(logits, tokens, top))
    for index, row in enumerate(rows):
        pairs = tuple(zip(ids[index], values[index], strict=True))
        row.append(token_ids[index], TokenLogprob(token_ids[index], chosen[index], pairs))
