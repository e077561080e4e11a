"""The two methods of `align`: what each trains, and what it says of itself."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from biollm.alignment.dpo import load_model, run_dpo
from biollm.alignment.measuring import Guard, Probe
from biollm.alignment.options import AlignOptions
from biollm.alignment.ppo import PPO, Iteration, PPOSettings, Score
from biollm.alignment.resume import keep_policy, keep_reward, kept_policy, kept_reward
from biollm.alignment.reward import RewardFit, RewardModel, fit_reward
from biollm.alignment.rollouts import sample_answers
from biollm.alignment.rules import rule_score
from biollm.alignment.sources import Material
from biollm.models import Llama
from biollm.partial import Partial
from biollm.results import Scalar, Series
from biollm.telemetry import event
from biollm.training.schedule import default_learning_rate

if TYPE_CHECKING:
    from biollm.results import Progress

LR_SHARE: Final = 0.1
"""Of the learning rate that training from a checkpoint takes."""


@dataclass(frozen=True)
class Trained:
    """A trained policy, and what its training says of itself."""

    policy: Llama
    steps: int
    facts: Mapping[str, Scalar]
    curves: tuple[Series, ...]


@dataclass(frozen=True)
class Run:
    """One alignment under way: what both methods need."""

    start: Path
    reference: Llama
    material: Material
    probe: Probe
    options: AlignOptions
    device: torch.device
    partial: Partial | None
    progress: Progress | None
    log: logging.Logger

    @property
    def lr(self) -> float:
        """The learning rate, with the default filled in."""
        parameters = self.reference.config.num_parameters
        return self.options.lr or LR_SHARE * default_learning_rate(parameters, from_checkpoint=True)

    def dpo(self) -> Trained:
        """By TRL, on the `transformers` model; ours shares its tensors, to watch it and to write it."""
        options = self.options
        theirs = load_model(self.start, self.device)
        policy, weights = copy.deepcopy(self.reference), theirs.state_dict()
        policy.load_state_dict({name: weights[name] for name in policy.state_dict()}, assign=True)
        guard = self._guard(policy)
        log = run_dpo(
            theirs,
            self.start,
            self.material.train,
            steps=options.updates,
            batch_size=options.answers,
            lr=self.lr,
            beta=options.beta,
            sft_weight=options.likelihood_weight,
            seed=options.seed,
            every=options.check_every,
            check=guard.holds,
            report=self.progress,
        )
        self._go_back(policy, guard)
        curves = (
            Series("Loss of dpo", "step", "nats", log.steps, log.loss, name="loss"),
            Series("Pairs ranked right", "step", "share of the batch", log.steps, log.accuracy),
            Series("Reward margin", "step", "β × log-ratio", log.steps, log.margin),
            *_benign_curve(guard),
        )
        facts: dict[str, Scalar] = {"lr": self.lr, "beta": options.beta, "pairs_ranked_right": log.accuracy[-1]}
        return Trained(policy, len(log.steps), {**facts, **_guard_facts(guard)}, curves)

    def ppo(self) -> Trained:
        """By our own loop, against a reward model or the rule."""
        options, reference = self.options, self.reference
        prompts = [list(pair.prompt) for pair in self.material.train]
        policy = copy.deepcopy(reference).requires_grad_(True)
        score, fit = self._score(prompts)
        ppo = PPO(
            policy,
            reference,
            score,
            self._settings(),
            end_ids=self.probe.end_ids,
            demonstrations=[(pair.prompt, pair.chosen) for pair in self.material.train],
        )
        guard = self._guard(policy)
        before = len(fit.losses) if fit is not None else 0
        seen = kept_policy(self.partial, ppo, guard) if self.partial is not None else []
        if self.partial is not None and self.partial.resumed:
            self.partial.resume(len(seen), "iterations", self.log)
        for index in range(len(seen), options.updates):
            seen.append(ppo.step(index, prompts))
            done = index + 1
            if self.partial is not None:
                self.partial.reached(done)
            if self.progress is not None:
                self.progress(before + done, before + options.updates)
            if done % options.check_every and done != options.updates:
                continue
            if not guard.holds(done):
                break
            if self.partial is not None:
                keep_policy(self.partial, ppo, guard, seen)
        self._go_back(policy, guard)
        facts: dict[str, Scalar] = {
            "reward": "a model fitted to the pairs" if fit is not None else "a rule: well-formed, no word of half A",
            "lr": self.lr,
            "reward_accuracy_held_out": fit.accuracy if fit is not None else None,
            "score_first": seen[0].score,
            "score_last": seen[-1].score,
            "kl_coefficient_last": seen[-1].kl_coefficient,
        }
        curves = (*_reward_curve(fit), *_ppo_curves(seen), *_benign_curve(guard))
        return Trained(policy, len(seen), {**facts, **_guard_facts(guard)}, curves)

    def _settings(self) -> PPOSettings:
        options = self.options
        return PPOSettings(
            iterations=options.updates,
            batch_size=options.answers,
            minibatches=options.minibatches,
            epochs=options.epochs,
            lr=self.lr,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            clip=options.clip,
            value_clip=options.clip,
            value_weight=options.value_weight,
            gamma=options.gamma,
            gae_lambda=options.gae_lambda,
            kl_coefficient=options.kl_coefficient,
            kl_target=options.kl_target,
            kl_horizon=options.kl_horizon,
            sft_weight=options.likelihood_weight,
            seed=options.seed,
        )

    def _score(self, prompts: Sequence[Sequence[int]]) -> tuple[Score, RewardFit | None]:
        """The reward of ppo."""
        options = self.options
        if options.reward == "rule":
            return rule_score(self.probe.chat, self.probe.lexicon), None
        model = RewardModel(self.reference, seed=options.seed).requires_grad_(True)
        if self.partial is not None and (kept := kept_reward(self.partial, model)) is not None:
            return model.requires_grad_(False).score, kept
        pairs = {
            side: [((*p.prompt, *p.chosen), (*p.prompt, *p.rejected)) for p in tokens]
            for side, tokens in (("train", self.material.train), ("held_out", self.material.held_out))
        }
        fit = fit_reward(
            model,
            pairs["train"],
            pairs["held_out"],
            epochs=options.reward_epochs,
            batch_size=max(options.answers // 2, 1),
            lr=options.reward_lr or 2 * self.lr,
            seed=options.seed,
            report=self._fit_report(),
        )
        message = f"the reward model ranks {fit.accuracy:.1%} of {fit.held_out} held-out pairs right"
        event(self.log, "reward_model", message, accuracy=fit.accuracy, pairs=fit.held_out)
        draw = random.Random(options.seed)
        chosen = [prompts[int(draw.random() * len(prompts))] for _ in range(options.samples)]
        answers = sample_answers(
            self.reference,
            chosen,
            end_ids=self.probe.end_ids,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            seed=options.seed,
        )
        model.calibrate([[*prompt, *answer.ids] for prompt, answer in zip(chosen, answers, strict=True)])
        if self.partial is not None:
            keep_reward(self.partial, model, fit)
        return model.requires_grad_(False).score, fit

    def _fit_report(self) -> Callable[[int, int], None] | None:
        progress, updates = self.progress, self.options.updates
        if progress is None:
            return None
        return lambda done, total: progress(done, total + updates)

    def _guard(self, policy: Llama) -> Guard:
        most = self.options.max_benign_increase
        return Guard(lambda: policy, self.material.benign, None if most == "off" else float(most))

    def _go_back(self, policy: Llama, guard: Guard) -> None:
        """Take the last weights whose loss on harmless text held."""
        if guard.broken is None:
            return
        policy.load_state_dict(guard.kept)
        good = guard.losses[-2][0]
        message = f"the loss on harmless text rose too far by step {guard.broken}: back to the weights of step {good}"
        event(self.log, "gone_back", message, level=logging.WARNING, broken=guard.broken, step=good)


def _guard_facts(guard: Guard) -> dict[str, Scalar]:
    return {"gone_back_to_step": guard.losses[-2][0] if guard.broken is not None else None}


def _reward_curve(fit: RewardFit | None) -> tuple[Series, ...]:
    if fit is None:
        return ()
    steps = tuple(range(1, len(fit.losses) + 1))
    return (Series("Loss of the reward model", "step", "nats a pair", steps, fit.losses),)


def _ppo_curves(seen: Sequence[Iteration]) -> tuple[Series, ...]:
    steps = tuple(range(1, len(seen) + 1))

    def curve(title: str, label: str, values: Sequence[float], name: str = "") -> Series:
        return Series(title, "iteration", label, steps, tuple(values), name=name)

    return (
        curve("Score of ppo", "mean score", [i.score for i in seen]),
        curve("KL to the start", "nats an answer", [i.kl for i in seen]),
        curve("KL coefficient", "β", [i.kl_coefficient for i in seen]),
        curve("Losses of ppo", "loss", [i.policy_loss for i in seen], "policy"),
        curve("Losses of ppo", "loss", [i.value_loss for i in seen], "value"),
    )


def _benign_curve(guard: Guard) -> tuple[Series, ...]:
    steps, losses = zip(*guard.losses, strict=True)
    return (Series("Loss on harmless text", "step", "nats a token", tuple(steps), tuple(losses)),)
