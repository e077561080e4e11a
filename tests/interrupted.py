"""Runs that are cut off: a child process does the work and ends itself by SIGKILL in the midst of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from biollm import _native
from biollm.manifest import Manifest

_CHILD = """
import json, os, signal, sys
from importlib import import_module
from pathlib import Path

import biollm

verb, source, output, options, limits, pattern, count = json.loads(sys.argv[1])
for name, value in limits.items():
    module, _, constant = name.rpartition(".")
    setattr(import_module(module), constant, value)


def progress(done, total):
    if len(list(Path(output, ".partial").glob(pattern))) >= count:
        os.kill(os.getpid(), signal.SIGKILL)


getattr(biollm, verb)(Path(source), output=output, progress=progress, **options)
print("not killed")
"""


def kill(
    verb: str,
    source: Path,
    output: Path,
    options: Mapping[str, Any],
    limits: Mapping[str, int],
    kept: tuple[str, int],
) -> None:
    """Runs a verb with small `limits` (constant of a module → value) and kills it where it reports progress.

    It is the first report after so many files of a pattern stand in its work in progress: `kept`.
    """
    arguments = json.dumps([verb, str(source), str(output), dict(options), dict(limits), *kept])
    ended = subprocess.run([sys.executable, "-c", _CHILD, arguments], capture_output=True, text=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, f"{ended.returncode}: {ended.stdout}{ended.stderr}"
    assert not (output / "manifest.json").exists()
    assert not [name for name in output.glob("*") if name.is_file()], "torn or unfinished files are in sight"


def set_limits(monkeypatch: pytest.MonkeyPatch, limits: Mapping[str, int]) -> None:
    """The same limits in this process."""
    for name, value in limits.items():
        module, _, constant = name.rpartition(".")
        monkeypatch.setattr(import_module(module), constant, value)


def outputs(folder: Path) -> dict[str, str]:
    """The files of a finished folder by their content, which its manifest must name; there are no others."""
    manifest = Manifest.read(folder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    found = {path.relative_to(folder).as_posix(): _native.hash_file(path) for path in files}
    assert found == dict(manifest.outputs)
    assert not (folder / ".partial").exists()
    return found


def damage(file: Path) -> None:
    """Turns a bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
