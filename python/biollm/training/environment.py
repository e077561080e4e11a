"""What a process's environment says of the distributed run it belongs to; without torch.

`torchrun` and `training.launch` set RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE and where the processes meet.
"""

from __future__ import annotations

import os
from typing import Final

from biollm.errors import ConfigError

RENDEZVOUS: Final = "BIOLLM_RENDEZVOUS"
"""Variable with the file that processes of one machine meet at; without it MASTER_ADDR and MASTER_PORT say where."""


def launched() -> bool:
    """Whether this process was started as one of a distributed run."""
    meets = RENDEZVOUS in os.environ or {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return meets and {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def rank() -> int:
    """The number of this process, 0 for the first or only one."""
    return number("RANK", 0) if launched() else 0


def size() -> int:
    """How many processes there are."""
    return number("WORLD_SIZE", 1) if launched() else 1


def number(name: str, default: int) -> int:
    """The value of a variable. Raises ConfigError where it is no number."""
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError as error:
        raise ConfigError(f"the environment's {name} is {value!r}: not a number", field=name, value=value) from error
