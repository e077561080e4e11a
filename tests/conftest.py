"""Commands of biollm that cost a fork each, and a small run from documents to completions, for all tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Commands
from small_run import write_sources


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line, with faults where they can be had (Linux with a C compiler)."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("faults are put in before the C library: Linux and a C compiler (cc) are needed")
    folder = tmp_path_factory.mktemp("commands")
    library = folder / "faults.so"
    source = Path(__file__).parent / "faults" / "faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    with Commands(folder, library) as running:
        yield running


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with `documents.jsonl`, `recipe.toml` and a run of it, `RUN`, in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("sound")
    write_sources(folder)
    done = commands("run", folder / "recipe.toml", "-o", folder / "RUN")
    assert done.code == 0, done.stderr
    return folder
