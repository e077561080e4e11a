"""Checkpoints of a run under way, in ``OUT/.partial/``: what a run that was cut off is gone on with.

``step-00000120/`` is what ``train`` leaves at its end, a Hugging Face folder and ``state/``, and besides
``state/history.safetensors``: what happened so far, so that facts and curves are in the end those of the whole run.
``checkpoint.json`` is written last, with the xxh3-128 of every other file: a folder without it, or with a file that is
not as it says, is not gone on with. The newest two are kept, and one goes only where a newer one stands.

Going on is exact: the same arguments, software and ``arithmetic`` give the bytes that an uncut run gives.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from biollm import _native
from biollm.atomic import make_folder, write_json
from biollm.errors import BiollmError, FileError
from biollm.models.checkpoints import write_tensors
from biollm.partial import Partial
from biollm.telemetry import event
from biollm.training.checkpoint import TrainingState, load_state, save_state
from biollm.training.engines import Engine
from biollm.training.loop import History
from biollm.training.options import TrainOptions, matched_options
from biollm.training.weights import Weights
from biollm.training.world import AgreedStop, World

COMMIT: Final = "checkpoint.json"
HISTORY: Final = "state/history.safetensors"
FORMAT: Final = "biollm-training-checkpoint"
VERSION: Final = 1

SAVING_SHARE: Final = 0.02
MAX_LOST_S: Final = 600.0
MIN_INTERVAL_S: Final = 15.0
"""Where ``checkpoint_every`` is not given: the time between checkpoints is what one took over ``SAVING_SHARE``, within
these bounds. It changes nothing that is computed."""
MAX_LEAVING_S: Final = 5.0
"""A run that is told to stop saves a checkpoint on its way out where that is expected to take no longer."""

ASSUMED_BYTES_PER_S: Final = 2e8
"""Of a checkpoint's writing, until one was measured."""


@dataclass(frozen=True)
class Trainee:
    """What a checkpoint is of: all that changes while training, and what is written beside it.

    ``end``: tokens of the train stream, None where it is endless.
    """

    weights: Weights
    engine: Engine
    options: TrainOptions
    end: int | None

    def write(self, folder: Path, steps: int, *, to_go_on: bool = False) -> dict[str, str]:
        """A checkpoint after ``steps`` steps; gives the name of each file in the folder → its xxh3-128.

        ``to_go_on``: with all that `read` needs; the end of a run needs less. All processes must call it; the first
        writes.

        Raises:
            FileError: the system refused.
        """
        state, moments, rng = self.engine.state(), self.engine.moments(), self._rng()
        if not self.engine.world.first:
            return {}
        position = steps * self.options.batch_size * self.options.seq_len
        rest = TrainingState(
            step=steps,
            position=position if self.end is None else min(position, self.end),
            options=matched_options(self.options),
            rng=rng,
        )
        written = self.weights.write(folder, state, to_go_on=to_go_on)
        return {**written, **save_state(folder, moments, rest)}

    def read(self, folder: Path) -> None:
        """Takes over moments and random state of a folder that `write` wrote for the same options.

        The weights are read before the engine has them.
        """
        state = load_state(folder, self.weights.model, self.engine)
        suffix = _of_rank(self.engine.world.rank)
        if f"cpu{suffix}" in state.rng:  # else there were fewer processes, and this one's draws are its own
            torch.set_rng_state(state.rng[f"cpu{suffix}"])
            if self._device.type == "cuda" and f"cuda{suffix}" in state.rng:
                torch.cuda.set_rng_state(state.rng[f"cuda{suffix}"], self._device)

    def _rng(self) -> dict[str, Tensor]:
        """The state of torch's generators of every process."""
        states = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._device)
        world = self.engine.world
        return {f"{k}{_of_rank(rank)}": s for k, t in states.items() for rank, s in enumerate(world.gather(t))}

    @property
    def _device(self) -> torch.device:
        return self.weights.model.model.embed_tokens.weight.device


