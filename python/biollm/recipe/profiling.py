"""What a stage spends its time and memory on, for `biollm run --profile`.

`RUN/profile/NAME.json` holds samples of memory, processor time and bytes moved, and the functions that took the
longest; `NAME.prof` all functions, for `python -m pstats`. Of training there are also the operators of a few steps and
their trace (`NAME.trace.json.gz`, for https://ui.perfetto.dev). No result depends on any of it.
"""

from __future__ import annotations

import cProfile
import gzip
import importlib
import logging
import os
import pstats
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from biollm.atomic import atomic_path, make_folder, write_bytes, write_json
from biollm.recipe.usage import Usage
from biollm.results import Progress, Summary, Table

FOLDER_NAME: Final = "profile"
INTERVAL_S: Final = 0.5
MAX_FUNCTIONS: Final = 25
#: Training steps passed over, and then watched by torch's profiler.
STEPS_BEFORE: Final = 2
STEPS_WATCHED: Final = 3
#: Verbs whose progress counts optimizer steps.
_STEPPING: Final = frozenset({"train", "align"})

ResultT = TypeVar("ResultT")
_log = logging.getLogger("biollm.recipe")


class StageProfile:
    """The profile of one stage's run.

    Args:
        run_folder: of the run.
        name: of the stage.
        verb: of the stage.
    """

    def __init__(self, run_folder: Path, name: str, verb: str) -> None:
        self.usage = Usage(INTERVAL_S, keep=True)
        self._folder = run_folder / FOLDER_NAME
        self._name, self._verb = name, verb
        self._calls = cProfile.Profile()
        self._steps = StepProfile() if verb in _STEPPING else None

    def progress(self, own: Progress | None) -> Progress | None:
        """What the stage is to report to instead of `own`, where its steps are watched."""
        if self._steps is None:
            return own
        steps = self._steps

        def advance(done: int, whole: int | None, /) -> None:
            steps.step()
            if own is not None:
                own(done, whole)

        return advance

    def call(self, work: Callable[[], ResultT]) -> ResultT:
        """Calls `work`, its functions counted and timed."""
        try:
            self._calls.enable()
        except ValueError as error:  # another profiler is at work
            _log.warning("%s: functions are not profiled: %s", self._name, error)
        try:
            return work()
        finally:
            self._calls.disable()
            if self._steps is not None:
                self._steps.stop()

    def write(self, status: str) -> None:
        """Writes what was found; a failure to do so is a warning and no more.

        Args:
            status: how the stage ended.
        """
        try:
            self._write(status)
        except Exception as error:
            _log.warning("%s: its profile could not be written: %s", self._name, error)

    def _write(self, status: str) -> None:
        make_folder(self._folder)
        with atomic_path(self._folder / f"{self._name}.prof") as file:
            self._calls.dump_stats(file.path)
        operators, trace = None, None
        if self._steps is not None and (operators := self._steps.operators()) is not None:
            trace = f"{self._name}.trace.json.gz"
            with atomic_path(self._folder / f"{self._name}.trace.json") as file:
                self._steps.write_trace(file.path)
                write_bytes(self._folder / trace, gzip.compress(file.path.read_bytes(), 5))
            (self._folder / f"{self._name}.trace.json").unlink(missing_ok=True)
        usage = self.usage
        data = {
            "format": "biollm-profile",
            "version": 1,
            "stage": self._name,
            "verb": self._verb,
            "status": status,
            "wall_s": usage.wall_s,
            "cpu_s": usage.cpu_s,
            "peak_rss_bytes": usage.peak_rss_bytes,
            "read_bytes": usage.read_bytes,
            "written_bytes": usage.written_bytes,
            "interval_s": INTERVAL_S,
            "samples": usage.series(),
            "functions": _plain(slowest(self._calls)),
            "stats": f"{self._name}.prof",
            "operators": _plain(operators) if operators is not None else None,
            "trace": trace,
        }
        write_json(self._folder / f"{self._name}.json", data)


class StepProfile:
    """torch's profiler over a few training steps, driven by the calls a training run makes after each step.

    Without torch, or where its profiler cannot start, it finds nothing.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._profiler: Any = None
        self._running = False

    def step(self) -> None:
        """A step is done."""
        self._steps += 1
        if self._steps == STEPS_BEFORE:
            self._start()
        elif self._steps == STEPS_BEFORE + STEPS_WATCHED:
            self.stop()

    def stop(self) -> None:
        """Ends the watching where it goes on."""
        if not self._running:
            return
        self._running = False
        try:
            self._profiler.stop()
        except Exception as error:
            self._profiler = None
            _log.warning("training steps are not profiled: %s", error)

    def operators(self) -> Table | None:
        """The operators that took the longest; `None` where nothing was watched."""
        if self._profiler is None:
            return None
        rows = []
        for item in self._profiler.key_averages():
            device_us = float(getattr(item, "self_device_time_total", 0.0))
            cells = (item.self_cpu_time_total / 1e3, item.cpu_time_total / 1e3, device_us / 1e3)
            rows.append((item.key, item.count, *(round(cell, 3) for cell in cells)))
        rows.sort(key=lambda row: (row[4], row[2]), reverse=True)
        columns = ("operator", "calls", "own_cpu_ms", "total_cpu_ms", "own_device_ms")
        watched = max(1, min(self._steps - STEPS_BEFORE, STEPS_WATCHED))
        return Table(f"Operators of {watched} training steps", columns, tuple(rows[:MAX_FUNCTIONS]))

    def write_trace(self, path: Path) -> None:
        """Writes the trace as JSON, as Chrome and Perfetto read it."""
        self._profiler.export_chrome_trace(str(path))

    def _start(self) -> None:
        """Begins to watch; the profiler's own trouble must not end a training run."""
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its library writes to stderr where it finds no GPU
        try:
            torch = importlib.import_module("torch")
            profiler = importlib.import_module("torch.profiler")
            kinds = [profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                kinds.append(profiler.ProfilerActivity.CUDA)
            made = profiler.profile(activities=kinds)
            made.start()
        except Exception as error:
            _log.warning("training steps are not profiled: %s", error)
            return
        self._profiler, self._running = made, True


def slowest(calls: cProfile.Profile) -> Table:
    """The functions with the most time of their own, at most `MAX_FUNCTIONS`; seconds of the calling thread."""
    try:
        stats: Any = vars(pstats.Stats(calls))["stats"]
    except TypeError:  # nothing was called
        stats = {}
    rows = [
        (_function(key), count, round(own_s, 4), round(total_s, 4))
        for key, (_, count, own_s, total_s, _) in stats.items()
    ]
    rows.sort(key=lambda row: row[2], reverse=True)
    columns = ("function", "calls", "own_s", "total_s")
    return Table("Functions by their own time", columns, tuple(rows[:MAX_FUNCTIONS]))


def _function(key: tuple[str, int, str]) -> str:
    """A function as people know it: its file without the folders that packages lie in."""
    file, line, name = key
    if file.startswith(("~", "<")) or not line:
        return name
    roots = [str(Path(__file__).parents[2]), *sys.path]
    root = max((root for root in roots if root and file.startswith(f"{root}{os.sep}")), key=len, default="")
    return f"{file[len(root) :].lstrip(os.sep)}:{line} {name}"


def _plain(table: Table) -> Any:
    return Summary("", tables=(table,)).to_dict()["tables"][0]
