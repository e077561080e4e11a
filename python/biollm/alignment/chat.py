"""A checkpoint's chats as token ids, by the template of its folder or ours, as `train` and `LLM.generate` have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biollm.alignment.rollouts import Answer
from biollm.errors import ConfigError
from biollm.tokenization.chat import Chat, ChatTemplate, EncodedChat
from biollm.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True)
class EncodedAnswer:
    """An answer as `ids`, the token that ends it included; that token is `end_id`."""

    ids: tuple[int, ...]
    end_id: int


@dataclass(frozen=True)
class ChatFormat:
    """The chat template and the tokenizer of one checkpoint. What a text holds is never read as a special token."""

    template: ChatTemplate
    tokenizer: Tokenizer

    @classmethod
    def of_folder(cls, folder: Path) -> ChatFormat:
        """Those of a checkpoint folder; ours for a vocabulary that has its marks where there is no template.

        Raises:
            ConfigError: neither. FormatError, LimitError: a broken template. FileError: a file cannot be read.
        """
        tokenizer = Tokenizer.from_file(folder)
        return cls(ChatTemplate.of_folder(folder) or ChatTemplate.default(tokenizer), tokenizer)

    def prompt(self, chat: Chat) -> tuple[int, ...]:
        """The ids of a chat that ends with the user, up to where the model answers.

        Raises:
            InputError: the template refuses the chat. FormatError, LimitError: it fails.
        """
        return tuple(self.template.prompt_ids(chat, self.tokenizer)[1].tolist())

    def answers(self, chat: Chat, texts: Sequence[str]) -> list[EncodedAnswer]:
        """Each text as an answer to the chat: what of it is in the loss when a model is tuned on conversations.

        Raises:
            ConfigError: the template changes the chat when the answer is added, or ends it with no special token.
            InputError, FormatError, LimitError: as `prompt`.
        """
        chats = [[*chat, {"role": "assistant", "content": text}] for text in texts]
        return [self._last(encoded) for encoded in self.template.training_ids(chats, self.tokenizer)]

    def text(self, text: str) -> tuple[int, ...]:
        """The ids of a text that is no part of a chat."""
        return tuple(int(i) for i in self.tokenizer.encode(text, add_special=False).ids)

    def decode(self, answer: Answer) -> str:
        """The text of a sampled answer, without the token that ended it; other special tokens as they are written."""
        ids = answer.ids[:-1] if answer.finished else answer.ids
        known = [i for i in ids if self.tokenizer.id_to_token(i) is not None]
        return self.tokenizer.decode(known).strip()

    def _last(self, chat: EncodedChat) -> EncodedAnswer:
        end = int(np.flatnonzero(chat.in_loss)[-1]) + 1
        before = np.flatnonzero(~chat.in_loss[:end])
        answer = tuple(chat.ids[int(before[-1]) + 1 if len(before) else 0 : end].tolist())
        if answer[-1] not in chat.end_ids:
            raise ConfigError(
                "the chat template ends an answer with no special token of the tokenizer, so a model could not learn "
                "where to end one: let it write an end mark, or the EOS, behind each answer",
                path=self.template.path,
                field="chat_template",
            )
        return EncodedAnswer(answer, answer[-1])
