"""Where a model is trained: the device, the precision, the threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from biollm.errors import ConfigError


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
def torch_threads(threads: int | None) -> Iterator[int]:
    """Set torch's CPU threads inside the block (None: the cores this process may use), as they were afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or min(before, len(os.sched_getaffinity(0))))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
