"""The two passes of generation: prompts at once, then one token a row at a time.

Prefill is eager, since its shape changes with every prompt. The decode step always has the same shape, so it can be
compiled once and replayed (on CUDA as a CUDA graph): the design of gpt-fast.
"""

from __future__ import annotations

import logging
from types import FunctionType
from typing import Any, ClassVar, Final, Protocol

import torch
from torch import Tensor

from biollm.inference.kv_cache import KVCache
from biollm.models.llama import Llama

__all__ = ["COMPILE_PAYS_AFTER_STEPS", "CompiledDecode", "DecodeStep", "decode_one_token", "prefill"]

log = logging.getLogger("biollm.inference")

# Steps (tokens a row) of one call from which `compile="auto"` compiles. CPU, measured (torch 2.15, one thread): a cold
# compile of 4 layers takes 20 s and saves 0.2 to 0.4 ms a step of a 1M to 5M model, nothing of a 100M one, and so pays
# after 50,000 to 110,000 steps. cuda: not measured; reasoned from a minute against 15 ms of launches a step.
COMPILE_PAYS_AFTER_STEPS: Final = {"cpu": 1 << 16, "cuda": 4096}


class DecodeStep(Protocol):
    """`decode_one_token`, eager or compiled."""

    def __call__(self, model: Llama, cache: KVCache, tokens: Tensor, positions: Tensor) -> Tensor:
        """See `decode_one_token`."""


def prefill(model: Llama, cache: KVCache, prompts: Tensor, lengths: Tensor) -> Tensor:
    """Read prompts into the cache: logits (batch, vocab) of the token after each prompt.

    prompts: (batch, longest), each row padded on the right with any id. lengths: (batch,), tokens of each prompt.
    """
    hidden = model.model(prompts, cache=cache)  # (batch, longest, dim)
    last = hidden[torch.arange(len(lengths), device=hidden.device), lengths - 1]  # (batch, dim)
    return model.logits(last)


def decode_one_token(model: Llama, cache: KVCache, tokens: Tensor, positions: Tensor) -> Tensor:
    """Logits (batch, vocab) after one new token a row: tokens and positions (batch, 1), int64."""
    hidden = model.model(tokens, positions=positions, cache=cache)  # (batch, 1, dim)
    return model.logits(hidden[:, -1])


class CompiledDecode:
    """`decode_one_token` compiled for one model, batch size, dtype and cache length, and the cache it is compiled for.

    The first step of a generation may compile; all others run under the stance "fail_on_recompile", so a silent
    recompilation in the middle of decoding cannot happen. Where compilation fails for want of a compiler (no C++
    compiler, no Python headers, no triton), that is logged once and decoding is eager from then on, in this process.

    The logits it returns may live in a CUDA graph's memory: use them before the next step.
    """

    no_compiler: ClassVar[bool] = False

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        cache.fix_addresses()
        self._compiled: Any = torch.compile(
            _own_code(decode_one_token, f"decode_one_token_{cache.batch}x{cache.length}"),
            mode="reduce-overhead",
            fullgraph=True,
            dynamic=False,
        )
        self._warm = False

    def begin(self) -> None:
        """Announce a new generation: its first step may compile (again, where torch's global state has changed)."""
        self._warm = False

    def __call__(self, model: Llama, cache: KVCache, tokens: Tensor, positions: Tensor) -> Tensor:
        """See `decode_one_token`; `cache` must be the one given on construction."""
        if CompiledDecode.no_compiler:
            return decode_one_token(model, cache, tokens, positions)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        if self._warm:
            with torch.compiler.set_stance("fail_on_recompile"):
                logits: Tensor = self._compiled(model, cache, tokens, positions)
            return logits
        try:
            logits = self._compiled(model, cache, tokens, positions)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            CompiledDecode.no_compiler = True
            reason = str(error).strip().splitlines()[0]
            log.warning("torch.compile does not work here, decoding without it from now on: %s", reason)
            return decode_one_token(model, cache, tokens, positions)  # writes the same slots again
        self._warm = True
        return logits


def _own_code(function: Any, name: str) -> FunctionType:
    """A copy of a function with a code object of its own.

    torch.compile keeps what it compiled by code object and stops after a few entries (8), so that decoders of other
    shapes or models would use up each other's limit.
    """
    return FunctionType(function.__code__.replace(co_name=name), function.__globals__, name)
