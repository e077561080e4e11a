"""The arithmetic of PPO against brute force and closed forms, and that the whole of it learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from biollm.alignment.ppo import (
    PPO,
    KLController,
    PPOSettings,
    advantages_and_returns,
    answer_logprobs,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from biollm.alignment.rollouts import Answer, answer_batch, sample_answers
from biollm.models import Llama

# Rows of 7 places whose answers are 4, 2 and 1 tokens long and begin at different places.
SPANS = ((1, 5), (3, 5), (6, 7))


def mask_of(spans: Sequence[tuple[int, int]] = SPANS, width: int = 7) -> Tensor:
    mask = torch.zeros(len(spans), width, dtype=torch.bool)
    for row, (begin, end) in enumerate(spans):
        mask[row, begin:end] = True
    return mask


def noise(seed: int, shape: tuple[int, ...] = (3, 7)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- advantages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (0.99, 0.0), (0.7, 1.0)])
def test_advantages_are_the_discounted_sum_of_errors(gamma: float, gae_lambda: float) -> None:
    mask, rewards, values = mask_of(), noise(1), noise(2)
    advantages, returns = advantages_and_returns(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    for row, (begin, end) in enumerate(SPANS):
        r, v = rewards[row, begin:end].tolist(), [*values[row, begin:end].tolist(), 0.0]
        errors = [r[t] + gamma * v[t + 1] - v[t] for t in range(end - begin)]
        for t in range(end - begin):
            expected = sum((gamma * gae_lambda) ** k * errors[t + k] for k in range(end - begin - t))
            assert advantages[row, begin + t].item() == pytest.approx(expected, abs=1e-12)
            assert returns[row, begin + t].item() == pytest.approx(expected + v[t], abs=1e-12)


def test_without_values_advantages_are_the_rewards_still_to_come() -> None:
    mask, rewards = mask_of(), noise(1)
    advantages, _ = advantages_and_returns(rewards, torch.zeros(3, 7), mask, gamma=1.0, gae_lambda=1.0)
    for row, (begin, end) in enumerate(SPANS):
        to_come = rewards[row, begin:end].flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(advantages[row, begin:end], to_come)


def test_what_stands_in_the_padding_changes_nothing() -> None:
    mask = mask_of()
    arrays = [noise(seed) for seed in range(6)]
    spoilt = [torch.where(mask, array, torch.full_like(array, 1e4)) for array in arrays]

    def all_of(rewards: Tensor, values: Tensor, new: Tensor, old: Tensor, reference: Tensor, other: Tensor) -> Tensor:
        shaped = token_rewards(torch.tensor([1.0, 2.0, 3.0]).double(), new, reference, mask, 0.3)
        advantages, returns = advantages_and_returns(
            torch.where(mask, rewards, 0.0) + shaped, values, mask, gamma=0.9, gae_lambda=0.8
        )
        losses = [
            *policy_loss(new, old, whiten(advantages, mask), mask, 0.2),
            value_loss(values, other, returns, mask, 0.2),
        ]
        return torch.stack([loss.double() for loss in losses])

    torch.testing.assert_close(all_of(*arrays), all_of(*spoilt), rtol=0, atol=1e-12)


# --- whitening --------------------------------------------------------------------------------------------------------


def test_whitened_values_have_mean_0_and_variance_1_over_the_mask_alone() -> None:
    mask, values = mask_of(), 5.0 + 3.0 * noise(3)
    white = whiten(values, mask)
    assert white[mask].mean().item() == pytest.approx(0.0, abs=1e-12)
    assert white[mask].var(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    assert not white[~mask].any()
    kept = whiten(values, mask, shift_mean=False)
    assert kept[mask].mean().item() == pytest.approx(values[mask].mean().item(), abs=1e-12)
    assert kept[mask].var(correction=0).item() == pytest.approx(1.0, abs=1e-6)


def test_one_constant_advantage_whitens_to_nothing() -> None:
    assert not whiten(torch.full((3, 7), 4.0), mask_of()).any()
    assert masked_mean(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


# --- the objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # over 1.2 and good: no more is to be had
        (0.5, 2.0, -1.0, -1.0),  # far under and good: all of it is
        (0.5, -2.0, 1.6, 0.0),  # under 0.8 and bad: enough
        (1.5, -2.0, 3.0, 3.0),
    ],
)
def test_the_clipped_objective_is_its_closed_form(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    mask, one = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.float64)
    value, clipped = policy_loss(new, torch.zeros_like(one), advantage * one, mask, 0.2)
    value.backward()
    assert value.item() == pytest.approx(loss)
    assert new.grad is not None
    assert new.grad.item() == pytest.approx(gradient)
    assert clipped.item() == (gradient == 0.0)


def test_the_value_loss_takes_the_worse_of_clipped_and_not() -> None:
    mask, old, returns = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3), torch.ones(1, 3)
    values = torch.tensor([[0.1, 0.9, -2.0]])
    # 0.1 is within the clip; 0.9 counts as 0.2, which is worse; -2.0 is worse than what it is clipped to, -0.2.
    expected = (0.5 * torch.tensor([0.9**2, 0.8**2, 3.0**2])).mean()
    assert value_loss(values, old, returns, mask, 0.2).item() == pytest.approx(expected.item())


# --- the penalty ------------------------------------------------------------------------------------------------------


def test_the_penalty_takes_from_a_policy_that_has_left_the_reference() -> None:
    mask = mask_of()
    reference = torch.full((3, 7), -2.0)
    likelier = token_rewards(torch.zeros(3), torch.full((3, 7), -1.0), reference, mask, 0.5)
    assert (likelier[mask] == -0.5).all()
    assert not likelier[~mask].any()
    rarer = token_rewards(torch.zeros(3), torch.full((3, 7), -3.0), reference, mask, 0.5)
    assert (rarer[mask] == 0.5).all()
    scored = token_rewards(torch.tensor([1.0, 2.0, 3.0]), reference, reference, mask, 0.5)
    assert scored.sum(dim=1).tolist() == [1.0, 2.0, 3.0]
    assert [scored[row, end - 1].item() for row, (_, end) in enumerate(SPANS)] == [1.0, 2.0, 3.0]


def test_the_mean_penalty_estimates_the_divergence() -> None:
    """Over tokens drawn from the policy, ln π − ln π_ref has the mean KL(π‖π_ref), which is not negative."""
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    tokens = torch.multinomial(policy, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    estimate = (policy.log() - reference.log())[tokens].mean().item()
    exact = (policy * (policy.log() - reference.log())).sum().item()
    assert exact > 0
    assert estimate == pytest.approx(exact, abs=0.01)


def test_the_coefficient_follows_the_target() -> None:
    over, under, far = (KLController(0.1, target=6.0, horizon=10_000.0) for _ in range(3))
    over.update(6.6, 100)
    under.update(5.4, 100)
    far.update(600.0, 100)
    assert over.value == pytest.approx(0.1 * (1 + 0.1 * 100 / 10_000))
    assert under.value == pytest.approx(0.1 * (1 - 0.1 * 100 / 10_000))
    assert far.value == pytest.approx(0.1 * (1 + 0.2 * 100 / 10_000))  # clipped


# --- models -----------------------------------------------------------------------------------------------------------


def test_padding_and_neighbours_do_not_change_an_answers_logprobs(small: Llama) -> None:
    prompts, answers = [[3, 4, 5], [6], [7, 8]], [[9, 1], [2, 3, 4, 5, 1], [6]]
    tokens, mask = answer_batch(prompts, answers, torch.device("cpu"))
    together, _ = answer_logprobs(small, tokens, mask)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = small(torch.tensor([[*prompt, *answer]]))[0].log_softmax(-1)
        expected = [alone[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)]
        assert together[row][mask[row]].tolist() == pytest.approx(expected, abs=1e-5)
    spoilt = tokens.clone()
    spoilt[0, 5:] = 11
    spoilt[2, 3:] = 12
    torch.testing.assert_close(answer_logprobs(small, spoilt, mask)[0], together)


def test_sampled_answers_follow_the_models_distribution(small: Llama) -> None:
    answers = sample_answers(small, [[3]] * 4000, end_ids=(1,), max_tokens=1, temperature=1.0, seed=0)
    expected = small(torch.tensor([[3]]))[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([answer.ids[0] for answer in answers]), minlength=16) / 4000
    assert (counts - expected).abs().max().item() < 0.03
    assert all(answer.finished == (answer.ids[0] == 1) for answer in answers)


def test_an_answer_does_not_depend_on_what_it_is_sampled_beside(small: Llama) -> None:
    prompts = [[3, 4, 5], [6], [7, 8]]
    several = sample_answers(small, prompts, end_ids=(1,), max_tokens=6, temperature=1.0, seed=5)
    alone = [
        sample_answers(small, [prompt], end_ids=(1,), max_tokens=6, temperature=1.0, seed=5 + i)[0]
        for i, prompt in enumerate(prompts)
    ]
    assert several == alone


# --- learning ---------------------------------------------------------------------------------------------------------

ARMS = (5, 6)


def one_armed(prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> Tensor:
    """Pays for the first arm alone."""
    return torch.tensor([float(answer.ids[0] == ARMS[0]) for answer in answers])


def share_of_first(model: Llama) -> float:
    return model(torch.tensor([[3]]))[0, -1].softmax(-1)[ARMS[0]].item()


def bandit(model: Llama, **settings: float | int) -> tuple[PPO, list[float]]:
    """A game of one token, its two arms equally likely at first."""
    with torch.no_grad():
        assert model.lm_head is not None
        model.lm_head.weight.mul_(0.1)
    policy = copy.deepcopy(model)
    constants = PPOSettings(
        **{"iterations": 30, "batch_size": 32, "max_tokens": 1, "lr": 5e-3, "useless_penalty": 0.0, **settings}  # type: ignore[arg-type]
    )
    ppo = PPO(policy, model.requires_grad_(False), one_armed, constants, end_ids=(1,))
    return ppo, [ppo.step(index, [[3]]).kl for index in range(constants.iterations)]


def test_it_learns_which_arm_pays(small: Llama) -> None:
    before = share_of_first(small)
    ppo, divergence = bandit(small, kl_coefficient=0.01)
    assert before < 0.15
    assert share_of_first(ppo.policy) > 0.9
    assert share_of_first(small) == pytest.approx(before, abs=0.1)  # the reference stayed where it was
    assert divergence[0] == pytest.approx(0.0, abs=1e-5)
    assert divergence[-1] > 1.0


def test_a_large_penalty_holds_it_to_the_reference(small: Llama) -> None:
    ppo, divergence = bandit(small, kl_coefficient=10.0)
    assert share_of_first(ppo.policy) < 0.3
    assert abs(divergence[-1]) < 0.2


def test_the_tilted_distribution_is_reached(small: Llama) -> None:
    """The optimum is π_ref exp(score / β), normalized: with β = 1 the odds of the paying arm grow by e."""
    ppo, _ = bandit(small, kl_coefficient=1.0, kl_horizon=1e9, iterations=60, batch_size=128)
    before = share_of_first(small)
    expected = before * math.e / (before * math.e + 1 - before)
    assert share_of_first(ppo.policy) == pytest.approx(expected, abs=0.05)


def test_demonstrations_become_likelier_where_the_score_says_nothing(small: Llama) -> None:
    def flat(prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> Tensor:
        return torch.zeros(len(answers))

    def trained(weight: float) -> Llama:
        policy = copy.deepcopy(small).requires_grad_(True)
        settings = PPOSettings(
            iterations=20, batch_size=16, max_tokens=1, lr=1e-2, useless_penalty=0.0, sft_weight=weight
        )
        ppo = PPO(policy, small, flat, settings, end_ids=(1,), demonstrations=[([3], [ARMS[1], 1])])
        for index in range(settings.iterations):
            ppo.step(index, [[3]])
        return policy

    def shown(model: Llama) -> float:
        logits = model(torch.tensor([[3, ARMS[1]]]))[0].log_softmax(-1)
        return (logits[0, ARMS[1]] + logits[1, 1]).exp().item()

    small.requires_grad_(False)
    assert shown(trained(1.0)) > 0.1
    assert shown(trained(0.0)) < 0.05


def test_the_demonstrations_loss_is_the_mean_over_their_tokens(small: Llama) -> None:
    demonstration = ([3, 4], [5, 6, 1])
    ppo = PPO(small, small, one_armed, PPOSettings(), end_ids=(1,), demonstrations=[demonstration])
    logits = small(torch.tensor([[3, 4, 5, 6, 1]]))[0].log_softmax(-1)
    expected = -sum(logits[1 + i, token].item() for i, token in enumerate(demonstration[1])) / 3
    assert ppo._demonstrated(4).item() == pytest.approx(expected, abs=1e-5)


def test_equal_seeds_give_equal_policies(small: Llama) -> None:
    runs = [bandit(copy.deepcopy(small), iterations=3)[0].policy for _ in range(2)]
    for one, other in zip(*(model.parameters() for model in runs), strict=True):
        assert torch.equal(one, other)


def test_an_answer_cut_off_costs(small: Llama) -> None:
    settings = PPOSettings(iterations=1, batch_size=8, max_tokens=1, useless_penalty=2.0)
    ppo = PPO(copy.deepcopy(small), small, lambda prompts, answers: torch.zeros(len(answers)), settings, end_ids=())
    assert ppo.step(0, [[3]]).score == -2.0


def test_an_empty_answer_costs_as_much(small: Llama) -> None:
    settings = PPOSettings(iterations=1, batch_size=8, max_tokens=4, useless_penalty=2.0)
    ends = tuple(range(16))  # every answer is its end alone
    ppo = PPO(copy.deepcopy(small), small, lambda prompts, answers: torch.zeros(len(answers)), settings, end_ids=ends)
    assert ppo.step(0, [[3]]).score == -2.0
