"""The whole way from documents to completions, so small that it can be taken again and again."""

from __future__ import annotations

import json
import random
from pathlib import Path

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


def write_sources(folder: Path) -> None:
    """Writes `documents.jsonl` and `recipe.toml`."""
    draw = random.Random(0)
    rows = [{"id": f"d{i}", "text": " ".join(draw.choices(WORDS.split(), k=60))} for i in range(80)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    (folder / "recipe.toml").write_text(RECIPE)
