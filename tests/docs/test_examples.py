"""Each program in `examples/` runs, in an empty folder, and says what it should."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doc_pages import ROOT, pages

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ARGUMENTS = {"train_and_generate": ["8"]}
NEEDS = {"deduplicate_frame": "polars", "train_and_generate": "torch"}
SAYS = {
    "deduplicate_frame": "2 of 4 kept: ['101', '102']",
    "pubmed_to_parquet": "RESULTS: Levels rose (P < 0.001).",
    "selection_and_recipe": "{'good': 'matched', 'shards': 'matched'}",
    "train_and_generate": "nats a token after 8 steps",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(NEEDS.get(example.stem, "biollm")) is None:
        pytest.skip(f"{NEEDS[example.stem]} is not installed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(example), *ARGUMENTS.get(example.stem, [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert SAYS[example.stem] in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == [], "an example cleans up after itself"


def test_every_example_is_on_its_page() -> None:
    page = pages()["examples.md"]
    assert [example.name for example in EXAMPLES if example.name not in page] == []
    assert {example.stem for example in EXAMPLES} == set(SAYS)
