"""Reading JSON Lines, plain and compressed: MB/s of decoded text, beside Python's gzip + json, polars and pyarrow.json.

Every engine reads the same file in a fresh process, in turn (A B C A B C …): wall and CPU seconds of the reading alone
(imports are done before), peak memory beyond the imports, and the xxh3-128 of all texts, which must be equal.
Engines do unequal work beside that: Python, polars and pyarrow build typed values of every field, biollm keeps the
fields nobody named as JSON text. polars and pyarrow.json use both cores; biollm and Python one.
"""

from __future__ import annotations

import gzip
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from biollm import _native
from biollm.demo.abstracts import write_abstract

RECORDS = 40_000
ROUNDS = 5
SUFFIXES = ("", ".gz", ".zst")

PROBE = """
import gzip, json, re, sys, time
import numpy, pyarrow as pa, pyarrow.compute as pc, pyarrow.json
from biollm import _native
from biollm.readers import as_documents
engine, path = sys.argv[1:]
if engine == "polars":
    import polars
if engine == "biollm":
    as_documents(["warm"]).to_table()

def texts_of_biollm():
    return as_documents(path).to_table().column("text")

def texts_of_python():
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as lines:
        return pa.chunked_array([pa.array([json.loads(line)["text"] for line in lines], pa.large_string())])

def texts_of_polars():
    return polars.read_ndjson(path)["text"].to_arrow()

def texts_of_pyarrow():
    with pa.input_stream(path, compression="detect") as stream:
        return pyarrow.json.read_json(stream).column("text")

def peak_kib():
    # Not ru_maxrss, which a child inherits from the process that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

before_kib = peak_kib()
wall, cpu = time.perf_counter(), time.process_time()
texts = globals()[f"texts_of_{engine}"]()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak_mib = (peak_kib() - before_kib) / 1024
joined = "\\n".join(texts.to_pylist()).encode()
blocks = [joined[i : i + (16 << 20)] for i in range(0, len(joined), 16 << 20)]
print(json.dumps([wall, cpu, peak_mib, [_native.hash_bytes(block) for block in blocks]]))
"""

ENGINES = ("biollm", "python", "polars", "pyarrow")
Turn = tuple[float, float, float, list[str]]


@pytest.fixture(scope="module")
def lines() -> bytes:
    abstracts = [write_abstract(seed, 0) for seed in range(3000)]
    records = []
    for i in range(RECORDS):
        abstract = abstracts[i % len(abstracts)]
        meta = {"pmid": 10_000_000 + i, "year": 1980 + i % 45, "mesh": [f"D{i % 997:06}", f"D{i % 991:06}"]}
        record = {"id": f"doc-{i}", "text": abstract.text(), "label": "A", "journal": {"issn": "0000", "vol": i % 99}}
        records.append(json.dumps({**record, **meta}, ensure_ascii=i % 2 == 0))
    return "\n".join(records).encode()


@pytest.fixture(scope="module", params=SUFFIXES, ids=["jsonl", "jsonl.gz", "jsonl.zst"])
def turns(
    request: pytest.FixtureRequest, lines: bytes, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, int, dict[str, list[Turn]]]:
    """Suffix, decoded bytes, and the turns of each engine that is installed and reads the compression."""
    import pyarrow as pa

    suffix = request.param
    coders = {"": bytes, ".gz": lambda data: gzip.compress(data, 6), ".zst": pa.Codec("zstd", 3).compress}
    path = tmp_path_factory.mktemp("read") / f"corpus.jsonl{suffix}"
    path.write_bytes(coders[suffix](lines))
    turns: dict[str, list[Turn]] = {}
    for _ in range(ROUNDS):
        for engine in ENGINES:
            if (turn := run(engine, path)) is not None:
                turns.setdefault(engine, []).append(turn)
    assert len({tuple(turn[3]) for each in turns.values() for turn in each}) == 1, "the engines read different texts"
    return suffix, len(lines), turns


def run(engine: str, path: Path) -> Turn | None:
    """One reading in a fresh process; `None` where the engine cannot."""
    if engine == "python" and path.suffix == ".zst":
        return None  # Its standard library decodes zstd from 3.14 on.
    command = [sys.executable, "-c", PROBE, engine, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        assert engine != "biollm", done.stderr
        assert "ModuleNotFoundError" in done.stderr or "ComputeError" in done.stderr, done.stderr[-2000:]
        return None
    wall, cpu, mib, hashes = json.loads(done.stdout)
    return wall, cpu, mib, hashes


@pytest.mark.benchmark(group="read.jsonl")
@pytest.mark.parametrize("engine", ENGINES)
def test_read_jsonl(benchmark: Any, turns: tuple[str, int, dict[str, list[Turn]]], engine: str) -> None:
    suffix, size_bytes, measured = turns
    if engine not in measured:
        pytest.skip(f"{engine} does not read .jsonl{suffix} here")
    walls = iter([turn[0] for turn in measured[engine]])
    # The plugin's own clock shows the cost of this loop; the figures of the fresh processes stand in extra_info.
    benchmark.pedantic(lambda: next(walls), rounds=ROUNDS)

    def median(position: int, name: str = engine) -> float:
        return statistics.median(turn[position] for turn in measured[name])  # type: ignore[type-var]

    control = _control_gb_per_s()
    benchmark.extra_info.update(
        decoded_bytes=size_bytes,
        wall_s=round(median(0), 4),
        cpu_s=round(median(1), 4),
        mb_per_s=round(size_bytes / 1e6 / median(0), 1),
        mb_per_cpu_s=round(size_bytes / 1e6 / median(1), 1),
        peak_mib=round(median(2)),
        **{f"speed_over_{peer}": round(median(0, peer) / median(0), 2) for peer in measured if peer != engine},
        control_gb_per_s=control,
    )
    print(f"\n.jsonl{suffix} {engine}: {benchmark.extra_info}")


def _control_gb_per_s() -> float:
    """xxh3-128 over 32 MiB: what this machine reads at just now."""
    data = bytes(32 << 20)
    began = time.perf_counter()
    _native.hash_bytes(data)
    return round(len(data) / (time.perf_counter() - began) / 1e9, 1)
