"""Preference pairs: one prompt, an answer that was preferred and one that was not, read from rows of three layouts.

* `prompt`, `chosen`, `rejected`: texts. Or each a list of messages, {role, content}.
* `chosen` and `rejected` without a prompt: two whole dialogues that differ in their last answer, as lists of messages,
  or as texts of `Human:` and `Assistant:` paragraphs (the layout of hh-rlhf, Bai et al. 2022, arXiv 2204.05862).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from biollm.errors import InputError
from biollm.manifest import InputRecord
from biollm.readers.rows import Row, Rows, open_rows
from biollm.readers.source import Rejected
from biollm.tokenization.chat import Chat, check_chat

__all__ = ["Preference", "Preferences", "Turn", "read_preferences"]

_SPEAKERS: Final = {"Human": "user", "Assistant": "assistant"}
_SPEAKER: Final = re.compile(r"(?:^|\n\n)(Human|Assistant):")


@dataclass(frozen=True)
class Turn:
    """What one side said: `role` is system, user or assistant, `text` is not empty."""

    role: str
    text: str


@dataclass(frozen=True)
class Preference:
    """A pair.

    Attributes:
        prompt: the turns before the answer; the last is the user's.
        chosen, rejected: the two answers, not empty and not equal.
        category: what the row says of itself; `None` where it says nothing.
    """

    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    category: str | None = None


@dataclass(frozen=True)
class Preferences:
    """What was read.

    Attributes:
        pairs: in the order of the rows.
        skipped: the rows that are none; empty with `on_error="raise"`.
        inputs: what a manifest says of the files.
    """

    pairs: tuple[Preference, ...]
    skipped: tuple[Rejected, ...] = ()
    inputs: tuple[InputRecord, ...] = ()


def read_preferences(source: Any, *, on_error: Literal["raise", "skip"] = "raise") -> Preferences:
    """Reads preference pairs.

    Args:
        source: rows: .jsonl (also .gz, .zst) or .parquet files, a folder of documents, a list of such paths, a list of
            dicts, `Documents`, an Arrow table or a frame. Of documents the text is `chosen`, and the other fields are
            columns or in `meta`.
        on_error: "raise" at the first row that is no pair, or "skip" it.

    Returns:
        The pairs and the rows that were skipped.

    Raises:
        InputError: a row that is no JSON object, or without two different answers to one prompt (`path` and `line`, or
            `row`, from 0, of what has no lines); no pairs at all. FormatError: a compressed file is damaged.
        FileError: a file cannot be read.
    """
    rows = open_rows(source, on_error=on_error)
    pairs = tuple(pair for _, pair in pairs_of(rows))
    if not pairs:
        raise no_pairs(rows)
    return Preferences(pairs, tuple(rows.rejected), tuple(rows.records))


def pairs_of(rows: Rows) -> Iterator[tuple[Row, Preference]]:
    """The pairs of rows with the row of each; a row that is none is rejected."""
    for row in rows:
        try:
            pair = parse_row(row)
        except InputError as error:
            reject(rows, row, error)
        else:
            yield row, pair


def reject(rows: Rows, row: Row, error: InputError) -> None:
    """Sets a row aside, or raises what is wrong with it, and how such rows are passed over."""
    hint = "" if rows.skip else "; on_error='skip' passes such rows over"
    rows.reject(row, InputError(f"{error.message}{hint}", field=error.field, value=error.value))


def no_pairs(rows: Rows) -> InputError:
    """What is said of rows that gave no pair."""
    count = len(rows.rejected)
    why = f"none of {count} rows is a preference pair, the first because: {rows.rejected[0].reason}" if count else ""
    return InputError(f"no preference pairs: {why or 'there are no rows'}", field="preferences", value=count)


def parse_row(row: Row) -> Preference:
    """A row as a pair.

    Raises:
        InputError: it is none; the message says why, `field` where.
    """
    # The text of documents is the chosen answer.
    given = {"chosen": row.get("text") if row.get("chosen") is None else row.get("chosen")}
    given["rejected"] = row.get("rejected")
    for name, value in given.items():
        if value is None:
            raise InputError(f"the row has no {name!r}", field=name)
    if (asked := row.get("prompt")) is not None:
        prompt = turns_of(asked, "prompt")
        answers = [_answer(value, name) for name, value in given.items()]
    else:
        dialogues = [turns_of(value, name) for name, value in given.items()]
        for name, turns in zip(given, dialogues, strict=True):
            if len(turns) < 2 or turns[-1].role != "assistant":
                message = f"without a prompt, {name} must be a whole dialogue that ends with the assistant's answer"
                raise InputError(message, field=name)
        if dialogues[0][:-1] != dialogues[1][:-1]:
            raise InputError("the dialogues differ before their last answer", field="rejected")
        prompt, answers = dialogues[0][:-1], [turns[-1].text for turns in dialogues]
    check_prompt(prompt)
    if answers[0] == answers[1]:
        raise InputError("chosen and rejected are equal: there is no preference", field="rejected")
    category = row.get("category")
    return Preference(prompt, answers[0], answers[1], category if isinstance(category, str) else None)


def check_prompt(turns: Sequence[Turn]) -> None:
    """Raises InputError unless user and assistant take turns, the user first (behind a system text) and last."""
    spoken = [turn.role for turn in turns[1 if turns and turns[0].role == "system" else 0 :]]
    expected = ["user" if i % 2 == 0 else "assistant" for i in range(len(spoken))]
    if not spoken or spoken != expected or spoken[-1] != "user":
        found = ", ".join(turn.role for turn in turns) or "nothing"
        raise InputError(f"a prompt's turns must be user, assistant, …, user, not {found}", field="prompt")


def turns_of(value: Any, field: str) -> tuple[Turn, ...]:
    """A text, a dialogue or a list of messages as turns."""
    if isinstance(value, str):
        if field == "prompt" and not _SPEAKER.match(value):
            return (_turn("user", value, field),)
        return _dialogue(value, field)
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise InputError(f"{field} must be a text or a list of messages, not {type(value).__name__}", field=field)
    try:
        chat = check_chat(value)
    except InputError as error:
        raise InputError(f"{field}: {error.message}", field=field, value=error.value) from None
    return tuple(_turn(message["role"], message["content"], field) for message in chat)


def messages(turns: Sequence[Turn]) -> Chat:
    """Turns as a chat template takes them."""
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def _dialogue(text: str, field: str) -> tuple[Turn, ...]:
    parts = _SPEAKER.split(text)  # before, speaker, text, speaker, text, …
    if len(parts) == 1 or parts[0].strip():
        raise InputError(
            f"{field} is no dialogue of Human: and Assistant: paragraphs, and the row has no prompt", field=field
        )
    return tuple(_turn(_SPEAKERS[parts[i]], parts[i + 1], field) for i in range(1, len(parts), 2))


def _answer(value: Any, field: str) -> str:
    if isinstance(value, str):
        return _turn("assistant", value, field).text
    turns = turns_of(value, field)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise InputError(f"{field} must be one message of the assistant where there is a prompt", field=field)
    return turns[0].text


def _turn(role: str, text: str, field: str) -> Turn:
    if not text.strip():
        raise InputError(f"{field} is empty" if role == "assistant" else f"a turn of {field} is empty", field=field)
    return Turn(role, text.strip())
