"""One optimizer step on the CPU: ours on packed rows against `transformers` LlamaForCausalLM with fused AdamW.

Both have the same weights, batch, loss, clipping and rate, and their losses are compared at every step. Ours also reads
the batch from shards, keeps attention inside documents and records the step; the peer is handed its tensors ready-made
and attends over whole rows, so the batch has one document a row. The two are timed in turn (A B A B …), since a
machine's speed drifts; the ratio in `extra_info` is of the medians of those turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from biollm.models import Llama, model_config  # noqa: E402
from biollm.training import baselines  # noqa: E402
from biollm.training.batches import DocumentTokens, PackedStream  # noqa: E402
from biollm.training.engines import Engine  # noqa: E402
from biollm.training.loop import accumulate_gradients  # noqa: E402
from biollm.training.optimizer import make_optimizer  # noqa: E402
from biollm.training.placement import resolve  # noqa: E402

ROUNDS = 7
LR, CLIP, BETAS = 1e-3, 1.0, (0.9, 0.95)
# size: vocabulary, rows, tokens a row
CASES = {"tiny": (2048, 8, 256), "small": (4096, 8, 256)}
ENGINES = ("biollm", "transformers")
Step = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """A step of each engine, the tokens of one, and the seconds each took in turn."""

    steps: dict[str, Step]
    tokens: int
    turns_s: dict[str, list[float]]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    vocab_size, rows, seq_len = CASES[request.param]
    stream = one_document_a_row(vocab_size, seq_len)
    torch.manual_seed(0)
    model = Llama(model_config(request.param, vocab_size, max_seq_len=seq_len))
    steps = {"biollm": our_step(model, stream, rows)}
    if (theirs := transformers_step(model, stream, rows)) is not None:
        steps["transformers"] = theirs
    turns_s: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(ROUNDS + 2):
        losses = {}
        for name, step in steps.items():
            began = time.perf_counter()
            losses[name] = step()
            if turn >= 2:  # the first two warm up
                turns_s[name].append(time.perf_counter() - began)
        assert losses == pytest.approx(dict.fromkeys(losses, losses["biollm"]), abs=1e-3)  # the same work
    return Case(steps, rows * seq_len, turns_s)


def one_document_a_row(vocab_size: int, seq_len: int) -> PackedStream:
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, vocab_size, 1000 * seq_len).astype(np.uint16)
    offsets = np.arange(0, len(tokens) + 1, seq_len).astype(np.uint64)
    documents = DocumentTokens([SimpleNamespace(tokens=tokens, offsets=offsets, mask=None)])
    return PackedStream(documents, seq_len=seq_len, vocab_size=vocab_size, seed=0)


def our_step(model: Llama, stream: PackedStream, rows: int) -> Step:
    engine = Engine(model, make_optimizer(model, lr=LR, weight_decay=0.1, betas=BETAS, eps=1e-8))
    place, position = resolve("cpu", "float32"), iter(range(0, 1 << 40, rows * stream.seq_len))

    def step() -> float:
        batch = stream.batch(next(position), rows)
        loss = accumulate_gradients(engine, batch, accumulation=1, placement=place)
        engine.update(lr=LR, clip_norm=CLIP)
        return float(loss)

    return step


def transformers_step(model: Llama, stream: PackedStream, rows: int) -> Step | None:
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ModuleNotFoundError:
        return None
    theirs = LlamaForCausalLM(LlamaConfig(**model.config.to_hf()))
    theirs.load_state_dict(model.state_dict())
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)
    size = rows * stream.seq_len
    batches = [stream.batch(i * size, rows) for i in range(5 * ROUNDS)]
    ready = iter([(torch.from_numpy(batch.tokens), torch.from_numpy(batch.targets)) for batch in batches])

    def step() -> float:
        tokens, targets = next(ready)
        logits = theirs(input_ids=tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


@pytest.mark.benchmark(group="train.step")
@pytest.mark.parametrize("engine", ENGINES)
def test_step(benchmark: Any, case: Case, engine: str) -> None:
    if engine not in case.steps:
        pytest.skip(f"{engine} is not installed")
    benchmark.pedantic(case.steps[engine], rounds=ROUNDS)
    in_turn = {name: statistics.median(times) for name, times in case.turns_s.items()}
    benchmark.extra_info.update(
        tokens_per_s=round(case.tokens / in_turn[engine]),
        seconds_in_turn=round(in_turn[engine], 4),
        threads=torch.get_num_threads(),
    )
    if len(in_turn) == 2:
        benchmark.extra_info["speed_over_transformers"] = round(in_turn["transformers"] / in_turn[engine], 3)


@pytest.fixture(scope="module")
def million_tokens() -> DocumentTokens:
    generator = np.random.default_rng(0)
    tokens = (generator.pareto(1.0, 1_000_000) * 20).clip(0, 4095).astype(np.uint16)
    offsets = np.append(np.arange(0, len(tokens), 300), len(tokens)).astype(np.uint64)
    return DocumentTokens([SimpleNamespace(tokens=tokens, offsets=offsets, mask=None)])


@pytest.mark.benchmark(group="train.batches")
def test_packing(benchmark: Any, million_tokens: DocumentTokens) -> None:
    """What the loader costs: a batch of 8 x 512 tokens."""
    stream = PackedStream(million_tokens, seq_len=512, vocab_size=4096, seed=0)
    positions = iter(range(0, 1 << 40, 8 * 512))
    benchmark(lambda: stream.batch(next(positions), 8))
    benchmark.extra_info["tokens_per_s"] = round(8 * 512 / benchmark.stats["median"]) if benchmark.stats else None


@pytest.mark.benchmark(group="train.baselines")
def test_baselines(benchmark: Any, million_tokens: DocumentTokens) -> None:
    """Counting a million train tokens and scoring as many."""
    benchmark.pedantic(lambda: baselines.measure(million_tokens, million_tokens, vocab_size=4096), rounds=3)
