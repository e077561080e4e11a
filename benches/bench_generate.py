"""Decoding at batch 1 on the CPU: eager, compiled, and `transformers`, on the same weights with the same tokens.

Beside each stands the floor: the bytes of weights that one token must read, over the bandwidth at which this machine
reads memory, measured in the same process. A model that fits into the processor's caches may pass it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from biollm.inference import LLM  # noqa: E402
from biollm.inference.decode import CompiledDecode  # noqa: E402
from biollm.models import Llama, model_config, save_checkpoint  # noqa: E402

ROUNDS = 5
PROMPT = [7, 11, 13, 17]
# size, vocabulary, tokens a round: one bound by overhead, one by memory
CASES = {"small": (4096, 128), "60M": (32768, 32)}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[int]]:
    """A folder of random weights, the tokens to decode, and which they are."""
    vocab_size, tokens = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    save_checkpoint(folder, Llama(model_config(request.param, vocab_size)))
    expected = LLM(folder, device="cpu", compile=False).generate([PROMPT], max_tokens=tokens)[0].token_ids
    return folder, tokens, list(expected)


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


def measure(
    benchmark: Any, decode: Callable[[], list[int]], expected: list[int], model: Llama, bandwidth: float
) -> None:
    assert decode() == expected  # warm, and the same work
    benchmark.pedantic(decode, rounds=ROUNDS)
    tokens_a_second = len(expected) / benchmark.stats.stats.median
    needed = bytes_a_token(model)
    benchmark.extra_info.update(
        tokens_per_s=round(tokens_a_second, 1),
        weight_bytes_per_token=needed,
        read_bandwidth_gb_s=round(bandwidth / 1e9, 2),
        floor_tokens_per_s=round(bandwidth / needed, 1),
        share_of_floor=round(tokens_a_second * needed / bandwidth, 3),
        threads=torch.get_num_threads(),
    )


@pytest.mark.benchmark(group="generate.decode")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_decode_biollm(
    benchmark: Any, case: tuple[Path, int, list[int]], compiled: bool, read_bandwidth: float
) -> None:
    folder, tokens, expected = case
    llm = LLM(folder, device="cpu", compile=compiled)
    measure(
        benchmark,
        lambda: list(llm.generate([PROMPT], max_tokens=tokens)[0].token_ids),
        expected,
        llm.model,
        read_bandwidth,
    )
    if compiled and CompiledDecode.no_compiler:
        pytest.skip("compiled: torch.compile found no working C++ compiler")


@pytest.mark.benchmark(group="generate.decode")
def test_decode_transformers(benchmark: Any, case: tuple[Path, int, list[int]], read_bandwidth: float) -> None:
    transformers = pytest.importorskip("transformers")
    folder, tokens, expected = case
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([PROMPT])
    options = {"max_new_tokens": tokens, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    measure(
        benchmark,
        lambda: theirs.generate(prompt, **options)[0, len(PROMPT) :].tolist(),
        expected,
        LLM(folder, device="cpu").model,
        read_bandwidth,
    )
