"""`python -m biollm.training.worker`: one process of a training run, as `training.launch` starts it."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from biollm.errors import BiollmError
from biollm.training.launch import CHANNEL
from biollm.training.world import from_environment, is_lost

PARENT_GONE: Final = 3
INTERRUPTED: Final = 130
FAILED: Final = 1


class Channel:
    """Says what happens to the process that started this one: a line of JSON each, written at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, **said: Any) -> None:
        """Writes one line."""
        line = json.dumps(said, default=str).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


class _Forwarding(logging.Handler):
    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        kept = ("name", "levelno", "levelname", "created", "msecs", "biollm_event", "biollm_fields")
        plain = {name: value for name in kept if (value := getattr(record, name, None)) is not None}
        self._channel.say(log={**plain, "msg": record.getMessage()})


def main() -> int:
    """Takes a request from stdin and does it; gives the exit status."""
    channel = Channel(int(os.environ[CHANNEL]))
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        take_part(request, channel)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        channel.say(error=_described(error))
        return FAILED
    return 0


def take_part(request: Mapping[str, Any], channel: Channel) -> None:
    """The part of this process in a run.

    The request: ``part``, "pretrain" or "tune"; ``sources``: folders of shards, or paths of rows; ``start``: a
    checkpoint or null; ``options``, ``output``, ``inputs`` as the functions take them; ``began``: when the run began,
    on the machine's monotonic clock; ``log``: a logger's name and level.
    """
    from biollm.manifest import InputRecord, StageTimer
    from biollm.tokenization.shards import Shards
    from biollm.training.options import TrainOptions
    from biollm.training.pretraining import pretrain_part
    from biollm.training.tuning import tune_part
    from biollm.training.world import joined

    first = from_environment().first
    name, level = request["log"]
    log = logging.getLogger(name)
    library = logging.getLogger("biollm")
    library.propagate = False
    if first:
        library.setLevel(level)
        library.addHandler(_Forwarding(channel))
    else:
        library.addHandler(logging.NullHandler())

    def progress(done: int, total: int | None) -> None:
        channel.say(progress=[done, total])

    options = TrainOptions(**{**request["options"], "lora_targets": tuple(request["options"]["lora_targets"])})
    start = None if request["start"] is None else Path(request["start"])
    inputs = [None if record is None else InputRecord(**record) for record in request["inputs"]]
    timer = StageTimer(began=request["began"])
    with joined(options) as world:
        arguments: dict[str, Any] = {
            "output": Path(request["output"]),
            "inputs": inputs,
            "world": world,
            "timer": timer,
            "progress": progress if first else None,
            "log": log,
        }
        if request["part"] == "pretrain":
            pretrain_part([Shards.open(folder) for folder in request["sources"]], start, options, **arguments)
        else:
            assert start is not None
            tune_part(request["sources"], start, options, **arguments)


def _described(error: BaseException) -> dict[str, Any]:
    attributes = error._attributes() if isinstance(error, BiollmError) else {}
    return {
        "type": type(error).__name__,
        "message": error.message if isinstance(error, BiollmError) else str(error),
        "attributes": {
            name: value if isinstance(value, str | int | float) else str(value) for name, value in attributes.items()
        },
        "traceback": traceback.format_exc(),
        "lost": is_lost(error) or (error.__cause__ is not None and is_lost(error.__cause__)),
    }


def _end_with_parent() -> None:
    """Whoever started this process holds its stdin open: when that ends, so does this."""
    while sys.stdin.buffer.read(1 << 12):
        pass
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a process group that was lost might keep the interpreter from ending
