"""A reward model: the trunk of the tuned model with a scalar head, fitted to preference pairs.

Bradley and Terry's model (1952): P(chosen over rejected) = σ(r(chosen) − r(rejected)); fitted by maximum likelihood
as in Ouyang et al. 2022 (arXiv 2203.02155, equation 1), one pair a prompt.

Pairs hold whole answers alone, so what they teach says nothing of one that breaks off after a word, and a policy finds
out. Each chosen answer is therefore held against its own beginning too.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from biollm.alignment.rollouts import Answer, pad_rows
from biollm.models.llama import Llama

BATCH: Final = 64
"""Chats read at once."""
Pair = tuple[Sequence[int], Sequence[int]]
"""Ids of a whole chat that ends in the chosen answer, and of one that ends in the rejected answer."""


class RewardModel(nn.Module):
    """Chats of token ids → one number each.

    Args:
        start: the model whose trunk is copied.
        seed: of the head, whose weights begin with a standard deviation of 1/√(dim + 1) (Ziegler et al. 2019).

    Attributes:
        trunk: everything but the output layer.
        head: hidden → scalar.
    """

    centre: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, start: Llama, *, seed: int = 0) -> None:
        super().__init__()
        dim = start.config.dim
        device = start.model.embed_tokens.weight.device
        self.trunk = copy.deepcopy(start.model)
        self.head = nn.Linear(dim, 1)
        nn.init.normal_(self.head.weight, 0.0, 1.0 / math.sqrt(dim + 1), generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.head.bias)
        for name in ("centre", "offset"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.to(device)

    def forward(self, chats: Sequence[Sequence[int]]) -> Tensor:
        """(chats,) rewards, read at the last token of each."""
        tokens = pad_rows(chats).to(self.head.weight.device)
        hidden = self.trunk(tokens)  # (chats, seq, dim); causal, so padding behind a chat changes nothing
        last = hidden[torch.arange(len(chats)), torch.tensor([len(chat) - 1 for chat in chats])]
        rewards: Tensor = self.head(last)[:, 0].float()
        return rewards

    @torch.no_grad()
    def calibrate(self, chats: Sequence[Sequence[int]]) -> None:
        """Fit `score` to `chats`, the reference's own answers: centred on their mean, standardized on them."""
        rewards = self._batched(chats)
        self.centre.copy_(rewards.mean())
        saturated = nn.functional.logsigmoid(rewards - self.centre)
        self.offset.copy_(saturated.mean())
        self.scale.copy_(saturated.std().clamp(min=1e-6))

    @torch.no_grad()
    def score(self, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> Tensor:
        """(answers,) scores of answers to prompts; a `ppo.Score`.

        The score is ln σ(reward − centre), scaled (Wang et al. 2024, arXiv 2402.00742, section 3.1): it tells bad
        answers from passable ones, and hardly passable ones from each other. Of those the pairs say nothing,
        and a policy that climbed them would always give its one highest answer.
        """
        rewards = self._batched([[*prompt, *answer.ids] for prompt, answer in zip(prompts, answers, strict=True)])
        return (nn.functional.logsigmoid(rewards - self.centre) - self.offset) / self.scale

    def _batched(self, chats: Sequence[Sequence[int]]) -> Tensor:
        return torch.cat([self(chats[i : i + BATCH]) for i in range(0, len(chats), BATCH)])


@dataclass(frozen=True)
class RewardFit:
    """How the fit went: loss of each step (nats a pair), and the share of held-out pairs ranked right."""

    losses: tuple[float, ...]
    accuracy: float
    held_out: int


def pair_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """−ln σ(r(chosen) − r(rejected)), the mean over pairs: a scalar, ln 2 where nothing is known."""
    return -nn.functional.logsigmoid(chosen - rejected).mean()


def fit_reward(
    model: RewardModel,
    train: Sequence[Pair],
    held_out: Sequence[Pair],
    *,
    epochs: float,
    batch_size: int,
    lr: float,
    seed: int,
    report: Callable[[int, int], None] | None = None,
) -> RewardFit:
    """Fit in place by Adam, the rate falling linearly to 0.

    Args:
        model: to be fitted.
        train: pairs to learn from.
        held_out: pairs to judge by.
        epochs: passes over the train pairs.
        batch_size: pairs a step.
        lr: learning rate at the start.
        seed: of the order of pairs.
        report: called with steps done and steps in all.
    """
    steps = max(1, math.ceil(epochs * len(train) / batch_size))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    draw = random.Random(seed)
    queue: list[Pair] = []
    losses = []
    for step in range(steps):
        while len(queue) < min(batch_size, len(train)):
            refill = list(train)
            draw.shuffle(refill)
            queue.extend(refill)
        batch, queue = queue[:batch_size], queue[batch_size:]
        short = [cut_short(pair, draw) for pair in batch]
        rewards = model([c for c, _ in batch] + [r for _, r in batch] + short)  # (3 · pairs,)
        chosen, rejected, begun = rewards.chunk(3)
        loss = 0.5 * (pair_loss(chosen, rejected) + pair_loss(chosen, begun))
        for group in optimizer.param_groups:
            group["lr"] = lr * (1.0 - step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if report is not None:
            report(step + 1, steps)
    return RewardFit(tuple(losses), ranking_accuracy(model, held_out, batch_size), len(held_out))


def cut_short(pair: Pair, draw: random.Random) -> list[int]:
    """A chosen chat whose answer ends too early: before a place in its first half, then the chat's last token.

    The answers of a pair begin where its chats part.
    """
    chosen, rejected = pair
    places = (place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    begin = next(places, min(len(chosen), len(rejected)) - 1)
    length = max(0, len(chosen) - 1 - begin)
    return [*chosen[: begin + draw.randint(0, length // 2)], chosen[-1]]


@torch.no_grad()
def ranking_accuracy(model: RewardModel, pairs: Sequence[Pair], batch_size: int) -> float:
    """The share of pairs whose chosen answer has the higher reward; 0 of none."""
    right = 0
    for i in range(0, len(pairs), batch_size):
        batch = pairs[i : i + batch_size]
        chosen, rejected = model([c for c, _ in batch] + [r for _, r in batch]).chunk(2)
        right += int((chosen > rejected).sum())
    return right / len(pairs) if pairs else 0.0
