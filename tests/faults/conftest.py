"""A way from documents to completions, small enough to be taken again and again under faults."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from commands import Commands

pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")

WORDS = "asthma migraine anaemia sepsis gout angina in of after with adults trial dose the placebo risk"

RECIPE = """
[[stage]]
name = "read"
verb = "read"
inputs = ["documents.jsonl"]

[[stage]]
name = "dedup"
verb = "dedup"
inputs = ["read"]

[[stage]]
name = "select"
verb = "select"
inputs = ["dedup"]
rules = ["gopher_repetition"]

[[stage]]
name = "tokenize"
verb = "tokenize"
inputs = ["select"]
vocab_size = 300
validation_fraction = 0.25

[[stage]]
name = "train"
verb = "train"
inputs = ["tokenize"]
size = "tiny"
steps = 3
seq_len = 32
batch_size = 2
threads = 1
checkpoint_every = 1

[[stage]]
name = "generate"
verb = "generate"
inputs = ["train"]
prompts = ["asthma in"]
max_tokens = 4
compile = false
"""
VERBS = ("read", "dedup", "select", "tokenize", "train", "generate")


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line, with faults where they can be had (Linux with a C compiler)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("faults are put in before the C library: Linux and a C compiler (cc) are needed")
    folder = tmp_path_factory.mktemp("commands")
    folder.chmod(0o755)
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    with Commands(folder, library) as running:
        yield running


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with `documents.jsonl`, `recipe.toml` and a run of it, `RUN`, in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("sound")
    draw = random.Random(0)
    rows = [{"id": f"d{i}", "text": " ".join(draw.choices(WORDS.split(), k=60))} for i in range(80)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    (folder / "recipe.toml").write_text(RECIPE)
    done = commands("run", folder / "recipe.toml", "-o", folder / "RUN")
    assert done.code == 0, done.stderr
    return folder
