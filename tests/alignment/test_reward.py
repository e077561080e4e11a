from __future__ import annotations

import math
import random

import pytest
import torch

from biollm.alignment.reward import RewardModel, cut_short, fit_reward, pair_loss, ranking_accuracy
from biollm.alignment.rollouts import Answer
from biollm.models import Llama


def test_the_loss_is_that_of_bradley_and_terry() -> None:
    chosen, rejected = torch.tensor([1.0, -0.5]), torch.tensor([0.0, 2.0])
    expected = -(math.log(1 / (1 + math.exp(-1.0))) + math.log(1 / (1 + math.exp(2.5)))) / 2
    assert pair_loss(chosen, rejected).item() == pytest.approx(expected)
    assert pair_loss(chosen, chosen).item() == pytest.approx(math.log(2))


def test_a_chat_has_the_reward_it_has_alone(small: Llama) -> None:
    model = RewardModel(small)
    chats = [[3, 4, 5, 1], [6, 1], [7, 8, 9, 10, 11, 1]]
    together = model(chats)
    alone = torch.cat([model([chat]) for chat in chats])
    torch.testing.assert_close(together, alone)


def test_the_start_is_copied_not_shared(small: Llama) -> None:
    model = RewardModel(small)
    before = small.model.embed_tokens.weight.clone()
    fit_reward(model, [([3, 5, 1], [3, 6, 1])], [], epochs=3, batch_size=4, lr=0.01, seed=0)
    assert torch.equal(small.model.embed_tokens.weight, before)


def test_it_learns_to_rank_and_says_how_well(small: Llama) -> None:
    """The rejected answers hold id 9 somewhere."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(120):
        ids = torch.randint(2, 9, (5,), generator=generator).tolist()
        bad = list(ids)
        bad[int(torch.randint(1, 5, (1,), generator=generator))] = 9
        pairs.append(([*ids, 1], [*bad, 1]))
    model = RewardModel(small)
    reports: list[tuple[int, int]] = []
    fit = fit_reward(
        model,
        pairs[:90],
        pairs[90:],
        epochs=4,
        batch_size=10,
        lr=0.01,
        seed=0,
        report=lambda *report: reports.append(report),
    )
    assert reports == [(i + 1, 36) for i in range(36)]
    assert fit.losses[-1] < 0.3 < fit.losses[0]
    assert (fit.accuracy, fit.held_out) == (ranking_accuracy(model, pairs[90:], 7), 30)
    assert fit.accuracy > 0.9
    assert ranking_accuracy(model, [], 7) == 0.0
    # An answer that breaks off is worse than the whole one, which no pair says.
    begun = [(chosen, [*chosen[:2], 1]) for chosen, _ in pairs[90:]]
    assert ranking_accuracy(model, begun, 7) > 0.9


def test_an_answer_is_cut_in_its_first_half_and_ends_as_the_chat_does() -> None:
    draw = random.Random(0)
    chosen, rejected = [7, 8, 20, 21, 22, 23, 24, 25, 1], [7, 8, 30, 31, 1]
    found = {tuple(cut_short((chosen, rejected), draw)) for _ in range(200)}
    assert found == {(*chosen[: 2 + kept], 1) for kept in range(4)}
    # Nothing is left to cut of an answer that the rejected one goes on from.
    assert cut_short(([7, 8, 1], [7, 8, 1, 1]), draw) == [7, 8, 1]


def test_the_score_is_standard_on_the_references_answers_and_saturates(small: Llama) -> None:
    model = RewardModel(small)
    with torch.no_grad():
        model.head.weight.mul_(5.0)
    prompts = [[3], [4], [5], [6]] * 4
    answers = [Answer((token, 1), True) for token in range(16)]
    model.calibrate([[*p, *a.ids] for p, a in zip(prompts, answers, strict=True)])
    scores = model.score(prompts, answers)
    assert scores.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert scores.std().item() == pytest.approx(1.0, abs=1e-4)
    rewards = model([[*p, *a.ids] for p, a in zip(prompts, answers, strict=True)])
    order = rewards.argsort()
    assert torch.equal(scores.argsort(), order)
    # The best two are nearer to each other than the worst two, for one step of reward.
    slopes = scores[order].diff() / rewards[order].diff()
    assert slopes[-1] < slopes[0]
