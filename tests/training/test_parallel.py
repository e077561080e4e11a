"""Several processes train as one does: losses, every weight and every moment, by each engine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from biollm.training.environment import RENDEZVOUS
from biollm.training.world import World
from parallel_runs import MODES, ROWS, SEQ, STEPS, ZERO_MODES, Mode, new_model, train_stream, trained

SCRIPT = Path(__file__).parents[1] / "parallel_runs.py"
PROCESSES = 2
Found = tuple[dict[str, torch.Tensor], dict[str, Any]]
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed: pip install 'biollm[deepspeed]'"
)


@pytest.fixture(scope="module")
def runs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of what two processes did in the modes of a name, which they do once."""
    folders: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            launch(folders[name], name)
        return folders[name]

    return of


def launch(folder: Path, name: str) -> None:
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "WORLD_SIZE": str(PROCESSES),
        "LOCAL_WORLD_SIZE": str(PROCESSES),
        RENDEZVOUS: str(folder / "rendezvous"),
    }
    command = [sys.executable, str(SCRIPT), str(folder), name]
    started = []
    for rank in range(PROCESSES):
        of_rank = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with (folder / f"{rank}.txt").open("wb") as printed:
            started.append(subprocess.Popen(command, env=of_rank, stdout=printed, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    printed_all = "".join(f"rank {rank}:\n{(folder / f'{rank}.txt').read_text()}" for rank in range(PROCESSES))
    assert codes == [0] * PROCESSES, printed_all


def several(folder: Path, name: str) -> Found:
    return load_file(folder / f"{name}.st"), json.loads((folder / f"{name}.json").read_text())


def one(mode: Mode) -> Found:
    """What one process does: the same batches, by torch's own loop, uncut."""
    plain = Mode("ddp", mode.dtype, mode.accumulation, tied=mode.tied)
    return trained(plain, World())


def worst(found: Found, expected: Found) -> dict[str, float]:
    """The greatest differences in the losses on the way, in the norms, and in any number of the tensors."""
    assert found[0].keys() == expected[0].keys()
    tensors = {name: (found[0][name] - tensor).abs().max().item() for name, tensor in expected[0].items()}
    values = {"tensors": max(tensors.values())}
    for what in ("loss", "norm", "validation"):
        ours, theirs = (np.asarray(side[1][what], np.float64) for side in (found, expected))
        assert ours.shape == theirs.shape
        values[what] = float(np.abs(ours - theirs).max())
    return values


def test_the_processes_have_unequal_numbers_of_loss_tokens() -> None:
    """Else a mean of means would pass for the mean."""
    stream, share = train_stream(), ROWS // PROCESSES
    counts = [
        [stream.batch(step * ROWS * SEQ + rank * share * SEQ, share).loss_tokens for rank in range(PROCESSES)]
        for step in range(STEPS)
    ]
    assert max(a / max(1, b) for a, b in counts) > 1.5
    assert min(a / max(1, b) for a, b in counts) < 1 / 1.5


@pytest.mark.parametrize("name", MODES)
def test_by_torch_to_1e_12(runs_of: Callable[[str], Path], name: str) -> None:
    """Twenty steps of AdamW in float64."""
    found, expected = several(runs_of("torch"), name), one(MODES[name])
    assert len(found[1]["loss"]) == STEPS
    assert found[1]["tokens"] == expected[1]["tokens"] == STEPS * ROWS * SEQ
    differences = worst(found, expected)
    assert max(differences.values()) <= 1e-12, differences
    before = new_model(MODES[name]).state_dict()
    assert min((expected[0][key] - tensor).abs().max().item() for key, tensor in before.items()) > 1e-3  # all moved


@needs_deepspeed
@pytest.mark.parametrize("name", ZERO_MODES)
def test_by_deepspeed_to_5e_5(runs_of: Callable[[str], Path], name: str) -> None:
    """Twenty steps of AdamW in float32."""
    found, expected = several(runs_of("deepspeed"), name), one(ZERO_MODES[name])
    assert len(found[1]["loss"]) == STEPS
    differences = worst(found, expected)
    assert max(differences.values()) <= 5e-5, differences
