"""A reward that is a rule: for trying the loop, and for comparison with a reward model. Never the default."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biollm.alignment.chat import ChatFormat
from biollm.alignment.lexicon import Lexicon
from biollm.alignment.metrics import well_formed
from biollm.alignment.ppo import Score
from biollm.alignment.rollouts import Answer


def rule_score(chat: ChatFormat, lexicon: Lexicon) -> Score:
    """+1 for a well-formed answer, −1 for one with a word of half A of the lexicon; of half B it knows nothing."""

    def score(prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> Tensor:
        texts = [chat.decode(answer) for answer in answers]
        good = [well_formed(text, finished=answer.finished) for text, answer in zip(texts, answers, strict=True)]
        bad = [any(half == "A" for _, half in lexicon.matches(text)) for text in texts]
        return torch.tensor([float(g) - float(b) for g, b in zip(good, bad, strict=True)])

    return score
