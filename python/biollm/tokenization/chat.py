"""Chats as text and as ids, by a template in Jinja as `transformers` reads it from `chat_template.jinja`.

A template comes with a checkpoint, from anywhere. It runs in Jinja's immutable sandbox, its output is bounded, and so
is what an operator or filter may make at once; how long a loop runs is not bounded. What a message holds stays text: a
`<|end|>` that somebody typed becomes the ids of its letters, never the special token.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np

from biollm.errors import ConfigError, FormatError, InputError, LimitError, require
from biollm.tokenization.tokenizer_files import read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biollm.tokenization.tokenizer import Tokenizer

__all__ = ["CHAT_TEMPLATE", "TEMPLATE_FILE", "Chat", "ChatTemplate", "EncodedChat", "check_chat", "is_chat"]

Chat = Sequence[Mapping[str, Any]]
"""Messages in order, each with `role` ("system", "user" or "assistant") and `content`, a text."""

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}\n"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|assistant|>' -}}\n"
    "{%- endif -%}\n"
)
"""Ours, for vocabularies that hold `<|system|> <|user|> <|assistant|> <|end|>`, as those that `tokenize` trains do."""
TEMPLATE_FILE: Final = "chat_template.jinja"
ROLES: Final = ("system", "user", "assistant")
MAX_TEMPLATE_BYTES: Final = 1 << 18
MAX_CHAT_CHARACTERS: Final = 1 << 24
"""Of one chat as text."""
_FIRST_PRIVATE_USE, _LAST_PRIVATE_USE = 0xE000, 0xF8FF
_NAMED_TOKENS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
_OURS: Final = ("<|user|>", "<|assistant|>", "<|end|>")


@dataclass(frozen=True)
class EncodedChat:
    """A chat as ids.

    Attributes:
        ids: shape (tokens,), int64.
        in_loss: shape (tokens,), bool: the assistant's words, each answer with the token that ends it.
        end_ids: the special tokens that ended its answers.
    """

    ids: NDArray[np.int64]
    in_loss: NDArray[np.bool_]
    end_ids: frozenset[int]


def is_chat(value: object) -> TypeGuard[Chat]:
    """Whether a value is meant as a chat: a list that holds objects."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and any(isinstance(message, Mapping) for message in value)
    )


def check_chat(chat: object, *, answered: bool = False) -> Chat:
    """A chat whose every message can be used.

    Args:
        chat: what is meant to be one.
        answered: whether it must end with the assistant's message.

    Raises:
        InputError: it is none; the message says which message is wrong, and why.
    """
    if not isinstance(chat, Sequence) or isinstance(chat, str | bytes):
        raise InputError(f"a chat is a list of messages, not {type(chat).__name__}", field="messages")
    if not chat:
        raise InputError("the chat has no messages", field="messages")
    for number, message in enumerate(chat):
        where = f"message {number} of the chat"
        if not isinstance(message, Mapping):
            raise InputError(f"{where} is {type(message).__name__}, not an object with role and content")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise InputError(f"{where} has the role {role!r}: use one of {', '.join(ROLES)}", field="role", value=role)
        if not isinstance(content, str):
            raise InputError(f"{where} has content that is {type(content).__name__}, not a text", field="content")
        if role == "assistant" and not content.strip():
            raise InputError(f"{where} is an empty answer", field="content")
        if role == "system" and number:
            raise InputError(f"{where} is the system's, which comes first or not at all", field="role")
    if answered and chat[-1]["role"] != "assistant":
        raise InputError("the chat does not end with an answer of the assistant's", field="messages")
    return chat


