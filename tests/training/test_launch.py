"""`train(nproc=2)` and torchrun: the same checkpoint as one process, and what happens when a process ends."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import biollm
from base_models import base_model, documents, pairs
from biollm.errors import ConfigError, InputError, LimitError, MissingExtra, ProcessError
from biollm.recipe import run as run_recipe
from biollm.training import Checkpoint, TrainOptions, engines, launch
from biollm.training.resume import COMMIT

STEPS = 40  # far more than pass while a process is being stopped
EVERY = 5
OPTIONS: dict[str, Any] = {
    "size": "tiny",
    "seq_len": 32,
    "batch_size": 4,
    "steps": STEPS,
    "validate_every": 20,
    "checkpoint_every": EVERY,
    "lr": 1e-3,
    "threads": 1,
}
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install 'biollm[deepspeed]'"
)


@pytest.fixture(scope="module")
def shards(make_shards_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [[1 + (i * j + j) % 50 for j in range(3 + i % 40)] + [0] for i in range(60)]
    return make_shards_in(tmp_path_factory.mktemp("shards"), texts, texts[:7])


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """What one process makes of the shards."""
    return biollm.train(shards, output=tmp_path_factory.mktemp("alone") / "out", **OPTIONS)


def difference(a: Checkpoint, b: Checkpoint) -> float:
    """The greatest, of all weights and moments."""
    worst = 0.0
    for name in ("model.safetensors", "state/optimizer.safetensors"):  # float32, of hundreds of thousands of numbers
        ours, theirs = load_file(a.path / name), load_file(b.path / name)
        assert ours.keys() == theirs.keys()
        worst = max(worst, *(float((ours[key] - tensor).abs().max()) for key, tensor in theirs.items()))
    return worst


def workers() -> list[int]:
    """The processes that this one has started, in the order of their ranks."""
    if sys.platform != "linux":
        pytest.skip("the processes are found below /proc")
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    found = [pid for pid, command in commands.items() if b"biollm.training.worker" in command]
    return sorted(found, key=lambda pid: b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


def kept(output: Path) -> list[int]:
    return sorted(int(path.parent.name.removeprefix("step-")) for path in output.glob(f".partial/step-*/{COMMIT}"))


def test_two_processes_make_what_one_makes(shards: Path, alone: Checkpoint, tmp_path: Path) -> None:
    """And a process that is killed ends the run with its name; one process goes on from there."""
    reports: list[tuple[int, int | None]] = []

    def kill(done: int, total: int | None) -> None:
        reports.append((done, total))
        if done == EVERY + 1:
            os.kill(workers()[1], signal.SIGKILL)

    output = tmp_path / "out"
    with pytest.raises(
        ProcessError, match=r"process 1 of 2 was killed by signal 9 \(SIGKILL\).*goes on from"
    ) as caught:
        biollm.train(shards, output=output, nproc=2, progress=kill, **OPTIONS)
    assert (caught.value.field, caught.value.value) == ("rank", 1)
    assert not workers()
    assert reports[:4] == [(step, STEPS) for step in range(1, 5)]
    (*_, last) = kept(output)
    assert EVERY <= last < STEPS

    checkpoint = biollm.train(shards, output=output, **OPTIONS)
    assert difference(checkpoint, alone) < 1e-4
    (resumption,) = checkpoint.manifest.resumptions
    assert resumption.kept == last
    assert checkpoint.manifest.options == alone.manifest.options
    assert not (output / ".partial").exists()


def test_all_stop_at_one_step(shards: Path, alone: Checkpoint, tmp_path: Path) -> None:
    """A Ctrl-C, here the caller's: what was done is kept; two processes go on, by another engine."""

    def stop(done: int, total: int | None) -> None:
        if done == 4:
            raise KeyboardInterrupt

    output, log = tmp_path / "out", []
    with pytest.raises(KeyboardInterrupt):
        biollm.train(shards, output=output, nproc=2, progress=stop, **{**OPTIONS, "checkpoint_every": 100})
    assert not workers()
    (step,) = kept(output)
    assert 4 <= step < STEPS
    checkpoint = biollm.train(
        shards, output=output, nproc=2, engine="fsdp", progress=lambda done, total: log.append(done), **OPTIONS
    )
    assert log == list(range(step, STEPS + 1))
    assert difference(checkpoint, alone) < 1e-4
    facts = checkpoint.summary().facts
    assert (facts["processes"], facts["engine"]) == (2, "fsdp")
    ours, theirs = (item.summary().facts["validation_loss_nats"] for item in (checkpoint, alone))
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert facts["tokens_trained_on"] == alone.summary().facts["tokens_trained_on"]


@needs_deepspeed
def test_zero_2_is_killed_and_gone_on_with(shards: Path, alone: Checkpoint, tmp_path: Path) -> None:
    def kill(done: int, total: int | None) -> None:
        if done == EVERY + 1:
            os.kill(workers()[0], signal.SIGKILL)

    options = {**OPTIONS, "nproc": 2, "engine": "deepspeed", "zero_stage": 2}
    with pytest.raises(ProcessError, match=r"process 0 of 2 was killed by signal 9"):
        biollm.train(shards, output=tmp_path / "out", progress=kill, **options)
    (*_, last) = kept(tmp_path / "out")
    assert EVERY <= last < STEPS
    checkpoint = biollm.train(shards, output=tmp_path / "out", **options)
    assert difference(checkpoint, alone) < 1e-4
    assert [item.kept for item in checkpoint.manifest.resumptions] == [last]
    assert checkpoint.summary().facts["zero_stage"] == 2