class CheckpointKeeper:
    """Writes the checkpoints of a run, and finds the one to go on from.

    Parameters: ``partial``: of the output folder, None in all processes but the first; ``weights``: of the model;
    ``total``: steps of the whole run; ``arithmetic``: of ``placement.arithmetic``; ``log``: for events.

    All processes keep the same account, and take the same decisions where the first's clock decides; it alone writes.
    """

    def __init__(
        self,
        partial: Partial | None,
        weights: Weights,
        world: World,
        *,
        path: Path,
        total: int,
        arithmetic: Mapping[str, str | int],
        log: logging.Logger,
    ) -> None:
        self._partial = partial
        self._path = path
        self._weights = weights
        self._world = world
        self._trainee: Trainee | None = None
        self._every = weights.options.checkpoint_every
        self._total = total
        self._arithmetic = dict(arithmetic)
        self._log = log
        self._kept: list[int] = []  # steps of the checkpoints that stand, rising
        self._saved_at = time.monotonic()
        # Of the last checkpoint; at first of weights and two moments.
        self._cost_s = 3 * sum(parameter.nbytes for parameter in weights.model.parameters()) / ASSUMED_BYTES_PER_S

    # --- going on -----------------------------------------------------------------------------------------------------

    def find(self) -> None:
        """Finds the newest checkpoint that is as it was written, and takes over its weights.

        Damaged and unfinished ones are removed. What is kept and what is repeated is noted for the manifest. Where
        there is none the model stays as it is.

        Raises:
            FileError: the system refused.
        """
        kept = self._world.from_first(self._search() if self._partial is not None else 0)
        if self._partial is None and kept:
            self._kept = [kept]
        if kept:
            self._weights.read(self._folder(kept))

    def restore(self, trainee: Trainee) -> History:
        """Takes over moments and random state of the checkpoint found; gives what happened up to it."""
        self._trainee = trainee
        if not self._kept:
            return History()
        folder = self._folder(self._kept[-1])
        trainee.read(folder)
        return read_history(folder)

    def _search(self) -> int:
        """Steps of the newest checkpoint that is as it was written, 0 for none; the first process's part of `find`."""
        assert self._partial is not None
        arithmetic: Mapping[str, Any] = {}
        for folder in sorted(self._partial.path.glob("step-*"), key=lambda path: (len(path.name), path.name)):
            try:
                commit = _verified(folder)
            except (BiollmError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                if (folder / COMMIT).exists():  # else it is one that a kill left unfinished
                    message = f"the checkpoint {folder} is damaged and not used: {error}"
                    event(self._log, "checkpoint_damaged", message, level=logging.WARNING, path=str(folder))
                _remove(folder)
            else:
                self._kept.append(commit["step"])
                arithmetic = commit["arithmetic"]
        kept = self._kept[-1] if self._kept else 0
        resumption = self._partial.resume(kept, "steps") if self._partial.resumed else None
        if resumption is not None:
            repeated = f"{resumption.repeated} step{' is' if resumption.repeated == 1 else 's are'} repeated"
            message = f"goes on from step {kept} of {self._total}; {repeated}"
            event(self._log, "resumed", message, step=kept, of=self._total, repeated=resumption.repeated)
        if kept and arithmetic != self._arithmetic:
            before, now = (
                ", ".join(f"{name} {value}" for name, value in a.items()) for a in (arithmetic, self._arithmetic)
            )
            message = (
                f"the run was made with {before} and goes on with {now}: "
                "its weights will differ in their last bits from those of a run that was not cut off"
            )
            event(self._log, "arithmetic_changed", message, level=logging.WARNING)
        return kept

    # --- while training: `loop.Keeper` --------------------------------------------------------------------------------

    def reached(self, step: int) -> None:
        """Notes that ``step`` steps are done, kept or not."""
        if self._partial is not None:
            self._partial.reached(step)

    def settled(self, history: History) -> None:
        """Saves a checkpoint where one is due. The end of the run needs none: its output is written at once.

        Raises:
            FileError: the system refused (a full disk); the earlier checkpoints stand.
        """
        if self._kept[-1:] != [history.steps] and history.steps < self._total and self._due(history.steps):
            self.save(history)

    def last_good(self, step: int) -> Path | None:
        """The newest checkpoint before the weights that step ``step``, counted from 0, began with."""
        good = [kept for kept in self._kept if kept < step]
        return self._folder(good[-1]) if good else None

    @contextmanager
    def saving_on_the_way_out(self, history: History) -> Iterator[None]:
        """Where the block is left by a Ctrl-C or the like, a checkpoint is saved if that is quick and possible.

        It is not while a step changes the weights, nor by one of several processes that leaves without the others. Nor
        is it after an error: what stood then may be the cause.
        """
        try:
            yield
        except Exception:
            raise
        except BaseException as left:
            together = self._world.size == 1 or isinstance(left, AgreedStop)
            new = together and history.whole and history.steps and self._kept[-1:] != [history.steps]
            if new and self._agreed(self._cost_s <= MAX_LEAVING_S):
                with suppress(FileError):
                    self.save(history)
                    message = f"stopped at step {history.steps} of {self._total}; the same call goes on from there"
                    event(self._log, "stopped", message, step=history.steps, of=self._total)
            raise

    def save(self, history: History) -> None:
        """Writes the checkpoint of the steps done, its commit last.

        Raises:
            FileError: the system refused; the earlier checkpoints stand.
        """
        assert self._trainee is not None
        began = time.monotonic()
        self.trim()
        folder = self._folder(history.steps)
        try:
            if self._partial is not None:
                _remove(folder)  # of what a Ctrl-C or a kill left unfinished
                make_folder(folder)
            files = self._trainee.write(folder, history.steps, to_go_on=True)
            if self._partial is not None:
                self._commit(folder, history, files)
        except BaseException:
            if self._partial is not None:
                with suppress(FileError):
                    _remove(folder)
            raise
        self._kept.append(history.steps)
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - began
        message = f"checkpoint of step {history.steps} of {self._total} in {self._cost_s:.2f} s"
        event(
            self._log,
            "checkpoint",
            message,
            level=logging.DEBUG,
            step=history.steps,
            of=self._total,
            seconds=self._cost_s,
            path=str(folder),
        )

    def trim(self) -> None:
        """Removes all checkpoints but the newest."""
        while len(self._kept) > 1:
            if self._partial is not None:
                _remove(self._folder(self._kept[0]))
            del self._kept[0]

    def _commit(self, folder: Path, history: History, files: dict[str, str]) -> None:
        files[HISTORY] = write_history(folder, history)
        commit = {"format": FORMAT, "version": VERSION, "step": history.steps, "arithmetic": self._arithmetic}
        write_json(folder / COMMIT, {**commit, "files": files})

    def _due(self, step: int) -> bool:
        if self._every is not None:
            return step % self._every == 0
        interval_s = min(max(self._cost_s / SAVING_SHARE, MIN_INTERVAL_S), MAX_LOST_S)
        return self._agreed(time.monotonic() - self._saved_at >= interval_s)

    def _agreed(self, decision: bool) -> bool:
        """What the first process decides."""
        return bool(self._world.from_first(decision))

    def _folder(self, step: int) -> Path:
        return self._path / _name(step)


def write_history(folder: Path, history: History) -> str:
    """Writes ``HISTORY`` of a checkpoint folder, exact, and small however many steps there were; gives its xxh3-128."""
    floats = {name: getattr(history, name) for name in ("train_loss", "learning_rate", "gradient_norm", "train_s")}
    floats["validation_loss"] = [loss for _, loss in history.validation]
    integers = {"validation_step": [step for step, _ in history.validation], "train_tokens": history.train_tokens}
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in floats.items()}
    tensors |= {name: torch.tensor(values, dtype=torch.int64) for name, values in integers.items()}
    return write_tensors(folder / HISTORY, tensors)


