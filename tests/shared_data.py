"""Real data beside the checkout (`../shared/data`): used where it is there, skipped by name where it is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_file(name: str) -> Path:
    """The path of a shared data file; skips the test, naming the file, where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is not here")
    return path


def shared_records(name: str) -> list[dict[str, Any]]:
    """The records of a shared .jsonl.gz file."""
    with gzip.open(shared_file(name), "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]
