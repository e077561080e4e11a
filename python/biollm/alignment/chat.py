"""Chats as token ids: `<|user|>…<|end|><|assistant|>…<|end|>`, the text between the marks never read as a mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from biollm.errors import InputError
from biollm.tokenization.tokenizer import Tokenizer

ROLES: Final = ("system", "user", "assistant")
END: Final = "<|end|>"


@dataclass(frozen=True)
class Turn:
    """What one side said: `role` is one of ``ROLES``, `text` is not empty."""

    role: str
    text: str


class ChatTokens:
    """Turns as ids and ids as answers, for a tokenizer that has the marks among its special tokens.

    Args:
        tokenizer: of the model.
        eos_ids: the model's end-of-text ids, which end an answer too.
        path: named in errors.

    Attributes:
        tokenizer: as given.
        end_ids: ids that end an answer, `<|end|>` first.

    Raises:
        InputError: the tokenizer lacks a mark.
    """

    def __init__(self, tokenizer: Tokenizer, eos_ids: Sequence[int], path: Path) -> None:
        self.tokenizer = tokenizer
        self._marks: dict[str, int] = {}
        for name in (*(f"<|{role}|>" for role in ROLES), END):
            ids = tokenizer.encode(name, add_special=False, allow_special="all").ids
            if len(ids) != 1:
                raise InputError(
                    f"the tokenizer has no special token {name}: align needs a model tuned on chats, whose vocabulary "
                    "has <|system|>, <|user|>, <|assistant|> and <|end|> (those that tokenize trains do)",
                    path=path,
                    field="start",
                    value=name,
                )
            self._marks[name] = int(ids[0])
        self.end_ids = (self._marks[END], *(i for i in eos_ids if i != self._marks[END]))

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """The ids up to and with the mark behind which the model answers."""
        ids: list[int] = []
        for turn in turns:
            ids += [self._marks[f"<|{turn.role}|>"], *self.text(turn.text), self._marks[END]]
        return [*ids, self._marks["<|assistant|>"]]

    def answer(self, text: str) -> list[int]:
        """The ids of an answer, `<|end|>` behind it."""
        return [*self.text(text), self._marks[END]]

    def text(self, text: str) -> list[int]:
        """The ids of a text, without any mark."""
        return [int(i) for i in self.tokenizer.encode(text, add_special=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without the token that ended it; other special tokens stand as they are written."""
        kept = ids[:-1] if ids and ids[-1] in self.end_ids else ids
        known = [i for i in kept if self.tokenizer.id_to_token(i) is not None]
        return self.tokenizer.decode(known).strip()
