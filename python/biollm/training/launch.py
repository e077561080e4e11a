"""A training run by several processes of this machine: starts them, hears what they say, and ends them together.

Each is `python -m biollm.training.worker`, in a session of its own. It reads one line of JSON, the request, from stdin,
and ends when stdin does, so that none outlives this process. It writes lines of JSON into a pipe: of the first process
progress and log records, of any what went wrong. What libraries print goes to a file, of which an unexplained death
shows the end.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import torch

from biollm import _native, errors
from biollm.errors import BiollmError, ConfigError, LimitError, ProcessError
from biollm.training.checkpoint import Checkpoint
from biollm.training.environment import RENDEZVOUS, launched
from biollm.training.options import TrainOptions

if TYPE_CHECKING:
    from biollm.manifest import InputRecord, StageTimer
    from biollm.results import Progress

CHANNEL: Final = "BIOLLM_CHANNEL"
"""Variable with the descriptor that a process reports into."""
GRACE_S: Final = 5.0
"""Where one process has ended: how long the others have to say why, and then, asked to end, to do so."""
LEAVING_S: Final = 60.0
"""Where all are asked to stop: how long they have to finish a step and to save a checkpoint."""
TAIL_LINES: Final = 5


def is_asked(options: TrainOptions) -> bool:
    """Whether this process is to start others: several are asked for, and it is none of a run itself."""
    return not launched() and ((options.nproc or 1) > 1 or options.engine != "ddp")


def on_disk(source: Any) -> list[Path]:
    """A source of rows as its paths. Raises ConfigError for rows in memory, which other processes cannot see."""
    sources = source if isinstance(source, list | tuple) else [source]
    if not sources or not all(isinstance(item, str | os.PathLike) for item in sources):
        message = "rows in memory cannot be shared with other processes: write them to a .jsonl file and give its path"
        raise ConfigError(message, field="nproc")
    return [Path(item) if isinstance(item, os.PathLike) else item for item in sources]


def train(
    part: str,
    sources: Sequence[str | os.PathLike[str]],
    start: Path | None,
    options: TrainOptions,
    output: Path,
    inputs: Sequence[InputRecord | None],
    timer: StageTimer,
    progress: Progress | None,
    log: logging.Logger,
) -> Checkpoint:
    """A run by ``options.nproc`` processes of this machine; arguments as `worker.take_part` takes them.

    Raises:
        ConfigError: more processes than cuda devices.
        ProcessError: a process was killed, or ended without a word; names its rank and what is known.
        BiollmError: what a process raised.
    """
    count = options.nproc or 1
    if options.device != "cpu" and torch.cuda.is_available() and count > torch.cuda.device_count():
        devices = torch.cuda.device_count()
        message = f"nproc is {count}, and there are {devices} cuda devices: lower nproc, or set device to 'cpu'"
        raise ConfigError(message, field="nproc", value=count)
    if options.engine == "deepspeed":
        _require_deepspeed()
    request = {
        "part": part,
        "sources": [os.fspath(source) for source in sources],
        "start": None if start is None else str(start),
        "options": asdict(options),
        "output": str(output),
        "inputs": [None if record is None else asdict(record) for record in inputs],
        "began": timer.began,
        "log": [log.name, log.getEffectiveLevel()],
    }
    with tempfile.TemporaryDirectory(prefix="biollm-processes-") as folder, _started(request, count, folder) as team:
        team.wait(progress)
    return Checkpoint.open(output)


def _require_deepspeed() -> None:
    """Without importing it, which takes seconds and belongs into the processes."""
    if importlib.util.find_spec("deepspeed") is None:
        errors.require("deepspeed", extra="deepspeed")


@dataclass
class _Member:
    """One process, and what is known of it. ``error``: what it said went wrong."""

    rank: int
    process: subprocess.Popen[bytes]
    channel: IO[bytes]
    printed: Path
    error: dict[str, Any] | None = None
    unread: bytes = b""

    @property
    def ended_badly(self) -> bool:
        return self.error is not None or self.process.poll() not in (None, 0)


@dataclass
class _Team:
    """The processes of a run."""

    members: list[_Member]
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __post_init__(self) -> None:
        for member in self.members:
            self._selector.register(member.channel, selectors.EVENT_READ, member)

    def wait(self, progress: Progress | None) -> None:
        """Until all have ended; where one ends badly, or this process is to stop, all do."""
        try:
            while any(member.process.poll() is None for member in self.members) or self._selector.get_map():
                self._listen(0.2, progress)
                if any(member.ended_badly for member in self.members):
                    self._listen_until(time.monotonic() + GRACE_S, self._all_ended, None)
                    raise self._failure()
        except BiollmError:
            raise
        except BaseException:
            # A Ctrl-C, or the caller's progress raised: the processes stop at one step, and keep what they have.
            self._signal(signal.SIGINT)
            self._listen_until(time.monotonic() + LEAVING_S, self._all_ended, None)
            raise

    def end(self) -> None:
        """None is left running."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGTERM)  # at once: the first one asks for the end of a step
        self._listen_until(time.monotonic() + GRACE_S, self._all_ended, None)
        self._signal(signal.SIGKILL)
        for member in self.members:
            if member.process.stdin is not None:
                member.process.stdin.close()
            member.process.wait()
            member.channel.close()
        self._selector.close()

    def _all_ended(self) -> bool:
        return all(member.process.poll() is not None for member in self.members)

    def _signal(self, number: int) -> None:
        for member in self.members:
            if member.process.poll() is None:
                member.process.send_signal(number)

    def _listen_until(self, deadline: float, ended: Callable[[], bool], progress: Progress | None) -> None:
        while time.monotonic() < deadline and not (ended() and not self._selector.get_map()):
            self._listen(0.05, progress)

    def _listen(self, timeout_s: float, progress: Progress | None) -> None:
        """Takes what the processes have to say now."""
        if not self._selector.get_map():
            time.sleep(min(timeout_s, 0.02))
            return
        for key, _ in self._selector.select(timeout_s):
            member: _Member = key.data
            data = os.read(member.channel.fileno(), 1 << 16)
            if not data:
                self._selector.unregister(member.channel)
                continue
            *lines, member.unread = (member.unread + data).split(b"\n")
            for line in lines:
                self._take(member, json.loads(line), progress)

    def _take(self, member: _Member, said: dict[str, Any], progress: Progress | None) -> None:
        if "error" in said:
            member.error = said["error"]
        elif "log" in said:
            record = logging.makeLogRecord(said["log"])
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        elif progress is not None:
            progress(*said["progress"])

    def _failure(self) -> BaseException:
        """The error of the process that failed first, as far as that can be known: a death tells more than a word of
        another that it lost somebody.
        """
        killed = [m for m in self.members if m.error is None and (m.process.poll() or 0) < 0]
        said = [m for m in self.members if m.error is not None and not m.error["lost"]]
        silent = [m for m in self.members if m.error is None and m.process.poll() not in (None, 0)]
        lost = [m for m in self.members if m.error is not None]
        member = [*killed, *said, *silent, *lost][0]
        if member.error is not None:
            return _rebuilt(member.error, member.rank, len(self.members))
        code = member.process.returncode
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit status {code}"
        hint = ""
        if code == -signal.SIGKILL:
            hint = " (the system does so where memory runs out: lower batch_size or seq_len, or raise accumulation)"
        last = _tail(member.printed)
        return ProcessError(
            f"process {member.rank} of {len(self.members)} {how}{hint}, and the others were stopped; the same call "
            f"goes on from the newest checkpoint{'. It last printed: ' + last if last else ''}",
            field="rank",
            value=member.rank,
        )


