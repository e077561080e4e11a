"""The compiled decode step: one graph, no breaks, no recompilation; and what happens without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from biollm.inference import LLM, decode  # noqa: E402
from biollm.inference.decode import CompiledDecode, decode_one_token, prefill  # noqa: E402
from biollm.inference.kv_cache import KVCache  # noqa: E402
from biollm.models import Llama, ModelConfig  # noqa: E402
from random_models import random_hf_folder  # noqa: E402

# torch 2.11's own compiler warns of its own torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [20], [30, 31, 32]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    random_hf_folder(path, num_hidden_layers=1)
    return path


@pytest.fixture
def dynamo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """torch's compiler with empty counters and caches, for which any recompilation is an error."""
    import torch._dynamo
    import torch._dynamo.utils

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(CompiledDecode, "no_compiler", False)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield torch._dynamo.utils.counters
    torch._dynamo.reset()


@pytest.fixture
def trace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilation as far as dynamo goes (graph, guards), without inductor: a second instead of twenty."""
    compile_ = torch.compile

    def traced(function: Any, *, mode: str, **options: Any) -> Any:
        assert mode == "reduce-overhead"
        return compile_(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", traced)


def small_model(**changes: Any) -> Llama:
    torch.manual_seed(0)
    options = {"vocab_size": 60, "dim": 32, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 64, **changes}
    return Llama(ModelConfig(**options)).double().requires_grad_(False)


def test_the_cache_gives_the_logits_of_a_whole_pass() -> None:
    """Rows of unequal length, each step against an uncached forward pass, in fp64."""
    model = small_model(n_layers=2, qk_norm=True, model_type="qwen3")
    rows = [torch.randint(0, 60, (n,)) for n in (9, 1, 4)]
    cache = KVCache(model.config, batch=3, length=16, dtype=torch.float64, device=torch.device("cpu"))
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(1e6)  # what no row has written, no row may read
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=59)
    lengths = torch.tensor([len(row) for row in rows])
    logits = prefill(model, cache, padded, lengths)
    for step in range(6):
        whole = torch.cat([model(row[None])[:, -1] for row in rows])
        torch.testing.assert_close(logits, whole, rtol=0, atol=1e-12)
        tokens = torch.randint(0, 60, (3,))
        logits = decode_one_token(model, cache, tokens[:, None], (lengths + step)[:, None])
        rows = [torch.cat((row, token[None])) for row, token in zip(rows, tokens, strict=True)]


def test_cache_bytes_are_what_the_tensors_take() -> None:
    config = small_model().config
    cache = KVCache(config, batch=3, length=10, dtype=torch.bfloat16, device=torch.device("cpu"))
    taken = sum(tensor.nbytes for tensor in (*cache.keys, *cache.values))
    assert taken == 3 * KVCache.row_bytes(config, 10, torch.bfloat16)


def test_a_cache_that_does_not_fit_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="key-value cache"):
        KVCache(small_model().config, batch=1, length=1 << 50, dtype=torch.float64, device=torch.device("cpu"))


@pytest.mark.slow
def test_compiled_decoding_is_one_graph_and_gives_the_same_tokens(folder: Path, dynamo: Any) -> None:
    """The real compiler. fullgraph raises at a break, error_on_recompile at a recompilation."""
    eager, compiled = LLM(folder, device="cpu", compile=False), LLM(folder, device="cpu", compile=True)
    expected = [c.token_ids for c in eager.generate(PROMPTS, max_tokens=40)]
    assert [c.token_ids for c in compiled.generate(PROMPTS, max_tokens=40)] == expected
    assert not CompiledDecode.no_compiler
    # Again, longer, with other prompts, and drawing: the same graph serves.
    others = [[41, 42], [9, 9, 9], [3] * 20]
    for options in ({"max_tokens": 80}, {"max_tokens": 20, "temperature": 1.0, "seed": 3, "logprobs": 2}):
        first, second = compiled.generate(others, **options), eager.generate(others, **options)
        assert [c.token_ids for c in first] == [c.token_ids for c in second]
    assert dynamo["stats"]["unique_graphs"] == 1
    assert not dynamo["graph_break"]


def test_each_shape_has_a_compiled_step_of_its_own(folder: Path, dynamo: Any, trace_only: None) -> None:
    """Even where torch would allow no second entry for one function."""
    eager = LLM(folder, device="cpu", compile=False)
    compiled = LLM(folder, device="cpu", compile=True)
    again = LLM(folder, device="cpu", compile=True)
    with torch._dynamo.config.patch(recompile_limit=1):
        for llm, prompts, max_tokens in ((compiled, PROMPTS, 5), (compiled, PROMPTS[:2], 5), (compiled, PROMPTS, 200)):
            expected = [c.token_ids for c in eager.generate(prompts, max_tokens=max_tokens)]
            assert [c.token_ids for c in llm.generate(prompts, max_tokens=max_tokens)] == expected
        assert again.generate(PROMPTS, max_tokens=5)
    assert dynamo["stats"]["unique_graphs"] == 4
    assert sorted(compiled._compiled) == [(2, 128), (3, 128), (3, 256)]


def test_the_last_batch_of_a_call_uses_the_same_graph(
    folder: Path, dynamo: Any, trace_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biollm.inference import llm as llm_module

    monkeypatch.setattr(llm_module, "MAX_BATCH_ROWS", 2)
    options = {"max_tokens": 6, "temperature": 1.0, "seed": 4}
    eager, compiled = (LLM(folder, device="cpu", compile=mode) for mode in (False, True))
    expected = [c.token_ids for c in eager.generate(PROMPTS, **options)]
    assert [c.token_ids for c in compiled.generate(PROMPTS, **options)] == expected
    assert dynamo["stats"]["unique_graphs"] == 1


def test_a_recompilation_in_the_middle_fails_and_the_host_may_still_compile(dynamo: Any, trace_only: None) -> None:
    model = small_model()
    cache = KVCache(model.config, batch=2, length=16, dtype=torch.float64, device=torch.device("cpu"))
    step = CompiledDecode(cache)
    tokens = torch.tensor([[3], [4]])
    step(model, cache, tokens, torch.zeros_like(tokens))
    with pytest.raises(RuntimeError, match="recompile"):
        step(model, cache, tokens.int(), torch.zeros_like(tokens))

    host = torch.compile(lambda x: x + 1, mode="reduce-overhead")  # traced, see trace_only
    assert host(torch.ones(3)).sum() == 6
    step(model, cache, tokens, torch.ones_like(tokens))  # the stance of a step does not outlive it
    assert torch.compile(lambda x: x * 2, mode="reduce-overhead")(torch.ones(4)).sum() == 8


def test_auto_compiles_only_what_repays_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompiledDecode, "no_compiler", False)
    monkeypatch.setattr(decode, "COMPILE_PAYS_AFTER_STEPS", {"cpu": 1000})
    auto = LLM(folder, device="cpu")
    assert not auto._compiles(999)
    assert auto._compiles(1000)
    assert not LLM(folder, device="cpu", compile=False)._compiles(10**9)
    assert LLM(folder, device="cpu", compile=True)._compiles(1)
    auto.generate(PROMPTS, max_tokens=3)
    assert not auto._compiled


WITHOUT_COMPILER = """
import logging, sys
import torch
torch.set_num_threads(1)
from biollm import LLM
from biollm.inference.decode import CompiledDecode
logging.basicConfig(format="%(name)s: %(message)s")
eager, compiled = (LLM(sys.argv[1], device="cpu", compile=mode) for mode in (False, True))
for prompts in ([[5, 6]], [[5, 6], [7]]):
    first, second = (llm.generate(prompts, max_tokens=8) for llm in (eager, compiled))
    assert [c.token_ids for c in first] == [c.token_ids for c in second]
assert CompiledDecode.no_compiler
"""


def test_without_a_compiler_decoding_is_eager_and_says_so_once(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER, str(folder)],
        env={**os.environ, "CXX": "/nonexistent/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("biollm.inference: torch.compile does not work here") == 1
