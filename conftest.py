"""Plain `pytest` runs the tests; `pytest --benchmark-only` runs the benches, from the root or on `benches`."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# No test may ask a hub for anything.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# As the command line does: torch's threads sleep at barriers instead of spinning, for these cores may be shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BENCHES = Path(__file__).parent / "benches"


@pytest.fixture(scope="module", autouse=True)
def _modules_are_not_garbage() -> Iterator[None]:
    """What stands before a module's tests is left out of collections, each of which costs half a second otherwise."""
    gc.freeze()
    yield
    gc.unfreeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    message = "a finished `biollm demo --size tiny`, which the tests of the demo then look at instead of making one"
    parser.addoption("--tiny-demo", type=Path, metavar="FOLDER", help=message)


def pytest_configure(config: pytest.Config) -> None:
    # `--benchmark-disable` in addopts would make `--benchmark-only` exit with 4, so it is decided here.
    option = config.option
    if hasattr(option, "benchmark_only") and not (
        option.benchmark_only or option.benchmark_enable or option.benchmark_skip
    ):
        option.benchmark_disable = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # A bench is run when it is asked for: by an option of the plugin, or by naming its file or folder.
    option = config.option
    named = any(
        Path(str(a).partition("::")[0]).resolve().is_relative_to(BENCHES) for a in config.args if a != "benches"
    )
    if named or getattr(option, "benchmark_only", False) or getattr(option, "benchmark_enable", False):
        return
    benches = [item for item in items if item.path.is_relative_to(BENCHES)]
    if benches:
        config.hook.pytest_deselected(items=benches)
        items[:] = [item for item in items if not item.path.is_relative_to(BENCHES)]
