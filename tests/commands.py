"""The command line in processes whose writing can be made to fail, and which cost a fork each instead of a start.

As a program (`python commands.py`): reads jobs from standard input, a line of JSON each, runs each in a fork, and
answers with its exit code. `Commands` is the other side.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code (negative: by a signal), and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The messages of errors on stderr; a traceback counts as one."""
        return [line for line in self.stderr.splitlines() if line.startswith(("error:", "Traceback"))]


class Commands:
    """Runs commands of biollm, one at a time.

    Args:
        folder: for what they say.
        library: of `faults.c`, loaded before all others; without it no fault can be asked for.
    """

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        self._said = (folder / "stdout", folder / "stderr")
        preload = {"LD_PRELOAD": str(library)} if library is not None else {}
        environment = {**os.environ, **preload, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Commands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream(self._process.stdin).close()
        self._process.wait(timeout=60)
        self._stream(self._process.stdout).close()

    def __call__(
        self, *arguments: str | Path, cwd: Path | None = None, unprivileged: bool = False, **faults: str | int | Path
    ) -> Done:
        """Runs `biollm ARGUMENTS`; `faults` are the variables of `faults.c`, in lower case without `FAULT_`.

        cwd: the folder it is run in.
        unprivileged: whether the modes of files hold for the command even where it is root's.
        """
        variables = {f"FAULT_{name.upper()}": str(value) for name, value in faults.items()}
        job = {"arguments": [str(a) for a in arguments], "faults": variables, "said": list(map(str, self._said))}
        stream = self._stream(self._process.stdin)
        stream.write(json.dumps({**job, "cwd": str(cwd or Path.cwd()), "unprivileged": unprivileged}) + "\n")
        stream.flush()
        answer = self._stream(self._process.stdout).readline()
        assert answer, f"the process that forks ended: {self._process.poll()}"
        return Done(int(answer), *(path.read_text(errors="replace") for path in self._said))

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


def _obey_modes() -> None:
    """Gives up root's privilege of writing where the mode forbids it (capability CAP_DAC_OVERRIDE, number 1)."""
    libc = ctypes.CDLL(None, use_errno=True)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, sets) == 0
    for i in range(3):  # effective, permitted, inheritable; the upper halves stand behind
        sets[i] &= ~(1 << 1)
    assert libc.capset(head, sets) == 0, os.strerror(ctypes.get_errno())


def _run(job: dict[str, Any]) -> int:
    """In the fork: the command, with its faults; gives the exit code."""
    for number, path in enumerate(job["said"], start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(descriptor, number)
    os.chdir(job["cwd"])
    if job["unprivileged"]:
        _obey_modes()
    os.environ.update(job["faults"])  # also to the C library, whose getenv the faults read
    signal.alarm(120)
    from biollm.cli import main

    sys.argv = ["biollm", *job["arguments"]]
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _warm_up(verb: str) -> None:
    """Has a command imported with all it needs."""
    from biollm.cli import main

    sys.argv = ["biollm", verb, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()


def main() -> None:
    """Imports what the verbs import, then forks for each job."""
    for name in ("pyarrow.compute", "pyarrow.parquet", "pandas", "torch._dynamo", "biollm.report", "biollm.cli.app"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    for verb in ("read", "dedup", "select", "tokenize", "train", "generate", "run"):
        _warm_up(verb)
    gc.collect()
    gc.freeze()  # so that a collection in a fork does not copy the pages of all modules
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            code = 71
            try:
                code = _run(job)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
