"""Rates measured once on a named machine (`rates.toml`), and how much faster or slower this one is.

The measure is a control, taken in well under a second: the rate of xxh3-128 over memory for what reads and writes text,
that of a matrix product in torch for what trains.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from importlib.resources import files
from typing import Any, Final

from biollm import _native
from biollm.errors import MissingExtra, require

CONTROL_S: Final = 0.25
_HASHED_BYTES: Final = 16 << 20
_MATRIX: Final = 512


class Rates:
    """The reference rates, scaled to this machine.

    Args:
        table: as `rates.toml` holds it; by default that file.
        controls: what the controls give here, by the names of the table's `machine`; measured where not given.
    """

    def __init__(
        self, table: Mapping[str, Any] | None = None, controls: Mapping[str, float | None] | None = None
    ) -> None:
        self.table: Mapping[str, Any] = table if table is not None else load_table()
        self._controls = dict(controls) if controls is not None else {}

    def of(self, verb: str) -> Mapping[str, float]:
        """The rates of a `verb`: seconds and bytes by unit of work."""
        found: Mapping[str, float] = self.table[verb]
        return found

    @property
    def source(self) -> str:
        """Where and when they were measured."""
        machine = self.table["machine"]
        return f"{machine['processor']}, {machine['cores']} cores, {machine['measured']}"

    @cached_property
    def data_factor(self) -> float:
        """Times as many seconds as on the reference machine, for data verbs."""
        return self._factor("xxh3_gb_s", hash_rate)

    @cached_property
    def training_factor(self) -> float:
        """Times as many seconds as there, for training and decoding; 1 without torch."""
        return self._factor("matmul_gflops", matmul_rate)

    def _factor(self, name: str, measure: Callable[[], float | None]) -> float:
        here = self._controls[name] if name in self._controls else measure()
        return float(self.table["machine"][name]) / here if here else 1.0


def load_table() -> dict[str, Any]:
    """`rates.toml` of this package."""
    return tomllib.loads((files("biollm.recipe") / "rates.toml").read_text("utf-8"))


def hash_rate() -> float:
    """GB/s of xxh3-128 over 16 MiB of memory, by one thread: the best of a quarter of a second."""
    data = bytes(_HASHED_BYTES)
    return _best(lambda: _native.hash_bytes(data), _HASHED_BYTES / 1e9)


def matmul_rate() -> float | None:
    """GFLOP/s of a 512-square float32 product in torch, where training would run; `None` without torch."""
    with suppress(MissingExtra):
        torch: Any = require("torch", extra="train")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        one = torch.ones(_MATRIX, _MATRIX, device=device)

        def product() -> None:
            (one @ one)[0, 0].item()  # waits for the device

        product()
        return _best(product, 2 * _MATRIX**3 / 1e9)
    return None


def _best(work: Callable[[], object], units: float) -> float:
    """Units a second of the fastest of the calls that fit into `CONTROL_S`, three at least: other work slows most."""
    fastest = float("inf")
    began = time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - began < CONTROL_S:
        start = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - start)
        calls += 1
    return units / fastest
