"""How fast checkpoints decode, side by side; how large they are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

from biollm.inference.decode import decode_one_token, prefill
from biollm.inference.kv_cache import KVCache
from biollm.models import Llama, load_checkpoint

__all__ = ["decode_rates", "decode_s", "weights_bytes"]

ROUNDS: Final = 3
TOKENS: Final = 24
ENOUGH_S: Final = 20.0
"""A model so slow that its rounds take longer is timed in fewer."""


def decode_rates(folders: Mapping[str, Path], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Tokens a second of greedy decoding at batch 1, not compiled: name → median of a few rounds taken in turn.

    Args:
        folders: checkpoints by name.
        device: to decode on.
        dtype: to decode in.
    """
    models = {name: load_checkpoint(folder, device=device, dtype=dtype).eval() for name, folder in folders.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    began = time.perf_counter()
    for model in models.values():
        decode_s(model, 2)  # warm
    for _ in range(ROUNDS):
        for name, model in models.items():
            times[name].append(decode_s(model, TOKENS) / TOKENS)
        if time.perf_counter() - began > ENOUGH_S:
            break
    return {name: 1 / statistics.median(taken) for name, taken in times.items()}


@torch.no_grad()
def decode_s(model: Llama, tokens: int) -> float:
    """Seconds that `tokens` greedy steps of a `model` take after a prompt of one token."""
    device, dtype = model.model.embed_tokens.weight.device, model.model.embed_tokens.weight.dtype
    steps = min(tokens, model.config.max_seq_len - 1)
    cache = KVCache(model.config, batch=1, length=steps + 1, dtype=dtype, device=device)
    zeros = torch.zeros(1, 1, dtype=torch.int64, device=device)
    logits = prefill(model, cache, zeros, zeros[0] + 1)
    began = time.perf_counter()
    for step in range(steps):
        token = logits.argmax(-1, keepdim=True)
        logits = decode_one_token(model, cache, token, torch.full_like(token, step + 1))
    logits[0, 0].item()  # waits for the device
    return (time.perf_counter() - began) * tokens / steps


def weights_bytes(folder: Path) -> int:
    """Bytes of a checkpoint's safetensors files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
