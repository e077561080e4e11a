"""From rows to examples: conversations with their answers in the loss, documents with their labels.

Both are held in memory, about ten bytes a token: what a model is tuned on is small beside what it was pretrained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from biollm.errors import InputError
from biollm.tokenization import Tokenizer
from biollm.tokenization.chat import Chat, ChatTemplate, check_chat
from biollm.tokenization.sides import held_out
from biollm.training.options import TrainOptions
from biollm.training.whole import Examples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.readers.rows import Row, Rows

CHUNK_ROWS: Final = 1024


@dataclass(frozen=True)
class Encoded:
    """One row as ids (tokens,); ``in_loss`` (tokens,) or None for all; ``label``: the name of its class."""

    ids: NDArray[np.int64]
    in_loss: NDArray[np.bool_] | None = None
    label: str | None = None


@dataclass(frozen=True)
class Sides:
    """The examples of both sides. ``labels``: names of the classes, sorted; empty where there are none.

    ``validation_bytes``: of the text in the loss. ``truncated``: documents cut to the context. ``end_ids``: the tokens
    that end an answer.
    """

    train: Examples
    validation: Examples
    labels: tuple[str, ...]
    validation_bytes: int
    truncated: int
    end_ids: tuple[int, ...]


def conversations(rows: Rows, template: ChatTemplate, tokenizer: Tokenizer, options: TrainOptions) -> Sides:
    """The conversations of all rows, what the assistant says in the loss.

    Raises InputError, naming the row, where one is malformed or longer than ``seq_len`` and rows are not skipped; also
    where none is left for training.
    """
    end_ids: set[int] = set()

    def encode(chunk: Sequence[Row]) -> list[Encoded]:
        chats = template.training_ids([chat_of(row, options) for row in chunk], tokenizer)
        for chat in chats:
            if len(chat.ids) > options.seq_len:
                raise InputError(
                    f"the conversation has {len(chat.ids)} tokens, over seq_len {options.seq_len}: "
                    "raise seq_len where the model's context allows it, or skip such rows by on_error='skip'",
                    field="seq_len",
                    value=len(chat.ids),
                )
            end_ids.update(chat.end_ids)
        return [Encoded(chat.ids, chat.in_loss) for chat in chats]

    train, validation, labels = _both_sides(rows, encode, options)
    scored = validation.tokens[np.asarray(validation.mask, bool)]
    answers = len(tokenizer.decode_bytes(scored, skip_special=True)) if len(scored) else 0
    return Sides(train, validation, labels, answers, 0, tuple(sorted(end_ids)))


def chat_of(row: Row, options: TrainOptions) -> Chat:
    """The conversation of a row: its messages, else its question and answer."""
    if (messages := row.get(options.messages)) is not None:
        return check_chat(messages, answered=True)
    pair = [(role, name, row.get(name)) for role, name in (("user", options.question), ("assistant", options.answer))]
    for _, name, content in pair:
        if content is None:
            raise InputError(
                f"there is neither {options.messages!r} nor {name!r}: name the fields by messages, or question and "
                "answer",
                field=name,
            )
    return check_chat([{"role": role, "content": content} for role, _, content in pair], answered=True)


def labelled(rows: Rows, tokenizer: Tokenizer, options: TrainOptions) -> Sides:
    """The documents of all rows with their labels, each ended by the EOS; what is over ``seq_len`` is cut, and counted.

    Raises InputError, naming the row, where one lacks text or label and rows are not skipped; also where there are
    fewer than two classes, or one without a train document.
    """
    truncated = 0
    eos = tokenizer.eos_id
    assert eos is not None  # `tuning` has looked

    def encode(chunk: Sequence[Row]) -> list[Encoded]:
        nonlocal truncated
        texts, labels = [], []
        for row in chunk:
            text, label = row.get(options.text), row.get(options.label)
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{options.text!r} holds no text", field=options.text)
            if not isinstance(label, str | int) or label == "":
                raise InputError(f"{options.label!r} holds no label: {label!r}", field=options.label)
            texts.append(text)
            labels.append(str(label))
        encoded = [ids.astype(np.int64) for ids in tokenizer.encode_batch(texts, add_special=False)]
        truncated += sum(len(ids) >= options.seq_len for ids in encoded)
        return [
            Encoded(np.append(ids[: options.seq_len - 1], eos), None, label)
            for ids, label in zip(encoded, labels, strict=True)
        ]

    train, validation, labels = _both_sides(rows, encode, options)
    if len(labels) < 2:
        raise InputError(
            f"{rows.description}: all documents have the label {labels[0]!r}: there is nothing to tell apart",
            field=options.label,
        )
    for index, label in enumerate(labels):
        if train.labels is not None and not (train.labels == index).any():
            raise InputError(
                f"the label {label!r} is in held-out documents only: lower validation_fraction or change split_seed",
                field=options.label,
                value=label,
            )
    return Sides(train, validation, labels, 0, truncated, ())


def _both_sides(
    rows: Rows, encode: Callable[[Sequence[Row]], list[Encoded]], options: TrainOptions
) -> tuple[Examples, Examples, tuple[str, ...]]:
    groups: list[str] = []
    encoded: list[Encoded] = []
    for chunk in _chunks(rows):
        for row, example in _encoded(chunk, encode, rows):
            groups.append(_group(row, options))
            encoded.append(example)
    if not encoded:
        skipped = f"; {len(rows.rejected)} rows were skipped" if rows.rejected else ""
        raise InputError(f"{rows.description}: no row is left to train on{skipped}", field="source")
    out = held_out(groups, fraction=options.validation_fraction, seed=options.split_seed)
    if out.all():
        message = f"{rows.description}: every row is on the validation side: lower validation_fraction"
        raise InputError(message, field="validation_fraction")
    labels = tuple(sorted({example.label for example in encoded if example.label is not None}))
    index = {label: number for number, label in enumerate(labels)}
    sides = [
        _examples([example for example, o in zip(encoded, out, strict=True) if o == side], index)
        for side in (False, True)
    ]
    return sides[0], sides[1], labels


def _chunks(rows: Rows) -> Iterator[list[Row]]:
    every = iter(rows)
    while chunk := list(islice(every, CHUNK_ROWS)):
        yield chunk


def _encoded(
    chunk: Sequence[Row], encode: Callable[[Sequence[Row]], list[Encoded]], rows: Rows
) -> Iterator[tuple[Row, Encoded]]:
    """The rows of a chunk that can be encoded; where one cannot, each is tried by itself."""
    try:
        yield from zip(chunk, encode(chunk), strict=True)
    except InputError as error:
        if len(chunk) == 1:
            rows.reject(chunk[0], error)
            return
        for row in chunk:
            yield from _encoded([row], encode, rows)


def _group(row: Row, options: TrainOptions) -> str:
    for name in (options.group,) if options.group is not None else ("cluster_id",):
        if (value := row.get(name)) is not None:
            return str(value)
    if row.fields.get("id") is not None:
        return row.id
    # Not its place: the same rows in another folder are split alike, and equal ones are on one side.
    return json.dumps(dict(row.fields), sort_keys=True, default=str)


def _examples(encoded: Sequence[Encoded], labels: dict[str, int]) -> Examples:
    offsets = np.zeros(len(encoded) + 1, np.uint64)
    np.cumsum([len(example.ids) for example in encoded], out=offsets[1:])
    masks = [example.in_loss for example in encoded if example.in_loss is not None]
    return Examples(
        tokens=np.concatenate([example.ids for example in encoded]) if encoded else np.zeros(0, np.int64),
        offsets=offsets,
        mask=None if labels else np.concatenate(masks).astype(np.uint8) if masks else np.zeros(0, np.uint8),
        labels=np.array([labels[e.label] for e in encoded if e.label is not None], np.int64) if labels else None,
    )
