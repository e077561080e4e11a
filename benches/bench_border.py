"""The native border: what an empty call costs, how soon Ctrl-C stops a long one, what `import biollm` costs.

pytest benches/bench_border.py --benchmark-only -s      prints the table of Ctrl-C latencies (50 tries a function)
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from biollm import _native
from native_cases import CASES

TESTS = Path(__file__).resolve().parents[1] / "tests"
LONG = [name for name, case in CASES.items() if case.kind == "long"]
TRIES = 50


@pytest.mark.benchmark(group="border.call")
def test_empty_native_call(benchmark: Any) -> None:
    benchmark(_native.hash_bytes, b"")


@pytest.mark.benchmark(group="border.hash")
def test_hash_of_32_mib(benchmark: Any) -> None:
    data = bytes(32 << 20)
    benchmark(_native.hash_bytes, data)
    benchmark.extra_info["bytes"] = len(data)


@pytest.mark.benchmark(group="border.interrupt")
@pytest.mark.parametrize("name", LONG)
def test_interrupt_latency(benchmark: Any, name: str) -> None:
    """The bar: median ≤ 50 ms, largest ≤ 250 ms."""
    command = [sys.executable, str(TESTS / "native_probe.py"), "interrupt", name, str(TRIES)]

    def run() -> list[float]:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS)
        return [float(line) for line in done.stdout.split()]

    latencies = benchmark.pedantic(run, rounds=1)
    figures = {
        "tries": len(latencies),
        "median_ms": round(statistics.median(latencies) * 1e3, 1),
        "largest_ms": round(max(latencies) * 1e3, 1),
    }
    benchmark.extra_info.update(figures)
    print(f"\n{name}: {figures}")


def _user_and_system_s(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


@pytest.mark.benchmark(group="border.import")
def test_import_biollm(benchmark: Any) -> None:
    """The bar: the median of 20 fresh processes, user + system, under 50 ms beyond `python -c pass`."""
    samples: dict[str, list[float]] = {"pass": [], "import biollm": []}

    def run() -> None:
        for _ in range(20):
            for code, seconds in samples.items():
                seconds.append(_user_and_system_s(code))

    benchmark.pedantic(run, rounds=1)
    medians = {code: statistics.median(seconds) * 1e3 for code, seconds in samples.items()}
    benchmark.extra_info["beyond_pass_ms"] = round(medians["import biollm"] - medians["pass"], 1)
    print(f"\nimport biollm: {benchmark.extra_info['beyond_pass_ms']} ms beyond python -c pass")
