"""One process of several: twenty steps by each engine, in one launch. `FOLDER` gets what the first process has then.

Also what a single process does with the same batches: the other side of every comparison.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from biollm.models import Llama, ModelConfig
from biollm.training import TrainOptions
from biollm.training.batches import DocumentTokens, PackedStream
from biollm.training.engines import Engine, make_engine
from biollm.training.loop import History, run, validate
from biollm.training.placement import resolve
from biollm.training.schedule import Schedule, make_schedule
from biollm.training.world import World, joined

CONFIG = ModelConfig(vocab_size=61, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=24, max_seq_len=64, eos_id=0)
STEPS, ROWS, SEQ = 20, 4, 24
OPTIONS = TrainOptions(batch_size=ROWS, seq_len=SEQ, lr=3e-3, weight_decay=0.1, clip_norm=0.5, engine="ddp")


@dataclass(frozen=True)
class Mode:
    """What is run. ``dtype``: of the weights. ``cut``: the step after which another engine goes on from the state."""

    engine: str
    dtype: str = "float64"
    accumulation: int = 1
    zero_stage: int = 2
    tied: bool = False
    cut: int | None = None

    @property
    def options(self) -> TrainOptions:
        stage = self.zero_stage if self.engine == "deepspeed" else 2
        return replace(OPTIONS, engine=self.engine, accumulation=self.accumulation, dtype=self.dtype, zero_stage=stage)


MODES = {
    "ddp": Mode("ddp"),
    "ddp, accumulated": Mode("ddp", accumulation=2, tied=True),
    "fsdp": Mode("fsdp"),
    "fsdp, accumulated": Mode("fsdp", accumulation=2, tied=True),
    "fsdp, gone on with": Mode("fsdp", cut=8),
}
ZERO_MODES = {
    "zero 1": Mode("deepspeed", "float32", zero_stage=1),
    "zero 2": Mode("deepspeed", "float32", zero_stage=2),
    "zero 2, accumulated": Mode("deepspeed", "float32", zero_stage=2, accumulation=2, tied=True),
    "zero 3": Mode("deepspeed", "float32", zero_stage=3),
    "zero 2, gone on with": Mode("deepspeed", "float32", zero_stage=2, cut=8),
    "zero 3, gone on with": Mode("deepspeed", "float32", zero_stage=3, cut=8),
}


def train_stream() -> PackedStream:
    """Rows whose loss tokens are very unequal in number: documents alternate between masked and not."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(3, 40, 60)
    mask = np.concatenate([rng.random(n) < (0.1 if i % 2 else 0.9) for i, n in enumerate(lengths)])
    return _stream(lengths, mask.astype(np.uint8), seed=5)


def validation_stream() -> PackedStream:
    """Of a length that neither rows nor processes divide."""
    return _stream(np.array([17, 40, 5, 60, 31]), None, seed=None)


def _stream(lengths: np.ndarray, mask: np.ndarray | None, seed: int | None) -> PackedStream:
    tokens = np.random.default_rng(4).integers(1, CONFIG.vocab_size, int(lengths.sum())).astype(np.uint16)
    offsets = np.cumsum([0, *lengths]).astype(np.uint64)
    documents = DocumentTokens([SimpleNamespace(tokens=tokens, offsets=offsets, mask=mask)])
    end = None if seed is not None else int(lengths.sum())
    return PackedStream(documents, seq_len=SEQ, vocab_size=CONFIG.vocab_size, seed=seed, num_tokens=end)


def plan() -> Schedule:
    return make_schedule("wsd", peak=3e-3, total_steps=STEPS, warmup_fraction=0.2, decay_fraction=0.3, final_fraction=0)


def new_model(mode: Mode) -> Llama:
    torch.manual_seed(11)
    return Llama(replace(CONFIG, tie_embeddings=mode.tied)).to(getattr(torch, mode.dtype))


def engine_of(mode: Mode, model: Llama, world: World) -> Engine:
    placement = resolve("cpu", mode.dtype)
    rows = ROWS // (mode.accumulation * world.size)
    return make_engine(model, mode.options, lr=3e-3, rows=rows, placement=placement, world=world)


class Cut(Exception):  # noqa: N818  (not an error of ours)
    """Ends a run between two steps."""


def steps(mode: Mode, engine: Engine, history: History, cut: int | None = None) -> History:
    def report(done: int, total: int) -> None:
        if done == cut:
            raise Cut

    return run(
        engine,
        plan(),
        train_stream(),
        None,
        batch_size=ROWS,
        accumulation=mode.accumulation,
        clip_norm=OPTIONS.clip_norm,
        validate_every=STEPS,
        placement=resolve("cpu", mode.dtype),
        history=history,
        report=report,
    )


def trained(mode: Mode, world: World) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and moments after all steps, and the losses on the way; whole on the first process."""
    engine, history = engine_of(mode, new_model(mode), world), History()
    if mode.cut is not None:
        with suppress(Cut):
            steps(mode, engine, history, mode.cut)
        model, moments = new_model(mode), _everywhere(engine.moments(), world)
        model.load_state_dict(_everywhere(engine.state(), world))
        engine = engine_of(mode, model, world)
        engine.take_moments(moments)
    steps(mode, engine, history)
    rows = ROWS // (mode.accumulation * world.size)
    loss = validate(engine, validation_stream(), rows=rows, placement=resolve("cpu", mode.dtype))
    facts = {"loss": history.train_loss, "norm": history.gradient_norm, "tokens": history.train_tokens}
    return {**engine.state(), **engine.moments()}, {**facts, "validation": loss}


def _everywhere(tensors: dict[str, torch.Tensor], world: World) -> dict[str, torch.Tensor]:
    """What the first process has, on all, as a checkpoint's files bring it there."""
    box = [tensors]
    if world.size > 1:
        torch.distributed.broadcast_object_list(box)
    return {name: tensor.clone() for name, tensor in box[0].items()}


def main(folder: Path, modes: dict[str, Mode]) -> None:
    torch.set_num_threads(1)
    with joined(OPTIONS) as world:
        for name, mode in modes.items():
            tensors, facts = trained(mode, world)
            if world.first:
                save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, folder / f"{name}.st")
                (folder / f"{name}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"torch": MODES, "deepspeed": ZERO_MODES}[sys.argv[2]])
