"""Runs of `train` that are killed (-9) at a chosen moment, each in a forked child; a program, for `test_resume.py`.

Reads a JSON list of runs from standard input, each ``{"output": …, "options": {…}, "kill": [moment, …] or null}``, and
writes the exit status of each. A child is forked before anything was trained, so torch is loaded only once.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

import torch

import biollm
from biollm import atomic
from biollm.partial import Partial
from biollm.training import pretraining, resume


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: str, value: Any) -> dict[str, Any]:
    """Make the process die at ``moment``; gives arguments for ``train``."""
    if moment == "reported":  # of step `value`
        return {"progress": lambda done, total: die() if done == value else None}
    if moment == "reached":  # step `value` is done: nothing of it is validated, saved or reported
        reached = Partial.reached

        def dying(self: Partial, done: int) -> None:
            reached(self, done)
            if done == value:
                die()

        Partial.reached = dying  # type: ignore[method-assign]
    elif moment == "publishing":  # the file whose path ends with `value` is written, and has not its name yet
        publish = atomic._native.publish

        def publishing(path: Any, target: Any) -> str:
            if str(target).endswith(value):
                die()
            return publish(path, target)

        atomic._native.publish = publishing  # type: ignore[assignment]
    elif moment == "removing":  # the folder whose path ends with `value`, its commit is gone
        remove = shutil.rmtree

        def removing(path: Any, *arguments: Any, **named: Any) -> None:
            if str(path).endswith(value):
                die()
            remove(path, *arguments, **named)

        shutil.rmtree = removing  # type: ignore[assignment]
    return {}


def main() -> None:
    torch.set_num_threads(1)
    for module in (
        "torch._dynamo",
        "pandas",
    ):  # loaded when first used, by torch and pyarrow: once, not in each child
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
    assert pretraining
    assert resume
    statuses = []
    for run in json.load(sys.stdin):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                extra = arrange(*run["kill"]) if run["kill"] else {}
                biollm.train(output=run["output"], **run["options"], **extra)
                status = 0
            except BaseException:  # the child must not go on as its parent
                traceback.print_exc()
            finally:
                os._exit(status)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    json.dump(statuses, sys.stdout)


if __name__ == "__main__":
    main()
