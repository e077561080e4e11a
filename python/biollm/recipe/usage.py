"""What a stage uses while it runs: memory, processor time, bytes read and written; and how much memory there is.

A thread looks now and then. It reads a few lines of /proc, takes part in nothing, and changes no result.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biollm import _native
from biollm.manifest import StageTimer

#: Seconds between two looks at the memory where nothing else is asked for.
WATCH_INTERVAL_S: Final = 0.1
#: Samples kept; beyond, every second one goes and the interval doubles.
MAX_SAMPLES: Final = 4096

_PAGE: Final = resource.getpagesize()
_CGROUP: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the begin, resident bytes, CPU seconds and bytes read and written since the begin."""

    t_s: float
    rss_bytes: int | None
    cpu_s: float
    read_bytes: int | None
    written_bytes: int | None


class Usage:
    """Watches this process between `start` and `stop`.

    Args:
        interval_s: between samples.
        keep: whether samples are kept; else only the highest memory is.

    Attributes:
        samples: kept ones, in order; the first of the begin, the last of the end.
        wall_s, cpu_s: between `start` and `stop`; cpu of all threads and of children that ended.
    """

    def __init__(self, interval_s: float = WATCH_INTERVAL_S, *, keep: bool = False) -> None:
        self.samples: list[Sample] = []
        self._interval_s = interval_s
        self._keep = keep
        self._highest = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer = StageTimer()
        self._io = _io_bytes()
        self._lifetime_peak = _lifetime_peak()
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def start(self) -> Usage:
        """Begins to watch."""
        self._look()
        if self._highest or self._keep:
            self._thread = threading.Thread(target=self._watch, name="biollm-usage", daemon=True)
            with suppress(RuntimeError):  # no thread to be had: then the system's own peak has to do
                self._thread.start()
        return self

    def stop(self) -> Usage:
        """Ends it, with a last look."""
        self._ended.set()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()
        self._look()
        self.wall_s, self.cpu_s = self._timer.wall_s, self._timer.cpu_s
        return self

    @property
    def peak_rss_bytes(self) -> int | None:
        """The highest resident memory seen; exact where it is the highest of the process's life so far."""
        peak = _lifetime_peak()
        if peak > self._lifetime_peak:
            return max(peak, self._highest)
        return self._highest or None

    @property
    def read_bytes(self) -> int | None:
        """Bytes that the process read since the begin, from disk or the system's cache; `None` where unknown."""
        return self.samples[-1].read_bytes if self.samples else _since(self._io, 0)

    @property
    def written_bytes(self) -> int | None:
        """Bytes that it wrote."""
        return self.samples[-1].written_bytes if self.samples else _since(self._io, 1)

    def series(self) -> dict[str, list[Any]]:
        """The samples as columns; `cpu_percent` is the mean since the sample before, 100 for one core busy."""
        before = [self.samples[0], *self.samples[:-1]]
        percent = [_percent(a, b) for a, b in zip(before, self.samples, strict=True)]
        if len(percent) > 1:
            percent[0] = percent[1]
        return {
            "t_s": [round(s.t_s, 3) for s in self.samples],
            "rss_bytes": [s.rss_bytes for s in self.samples],
            "cpu_percent": percent,
            "read_bytes": [s.read_bytes for s in self.samples],
            "written_bytes": [s.written_bytes for s in self.samples],
        }

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        rss = _rss_bytes()
        self._highest = max(self._highest, rss or 0)
        if not self._keep:
            return
        wall_s, cpu_s = self._timer.wall_s, self._timer.cpu_s
        self.samples.append(Sample(wall_s, rss, cpu_s, _since(self._io, 0), _since(self._io, 1)))
        if len(self.samples) > MAX_SAMPLES:
            self.samples = self.samples[::2]
            self._interval_s *= 2


def machine() -> dict[str, Any]:
    """What a run's record says of the machine: cores and memory that the process may use, platform, processor."""
    return {
        "cpus": _native.available_threads(),
        "memory_bytes": memory_limit(),
        "platform": platform.platform(),
        "processor": processor(),
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_limit() -> int:
    """Bytes of memory that this process may have: the machine's, or its control group's where that is less."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine_bytes, *_cgroup_limits()])


def memory_available() -> int:
    """Bytes that could be taken now without swapping; where the system does not say, what there is in all."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) << 10, memory_limit())
    return memory_limit()


def _cgroup_limits() -> list[int]:
    limits = []
    for path in _CGROUP:
        with suppress(OSError, ValueError):  # "max"
            limits.append(int(path.read_text()))
    return limits


def _rss_bytes() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _lifetime_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _io_bytes() -> tuple[int, int] | None:
    try:
        with open("/proc/self/io", "rb") as file:
            found = dict(line.split(b": ") for line in file.read().splitlines())
        return int(found[b"rchar"]), int(found[b"wchar"])
    except (OSError, ValueError, KeyError):
        return None


def _since(begin: tuple[int, int] | None, which: int) -> int | None:
    now = _io_bytes()
    return now[which] - begin[which] if begin is not None and now is not None else None


def _percent(before: Sample, now: Sample) -> float:
    passed = now.t_s - before.t_s
    return round(100 * (now.cpu_s - before.cpu_s) / passed, 1) if passed > 0 else 0.0
