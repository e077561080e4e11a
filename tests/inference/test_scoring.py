"""`LLM.score`: against a naive loop over `transformers`, batches against prompts alone, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from biollm.errors import InputError  # noqa: E402
from biollm.inference import LLM, Likelihood  # noqa: E402
from biollm.inference.scoring import Branches, token_losses  # noqa: E402
from random_models import random_hf_folder  # noqa: E402

CONTEXT = 64


@pytest.fixture(scope="module", params=["llama", "llama, all key heads", "qwen3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, LLM]:
    folder = tmp_path_factory.mktemp("model")
    theirs = random_hf_folder(folder, request.param, max_position_embeddings=CONTEXT)
    return theirs, LLM(folder, dtype="float32", compile=False)


def naive(theirs: Any, prompt: list[int], continuation: list[int]) -> float:
    """The log-likelihood by `transformers`, one sequence at a time."""
    with torch.no_grad():
        logits = theirs(torch.tensor([prompt + continuation])).logits[0]
    logprobs = torch.log_softmax(logits, -1)
    return sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(continuation))


def random_prompts() -> tuple[list[list[int]], list[list[list[int]]]]:
    draw = np.random.default_rng(2)
    ids = lambda count: draw.integers(3, 300, count).tolist()  # noqa: E731
    prompts = [ids(n) for n in (20, 1, 33, 7, 50)]
    continuations = [[ids(1), ids(1), ids(1)], [ids(5), ids(2)], [ids(4)], [ids(3), ids(1), ids(9), ids(2)], [ids(15)]]
    return prompts, continuations


def test_log_likelihoods_are_those_of_a_naive_loop(pair: tuple[Any, LLM]) -> None:
    prompts, continuations = random_prompts()
    found = pair[1].score(prompts, continuations)
    for prompt, texts, likelihoods in zip(prompts, continuations, found, strict=True):
        expected = [naive(pair[0], prompt, ids) for ids in texts]
        assert [likelihood.logprob for likelihood in likelihoods] == pytest.approx(expected, rel=2e-5, abs=1e-5)
        assert [likelihood.tokens for likelihood in likelihoods] == [len(ids) for ids in texts]


@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_a_batch_gives_what_each_continuation_gives_alone(pair: tuple[Any, LLM], batch_tokens: int) -> None:
    prompts, continuations = random_prompts()
    seen: list[tuple[int, int | None]] = []
    found = pair[1].score(
        prompts, continuations, batch_tokens=batch_tokens, progress=lambda done, total: seen.append((done, total))
    )
    alone = [
        [pair[1].score([prompt], [[ids]])[0][0].logprob for ids in texts]
        for prompt, texts in zip(prompts, continuations, strict=True)
    ]
    for likelihoods, expected in zip(found, alone, strict=True):
        assert [likelihood.logprob for likelihood in likelihoods] == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert seen[-1] == (5, 5)


def test_in_float64_branches_are_exact(pair: tuple[Any, LLM]) -> None:
    model = LLM(pair[1].path, dtype="float64", compile=False).model
    prompts, continuations = random_prompts()
    branches = [
        Branches(np.array(prompt), tuple(np.array(ids) for ids in texts))
        for prompt, texts in zip(prompts, continuations, strict=True)
    ]
    together = token_losses(model, branches)
    for row, found in zip(branches, together, strict=True):
        for ids, values in zip(row.continuations, found, strict=True):
            ((alone,),) = token_losses(model, [Branches(row.prompt, (ids,))])
            np.testing.assert_allclose(values, alone, rtol=1e-11)


def test_nothing_to_score_is_nothing(pair: tuple[Any, LLM]) -> None:
    assert pair[1].score([], []) == []
    assert pair[1].score([[5, 6]], [[]]) == [()]


@pytest.mark.parametrize(
    ("prompts", "continuations", "words"),
    [
        ([[5]], [], "1 prompts, and continuations of 0"),
        ([[5], []], [[[5]], [[5]]], "prompt 1 has no tokens"),
        ([[5]], [[[5], []]], "an empty continuation"),
        ([[5]], [[[300]]], "token id 300, outside"),
        ([[5] * 60], [[[5], [5] * 6]], "exceeds the model's context of 64"),
        (["a text"], [[[5]]], "checkpoint's tokenizer"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_any_work(
    pair: tuple[Any, LLM], prompts: Any, continuations: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biollm.inference.scoring.token_losses", lambda *_: pytest.fail("work was done"))
    with pytest.raises(InputError, match=words):
        pair[1].score(prompts, continuations)


def test_the_last_token_needs_no_room_in_the_context(pair: tuple[Any, LLM]) -> None:
    (found,) = pair[1].score([[5] * CONTEXT], [[[6], [7]]])
    assert found[0].logprob == pytest.approx(naive(pair[0], [5] * CONTEXT, [6]), rel=2e-5)
    assert Path(pair[1].path).is_dir()
    assert isinstance(found[1], Likelihood)
    with pytest.raises(TypeError, match="must be a list, not str"):
        pair[1].score([[5]], ["yes"])
