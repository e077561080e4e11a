"""Proximal policy optimization of a language model against a score of whole answers, readable from top to bottom.

    prompts → answers of the policy → score, minus β times the KL to the reference at each token → advantages → update

An action is a token, a state the tokens before it. The arithmetic follows Schulman et al. 2017 (arXiv 1707.06347,
equation 7) for the clipped objective, Schulman et al. 2016 (arXiv 1506.02438, equation 16) for the advantages and
Ziegler et al. 2019 (arXiv 1909.08593, section 2.2) for the penalty and its adaptive coefficient; the likelihood of
demonstrations beside it is that of Ouyang et al. 2022 (arXiv 2203.02155, equation 2).

Per-token tensors are (batch, seq - 1): place t belongs to the prediction of token t + 1. A mask is True where that
token is part of the answer; the True places of a row are contiguous, and what stands elsewhere has no effect.
This module knows nothing of chats, files or where a score comes from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biollm.alignment.rollouts import Answer, answer_batch, sample_answers
from biollm.models.llama import Llama

Score = Callable[[Sequence[Sequence[int]], Sequence[Answer]], Tensor]
"""Prompts and their answers → one number an answer, (batch,)."""


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """The constants of a run; the defaults of clipping, discount and KL are those of the papers above."""

    iterations: int = 40
    batch_size: int = 64  # answers an iteration
    minibatches: int = 2  # optimizer steps an epoch
    epochs: int = 2  # passes over the answers of an iteration
    lr: float = 1e-4
    value_lr: float = 1e-2  # of the value head, which starts at 0
    max_tokens: int = 64
    temperature: float = 1.0
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    gamma: float = 1.0
    gae_lambda: float = 0.95
    kl_coefficient: float = 0.15
    kl_target: float = 6.0  # nats an answer
    kl_horizon: float = 10_000.0  # answers
    sft_weight: float = 0.0  # of the demonstrations' likelihood
    useless_penalty: float = 1.0  # of an answer that is cut off, or is its end alone
    clip_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Iteration:
    """What one iteration saw: means over its answers, `kl` in nats an answer."""

    score: float
    kl: float
    kl_coefficient: float
    policy_loss: float
    value_loss: float
    clipped: float  # share of tokens whose ratio was clipped
    answer_tokens: float


class KLController:
    """The coefficient β of the KL penalty: raised where the KL is over its target, lowered where it is under.

    β ← β (1 + clip(KL / target − 1, ±0.2) · n / horizon), Ziegler et al. 2019, section 2.2.

    Args:
        value: β at the start.
        target: nats an answer.
        horizon: answers over which β may change by a fifth.
    """

    def __init__(self, value: float, *, target: float, horizon: float) -> None:
        self.value, self.target, self.horizon = value, target, horizon

    def update(self, kl: float, answers: int) -> None:
        """Takes in the mean `kl` of so many `answers`."""
        error = min(max(kl / self.target - 1.0, -0.2), 0.2)
        self.value *= 1.0 + error * answers / self.horizon


class ValueHead(nn.Module):
    """Expected return from a hidden state: a linear map that starts at 0. Hidden (…, dim) → (…,)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        values: Tensor = self.linear(hidden)[..., 0]
        return values


# --- the arithmetic ---------------------------------------------------------------------------------------------------


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the True places, a scalar; 0 where there are none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """To variance 1 over the True places, and mean 0 unless the mean is to stay; 0 elsewhere. Biased variance."""
    mean = masked_mean(values, mask)
    scaled = (values - mean) * torch.rsqrt(masked_mean((values - mean).square(), mask) + 1e-8)
    return torch.where(mask, scaled if shift_mean else scaled + mean, 0.0)