@contextmanager
def _started(request: dict[str, Any], count: int, folder: str) -> Iterator[_Team]:
    members: list[_Member] = []
    team: _Team | None = None
    try:
        for rank in range(count):
            members.append(_start(request, rank, count, Path(folder)))
        team = _Team(members)
        yield team
    finally:
        (team or _Team(members)).end()


def _start(request: dict[str, Any], rank: int, count: int, folder: Path) -> _Member:
    root = str(Path(errors.__file__).parents[1])
    path = os.environ.get("PYTHONPATH")
    threads = request["options"]["threads"] or max(1, _native.available_threads() // count)
    reading, writing = os.pipe()
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # as for the command: threads that spin at barriers starve the other processes
        # One machine: nothing need be reachable from another.
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}),
        **os.environ,
        "PYTHONPATH": root if path is None else f"{root}{os.pathsep}{path}",
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(count),
        RENDEZVOUS: str(folder / "rendezvous"),
        CHANNEL: str(writing),
    }
    printed = folder / f"rank-{rank}.txt"
    try:
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "biollm.training.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(writing,),
                start_new_session=True,  # a Ctrl-C of the terminal is for this process, which tells the others
            )
    except OSError as error:
        os.close(reading)
        raise LimitError(f"process {rank} cannot be started: {error}", field="nproc", value=rank) from error
    finally:
        os.close(writing)
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended, and `wait` says how
    return _Member(rank, process, os.fdopen(reading, "rb", buffering=0), printed)


def _rebuilt(error: dict[str, Any], rank: int, count: int) -> BaseException:
    """What a process raised, with what it says of itself; where it is none of ours, put into words."""
    kind = getattr(errors, error["type"], None)
    if isinstance(kind, type) and issubclass(kind, BiollmError):
        made: BaseException = kind(error["message"], **error["attributes"])
        return made
    if error["type"] == "MemoryError":
        return MemoryError(error["message"])
    message = f"process {rank} of {count} failed: {error['type']}: {error['message']}\n{error['traceback']}"
    return ProcessError(message, field="rank", value=rank)


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _tail(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip())
