"""One generated text, and the row of a batch that grows into it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

__all__ = ["Completion", "Row", "TokenLogprob"]


@dataclass(frozen=True)
class TokenLogprob:
    """Natural log-probability of a generated token: `token_id`, `logprob`, and `top`, the likeliest tokens at its place
    as (id, logprob).
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Completion:
    """What was generated after one prompt.

    Attributes:
        prompt: as it was given.
        text: the generated text, without the end-of-text token or the stop string and what follows it; other special
            tokens stand in it as they are written. None where the checkpoint has no tokenizer.
        token_ids: all generated ids, the end-of-text token or those of a stop string included.
        finish_reason: "stop" (end of text, or a stop string) or "length" (`max_tokens` reached).
        logprobs: one entry a generated token, or None where none were asked for.
        prompt_tokens: length of the prompt.
        seconds: from the start of the prompt's batch to the last token.
    """

    prompt: str | tuple[int, ...]
    text: str | None
    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    logprobs: tuple[TokenLogprob, ...] | None
    prompt_tokens: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class TextDecoder(Protocol):
    """What is needed of a tokenizer here (`tokenization.Tokenizer` has it)."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of some ids, U+FFFD where their bytes are no text."""

    def id_to_token(self, token_id: int, /) -> bytes | None:
        """The bytes of a token; None where no token has this id."""


class Row:
    """A prompt being continued: takes tokens one by one and knows when to stop."""

    def __init__(
        self,
        prompt: str | tuple[int, ...],
        prompt_ids: Sequence[int],
        *,
        max_tokens: int,
        eos_ids: Sequence[int],
        stop: Sequence[str],
        tokenizer: TextDecoder | None,
        with_logprobs: bool,
    ) -> None:
        self.prompt, self.prompt_ids = prompt, prompt_ids
        self.max_tokens = max_tokens
        self.eos_ids = frozenset(eos_ids)
        self.stop = tuple(stop)
        self.tokenizer = tokenizer
        # A stop string that ends in the newest token lies in this many tokens: each stands for at least one byte.
        self._window = max((len(text.encode("utf-8", "surrogatepass")) for text in stop), default=0) + 1
        self.token_ids: list[int] = []
        self._text_ids: list[int] = []  # those that stand for text: a model's vocabulary may be padded with ids unused
        self.logprobs: list[TokenLogprob] | None = [] if with_logprobs else None
        self.finish_reason: Literal["stop", "length"] | None = None
        self._text: str | None = None
        self._began = time.perf_counter()
        self._seconds = 0.0

    @property
    def finished(self) -> bool:
        """Whether no more tokens are wanted."""
        return self.finish_reason is not None

    def append(self, token_id: int, logprob: TokenLogprob | None) -> None:
        """Take the next token, unless finished."""
        if self.finished:
            return
        self.token_ids.append(token_id)
        if self.logprobs is not None and logprob is not None:
            self.logprobs.append(logprob)
        ended = token_id in self.eos_ids
        if self.tokenizer is not None and not ended and self.tokenizer.id_to_token(token_id) is not None:
            self._text_ids.append(token_id)
        if ended or self._stop_found():
            self.finish_reason = "stop"
        elif len(self.token_ids) == self.max_tokens:
            self.finish_reason = "length"
        self._seconds = time.perf_counter() - self._began

    def completion(self) -> Completion:
        """The result; call it once finished."""
        assert self.finish_reason is not None
        text = self._text
        if text is None and self.tokenizer is not None:
            text = self.tokenizer.decode(self._text_ids)
        return Completion(
            prompt=self.prompt,
            text=text,
            token_ids=tuple(self.token_ids),
            finish_reason=self.finish_reason,
            logprobs=None if self.logprobs is None else tuple(self.logprobs),
            prompt_tokens=len(self.prompt_ids),
            seconds=self._seconds,
        )

    def _stop_found(self) -> bool:
        """Whether the newest token completes a stop string; keeps the text before the first one."""
        if not self.stop or self.tokenizer is None:
            return False
        tail = self.tokenizer.decode(self._text_ids[-self._window :])
        if not any(text in tail for text in self.stop):
            return False
        whole = self.tokenizer.decode(self._text_ids)
        places = [place for text in self.stop if (place := whole.find(text)) >= 0]
        if not places:
            return False
        self._text = whole[: min(places)]
        return True
