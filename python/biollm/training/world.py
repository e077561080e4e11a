"""The processes of a distributed run: who is who, and what they add up.

A process belongs to one where its environment says so (`training.environment`). Tensors on the CPU meet over gloo,
those on cuda over nccl; all processes see the output folder.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from biollm.errors import ConfigError, ProcessError
from biollm.training import environment
from biollm.training.environment import RENDEZVOUS, launched, number
from biollm.training.options import TrainOptions

_LOST: Final = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "gloo")


class AgreedStop(KeyboardInterrupt):
    """All processes of a run leave it at the same step, because one of them was asked to."""


@dataclass
class World:
    """The processes of a run, as one of them sees them; without arguments, a process of its own.

    ``rank``: this one's number, 0 the first, which alone writes. ``size``: how many there are. ``local_rank``,
    ``local_size``: the same on this machine alone. ``stop_asked``: whether a signal asked this process to stop.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    stop_asked: bool = field(default=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value added up over the processes, in float64 and the same on all."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def from_first(self, value: int) -> int:
        """What the first process gives as ``value``."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.int64)
        dist.broadcast(tensor, 0)
        return int(tensor)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The ``tensor`` of each process, on the CPU and of one shape and dtype, by rank."""
        if self.size == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(gathered, tensor.contiguous())
        return gathered

    def barrier(self) -> None:
        """Waits until all processes are here."""
        self.sum(0.0)


def from_environment() -> World:
    """Who this process is, as its environment says; a process of its own where it says nothing.

    Raises ConfigError where a variable is no number.
    """
    rank, size = environment.rank(), environment.size()
    if size == 1:
        return World()
    return World(rank, size, number("LOCAL_RANK", rank), number("LOCAL_WORLD_SIZE", size))


@contextmanager
def joined(options: TrainOptions) -> Iterator[World]:
    """The world of this process, with its process group while the block lasts.

    A SIGINT or SIGTERM is noted in ``stop_asked`` meanwhile: the processes agree at the end of a step to stop, since
    one that left by itself would leave the others waiting. A second one stops this process at once.

    Raises:
        ConfigError: ``nproc`` is not the number of processes there are.
        ProcessError: another process of the run has ended.
    """
    world = from_environment()
    if options.nproc is not None and launched() and options.nproc != world.size:
        raise ConfigError(
            f"nproc is {options.nproc}, and this run was started with {world.size} processes: leave nproc out",
            field="nproc",
            value=options.nproc,
        )
    options.check_share(world.size)
    if not launched() or (world.size == 1 and options.engine == "ddp"):
        yield World()
        return
    cuda = options.device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(world.local_rank)
    begun = not dist.is_initialized()
    try:
        if begun:
            place = os.environ.get(RENDEZVOUS)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo",
                init_method="env://" if place is None else f"file://{place}",
                rank=world.rank,
                world_size=world.size,
            )
        with _stop_asked_by_signals(world):
            yield world
    except RuntimeError as error:
        if not is_lost(error):
            raise
        message = (
            f"process {world.rank} of {world.size} has lost another one, which has ended or cannot be reached "
            f"({str(error).splitlines()[0][:200]}); the same call goes on from the newest checkpoint"
        )
        raise ProcessError(message, field="rank", value=world.rank) from error
    finally:
        if begun and dist.is_initialized():
            dist.destroy_process_group()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, rather than what went wrong in this one."""
    lost: Sequence[Any] = (dist.DistError,) if hasattr(dist, "DistError") else ()
    return isinstance(error, tuple(lost)) or any(words in str(error) for words in _LOST)


@contextmanager
def _stop_asked_by_signals(world: World) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if world.stop_asked:
            raise KeyboardInterrupt
        world.stop_asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
