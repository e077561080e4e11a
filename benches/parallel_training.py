"""Training by several processes: how near to one process, and how fast, by each engine.

    python benches/parallel_training.py WORK [--processes 2] [--steps 20] [--size tiny]

Every engine trains the same steps on the same shards (the small demo's sample, generated), for the differences from one
process in loss, weights and moments: in float64 where it has that, and in float32. Then for the speed, in float32:
three rounds in turn, of which the medians are shown. On two cores the question is what the exchange of gradients costs,
since one process with two threads and two with one have the same cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import statistics
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

import biollm
from biollm.demo.corpus import write_sample
from biollm.training import Checkpoint

WAYS: dict[str, dict[str, Any]] = {
    "one process": {},
    "ddp": {"engine": "ddp"},
    "fsdp": {"engine": "fsdp"},
    "zero 1": {"engine": "deepspeed", "zero_stage": 1},
    "zero 2": {"engine": "deepspeed", "zero_stage": 2},
    "zero 3": {"engine": "deepspeed", "zero_stage": 3},
}
ROUNDS = 3


def prepare(work: Path) -> Path:
    shards = work / "shards"
    if not (shards / "manifest.json").exists():
        write_sample(work / "sample", "small")
        biollm.tokenize(work / "sample/*.jsonl.gz", vocab_size=4096, validation_fraction=0.01, output=shards)
    return shards


def trained(shards: Path, output: Path, options: dict[str, Any]) -> Checkpoint:
    shutil.rmtree(output, ignore_errors=True)
    return biollm.train(shards, output=output, **options)


def difference(a: Checkpoint, b: Checkpoint, name: str) -> float:
    ours, theirs = load_file(a.path / name), load_file(b.path / name)
    return max(float((ours[key].double() - tensor.double()).abs().max()) for key, tensor in theirs.items())


def losses(checkpoint: Checkpoint) -> tuple[float, ...]:
    return next(series.y for series in checkpoint.summary().series if series.name == "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", default="tiny")
    given = parser.parse_args()
    shards = prepare(given.work)
    common = {"size": given.size, "steps": given.steps, "seq_len": 256, "batch_size": 8, "validate_every": 10**6}
    ways = dict(WAYS)
    if importlib.util.find_spec("deepspeed") is None:
        print("deepspeed is not installed: zero 1, 2, 3 are left out")
        ways = {name: options for name, options in ways.items() if options.get("engine") != "deepspeed"}
    several = {name: {**options, "nproc": given.processes} if options else {} for name, options in ways.items()}

    print(f"{'':12} {'dtype':8} {'loss':>9} {'weights':>9} {'moments':>9}   greatest difference from one process")
    for dtype in ("float64", "float32"):
        one = trained(shards, given.work / f"one-{dtype}", {**common, "dtype": dtype})
        for name, options in several.items():
            if not options or (options["engine"] == "deepspeed" and dtype == "float64"):
                continue
            other = trained(shards, given.work / "other", {**common, "dtype": dtype, **options})
            loss = max(abs(a - b) for a, b in zip(losses(other), losses(one), strict=True))
            weights = difference(other, one, "model.safetensors")
            moments = difference(other, one, "state/optimizer.safetensors")
            print(f"{name:12} {dtype:8} {loss:9.1e} {weights:9.1e} {moments:9.1e}")

    speeds: dict[str, list[float]] = {name: [] for name in several}
    cpu: dict[str, list[float]] = {name: [] for name in several}
    for _ in range(ROUNDS):
        for name, options in several.items():
            done = trained(shards, given.work / "other", {**common, "dtype": "float32", **options})
            speeds[name].append(float(done.summary().facts["tokens_per_s"]))  # type: ignore[arg-type]
            cpu[name].append(done.manifest.cpu_s)
    base = statistics.median(speeds["one process"])
    print(f"\n{'':12} {'tokens/s':>9} {'ratio':>6} {'CPU s, start included':>22}")
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:12} {median:9.0f} {median / base:6.2f} {statistics.median(cpu[name]):22.1f}")


if __name__ == "__main__":
    main()
