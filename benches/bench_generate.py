"""Decoding at batch 1 on the CPU: eager, compiled, and `transformers`, on the same weights with the same tokens.

The three are timed in turn (A B C A B C …), since a machine's speed drifts; the ratios in `extra_info` are of those
turns. Beside them stands the floor: the bytes of weights that one token must read, over the bandwidth at which this
machine reads memory, measured in the same process. A model that fits into the processor's caches may pass it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from biollm.inference import LLM  # noqa: E402
from biollm.inference.decode import CompiledDecode  # noqa: E402
from biollm.models import Llama, model_config, save_checkpoint  # noqa: E402

ROUNDS = 5
PROMPT = [7, 11, 13, 17]
# size: vocabulary, tokens a round; one is bound by overhead, one by memory
CASES = {"small": (4096, 128), "60M": (32768, 32)}
ENGINES = ("eager", "compiled", "transformers")


@dataclass(frozen=True)
class Case:
    """Engines on one folder of weights, the tokens they give, and the seconds each took in turn."""

    model: Llama
    engines: dict[str, Callable[[], list[int]]]
    expected: list[int]
    turns_s: dict[str, list[float]]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    vocab_size, tokens = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    save_checkpoint(folder, Llama(model_config(request.param, vocab_size)))

    eager, compiled = (LLM(folder, device="cpu", compile=mode) for mode in (False, True))
    engines = {
        "eager": lambda: list(eager.generate([PROMPT], max_tokens=tokens)[0].token_ids),
        "compiled": lambda: list(compiled.generate([PROMPT], max_tokens=tokens)[0].token_ids),
    }
    if (theirs := transformers_engine(folder, tokens)) is not None:
        engines["transformers"] = theirs
    expected = engines["eager"]()
    for decode in engines.values():
        assert decode() == expected  # warm, and the same work
    turns_s: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, decode in engines.items():
            began = time.perf_counter()
            decode()
            turns_s[name].append(time.perf_counter() - began)
    return Case(eager.model, engines, expected, turns_s)


def transformers_engine(folder: Path, tokens: int) -> Callable[[], list[int]] | None:
    try:
        import transformers
    except ModuleNotFoundError:
        return None
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([PROMPT])
    options = {"max_new_tokens": tokens, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    return lambda: model.generate(prompt, **options)[0, len(PROMPT) :].tolist()


@pytest.fixture(scope="module")
def read_bandwidth() -> float:
    """Bytes a second at which a tensor too large for the caches is read."""
    block = torch.ones(1 << 26)  # 256 MiB of fp32
    block.sum()
    times = []
    for _ in range(7):
        began = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - began)
    return block.nbytes / statistics.median(times)


def bytes_a_token(model: Llama) -> int:
    """Weights read for one token: all but the embedding table, unless it is the output layer too."""
    table = 0 if model.lm_head is None else model.model.embed_tokens.weight.nbytes
    return sum(parameter.nbytes for parameter in model.parameters()) - table


@pytest.mark.benchmark(group="generate.decode")
@pytest.mark.parametrize("engine", ENGINES)
def test_decode(benchmark: Any, case: Case, engine: str, read_bandwidth: float) -> None:
    if engine not in case.engines:
        pytest.skip(f"{engine} is not installed")
    if engine == "compiled" and CompiledDecode.no_compiler:
        pytest.skip("torch.compile finds no working C++ compiler")
    assert benchmark.pedantic(case.engines[engine], rounds=ROUNDS) == case.expected
    in_turn = {name: statistics.median(times) for name, times in case.turns_s.items()}
    needed = bytes_a_token(case.model)
    tokens_a_second = len(case.expected) / in_turn[engine]
    benchmark.extra_info.update(
        tokens_per_s=round(tokens_a_second, 1),
        weight_bytes_per_token=needed,
        read_bandwidth_gb_s=round(read_bandwidth / 1e9, 2),
        floor_tokens_per_s=round(read_bandwidth / needed, 1),
        share_of_floor=round(tokens_a_second * needed / read_bandwidth, 3),
        threads=torch.get_num_threads(),
    )
    if "transformers" in in_turn:
        benchmark.extra_info["speed_over_transformers"] = round(in_turn["transformers"] / in_turn[engine], 2)