def test_rows_and_adapters_by_slices(tmp_path: Path) -> None:
    """A classifier with low-rank factors; each process has slices of what is trained and of what is not."""
    base, rows = base_model(tmp_path / "base"), tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in documents(60)))
    options: dict[str, Any] = {
        "objective": "classify",
        "lora_rank": 2,
        "seq_len": 64,
        "batch_size": 4,
        "steps": 6,
        "lr": 1e-2,
        "validation_fraction": 0.3,
        "threads": 1,
    }
    one = biollm.train(rows, start=base, output=tmp_path / "one", **options)
    two = biollm.train(rows, start=base, output=tmp_path / "two", nproc=2, engine="fsdp", **options)
    assert difference(two, one) < 1e-5
    assert two.manifest.inputs == one.manifest.inputs
    assert two.summary().facts["accuracy"] == one.summary().facts["accuracy"]
    assert two.summary().tables == one.summary().tables


def test_torchrun(shards: Path, alone: Checkpoint, tmp_path: Path) -> None:
    """The command by torchrun, and an error in all processes that is told once with what it is about."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "biollm"]
    given = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, "train", str(shards), "-o", str(tmp_path / "out"), "--json", *given],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["output"] == str(tmp_path / "out")
    assert difference(Checkpoint.open(tmp_path / "out"), alone) < 1e-4


def test_an_error_comes_through_as_what_it_is(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training diverged: at step 0 .* lower lr|look for NaN") as caught:
        biollm.train(shards, start=broken(shards, tmp_path), output=tmp_path / "out", nproc=2, **OPTIONS)
    assert caught.value.field == "lr"
    assert not workers()


def broken(shards: Path, tmp_path: Path) -> Path:
    """A checkpoint with a weight that is no number."""
    from safetensors.torch import save_file

    checkpoint = biollm.train(shards, output=tmp_path / "broken", **{**OPTIONS, "steps": 1})
    weights = load_file(checkpoint.path / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, checkpoint.path / "model.safetensors", metadata={"format": "pt"})
    return checkpoint.path


def test_processes_end_with_their_parent(shards: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "steps": 10**6, "nproc": 2, "output": str(tmp_path / "out")}
    script = (
        f"import biollm\nbiollm.train({str(shards)!r}, progress=lambda *done: print(done, flush=True), **{options!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"(1, 1000000)\n"
        children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        assert len(children) == 2
        parent.kill()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nproc": 3}, "batch_size 4 does not divide into 1 forward passes of 3 processes"),
        ({"nproc": 2, "accumulation": 4}, "batch_size 4 does not divide into 4 forward passes of 2"),
        ({"nproc": 0}, "nproc is 0: use 1 to 1024"),
        ({"engine": "horovod"}, "engine is 'horovod': use one of ddp, fsdp, deepspeed"),
        ({"engine": "fsdp", "zero_stage": 3}, "zero_stage is an option of the engine deepspeed, not of fsdp"),
        ({"engine": "deepspeed", "zero_stage": 4}, "zero_stage is 4: use 1 to 3"),
        ({"engine": "deepspeed", "dtype": "float64"}, "deepspeed keeps float32"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions(**{"batch_size": 4, **options})


def test_rows_in_memory_are_refused(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"rows in memory cannot be shared .* write them to a .jsonl file"):
        biollm.train(pairs(8), start=base, output=tmp_path / "out", objective="instruct", nproc=2, batch_size=4)
    assert not (tmp_path / "out").exists()


def test_what_the_environment_says_must_fit(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="nproc is 4, and this run was started with 2 processes"):
        biollm.train(shards, output=tmp_path / "out", nproc=4, **OPTIONS)
    with pytest.raises(ConfigError, match="without torchrun"):
        run_recipe(tmp_path / "recipe.toml", output=tmp_path / "run")
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match="RANK is 'first': not a number"):
        biollm.train(shards, output=tmp_path / "out", **OPTIONS)


def test_deepspeed_that_is_not_installed(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'biollm\[deepspeed\]'"):
        biollm.train(shards, output=tmp_path / "out", nproc=2, engine="deepspeed", **OPTIONS)


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({"accumulation": 2}, r"2 rows of 32 tokens at once .* raise accumulation \(now 2\).*lower seq_len \(now 32\)"),
        ({"accumulation": 4}, r"1 rows of 32 tokens at once .* lower seq_len \(now 32\)"),
    ],
)
def test_out_of_memory_names_what_to_lower(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, int], ways: str
) -> None:
    """The allocation is real, and so is torch's error."""
    monkeypatch.setattr(engines, "summed_loss", lambda *_: torch.empty(1 << 50).sum())
    with pytest.raises(LimitError, match=ways) as caught:
        biollm.train(shards, output=tmp_path / "out", **OPTIONS, **options)
    assert caught.value.field == ("accumulation" if options["accumulation"] == 2 else "seq_len")


def test_a_wrong_input_is_found_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.subprocess, "Popen", None)
    with pytest.raises(InputError, match="no shards are given"):
        biollm.train([], output=tmp_path / "out", nproc=2, **OPTIONS)
