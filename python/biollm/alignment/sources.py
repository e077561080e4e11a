"""What `align` is given, as ids: pairs to learn from and to hold out, prompts to measure with, harmless text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biollm.alignment.chat import ChatTokens, Turn
from biollm.alignment.dpo import TokenizedPair
from biollm.alignment.measuring import TokenPair
from biollm.alignment.options import AlignOptions
from biollm.alignment.preferences import Preference, check_prompt, json_lines, turns_of
from biollm.errors import ConfigError, InputError


@dataclass(frozen=True)
class Material:
    """Everything a run learns from and is measured with.

    Attributes:
        train, held_out: pairs as ids; no prompt is in both.
        prompts: to be answered, `options.samples` of them.
        benign: harmless text whose loss is watched.
        too_long: pairs over the longest length.
        evaluation_source, benign_source: where prompts and harmless text are from, in words.
    """

    train: tuple[TokenizedPair, ...]
    held_out: tuple[TokenizedPair, ...]
    prompts: tuple[tuple[Turn, ...], ...]
    benign: tuple[TokenPair, ...]
    too_long: int
    evaluation_source: str
    benign_source: str


def gather(pairs: Sequence[Preference], chat: ChatTokens, context: int, options: AlignOptions) -> Material:
    """Tokenize, split and complete what was read.

    Args:
        pairs: as read.
        chat: the tokens of chats.
        context: the model's, in tokens.
        options: of the run.

    Raises:
        InputError: nothing is left to learn from, or to measure with; a file's row is no prompt or text.
        ConfigError: answers longer than the context are to be sampled.
    """
    if options.max_tokens >= context:
        message = f"max_tokens {options.max_tokens} leaves no room for a prompt in a context of {context}: lower it"
        raise ConfigError(message, field="max_tokens", value=options.max_tokens)
    longest = min(options.max_length, context)
    chosen_prompts = _held_out_prompts(pairs, options)
    train: list[TokenizedPair] = []
    held_out: list[TokenizedPair] = []
    prompts: list[tuple[Turn, ...]] = []
    too_long = 0
    for pair in pairs:
        tokens = TokenizedPair(
            tuple(chat.prompt(pair.prompt)), tuple(chat.answer(pair.chosen)), tuple(chat.answer(pair.rejected))
        )
        if len(tokens.prompt) + max(len(tokens.chosen), len(tokens.rejected)) > longest:
            too_long += 1
        elif pair.prompt in chosen_prompts:
            held_out.append(tokens)
            prompts.append(pair.prompt)
        else:
            train.append(tokens)
    if not train:
        message = f"no pairs to learn from: {too_long} of {len(pairs)} are longer than {longest} tokens"
        raise InputError(f"{message}, {len(held_out)} are held out", field="preferences", value=len(pairs))
    evaluation = list(_file_prompts(options.evaluation)) if options.evaluation else prompts
    benign = list(_file_texts(options.benign, chat)) if options.benign else _chosen(held_out)
    room = context - options.max_tokens
    return Material(
        train=tuple(train),
        held_out=tuple(held_out),
        prompts=_cycled([p for p in evaluation if len(chat.prompt(p)) <= room], options.samples, "evaluation"),
        benign=tuple(_within([t for t in benign if len(t.context) + len(t.target) <= context], "benign")),
        too_long=too_long,
        evaluation_source=_source(options.evaluation, "prompts of held-out pairs"),
        benign_source=_source(options.benign, "chosen answers of held-out pairs"),
    )


def _source(path: str | None, otherwise: str) -> str:
    return Path(path).name if path else otherwise


def _held_out_prompts(pairs: Sequence[Preference], options: AlignOptions) -> set[tuple[Turn, ...]]:
    """A share of the prompts, by hash: another file of pairs with a prompt of this one puts it on the same side."""
    unique = sorted({pair.prompt for pair in pairs}, key=lambda prompt: _digest(prompt, options.seed))
    return set(unique[: math.ceil(options.validation_fraction * len(unique))])


def _digest(prompt: Sequence[Turn], seed: int) -> str:
    text = "\0".join(f"{turn.role}\0{turn.text}" for turn in prompt)
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _chosen(pairs: Sequence[TokenizedPair]) -> list[TokenPair]:
    return [TokenPair(pair.prompt, pair.chosen) for pair in pairs]


def _file_prompts(path: str) -> Iterator[tuple[Turn, ...]]:
    for row in json_lines(Path(path)):
        try:
            turns = turns_of(_required(row.values, "prompt"), "prompt")
            check_prompt(turns)
        except InputError as error:
            raise InputError(error.message, path=row.file, line=row.line, field=error.field) from None
        yield turns


def _file_texts(path: str, chat: ChatTokens) -> Iterator[TokenPair]:
    """Rows of prompt and answer, whose answer counts, or of text, all of which counts but its first token."""
    for row in json_lines(Path(path)):
        try:
            if row.values.get("text") is not None:
                ids = chat.text(_text(row.values["text"], "text"))
                if len(ids) > 1:
                    yield TokenPair(tuple(ids[:1]), tuple(ids[1:]))
                continue
            turns = turns_of(_required(row.values, "prompt"), "prompt")
            answer = _text(_required(row.values, "answer"), "answer")
        except InputError as error:
            raise InputError(error.message, path=row.file, line=row.line, field=error.field) from None
        yield TokenPair(tuple(chat.prompt(turns)), tuple(chat.answer(answer)))


def _required(values: Any, name: str) -> Any:
    if values.get(name) is None:
        raise InputError(f"the row has no {name!r}", field=name)
    return values[name]


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{field} must be a text that is not empty", field=field)
    return value.strip()


def _cycled(prompts: Sequence[tuple[Turn, ...]], count: int, field: str) -> tuple[tuple[Turn, ...], ...]:
    """The first `count`, from the beginning again where there are fewer: each draw is another."""
    _within(prompts, field)
    return tuple(prompts[i % len(prompts)] for i in range(count))


def _within(items: Sequence[Any], field: str) -> Sequence[Any]:
    if not items:
        raise InputError(
            f"there is nothing to measure with: raise validation_fraction, or give a file as {field}", field=field
        )
    return items