def token_rewards(scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """−β (ln π − ln π_ref) at each answer token, and the score (batch,) on the last one: (batch, seq - 1)."""
    rewards = torch.where(mask, -coefficient * (logprobs - reference), 0.0)
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    last = torch.where(mask, places, -1).amax(dim=1)  # (batch,)
    rewards[torch.arange(len(last), device=mask.device), last] += scores
    return rewards


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantages A_t = δ_t + γλ A_{t+1}, δ_t = r_t + γ V_{t+1} − V_t, and the returns A + V.

    Behind the last token of an answer V and A are 0: an answer cut at its longest counts as ended.
    """
    values = torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    after = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(after)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        after = torch.where(mask[:, t], delta + gamma * gae_lambda * after, 0.0)
        next_value = values[:, t]
        advantages[:, t] = after
    return advantages, advantages + values


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """The clipped objective, to be minimized, and the share of tokens where clipping was the larger loss: scalars.

    new, old: ln π of the answer's tokens now and when it was sampled.
    """
    ratio = torch.where(mask, new - old, 0.0).exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1.0 - clip, 1.0 + clip)
    return masked_mean(torch.maximum(plain, clipped), mask), masked_mean((clipped > plain).to(ratio.dtype), mask)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """½ max((V − R)², (V clipped to old ± clip − R)²), the mean over the answer's tokens."""
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * masked_mean(torch.maximum((values - returns).square(), (clipped - returns).square()), mask)


# --- models and answers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rollouts:
    """Answers of the policy as a batch: `tokens` (batch, seq), prompt, answer, padding; the others (batch, seq - 1)."""

    tokens: Tensor
    mask: Tensor
    logprobs: Tensor
    values: Tensor
    reference: Tensor

    @property
    def kl(self) -> Tensor:
        """Ln π − ln π_ref summed over each answer, (batch,): its mean estimates KL(π‖π_ref) of an answer."""
        return torch.where(self.mask, self.logprobs - self.reference, 0.0).sum(dim=1)


def answer_logprobs(model: Llama, tokens: Tensor, mask: Tensor, head: ValueHead | None = None) -> tuple[Tensor, Tensor]:
    """Ln π of each answer token and the value before it, both (batch, seq - 1) and 0 off the mask.

    Without a head the values are 0.
    """
    hidden = model.model(tokens[:, :-1])[mask]  # (answer tokens, dim): logits are made where they are wanted alone
    chosen = model.logits(hidden).float().log_softmax(dim=-1).gather(-1, tokens[:, 1:][mask][:, None])[:, 0]
    empty = torch.zeros(mask.shape, device=tokens.device)
    values = head(hidden).float() if head is not None else torch.zeros_like(chosen)
    return empty.masked_scatter(mask, chosen), empty.masked_scatter(mask, values)


class PPO:
    """Trains a policy in place.

    Args:
        policy: the model that learns.
        reference: a frozen model that it must stay near to; of the same vocabulary.
        score: of whole answers.
        settings: the constants.
        end_ids: tokens that end an answer.
        demonstrations: prompts with good answers, ids; `sft_weight` keeps them likely. Where the score is flat, only
            that and the penalty hold the policy against the drift that sampling brings.

    Attributes:
        policy, settings: as given.
        head: the value head, on the policy's last hidden states.
        controller: of the KL's coefficient.
        optimizer, random: Adam of both; what draws prompts and orders.
    """

    def __init__(
        self,
        policy: Llama,
        reference: Llama,
        score: Score,
        settings: PPOSettings,
        *,
        end_ids: Sequence[int],
        demonstrations: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
    ) -> None:
        self.policy, self.settings = policy, settings
        self._reference, self._score = reference, score
        self._end_ids, self._demonstrations = tuple(end_ids), demonstrations
        self._device = next(policy.parameters()).device
        self.head = ValueHead(policy.config.dim).to(self._device)
        self.controller = KLController(settings.kl_coefficient, target=settings.kl_target, horizon=settings.kl_horizon)
        self._modules = ((policy, settings.lr), (self.head, settings.value_lr))
        groups = [{"params": list(module.parameters()), "lr": lr} for module, lr in self._modules]
        self.optimizer = torch.optim.Adam(groups, eps=1e-5)
        self.random = random.Random(settings.seed)

    def step(self, index: int, prompts: Sequence[Sequence[int]]) -> Iteration:
        """Iteration `index`: sample answers to some of the `prompts` (lists of ids), score them, and learn from them.

        The learning rate falls linearly to 0 behind the last iteration.
        """
        settings = self.settings
        chosen = [prompts[int(self.random.random() * len(prompts))] for _ in range(settings.batch_size)]
        answers = sample_answers(
            self.policy,
            chosen,
            end_ids=self._end_ids,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed + index * settings.batch_size,
        )
        rollouts = self._rollouts(chosen, answers)
        scores = self._score(chosen, answers).to(self._device)
        # No pair holds an empty answer, so a reward model may find it as good as any.
        useless = torch.tensor([not a.finished or len(a.ids) == 1 for a in answers], device=self._device)
        scores = scores - settings.useless_penalty * useless
        coefficient = self.controller.value
        rewards = token_rewards(scores, rollouts.logprobs, rollouts.reference, rollouts.mask, coefficient)
        advantages, returns = advantages_and_returns(
            rewards, rollouts.values, rollouts.mask, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        for group, (_, lr) in zip(self.optimizer.param_groups, self._modules, strict=True):
            group["lr"] = lr * (1.0 - index / settings.iterations)
        losses = self._learn(rollouts, whiten(advantages, rollouts.mask), returns)
        kl = float(rollouts.kl.mean())
        self.controller.update(kl, settings.batch_size)
        length = float(rollouts.mask.sum(dim=1).float().mean())
        return Iteration(float(scores.mean()), kl, coefficient, *losses, length)

    @torch.no_grad()
    def _rollouts(self, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> Rollouts:
        tokens, mask = answer_batch(prompts, [answer.ids for answer in answers], self._device)
        logprobs, values = answer_logprobs(self.policy, tokens, mask, self.head)
        reference, _ = answer_logprobs(self._reference, tokens, mask)
        return Rollouts(tokens, mask, logprobs, values, reference)

    def _learn(self, rollouts: Rollouts, advantages: Tensor, returns: Tensor) -> tuple[float, float, float]:
        """The epochs over one iteration's answers; the means of policy loss, value loss and clipped share."""
        settings, seen = self.settings, []
        for _ in range(settings.epochs):
            order = list(range(len(rollouts.tokens)))
            self.random.shuffle(order)
            for part in torch.tensor(order, device=self._device).tensor_split(settings.minibatches):
                mask = rollouts.mask[part]
                logprobs, values = answer_logprobs(self.policy, rollouts.tokens[part], mask, self.head)
                policy, clipped = policy_loss(logprobs, rollouts.logprobs[part], advantages[part], mask, settings.clip)
                value = value_loss(values, rollouts.values[part], returns[part], mask, settings.value_clip)
                loss = policy + settings.value_weight * value
                if settings.sft_weight:
                    loss = loss + settings.sft_weight * self._demonstrated(len(part))
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.policy.parameters(), settings.clip_norm)
                self.optimizer.step()
                seen.append(torch.stack((policy.detach(), value.detach(), clipped)))
        means = torch.stack(seen).mean(dim=0).tolist()
        return means[0], means[1], means[2]

    def _demonstrated(self, count: int) -> Tensor:
        """−ln π of so many demonstrations, the mean over their answers' tokens: a scalar."""
        prompts, answers = zip(*self.random.choices(self._demonstrations, k=count), strict=True)
        tokens, mask = answer_batch(prompts, answers, self._device)
        return -masked_mean(answer_logprobs(self.policy, tokens, mask)[0], mask)
