"""From logits to the next token.

Random draws are made outside the model: one uniform number a row and step, from a generator of that row. A row's
tokens thus depend on its logits, its index and the seed alone, not on which rows share its batch, on the device, or on
whether decoding is compiled.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from biollm.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOGPROBS: Final = 1000
MAX_STOPS: Final = 64
MAX_STOP_CHARACTERS: Final = 1024


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are chosen and when a text ends. Checked on construction.

    Attributes:
        max_tokens: tokens to generate at most.
        temperature: 0 takes the likeliest token; otherwise logits are divided by it.
        top_p: only the likeliest tokens that together reach this probability (1.0: all); after `top_k`, both under the
            tempered distribution.
        top_k: only the k likeliest tokens (0: all).
        stop: strings that end a text and are cut from it.
        seed: makes draws repeatable; None draws a fresh one.
        logprobs: how many of the likeliest tokens to report at each step, beside the chosen one (0: no
            log-probabilities).

    Raises:
        InputError: an option out of range; names it.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif not isinstance(self.stop, tuple):
            object.__setattr__(self, "stop", tuple(self.stop))
        self._whole("max_tokens", self.max_tokens, 1, 1 << 31)
        self._whole("top_k", self.top_k, 0, 1 << 31)
        self._whole("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if self.seed is not None:
            self._whole("seed", self.seed, 0, (1 << 63) - 1)
        self._real("temperature", self.temperature, 0.0, math.inf, "0 or larger")
        self._real("top_p", self.top_p, math.ulp(0.0), 1.0, "over 0 and at most 1")
        if len(self.stop) > MAX_STOPS:
            raise InputError(f"at most {MAX_STOPS} stop strings, not {len(self.stop)}", field="stop")
        for text in self.stop:
            if not isinstance(text, str):
                raise TypeError(f"stop strings must be str, not {type(text).__name__}")
            if not 1 <= len(text) <= MAX_STOP_CHARACTERS:
                raise InputError(
                    f"a stop string must have 1 to {MAX_STOP_CHARACTERS} characters, not {len(text)}",
                    field="stop",
                    value=text[:80],
                )

    def _whole(self, field: str, value: object, least: int, most: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{field} must be an int, not {type(value).__name__}")
        if not least <= value <= most:
            raise InputError(f"{field} must be from {least} to {most}, not {value}", field=field, value=value)

    def _real(self, field: str, value: object, least: float, most: float, wanted: str) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{field} must be a number, not {type(value).__name__}")
        if not (math.isfinite(value) and least <= value <= most):
            raise InputError(f"{field} must be {wanted}, not {value}", field=field, value=value)


def uniforms(options: SamplingOptions, rows: Sequence[int]) -> Tensor | None:
    """The draws of some prompts: fp64 in [0, 1), (max_tokens, len(rows)); None where nothing is drawn.

    `rows` are the indices of the prompts in the call; prompt i draws from a generator seeded with seed + i.
    """
    import torch

    if options.temperature == 0:
        return None
    seed = secrets.randbits(62) if options.seed is None else options.seed
    draws = torch.empty(options.max_tokens, len(rows), dtype=torch.float64)
    for column, row in enumerate(rows):
        generator = torch.Generator().manual_seed((seed + row) % (1 << 63))
        draws[:, column] = torch.rand(options.max_tokens, dtype=torch.float64, generator=generator)
    return draws


def sample(logits: Tensor, options: SamplingOptions, uniform: Tensor | None) -> Tensor:
    """The next token of each row: logits (batch, vocab) → int64 (batch,).

    uniform: (batch,) in [0, 1), None for greedy. The token is found by inverting the cumulative distribution over the
    tokens in falling order of probability, so `top_k` and `top_p` (nucleus sampling, Holtzman et al. 2019, arXiv
    1904.09751) are a cut of that order.
    """
    if uniform is None:
        return logits.argmax(dim=-1)
    logits = logits.double()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / options.temperature
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)  # (batch, vocab)
    cumulative = probabilities.cumsum(dim=-1)
    kept = (cumulative - probabilities < options.top_p).sum(dim=-1, keepdim=True)  # (batch, 1), at least 1
    if options.top_k:
        kept = kept.clamp(max=options.top_k)
    mass = cumulative.gather(-1, kept - 1)
    place = (cumulative <= uniform[:, None].to(logits.device) * mass).sum(dim=-1, keepdim=True).minimum(kept - 1)
    return order.gather(-1, place)[:, 0]


def log_probabilities(logits: Tensor, tokens: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Natural log p of the chosen `tokens` (batch,) and of the `top` likeliest: (batch,), (batch, top), their ids.

    Of the model's own distribution, before temperature, top_k and top_p.
    """
    logprobs = logits.float().log_softmax(dim=-1)
    chosen = logprobs.gather(-1, tokens[:, None])[:, 0]
    values, ids = logprobs.topk(min(top, logits.shape[-1]), dim=-1)
    return chosen, values, ids
