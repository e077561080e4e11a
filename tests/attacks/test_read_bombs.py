"""Files made to exhaust memory or time: each is read in a child process whose peak memory is looked at."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

MIB = 1 << 20

# The child prints its peak RSS in MiB beyond what importing took, seconds of CPU, and what came out.
CHILD = """
import re, sys, time
import pyarrow as pa
import biollm
from biollm.readers import as_documents

def peak_mib():
    # Not ru_maxrss, which a child inherits from the process that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

as_documents(["warm"]).to_table()
before = peak_mib()
try:
    rows = sum(len(batch) for batch in as_documents(sys.argv[1], **eval(sys.argv[2])).reader())
    outcome = f"{rows} rows"
except biollm.BiollmError as error:
    outcome = f"{type(error).__name__} line {error.line} path {error.path is not None}: {error.message[:200]}"
print(int(peak_mib() - before), time.process_time(), outcome, sep="|")
"""


def read_in_child(path: Path, **options: object) -> tuple[int, float, str]:
    """Peak MiB beyond the imports, seconds of CPU, and what came out."""
    command = [sys.executable, "-c", CHILD, str(path), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    mib, seconds, outcome = done.stdout.strip().split("|", 2)
    return int(mib), float(seconds), outcome


def zstd_frames(block: bytes, count: int) -> bytes:
    return bytes(pa.compress(block, "zstd", asbytes=True)) * count


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_line_of_a_gib_in_a_small_file(tmp_path: Path, suffix: str, on_error: str) -> None:
    path = tmp_path / f"bomb.jsonl{suffix}"
    block = b"x" * (16 * MIB)
    path.write_bytes(gzip.compress(block) * 64 if suffix == ".gz" else zstd_frames(block, 64))
    assert path.stat().st_size < 1.1 * MIB
    limit = 32 * MIB
    mib, seconds, outcome = read_in_child(path, on_error=on_error, max_document_bytes=limit)
    if on_error == "raise":
        assert outcome.startswith("LimitError line 1 path True: bytes of the line")
        assert "max_document_bytes" in outcome
    else:
        assert outcome == "0 rows"
    # The line's buffer, doubled while it grows; datatrove was at 3,600 MiB.
    assert mib < 150, f"{mib} MiB"
    assert seconds < 30


def test_the_default_limit_bounds_memory_too(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * (16 * MIB)) * 64)
    mib, _, outcome = read_in_child(path)
    assert outcome.startswith("LimitError line 1")
    assert mib < 800, f"{mib} MiB"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_document_of_a_gib_in_a_small_text_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb.txt{suffix}"
    block = b"word " * (3 * MIB)
    path.write_bytes(gzip.compress(block) * 70 if suffix == ".gz" else zstd_frames(block, 70))
    mib, _, outcome = read_in_child(path, max_document_bytes=32 * MIB)
    assert outcome.startswith("LimitError")
    assert mib < 200, f"{mib} MiB"


def test_a_gib_of_short_lines_goes_through_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl.gz"
    line = b'{"text": "' + b"word " * 2000 + b'"}\n'
    path.write_bytes(gzip.compress(line * 400) * 64)
    mib, _, outcome = read_in_child(path)
    assert outcome == f"{400 * 64} rows"
    assert mib < 200, f"{mib} MiB"


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_a_tower_of_brackets(tmp_path: Path, opening: str) -> None:
    path = tmp_path / "tower.jsonl"
    path.write_text(f'{{"text": {opening * 10_000_000}')
    mib, seconds, outcome = read_in_child(path)
    assert outcome.startswith("LimitError line 1 path True: depth of nested JSON is 129, over the limit of 128")
    assert mib < 400, f"{mib} MiB"
    assert seconds < 20


def test_millions_of_fields_take_no_memory_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "fields.jsonl"
    path.write_bytes(b'{"text": "t"' + b',"":0' * 10_000_000 + b"}\n")
    mib, _, outcome = read_in_child(path)
    assert outcome == "1 rows"
    # The line, and the fields it carries through.
    assert mib < 450, f"{mib} MiB"


def test_a_zstd_window_larger_than_the_tools_take(tmp_path: Path) -> None:
    path = tmp_path / "window.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00")
    mib, _, outcome = read_in_child(path)
    assert outcome.startswith("LimitError")
    assert "zstd window" in outcome
    assert mib < 100, f"{mib} MiB"


def test_endless_headers_and_empty_members(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x08\0\0\0\0\0\x03" + b"n" * (64 * MIB))
    mib, _, outcome = read_in_child(path)
    assert outcome.startswith("FormatError")
    assert "header is longer" in outcome
    assert mib < 100, f"{mib} MiB"
    path.write_bytes(gzip.compress(b"") * 500_000)
    mib, seconds, outcome = read_in_child(path)
    assert outcome == "0 rows"
    assert mib < 100, f"{mib} MiB"
    assert seconds < 20
