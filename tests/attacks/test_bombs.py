"""Small files made to exhaust memory or time: a typed error, within the limit, in under a second of CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bombs import BOMBS, MIB, VALID, one_chunk, page, plain, repeated, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

LIMIT = 64 * MIB
#: Not bombs: many documents in few bytes, which go through in batches.
DENSE = {
    "200 texts of a MiB by a dictionary": (lambda: repeated(MIB, 200), 200),
    "a million short texts by one run": (
        lambda: one_chunk(
            page(2, plain([b"abc"]), 1, 0) + page(0, run(1_000_000), 1_000_000, 8), 1_000_000, dictionary=True
        ),
        1_000_000,
    ),
}


def read_all(files: dict[str, Path], folder: Path) -> dict[str, dict[str, Any]]:
    jobs = folder / "jobs.json"
    jobs.write_text(json.dumps([[str(path), LIMIT] for path in files.values()]))
    command = [sys.executable, str(Path(__file__).with_name("bombs.py")), str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(files, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of reading each bomb, and each small file beside them."""
    folder = tmp_path_factory.mktemp("bombs")
    files: dict[str, Path] = {}
    makers = [*VALID.items()]
    makers += [(name, bomb[1]) for name, bomb in BOMBS.items()] + [(name, dense[0]) for name, dense in DENSE.items()]
    for number, (name, make) in enumerate(makers):
        suffix = name if name in VALID else BOMBS[name][0] if name in BOMBS else ".parquet"
        files[name] = folder / f"{number}{suffix}"
        files[name].write_bytes(make())
        assert files[name].stat().st_size < 10 * MIB, name
    return read_all(files, folder)


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
