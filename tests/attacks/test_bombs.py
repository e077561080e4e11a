"""Small files made to exhaust memory or time: a typed error, within the limit, in under a second of CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import bombs
from bombs import BOMBS, DENSE, LIMIT, MIB, VALID

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return bombs.outcomes(tmp_path_factory.mktemp("bombs"))


@pytest.mark.parametrize("suffix", VALID)
def test_what_they_are_held_against_reads_well(suffix: str, outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes[suffix].get("rows", 0) > 0, outcomes[suffix]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_bounds(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    suffix, _, error, words = BOMBS[name]
    found = outcomes[name]
    assert found.get("error") == error, found
    assert words in found["message"], found
    assert found["path"] is not None, found
    assert found["peak_mib"] - outcomes[suffix]["peak_mib"] <= LIMIT / MIB + 64, found
    assert found["seconds"] < 1.0, found


@pytest.mark.parametrize("name", DENSE)
def test_many_documents_in_few_bytes_go_through_in_batches(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    found = outcomes[name]
    assert found.get("rows") == DENSE[name][1], found
    assert found["peak_mib"] - outcomes[".parquet"]["peak_mib"] <= LIMIT / MIB + 64, found
