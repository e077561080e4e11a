"""Gopher's rules, text to decisions: MB/s, with datatrove beside where it is installed.

The control is xxh3-128 over the same bytes in the same run (`extra_info["control_gb_per_s"]`). datatrove needs an
environment of its own (`pip install 'datatrove[processing]' spacy`); it measures the first 200 documents, and the row
says so. The two split words differently, so their decisions agree on nearly all documents, not on each.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

import biollm
from biollm import _native
from biollm.columns import text_array, text_chunks
from biollm.demo.abstracts import write_abstract

DOCUMENTS = 6000
PEER_DOCUMENTS = 200
ROUNDS = 5


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [write_abstract(seed, 0).text() for seed in range(DOCUMENTS)]


def measure(benchmark: Any, call: Callable[[], Any], size_bytes: int, rounds: int = ROUNDS) -> Any:
    """Times a call; MB/s by wall and by CPU time, medians, and the control."""
    wall, cpu, control = [], [], []
    data = bytes(max(size_bytes, 8 << 20))
    last: list[Any] = []

    def timed() -> None:
        began = time.perf_counter(), time.process_time()
        last[:] = [call()]
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
        began_control = time.perf_counter()
        _native.hash_bytes(data)
        control.append(len(data) / (time.perf_counter() - began_control))

    benchmark.pedantic(timed, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info.update(
        bytes=size_bytes,
        mb_per_s=round(size_bytes / 1e6 / statistics.median(wall), 2),
        mb_per_cpu_s=round(size_bytes / 1e6 / statistics.median(cpu), 2),
        control_gb_per_s=round(statistics.median(control) / 1e9, 1),
    )
    return last[0]


def total_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


@pytest.mark.benchmark(group="select.gopher")
@pytest.mark.parametrize("threads", [1, 2])
def test_select(benchmark: Any, texts: list[str], threads: int) -> None:
    result = measure(benchmark, lambda: biollm.select(texts, threads=threads), total_bytes(texts))
    benchmark.extra_info["kept"] = int(result.keep_mask.sum())


@pytest.mark.benchmark(group="select.gopher")
@pytest.mark.parametrize("groups", ["both", "quality", "repetition"])
def test_kernel(benchmark: Any, texts: list[str], groups: str) -> None:
    chunks = text_chunks(text_array(texts))
    quality, repetition = groups != "repetition", groups != "quality"

    def run() -> Any:
        return _native.gopher_statistics(chunks, quality=quality, repetition=repetition, threads=1)

    measure(benchmark, run, total_bytes(texts))


@pytest.mark.benchmark(group="select.gopher")
@pytest.mark.skipif(importlib.util.find_spec("datatrove") is None, reason="datatrove is not installed")
def test_datatrove(benchmark: Any, texts: list[str]) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    filters = (GopherQualityFilter(), GopherRepetitionFilter())
    some = texts[:PEER_DOCUMENTS]

    def run() -> int:
        kept = 0
        for i, text in enumerate(some):
            # Both filters on every document: ours gives all reasons, not the first.
            quality, repetition = (f.filter(Document(text=text, id=str(i))) is True for f in filters)
            kept += quality and repetition
        return kept

    kept = measure(benchmark, run, total_bytes(some), rounds=2)
    benchmark.extra_info.update(kept=kept, documents=len(some))


@pytest.mark.benchmark(group="select.long_document")
@pytest.mark.parametrize("megabytes", [1, 10])
@pytest.mark.parametrize("unit", ["a", "a ", "the risk of death ", "one line\n", "."])
def test_one_long_document(benchmark: Any, unit: str, megabytes: int) -> None:
    """Linear: MB/s hold from 1 MB to 10 MB (but for the caches), whatever is repeated."""
    text = unit * (megabytes * 1_000_000 // len(unit))
    chunks = text_chunks(text_array([text]))
    measure(benchmark, lambda: _native.gopher_statistics(chunks, threads=1), len(text), rounds=3)
