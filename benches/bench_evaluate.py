"""Scoring the options of questions: one row a question, one row an option, and a naive loop over `transformers`.

The same log-likelihoods come out of all three. They are timed in turn (A B C A B C …), since a machine's speed drifts;
the ratios in `extra_info` are of those turns, of CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from biollm.inference.scoring import Branches, token_losses  # noqa: E402
from biollm.models import Llama, load_checkpoint, model_config, save_checkpoint  # noqa: E402

ROUNDS = 5
QUESTIONS, PROMPT_TOKENS = 12, 300  # as many as PubMedQA's abstracts have
OPTION_TOKENS = (1, 3, 2, 6)
VOCAB = 4096


def questions() -> list[Branches]:
    draw = np.random.default_rng(0)
    return [
        Branches(draw.integers(0, VOCAB, PROMPT_TOKENS), tuple(draw.integers(0, VOCAB, n) for n in OPTION_TOKENS))
        for _ in range(QUESTIONS)
    ]


def naive(theirs: Any, asked: list[Branches]) -> list[float]:
    found = []
    with torch.no_grad():
        for question in asked:
            for option in question.continuations:
                ids = torch.tensor([[*question.prompt.tolist(), *option.tolist()]])
                logprobs = torch.log_softmax(theirs(ids).logits[0], -1)
                places = range(len(question.prompt) - 1, ids.shape[1] - 1)
                found.append(-sum(float(logprobs[place, ids[0, place + 1]]) for place in places))
    return found


@pytest.mark.benchmark(group="evaluate.options")
def test_options_of_questions(tmp_path: Path, benchmark: Any) -> None:
    torch.manual_seed(0)
    save_checkpoint(tmp_path, Llama(model_config("small", VOCAB)))
    model, asked = load_checkpoint(tmp_path).eval(), questions()
    apart = [Branches(question.prompt, (option,)) for question in asked for option in question.continuations]

    def together() -> list[float]:
        return [float(values.sum()) for row in token_losses(model, asked) for values in row]

    engines: dict[str, Callable[[], list[float]]] = {
        "one row a question": together,
        "one row an option": lambda: [float(row[0].sum()) for row in token_losses(model, apart)],
    }
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        benchmark.extra_info["transformers"] = "not installed"
    else:
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        engines["transformers"] = lambda: naive(theirs, asked)
    expected = together()
    for score in engines.values():
        np.testing.assert_allclose(score(), expected, rtol=1e-4)  # warm, and the same work
    cpu_s: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, score in engines.items():
            began = time.process_time()
            score()
            cpu_s[name].append(time.process_time() - began)
    for name, turns in cpu_s.items():
        ratios = [other / own for other, own in zip(turns, cpu_s["one row a question"], strict=True)]
        benchmark.extra_info[f"{name}, times the CPU time"] = round(statistics.median(ratios), 2)
    benchmark.pedantic(together, rounds=1)