class ChatTemplate:
    """A chat template, compiled once.

    Args:
        source: in Jinja.
        tokens: `bos_token`, `eos_token` and such, by which the template may call them.
        path: of the file it came from, for messages.

    Raises:
        FormatError: it is no Jinja. LimitError: it is over 256 KiB. MissingExtra: jinja2 is not installed.
    """

    def __init__(self, source: str, *, tokens: Mapping[str, str] | None = None, path: Path | None = None) -> None:
        jinja2 = require("jinja2", extra="train")
        from biollm.tokenization.sandbox import environment

        if len(source.encode(errors="replace")) > MAX_TEMPLATE_BYTES:
            message = f"a chat template of over {MAX_TEMPLATE_BYTES:,} bytes"
            raise LimitError(message, path=path, value=len(source), limit=MAX_TEMPLATE_BYTES)
        self.source = source
        self.path = path
        self._tokens = dict(tokens or {})
        try:
            self._template = environment(MAX_CHAT_CHARACTERS).from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise FormatError(f"not a chat template: {error}", path=path) from error

    @classmethod
    def of_folder(cls, folder: str | os.PathLike[str]) -> ChatTemplate | None:
        """The template of a checkpoint `folder`: `chat_template.jinja`, else that of `tokenizer_config.json`.

        Returns:
            The template; `None` where there is neither.

        Raises:
            FileError: a file cannot be read.
            FormatError: a broken file, or no Jinja. LimitError: as `ChatTemplate`.
        """
        file, settings_path = Path(folder) / TEMPLATE_FILE, Path(folder) / "tokenizer_config.json"
        settings = _settings(settings_path)
        tokens = {name: text for name in _NAMED_TOKENS if (text := _content(settings.get(name))) is not None}
        if file.is_file():
            try:
                return cls(read_bytes(file).decode(), tokens=tokens, path=file)
            except UnicodeDecodeError as error:
                raise FormatError(f"not UTF-8: {error}", path=file) from None
        source = settings.get("chat_template")
        if isinstance(source, list):  # several, by name
            named = [item for item in source if isinstance(item, dict) and item.get("name") == "default"]
            source = named[0].get("template") if named else None
        return cls(source, tokens=tokens, path=settings_path) if isinstance(source, str) else None

    @classmethod
    def default(cls, tokenizer: Tokenizer) -> ChatTemplate:
        """`CHAT_TEMPLATE`, for a `tokenizer` that has its special tokens.

        Raises:
            ConfigError: it lacks one.
        """
        missing = [token for token in _OURS if token not in tokenizer.special_tokens]
        if missing:
            raise ConfigError(
                f"the tokenizer has no special token {missing[0]}, and there is no chat template of its own: "
                f"put one into {TEMPLATE_FILE} beside its tokenizer.json",
                field="chat_template",
            )
        return cls(CHAT_TEMPLATE)

    def render(self, chat: Chat, *, add_generation_prompt: bool = False) -> str:
        """The `chat` as text; `add_generation_prompt` puts what comes before an answer at its end.

        Raises:
            InputError: the template refuses the chat (`raise_exception`). FormatError: it fails.
            LimitError: the text, or a part of it, would be over 16 Mi characters.
        """
        from biollm.tokenization.sandbox import run

        messages = [dict(message) for message in chat]
        values = {"messages": messages, "add_generation_prompt": add_generation_prompt, "tools": None, **self._tokens}
        return run(self._template, values, limit=MAX_CHAT_CHARACTERS, path=self.path)

    def prompt_ids(self, chat: Chat, tokenizer: Tokenizer) -> tuple[str, NDArray[np.int64]]:
        """A chat to be answered.

        Args:
            chat: whose last message is the user's, or the assistant's, which is then answered anew after it.
            tokenizer: of the model.

        Returns:
            Its text and its ids, shape (tokens,), what comes before an answer at the end.

        Raises:
            InputError, FormatError, LimitError: as `render`.
        """
        marks = _Marks(chat, tokenizer, self.source)
        text = self.render(marks.hidden, add_generation_prompt=True)
        (ids,) = _encoded([list(marks.pieces(text))], tokenizer)
        return marks.shown(text), np.fromiter((i for piece in ids for i in piece), np.int64)

    def training_ids(self, chats: Sequence[Chat], tokenizer: Tokenizer) -> list[EncodedChat]:
        """Chats as ids, with what of them is in the loss: all that the assistant says.

        What precedes an answer is encoded apart from it, as it is when the model is asked.

        Args:
            chats: checked by `check_chat`, each ending with an answer.
            tokenizer: of the model.

        Returns:
            One for each chat.

        Raises:
            ConfigError: the text before an answer is not how the text with it begins (a template that rewrites earlier
                messages), so that what is in the loss cannot be told.
            InputError, FormatError, LimitError: as `render`.
        """
        split: list[list[tuple[str, bool, bool]]] = []  # of each chat: text, is special, in loss
        for chat in chats:
            marks = _Marks(chat, tokenizer, self.source)
            pieces = []
            for text, answer in self._turns(marks.hidden):
                turn = list(marks.pieces(text))
                specials = [i for i, (_, special) in enumerate(turn) if special]
                end = specials[-1] if specials else len(turn)
                pieces += [(piece, special, answer and i <= end) for i, (piece, special) in enumerate(turn)]
            split.append(pieces)
        ids = _encoded([[(text, special) for text, special, _ in pieces] for pieces in split], tokenizer)
        return [_assembled(pieces, parts) for pieces, parts in zip(split, ids, strict=True)]

    def _turns(self, chat: Chat) -> Iterator[tuple[str, bool]]:
        """The chat's text in parts, each with whether it is an answer."""
        done = ""
        for number, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            before = self.render(chat[:number], add_generation_prompt=True) if number else ""
            whole = self.render(chat[: number + 1])
            if not (before.startswith(done) and whole.startswith(before)):
                raise ConfigError(
                    f"the chat template changes what stands before message {number} when it is added: "
                    "what is in the loss cannot be told; use a template that only appends",
                    path=self.path,
                    field="chat_template",
                )
            yield before[len(done) :], False
            yield whole[len(before) :], True
            done = whole


