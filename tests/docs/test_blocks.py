"""Every code block of the documentation and of the README runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doc_pages import ROOT, blocks, written_pages

PAGES = [name for name, text in written_pages().items() if blocks(text)]
LANGUAGES = {"python", "sh", "toml", "json", "text"}


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Page → what went wrong in it."""
    for package in ("torch", "polars", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    results = tmp_path_factory.mktemp("pages") / "results.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100", "TERM": "dumb"}
    command = [sys.executable, str(Path(__file__).with_name("run_pages.py")), str(results), *PAGES]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[str]] = json.loads(results.read_text())
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, problems: dict[str, list[str]]) -> None:
    assert problems[page] == []


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_known_languages_and_reasons_are_given(page: str) -> None:
    for block in blocks(written_pages()[page]):
        assert block.language in LANGUAGES, f"{page}:{block.line}"
        assert not block.not_run or len(block.not_run) > 10, f"{page}:{block.line}: say why it is not run"


def test_output_blocks_follow_something_that_prints() -> None:
    for page in PAGES:
        before = None
        for block in blocks(written_pages()[page]):
            if block.title == "Output":
                assert before is not None, f"{page}:{block.line}"
                assert before.language in ("python", "sh"), f"{page}:{block.line}"
            before = block
