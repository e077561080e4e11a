"""Every native function: declared, interruptible, safe under fork and threads, and unbroken by bad input."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import biollm
from native_cases import CASES

TESTS = Path(__file__).parent
STUB = Path(biollm.__file__).with_name("_native.pyi")
CALLABLE = [name for name, case in CASES.items() if case.kind != "property"]
LONG = [name for name, case in CASES.items() if case.kind == "long"]
FORKS = 100


def probe(mode: str, *arguments: str, limit_s: float = 120) -> str:
    command = [sys.executable, str(TESTS / "native_probe.py"), mode, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, cwd=TESTS, check=False)
    assert done.returncode == 0, (
        f"{mode} {arguments}: exit {done.returncode}\n{done.stdout[-500:]}{done.stderr[-3000:]}"
    )
    return done.stdout


def stub_names() -> set[str]:
    names: set[str] = set()
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    constructor = member.name in ("__new__", "__init__")
                    names.add(node.name if constructor else f"{node.name}.{member.name}")
    return names


def test_every_native_name_is_declared() -> None:
    assert stub_names() - set(CASES) == set(), "declare these in tests/native_cases*.py"
    assert set(CASES) - stub_names() == set(), "declared, but not in _native.pyi"


def test_what_takes_input_has_bad_input() -> None:
    for name in CALLABLE:
        assert CASES[name].prepare is not None, name


@pytest.fixture(scope="module")
def interrupts() -> Iterator[dict[str, Future[str]]]:
    """The probes of all long cases, two at a time: each spends most of its seconds on making its call long."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(probe, "interrupt", name, "2") for name in LONG}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", LONG)
def test_ctrl_c_stops_the_call(name: str, interrupts: dict[str, Future[str]]) -> None:
    latencies = [float(line) for line in interrupts[name].result().split()]
    assert len(latencies) == 2
    assert max(latencies) <= 1.0, latencies


@pytest.mark.parametrize("name", CALLABLE)
def test_a_forked_child_can_call_again(name: str) -> None:
    probe("repeat_in_fork", name, str(math.ceil(FORKS / len(CALLABLE))))


@pytest.mark.parametrize("name", CALLABLE)
def test_threads_get_equal_results(name: str) -> None:
    probe("repeat_in_threads", name, "4")


@pytest.mark.parametrize("name", [n for n in CALLABLE if CASES[n].malformed])
def test_bad_input_is_refused_by_a_typed_error(name: str) -> None:
    probe("malformed", name)