class _Marks:
    """A chat in which special tokens that somebody typed are hidden behind characters that nobody did."""

    def __init__(self, chat: Chat, tokenizer: Tokenizer, template: str) -> None:
        self._special = tokenizer.special_tokens
        self._typed: list[str] = []
        self._mark = ""
        self.hidden: Chat = chat
        if self._pattern is not None and any(self._pattern.search(message["content"]) for message in chat):
            used = {*template, *(c for message in chat for c in message["content"])}
            free = (chr(code) for code in range(_FIRST_PRIVATE_USE, _LAST_PRIVATE_USE + 1) if chr(code) not in used)
            self._mark = next(free, "")
            if not self._mark:
                raise InputError("the chat uses every character of Unicode's private area", field="messages")
            self.hidden = [{**m, "content": self._pattern.sub(self._hide, m["content"])} for m in chat]

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        names = sorted(self._special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None

    def _hide(self, found: re.Match[str]) -> str:
        self._typed.append(found[0])
        return f"{self._mark}{len(self._typed) - 1}{self._mark}"

    def shown(self, text: str) -> str:
        """The text with what was typed."""
        if not self._mark:
            return text
        return re.sub(f"{self._mark}(\\d+){self._mark}", lambda found: self._typed[int(found[1])], text)

    def pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        """The text of a template in pieces, each with whether it is a special token of the template's."""
        at = 0
        for found in self._pattern.finditer(text) if self._pattern is not None else ():
            if found.start() > at:
                yield self.shown(text[at : found.start()]), False
            yield found[0], True
            at = found.end()
        if at < len(text):
            yield self.shown(text[at:]), False


def _encoded(chats: Sequence[Sequence[tuple[str, bool]]], tokenizer: Tokenizer) -> list[list[NDArray[np.int64]]]:
    """The ids of every piece of every chat; the texts of all go to the tokenizer in one call."""
    special = tokenizer.special_tokens
    texts = [text for pieces in chats for text, is_special in pieces if not is_special]
    encoded = iter(tokenizer.encode_batch(texts, add_special=False)) if texts else iter(())
    return [
        [np.array([special[t]], np.int64) if is_special else next(encoded).astype(np.int64) for t, is_special in pieces]
        for pieces in chats
    ]


def _assembled(pieces: Sequence[tuple[str, bool, bool]], parts: Sequence[NDArray[np.int64]]) -> EncodedChat:
    in_loss = [np.full(len(ids), answer) for (_, _, answer), ids in zip(pieces, parts, strict=True)]
    answers = [(pieces[i], parts[i], i + 1 == len(pieces) or not pieces[i + 1][2]) for i in range(len(pieces))]
    ends = {int(ids[0]) for (_, special, answer), ids, last in answers if special and answer and last}
    return EncodedChat(np.concatenate(parts), np.concatenate(in_loss), frozenset(ends))


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=path) from error
    return data if isinstance(data, dict) else {}


def _content(token: object) -> str | None:
    if isinstance(token, dict):  # an AddedToken written out
        token = token.get("content")
    return token if isinstance(token, str) else None
