"""What `align` is given, as ids: pairs to learn from and to hold out, prompts to measure with, harmless text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from biollm.alignment.chat import ChatFormat
from biollm.alignment.dpo import TokenizedPair
from biollm.alignment.measuring import TokenPair
from biollm.alignment.options import AlignOptions
from biollm.alignment.preferences import Turn, check_prompt, messages, no_pairs, pairs_of, reject, turns_of
from biollm.errors import ConfigError, InputError
from biollm.models.config import ModelConfig
from biollm.readers.rows import Row, Rows, open_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Material:
    """Everything a run learns from and is measured with.

    Attributes:
        train, held_out: pairs as ids; no prompt is in both.
        prompts: to be answered, `options.samples` of them.
        benign: harmless text whose loss is watched.
        end_ids: tokens that end an answer.
        too_long: pairs over the longest length.
        evaluation_source, benign_source: where prompts and harmless text are from, in words.
    """

    train: tuple[TokenizedPair, ...]
    held_out: tuple[TokenizedPair, ...]
    prompts: tuple[tuple[Turn, ...], ...]
    benign: tuple[TokenPair, ...]
    end_ids: tuple[int, ...]
    too_long: int
    evaluation_source: str
    benign_source: str

    @property
    def pairs(self) -> int:
        """Those of all rows."""
        return len(self.train) + len(self.held_out) + self.too_long


def gather(rows: Rows, chat: ChatFormat, config: ModelConfig, options: AlignOptions) -> Material:
    """Read, tokenize, split and complete what is given.

    Args:
        rows: of preference pairs; those that are none, or that the chat template refuses, are rejected.
        chat: the format of chats.
        config: the model's.
        options: of the run.

    Raises:
        InputError: no usable pairs, or nothing is left to learn from or to measure with; a row that is none.
        ConfigError: answers longer than the context are to be sampled; a chat template that cannot be learned by.
        FileError, FormatError, LimitError: a file or the chat template is broken.
    """
    context = config.max_seq_len
    if options.max_tokens >= context:
        message = f"max_tokens {options.max_tokens} leaves no room for a prompt in a context of {context}: lower it"
        raise ConfigError(message, field="max_tokens", value=options.max_tokens)
    longest = min(options.max_length, context)
    end_ids = dict.fromkeys(config.eos_ids)
    encoded: list[tuple[tuple[Turn, ...], TokenizedPair]] = []
    for row, pair in pairs_of(rows):
        try:
            asked = messages(pair.prompt)
            prompt, answers = chat.prompt(asked), chat.answers(asked, (pair.chosen, pair.rejected))
        except InputError as error:
            reject(rows, row, error)
            continue
        end_ids |= dict.fromkeys(answer.end_id for answer in answers)
        encoded.append((pair.prompt, TokenizedPair(prompt, answers[0].ids, answers[1].ids)))
    if not encoded:
        raise no_pairs(rows)
    out = _held_out_prompts({prompt for prompt, _ in encoded}, options)
    fitting = [(prompt, pair) for prompt, pair in encoded if pair.longest <= longest]
    train = tuple(pair for prompt, pair in fitting if prompt not in out)
    held_out = tuple(pair for prompt, pair in fitting if prompt in out)
    too_long = len(encoded) - len(fitting)
    if not train:
        message = f"no pairs to learn from: {too_long} of {len(encoded)} are longer than {longest} tokens"
        raise InputError(f"{message}, {len(held_out)} are held out", field="preferences", value=len(encoded))
    evaluation = [(prompt, len(pair.prompt)) for prompt, pair in fitting if prompt in out]
    if options.evaluation:
        evaluation = list(_measured(options.evaluation, lambda row: _question(row, chat)))
    benign = [TokenPair(pair.prompt, pair.chosen) for pair in held_out]
    if options.benign:
        benign = [text for text in _measured(options.benign, lambda row: _harmless(row, chat)) if text.target]
    room = context - options.max_tokens
    return Material(
        train=train,
        held_out=held_out,
        prompts=_cycled([prompt for prompt, tokens in evaluation if tokens <= room], options.samples),
        benign=tuple(_some([t for t in benign if len(t.context) + len(t.target) <= context], "benign")),
        end_ids=tuple(end_ids),
        too_long=too_long,
        evaluation_source=_source(options.evaluation, "prompts of held-out pairs"),
        benign_source=_source(options.benign, "chosen answers of held-out pairs"),
    )


def _source(path: str | None, otherwise: str) -> str:
    return Path(path).name if path else otherwise


def _held_out_prompts(prompts: set[tuple[Turn, ...]], options: AlignOptions) -> set[tuple[Turn, ...]]:
    """A share of the prompts, by hash: another file of pairs with a prompt of this one puts it on the same side."""
    ordered = sorted(prompts, key=lambda prompt: _digest(prompt, options.seed))
    return set(ordered[: math.ceil(options.validation_fraction * len(ordered))])


def _digest(prompt: Sequence[Turn], seed: int) -> str:
    text = "\0".join(f"{turn.role}\0{turn.text}" for turn in prompt)
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _measured(path: str, make: Callable[[Row], T]) -> Iterator[T]:
    """What each row of a file to measure with holds."""
    for row in open_rows(Path(path)):
        try:
            yield make(row)
        except InputError as error:
            raise row.error(error.message, field=error.field, value=error.value) from None


def _prompt(row: Row) -> tuple[Turn, ...]:
    turns = turns_of(_required(row, "prompt"), "prompt")
    check_prompt(turns)
    return turns


def _question(row: Row, chat: ChatFormat) -> tuple[tuple[Turn, ...], int]:
    """A prompt, and how many tokens it is."""
    turns = _prompt(row)
    return turns, len(chat.prompt(messages(turns)))


def _harmless(row: Row, chat: ChatFormat) -> TokenPair:
    """Of a prompt and its answer the answer counts; of a text all but its first token."""
    if row.get("prompt") is None and row.get("text") is not None:
        ids = chat.text(_text(row, "text"))
        return TokenPair(ids[:1], ids[1:])
    asked = messages(_prompt(row))
    (answer,) = chat.answers(asked, [_text(row, "answer")])
    return TokenPair(chat.prompt(asked), answer.ids)


def _required(row: Row, name: str) -> Any:
    if (value := row.get(name)) is None:
        raise InputError(f"the row has no {name!r}", field=name)
    return value


def _text(row: Row, name: str) -> str:
    value = _required(row, name)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} must be a text that is not empty", field=name)
    return value.strip()


def _cycled(prompts: Sequence[tuple[Turn, ...]], count: int) -> tuple[tuple[Turn, ...], ...]:
    """The first `count`, from the beginning again where there are fewer: each draw is another."""
    _some(prompts, "evaluation")
    return tuple(prompts[i % len(prompts)] for i in range(count))


def _some(items: Sequence[T], field: str) -> Sequence[T]:
    if not items:
        raise InputError(
            f"there is nothing to measure with: raise validation_fraction, or give a file as {field}", field=field
        )
    return items
