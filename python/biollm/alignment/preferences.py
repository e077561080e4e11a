"""Preference pairs: one prompt, an answer that was preferred and one that was not, read from rows of three layouts.

* `prompt`, `chosen`, `rejected`: texts. Or each a list of messages, {role, content}.
* `chosen` and `rejected` without a prompt: two whole dialogues that differ in their last answer, as lists of messages,
  or as texts of `Human:` and `Assistant:` paragraphs (the layout of hh-rlhf, Bai et al. 2022, arXiv 2204.05862).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from biollm.alignment.chat import ROLES, Turn
from biollm.errors import FormatError, InputError
from biollm.manifest import InputRecord
from biollm.readers.lines import bounded_lines

__all__ = ["Preference", "Preferences", "SkippedRow", "read_preferences"]

_SPEAKERS: Final = {"Human": "user", "Assistant": "assistant"}
_SPEAKER: Final = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_LINES: Final = (".jsonl", ".ndjson")


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
class SkippedRow:
    """A row that is no pair: its `file` ("" for rows in memory), `line` there (or row, from 1), and the `reason`."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Preferences:
    """What was read.

    Attributes:
        pairs: in the order of the rows.
        skipped: the rows that are none; empty with `on_error="raise"`.
        inputs: what a manifest says of the files.
    """

    pairs: tuple[Preference, ...]
    skipped: tuple[SkippedRow, ...] = ()
    inputs: tuple[InputRecord, ...] = ()


def read_preferences(source: Any, *, on_error: Literal["raise", "skip"] = "raise") -> Preferences:
    """Reads preference pairs.

    Args:
        source: a .jsonl file (also .gz), a list of such paths, a list of dicts, or documents as any verb takes them,
            whose text is `chosen` and whose other fields are in `meta` or columns of their own.
        on_error: "raise" at the first row that is no pair, or "skip" it.

    Returns:
        The pairs and the rows that were skipped.

    Raises:
        InputError: a row without two different answers to one prompt (`path` and `line`); no pairs at all.
        FormatError: a line is no JSON object. FileError: a file cannot be read.
    """
    pairs: list[Preference] = []
    skipped: list[SkippedRow] = []
    inputs: list[InputRecord] = []
    rows = 0
    for row in _rows(source, inputs):
        rows += 1
        try:
            pairs.append(parse_row(row.values))
        except InputError as error:
            if on_error == "raise":
                raise InputError(
                    f"{error.message}; on_error='skip' passes such rows over",
                    path=row.file or None,
                    line=row.line if row.file else None,
                    row=None if row.file else row.line - 1,
                    field=error.field,
                ) from None
            skipped.append(SkippedRow(row.file, row.line, error.message))
    if not pairs:
        why = f"none of {rows} rows is a preference pair" if rows else "there are no rows"
        raise InputError(f"no preference pairs: {why}", field="preferences", value=rows)
    return Preferences(tuple(pairs), tuple(skipped), tuple(inputs))


def parse_row(row: Mapping[str, Any]) -> Preference:
    """A row as a pair.

    Raises:
        InputError: it is none; the message says why, `field` where.
    """
    for name in ("chosen", "rejected"):
        if row.get(name) is None:
            raise InputError(f"the row has no {name!r}", field=name)
    if row.get("prompt") is not None:
        prompt = turns_of(row["prompt"], "prompt")
        answers = [_answer(row[name], name) for name in ("chosen", "rejected")]
    else:
        dialogues = [turns_of(row[name], name) for name in ("chosen", "rejected")]
        for name, turns in zip(("chosen", "rejected"), dialogues, strict=True):
            if len(turns) < 2 or turns[-1].role != "assistant":
                message = f"without a prompt, {name} must be a whole dialogue that ends with the assistant's answer"
                raise InputError(message, field=name)
        if dialogues[0][:-1] != dialogues[1][:-1]:
            raise InputError("the dialogues differ before their last answer", field="rejected")
        prompt, answers = dialogues[0][:-1], [turns[-1].text for turns in dialogues]
    check_prompt(prompt)
    if answers[0].strip() == answers[1].strip():
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
    turns = []
    for message in value:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise InputError(f"a message of {field} must be an object with role and content", field=field)
        turns.append(_turn(message["role"], message["content"], field))
    return tuple(turns)


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


def _turn(role: Any, text: Any, field: str) -> Turn:
    if role not in ROLES:
        raise InputError(f"a role of {field} is {role!r}: use one of {', '.join(ROLES)}", field=field)
    if not isinstance(text, str):
        raise InputError(f"a text of {field} is {type(text).__name__}, not a string", field=field)
    if not text.strip():
        raise InputError(f"{field} is empty" if role == "assistant" else f"a turn of {field} is empty", field=field)
    return Turn(role, text.strip())


# --- rows of files ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row's `values`, and where it stands: `file` ("" in memory) and `line`, from 1."""

    values: Mapping[str, Any]
    file: str
    line: int


def json_lines(path: Path) -> Iterator[Row]:
    """The objects of a JSON Lines file, plain, .gz or .zst; empty lines are passed over.

    Raises:
        FileError: it cannot be read. FormatError: a line is no JSON object. LimitError: a line is over 64 MiB.
    """
    for number, line in bounded_lines(path):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"not JSON: {error}", path=path, line=number) from error
        if not isinstance(values, dict):
            raise FormatError("not a JSON object", path=path, line=number)
        yield Row(values, str(path), number)


def _rows(source: Any, inputs: list[InputRecord]) -> Iterator[Row]:
    if isinstance(source, str | os.PathLike):
        source = [Path(source)]
    if isinstance(source, list | tuple) and all(isinstance(item, Mapping) for item in source):
        yield from (Row(values, "", line) for line, values in enumerate(source, 1))
        return
    if not isinstance(source, list | tuple) or not all(isinstance(item, str | os.PathLike) for item in source):
        yield from _document_rows(source, inputs)
        return
    for item in source:
        path = Path(item)
        if any(suffix in _LINES for suffix in path.suffixes[-2:]) and path.suffix in (*_LINES, ".gz", ".zst"):
            inputs.append(InputRecord.of_file(path))
            yield from json_lines(path)
        else:
            yield from _document_rows(path, inputs)


def _document_rows(source: Any, inputs: list[InputRecord]) -> Iterator[Row]:
    """The rows of documents: their columns, with `meta` taken apart and the text called `chosen`."""
    from biollm.readers import as_documents

    is_folder = isinstance(source, Path) and (source / "manifest.json").is_file()
    documents = as_documents(source, text="text" if is_folder else "chosen")
    name = str(source) if isinstance(source, Path) else ""
    line = 0
    for batch in documents.reader():
        for values in batch.to_pylist():
            line += 1
            yield Row(
                {"chosen": values.pop("text"), **_parsed(values.pop("meta", None)), **_present(values)}, name, line
            )
    inputs.extend([InputRecord.of_stage(source)] if is_folder else documents.inputs)


def _parsed(meta: Any) -> Mapping[str, Any]:
    if not isinstance(meta, str):
        return meta if isinstance(meta, Mapping) else {}
    loaded = json.loads(meta)
    return loaded if isinstance(loaded, dict) else {}


def _present(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
