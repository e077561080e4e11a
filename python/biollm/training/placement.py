"""Where a model is trained: the device, the precision, the threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from biollm import _native
from biollm.errors import ConfigError, LimitError
from biollm.models import ModelConfig
from biollm.training.options import TrainOptions
from biollm.training.world import World


@dataclass(frozen=True)
class Placement:
    """A device and a precision.

    ``weights``: dtype of the parameters; ``autocast``: of the matmuls, None = that of the weights.
    """

    device: torch.device
    weights: torch.dtype
    autocast: torch.dtype | None

    def precision(self) -> AbstractContextManager[object]:
        """The context to run a forward pass in."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)


def resolve(device: str, dtype: str) -> Placement:
    """What ``auto`` means here: cuda where present, bfloat16 autocast over float32 weights there, float32 on the CPU.

    Raises ConfigError where cuda is asked for and not present.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds none: use 'cpu' or 'auto'", field="device", value=device)
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    weights = torch.float64 if dtype == "float64" else torch.float32
    return Placement(torch.device(device), weights, torch.bfloat16 if dtype == "bfloat16" else None)


@contextmanager
def torch_threads(threads: int | None, *, processes: int = 1) -> Iterator[int]:
    """Set torch's CPU threads inside the block, as they were afterwards.

    None: as many as torch has now, but no more than this process may use by affinity and cgroup quota, or its part of
    them where several ``processes`` share the machine. Torch heeds the first and not the second, and threads beyond a
    quota wait for each other at every barrier.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or max(1, min(before, _native.available_threads() // processes)))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic_algorithms(enabled: bool | None, placement: Placement) -> Iterator[None]:
    """Have torch use deterministic algorithms alone inside the block, or not; as it was set afterwards.

    None: on the CPU alone. An operation without such an algorithm warns. On cuda, matrix products need a setting of
    cuBLAS's in the environment, which is made where there is none and stays: it is read when cuBLAS is first used.
    """
    if enabled is None:
        enabled = placement.device.type == "cpu"
    if enabled and placement.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def arithmetic(placement: Placement, *, processes: int = 1, engine: str = "ddp") -> dict[str, str | int]:
    """What else the last bits of a sum depend on, beside software and options that always count: the processor, the
    threads on it, and the processes that share the batch.
    """
    known: dict[str, str | int] = {}
    if processes > 1:
        known |= {"processes": processes, "engine": engine}
    if placement.device.type == "cuda":
        return {"processor": torch.cuda.get_device_name(placement.device), **known}
    kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"processor": kind, "threads": torch.get_num_threads(), **known}


@contextmanager
def memory_errors(options: TrainOptions, placement: Placement, world: World) -> Iterator[None]:
    """Raises LimitError in place of torch's error where memory runs out: what was asked for, and what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        rows = options.batch_size // (options.accumulation * world.size)
        ways = []
        if rows > 1:
            ways.append(f"raise accumulation (now {options.accumulation}), which takes fewer rows at once")
        ways.append(f"lower seq_len (now {options.seq_len})")
        if world.size > 1 and options.engine == "ddp":
            ways.append("take engine 'fsdp', which holds a slice of the model in each process")
        elif not options.lora_rank and options.objective != "pretrain":
            ways.append("set lora_rank, which trains a few factors alone")
        raise LimitError(
            f"out of memory on {placement.device} with {rows} rows of {options.seq_len} tokens at once "
            f"(batch_size {options.batch_size} in {options.accumulation} passes of {world.size} "
            f"process{'es' if world.size > 1 else ''}): {', or '.join(ways)}; the same call goes on from the newest "
            f"checkpoint. {str(error).splitlines()[0][:200]}",
            field="accumulation" if rows > 1 else "seq_len",
            value=rows * options.seq_len,
        ) from error


def check_memory(
    config: ModelConfig,
    placement: Placement,
    *,
    rows: int,
    seq_len: int,
    outputs: int | None = None,
    all_trained: bool = True,
    processes: int = 1,
    sharded: bool = False,
) -> None:
    """Refuse, before anything is allocated, what cannot fit: a lower bound of the need against the device's memory.

    Counted are weights, gradients and AdamW's two moments (``all_trained``, else the weights alone), and of the
    activations of one forward pass of ``rows`` x ``seq_len`` tokens only the logits with their gradient (``outputs`` a
    token, None = the vocabulary) and the document mask. ``processes``: that share the machine's memory, on the CPU;
    ``sharded``: whether each has a slice of the model, and not all of it.

    Raises:
        LimitError: the bound is over the memory of the device, or the new weights over that of this machine.
    """
    word = torch.finfo(placement.weights).bits // 8
    weights = config.num_parameters * word
    tokens = rows * seq_len
    logits = 2 * tokens * (config.vocab_size if outputs is None else outputs) * word
    need = (4 if all_trained else 1) * weights // (processes if sharded else 1) + logits + tokens * seq_len
    need *= processes if placement.device.type == "cpu" else 1
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    device = torch.cuda.mem_get_info()[1] if placement.device.type == "cuda" else machine
    for what, least, memory in (("training", need, device), ("the new model", weights, machine)):
        if least > memory:
            raise LimitError(
                f"{what} needs at least {least / 1e9:.1f} GB ({config.num_parameters:,} parameters, {rows} rows of "
                f"{seq_len} tokens at once), and there are {memory / 1e9:.1f} GB: "
                "take a smaller size, a shorter seq_len, or more accumulation",
                field="size",
                value=least,
                limit=memory,
            )
