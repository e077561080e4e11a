"""Choosing tokens: options, distributions, repeatability."""

from __future__ import annotations

from typing import Any

import pytest

from biollm.errors import InputError
from biollm.inference import SamplingOptions

torch = pytest.importorskip("torch")

from biollm.inference.sampling import log_probabilities, sample, uniforms  # noqa: E402

# Seven tokens, not in order of probability.
PROBABILITIES = torch.tensor([0.05, 0.3, 0.02, 0.4, 0.13, 0.08, 0.02], dtype=torch.float64)
LOGITS = (PROBABILITIES.log() + 3.7).float()


def frequencies(options: SamplingOptions, draws: int = 20_000) -> torch.Tensor:
    """Shares of the tokens over an even grid of uniforms: no randomness, so the bounds are exact."""
    grid = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    tokens = sample(LOGITS.expand(draws, -1), options, grid)
    return torch.bincount(tokens, minlength=7) / draws


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 0.5}, PROBABILITIES**2 / (PROBABILITIES**2).sum()),
        ({"temperature": 2.0}, PROBABILITIES**0.5 / (PROBABILITIES**0.5).sum()),
        ({"top_k": 2}, torch.tensor([0, 0.3, 0, 0.4, 0, 0, 0]) / 0.7),
        ({"top_k": 50}, PROBABILITIES),
        ({"top_p": 0.69}, torch.tensor([0, 0.3, 0, 0.4, 0, 0, 0]) / 0.7),
        ({"top_p": 0.71}, torch.tensor([0, 0.3, 0, 0.4, 0.13, 0, 0]) / 0.83),
        ({"top_p": 0.9, "top_k": 1}, torch.tensor([0.0, 0, 0, 1, 0, 0, 0])),
        ({"top_p": 1e-9}, torch.tensor([0.0, 0, 0, 1, 0, 0, 0])),
        ({"temperature": 1e-9}, torch.tensor([0.0, 0, 0, 1, 0, 0, 0])),
    ],
)
def test_tokens_are_drawn_from_the_cut_distribution(options: dict[str, Any], expected: torch.Tensor) -> None:
    found = frequencies(SamplingOptions(**{"temperature": 1.0, **options}))
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=2e-4)


def test_temperature_zero_is_greedy() -> None:
    options = SamplingOptions()
    assert uniforms(options, [0, 1]) is None
    assert sample(LOGITS[None], options, None).tolist() == [3]


def test_an_infinite_logit_and_the_edges_of_the_draw() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0]] * 3)
    tokens = sample(logits, SamplingOptions(temperature=1.0), torch.tensor([0.0, 0.49999, 1 - 2**-53]).double())
    assert tokens.tolist() == [1, 1, 3]


def test_draws_depend_on_the_seed_and_the_prompt_alone() -> None:
    options = SamplingOptions(temperature=1.0, seed=5, max_tokens=9)
    both, second = uniforms(options, [0, 7]), uniforms(options, [7])
    assert both is not None
    assert second is not None
    assert both.shape == (9, 2)
    assert torch.equal(both[:, 1], second[:, 0])
    assert not torch.equal(both[:, 0], both[:, 1])
    other = uniforms(SamplingOptions(temperature=1.0, seed=6, max_tokens=9), [7])
    assert not torch.equal(other, second)
    fresh = SamplingOptions(temperature=1.0, max_tokens=9)
    assert not torch.equal(uniforms(fresh, [0]), uniforms(fresh, [0]))


def test_draws_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    uniforms(SamplingOptions(temperature=1.0), [0])
    assert torch.equal(torch.get_rng_state(), before)


def test_log_probabilities_are_of_the_untempered_distribution() -> None:
    chosen, values, ids = log_probabilities(LOGITS[None], torch.tensor([0]), 2)
    torch.testing.assert_close(chosen.exp(), torch.tensor([0.05]))
    torch.testing.assert_close(values.exp(), torch.tensor([[0.4, 0.3]]))
    assert ids.tolist() == [[3, 1]]
    assert log_probabilities(LOGITS[None], torch.tensor([0]), 50)[2].shape == (1, 7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1 << 40),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("seed", -1),
        ("seed", 1 << 63),
        ("logprobs", -1),
        ("logprobs", 100_000),
        ("stop", ("",)),
        ("stop", ("x" * 2000,)),
        ("stop", ("x",) * 100),
    ],
)
def test_options_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match="stop" if field == "stop" else field) as caught:
        SamplingOptions(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", 1.0), ("max_tokens", True), ("temperature", "hot"), ("top_k", None), ("stop", (3,))],
)
def test_options_of_the_wrong_type_are_type_errors(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match="stop" if field == "stop" else field):
        SamplingOptions(**{field: value})


def test_one_stop_string_may_stand_alone() -> None:
    assert SamplingOptions(stop="end").stop == ("end",)  # type: ignore[arg-type]
