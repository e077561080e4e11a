"""Prompts and continuations as token ids, checked before any work, for `LLM.score`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from biollm.errors import InputError

if TYPE_CHECKING:
    from biollm.inference.llm import LLM
    from biollm.inference.scoring import Branches

__all__ = ["Likelihood", "encode_branches"]


@dataclass(frozen=True)
class Likelihood:
    """How likely a continuation of a prompt is.

    Attributes:
        logprob: natural logarithm of the probability of all its tokens, given the prompt.
        tokens: how many these are.
    """

    logprob: float
    tokens: int


def encode_branches(llm: LLM, prompts: Sequence[Any], continuations: Sequence[Sequence[Any]]) -> list[Branches]:
    """Prompts and their continuations, texts or ids, as ids.

    Raises:
        InputError: as `LLM.score` before any work. TypeError: what is neither a text nor a list of ids.
    """
    import numpy as np

    from biollm.inference.scoring import Branches

    if len(prompts) != len(continuations):
        message = f"{len(prompts)} prompts, and continuations of {len(continuations)}: give those of each prompt"
        raise InputError(message, field="continuations")
    branches = []
    for index, (prompt, texts) in enumerate(zip(prompts, continuations, strict=True)):
        if isinstance(texts, str):
            raise TypeError(f"continuations of prompt {index} must be a list, not str")
        ids = _ids(llm, index, prompt, "prompt")
        parts = [_ids(llm, index, text, "continuation") for text in texts]
        longest = len(ids) + max(map(len, parts), default=1) - 1  # the last token is only a target
        if longest > llm.config.max_seq_len:
            raise InputError(
                f"prompt {index} has {len(ids)} tokens; with its longest continuation it exceeds the model's context "
                f"of {llm.config.max_seq_len} tokens",
                row=index,
                field="prompts",
                value=longest,
                limit=llm.config.max_seq_len,
            )
        branches.append(Branches(np.array(ids), tuple(np.array(part) for part in parts)))
    return branches


def _ids(llm: LLM, index: int, given: Any, what: Literal["prompt", "continuation"]) -> list[int]:
    field = f"{what}s"
    if isinstance(given, str):
        if llm.tokenizer is None:
            message = "texts need the checkpoint's tokenizer, and it has none we can use: give token ids"
            raise InputError(message, path=llm.path, row=index, field=field)
        # What the tokenizer puts before a text stands before the prompt alone.
        ids = llm.tokenizer.encode(given, **({} if what == "prompt" else {"add_special": False})).ids
    else:
        ids = given
    listed = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    for token_id in listed:
        if not isinstance(token_id, int) or isinstance(token_id, bool):
            raise TypeError(f"{what} of prompt {index} must be a text or token ids, not of {type(token_id).__name__}")
        if not 0 <= token_id < llm.config.vocab_size:
            message = f"prompt {index} has token id {token_id}, outside the vocabulary of {llm.config.vocab_size}"
            raise InputError(message, row=index, field=field, value=token_id)
    if not listed:
        raise InputError(
            f"prompt {index} has {'no tokens' if what == 'prompt' else 'an empty continuation'}", row=index, field=field
        )
    return listed