def read_history(folder: Path) -> History:
    """What `write_history` wrote."""
    values: dict[str, Any] = {name: tensor.tolist() for name, tensor in load_file(folder / HISTORY).items()}
    steps, losses = values.pop("validation_step"), values.pop("validation_loss")
    return History(**values, validation=list(zip(steps, losses, strict=True)))


def _verified(folder: Path) -> dict[str, Any]:
    """The commit of a checkpoint whose every file is as it says; else an error of some kind."""
    commit: dict[str, Any] = json.loads((folder / COMMIT).read_bytes())
    if (commit["format"], commit["version"]) != (FORMAT, VERSION):
        raise ValueError(f"{COMMIT} is not of version {VERSION}")
    if folder.name != _name(commit["step"]):
        raise ValueError(f"{COMMIT} is of step {commit['step']}")
    for name, expected in commit["files"].items():
        if _native.hash_file(folder / name) != expected:
            raise ValueError(f"{name} has another checksum")
    return commit


def _of_rank(rank: int) -> str:
    return f".rank{rank}" if rank else ""


def _name(step: int) -> str:
    return f"step-{step:08}"


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    try:
        (folder / COMMIT).unlink(missing_ok=True)  # first: half a removal is then no checkpoint
        shutil.rmtree(folder)
    except OSError as error:
        raise FileError.from_os_error(error, folder) from error
