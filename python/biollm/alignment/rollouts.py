"""Answers of a model that is being trained: sampled in memory, from prompts of token ids, and put into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from biollm.inference.batch import complete_rows
from biollm.inference.completion import Row
from biollm.inference.decode import decode_one_token
from biollm.inference.kv_cache import KVCache
from biollm.inference.sampling import SamplingOptions, uniforms
from biollm.models.llama import Llama

ROWS: Final = 64
"""Answers sampled at once."""


@dataclass(frozen=True)
class Answer:
    """A sampled answer: its `ids`, the ending token included, and whether it `finished` by such a token."""

    ids: tuple[int, ...]
    finished: bool


@torch.no_grad()
def sample_answers(
    model: Llama,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int],
    max_tokens: int,
    temperature: float,
    seed: int,
) -> list[Answer]:
    """One answer a prompt, in order. Answer i draws from a generator seeded with seed + i, whatever it is beside."""
    options = SamplingOptions(max_tokens=max_tokens, temperature=temperature, seed=seed)
    weight = model.model.embed_tokens.weight
    shortest_first = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: dict[int, Answer] = {}
    for begin in range(0, len(prompts), ROWS):
        batch = shortest_first[begin : begin + ROWS]
        rows = [
            Row(
                tuple(prompts[index]),
                prompts[index],
                max_tokens=max_tokens,
                eos_ids=end_ids,
                stop=(),
                tokenizer=None,
                with_logprobs=False,
            )
            for index in batch
        ]
        length = len(prompts[batch[-1]]) + max_tokens
        cache = KVCache(model.config, batch=len(batch), length=length, dtype=weight.dtype, device=weight.device)
        complete_rows(model, cache, decode_one_token, rows, options, uniforms(options, batch))
        for index, row in zip(batch, rows, strict=True):
            answers[index] = Answer(tuple(row.token_ids), row.finish_reason == "stop")
    return [answers[index] for index in range(len(prompts))]


def pad_rows(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as one int64 tensor (rows, longest), id 0 behind the shorter ones."""
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded


def answer_batch(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Prompts and answers as tokens (batch, seq), padded on the right, and the mask of the answers (batch, seq - 1).

    No attention mask is needed: a causal model's tokens do not see what stands behind them.
    """
    tokens = pad_rows([[*p, *a] for p, a in zip(prompts, answers, strict=True)]).to(device)
    starts = torch.tensor([len(p) - 1 for p in prompts], device=device)[:, None]
    ends = starts + torch.tensor([len(a) for a in answers], device=device)[:, None]
    places = torch.arange(tokens.shape[1] - 1, device=device)
    return tokens, (places >= starts) & (places < ends)
