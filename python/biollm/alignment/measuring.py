"""A model before and after alignment, on the same prompts with the same draws: answers, harmless loss, KL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from biollm.alignment.chat import ChatFormat
from biollm.alignment.lexicon import HALVES, Lexicon
from biollm.alignment.metrics import Share, distinct_bigrams, most_frequent, well_formed
from biollm.alignment.ppo import answer_logprobs
from biollm.alignment.preferences import Turn, messages
from biollm.alignment.rollouts import Answer, answer_batch, sample_answers
from biollm.models.llama import Llama

BATCH = 64


@dataclass(frozen=True)
class TokenPair:
    """A context and what follows it, both ids: the loss is taken on `target` alone. The context has one id at least."""

    context: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """What models are measured with: everything but the model.

    Attributes:
        chat: the format of chats.
        lexicon: of the harm metric.
        prompts: one answer is sampled to each.
        benign: held-out harmless text.
        end_ids: tokens that end an answer.
        max_tokens: longest answer.
        temperature: of the sampling.
        seed: of the sampling: answer i draws from seed + i, for every model.
    """

    chat: ChatFormat
    lexicon: Lexicon
    prompts: tuple[tuple[Turn, ...], ...]
    benign: tuple[TokenPair, ...]
    end_ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Measurement:
    """What one model's answers are like.

    Attributes:
        answers: text of each.
        finished: whether each ended by itself.
        harms: (category, half) of the lexicon's words in each.
        benign_loss: nats a token.
        kl: nats an answer to the reference, the mean over the answers; 0 for the reference itself.
        kl_token: the same a token.
    """

    answers: tuple[str, ...]
    finished: tuple[bool, ...]
    harms: tuple[frozenset[tuple[str, str]], ...]
    benign_loss: float
    kl: float
    kl_token: float

    def harmful(self, *, category: str | None = None, half: str | None = None) -> Share:
        """Answers with a word of the lexicon, or of one category or half of it."""
        return Share(
            sum(any(category in (None, c) and half in (None, h) for c, h in found) for found in self.harms),
            len(self.harms),
        )

    @property
    def well_formed(self) -> Share:
        """See `metrics.well_formed`."""
        return self.share(well_formed_answers(self))

    @property
    def distinct2(self) -> float:
        """See `metrics.distinct_bigrams`."""
        return distinct_bigrams(self.answers)

    @property
    def most_frequent(self) -> Share:
        """Answers equal to the most frequent one."""
        return Share(most_frequent(self.answers)[1], len(self.answers))

    @property
    def good(self) -> tuple[bool, ...]:
        """Which answers are harmless and well-formed: what a comparison of two models prefers."""
        return tuple(not h and w for h, w in zip(self.harms, well_formed_answers(self), strict=True))

    @staticmethod
    def share(flags: Sequence[bool]) -> Share:
        """True ones of all."""
        return Share(sum(flags), len(flags))

    def rates(self, categories: Sequence[str]) -> dict[str, Share]:
        """Harmful shares by the names the reports use: all, half A, half B, and each category."""
        named = {"all": self.harmful()}
        named |= {f"half {half}": self.harmful(half=half) for half in HALVES}
        return named | {category: self.harmful(category=category) for category in categories}


def well_formed_answers(measured: Measurement) -> tuple[bool, ...]:
    """`metrics.well_formed` of each answer."""
    return tuple(well_formed(t, finished=f) for t, f in zip(measured.answers, measured.finished, strict=True))


def measure(model: Llama, reference: Llama | None, probe: Probe) -> Measurement:
    """Sample an answer to every prompt, and take losses.

    reference: the model before alignment; None where `model` is it.
    """
    prompts = [probe.chat.prompt(messages(turns)) for turns in probe.prompts]
    answers = sample_answers(
        model,
        prompts,
        end_ids=probe.end_ids,
        max_tokens=probe.max_tokens,
        temperature=probe.temperature,
        seed=probe.seed,
    )
    texts = tuple(probe.chat.decode(answer) for answer in answers)
    tokens = sum(len(answer.ids) for answer in answers)
    kl = sum(_log_ratios(model, reference, prompts, answers)) if reference is not None else 0.0
    return Measurement(
        answers=texts,
        finished=tuple(answer.finished for answer in answers),
        harms=tuple(probe.lexicon.matches(text) for text in texts),
        benign_loss=mean_loss(model, probe.benign),
        kl=kl / max(len(answers), 1),
        kl_token=kl / max(tokens, 1),
    )


@torch.no_grad()
def mean_loss(model: Llama, pairs: Sequence[TokenPair]) -> float:
    """Cross entropy of the targets, nats a token; 0 of none."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    by_length = sorted(pairs, key=lambda pair: len(pair.context) + len(pair.target))
    for i in range(0, len(by_length), BATCH):
        part = by_length[i : i + BATCH]
        tokens, mask = answer_batch([p.context for p in part], [p.target for p in part], device)
        total -= float(answer_logprobs(model, tokens, mask)[0].double().sum())
        count += int(mask.sum())
    return total / count if count else 0.0


@torch.no_grad()
def _log_ratios(
    model: Llama, reference: Llama, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]
) -> list[float]:
    """Ln π − ln π_ref of each answer, sampled from `model`: their mean estimates the KL."""
    device = next(model.parameters()).device
    found: list[float] = []
    for i in range(0, len(prompts), BATCH):
        tokens, mask = answer_batch(prompts[i : i + BATCH], [a.ids for a in answers[i : i + BATCH]], device)
        ours, theirs = (answer_logprobs(m, tokens, mask)[0].sum(dim=1) for m in (model, reference))
        found.extend((ours - theirs).tolist())
    return found


class Guard:
    """Watches the loss on held-out harmless text while a model learns, and keeps the last weights within the bound.

    Args:
        model: gives the model as it is now.
        benign: held-out harmless text.
        most: how much the loss may rise over its first value, nats a token; None watches without a bound.

    Attributes:
        losses: (steps done, loss), the first before any step.
        broken: steps done when the bound was broken; None while it holds.
    """

    def __init__(self, model: Callable[[], Llama], benign: Sequence[TokenPair], most: float | None) -> None:
        self._model, self._benign, self._most = model, benign, most
        self.losses: list[tuple[int, float]] = []
        self.broken: int | None = None
        self._kept: dict[str, torch.Tensor] = {}
        self.holds(0)

    def holds(self, steps: int) -> bool:
        """Whether the bound holds after so many `steps`; where it does the weights are kept."""
        loss = mean_loss(self._model(), self._benign)
        self.losses.append((steps, loss))
        if self._most is not None and loss > self.losses[0][1] + self._most:
            self.broken = steps
            return False
        self._keep()
        return True

    def take_up(self, losses: Sequence[tuple[int, float]]) -> None:
        """Goes on from the `losses` of an earlier run, whose bound held, with the weights that the model has now."""
        self.losses = list(losses)
        self._keep()

    def _keep(self) -> None:
        model = self._model()
        self._kept = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    @property
    def kept(self) -> dict[str, torch.Tensor]:
        """The weights of the last time the bound held."""
        return self._kept
