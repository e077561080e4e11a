"""Structured log records: what happened, to which stage, with plain fields, through the standard `logging`.

A verb says what happens by `event`. A run writes all records of the "biollm" loggers, and Python's warnings, into its
`log.jsonl` by `RunLog`: one JSON object a line, each appended by one write, lines of earlier runs left as they are.

    {"time": "2026-11-24T04:30:00.123Z", "level": "INFO", "event": "stage_finished", "stage": "dedup",
     "message": "dedup: complete in 3.1 s", "logger": "biollm.recipe", "fields": {"wall_s": 3.1}}

| key | what |
|---|---|
| time | UTC, milliseconds |
| level | DEBUG, INFO, WARNING, ERROR or CRITICAL |
| event | below; "log" for a record that names none |
| stage | the stage of the recipe it belongs to; null outside of one |
| message | for people |
| logger | name of the logger; "py.warnings" for a Python warning |
| fields | plain values, by event |
| error | only with a traceback: its text |

Events of a run, with their fields:

- `run_started`: recipe, set, from, only, stages; of the machine cpus, memory_bytes, platform and processor; versions
  as `version_NAME`.
- `stage_started`: verb, reason, unfinished_work (whether there is some to go on from). `stage_matched`: verb.
  `stage_kept`, `stage_skipped`: verb, reason.
- `stage_finished`: verb, status, wall_s, cpu_s, peak_rss_bytes, resumptions, repeated, and the manifest's counts as
  `count_NAME`. `stage_failed`: verb, status, wall_s, cpu_s, peak_rss_bytes, error, error_message.
- `checkpoint`, `resumed`: of the verbs. `warning`: category, and for Python's its file and line.
- `run_failed`: status, error (type), error_message, wall_s. `run_finished`: status, wall_s, warnings.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from biollm.results import Scalar

__all__ = ["LOG_NAME", "RunLog", "event", "read_log"]

LOG_NAME: Final = "log.jsonl"
"""Of the log in a run's folder."""
#: Of a message, and of each text among the fields; the rest is cut.
MAX_TEXT: Final = 1 << 16
_LIBRARY: Final = "biollm"


def event(log: logging.Logger, name: str, message: str, *, level: int = logging.INFO, **fields: Scalar) -> None:
    """Logs one event.

    Args:
        log: a logger below "biollm".
        name: of the event, as "checkpoint" or "resumed": what a reader of the log searches for.
        message: for people.
        level: as in `logging`.
        fields: plain values, kept apart from the message in a run's log.
    """
    log.log(level, "%s", message, extra={"biollm_event": name, "biollm_fields": fields})


def read_log(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The lines of a run's log (`path`) in order; one that is no JSON object (cut by a full disk) is passed over.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        for line in file:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


class RunLog:
    """Writes what happens while it is open, as a context, into a file of one JSON object a line.

    All records of the "biollm" loggers at DEBUG and above are written, whatever level the loggers had; other handlers
    see no more records than without it. Of two runs at once in one process each gets the records of its own thread.
    What goes wrong while writing (a full disk) stops nothing: `failed` counts the lines lost.

    Attributes:
        path: of the file.
        thread: whose records are written.
        stage: put into each line; set by the runner.
        failed: lines that could not be written.
        problem: why the first of them could not.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.stage: str | None = None
        self.failed = 0
        self.problem = ""
        self.thread = threading.get_ident()
        self._descriptor = -1
        self._in_line = False

    def __enter__(self) -> RunLog:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o644)
            size = os.fstat(self._descriptor).st_size
            self._in_line = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        except OSError as error:
            self._lost(error)
        _TAP.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _TAP.remove(self)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def event(self, name: str, message: str, *, level: int = logging.ERROR, **fields: Scalar) -> None:
        """Writes an event that goes nowhere else; `name`, `message`, `level`, `fields` as of the function `event`."""
        record = logging.LogRecord("biollm.run", level, "", 0, "%s", (message,), None)
        record.__dict__.update(biollm_event=name, biollm_fields=fields)
        with suppress(Exception):
            self.record(record)

    def record(self, record: logging.LogRecord) -> None:
        """Writes a `record` of `logging`."""
        name = getattr(record, "biollm_event", None)
        fields = getattr(record, "biollm_fields", None)
        line = {
            "time": _time(record.created),
            "level": record.levelname,
            "event": name or ("warning" if record.levelno == logging.WARNING else "log"),
            "stage": self.stage,
            "message": record.getMessage()[:MAX_TEXT],
            "logger": record.name,
            "fields": {key: _plain(value) for key, value in (fields or {}).items()},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = "".join(traceback.format_exception(record.exc_info[1]))[-MAX_TEXT:]
        self.append(line)

    def python_warning(self, message: Warning | str, category: type[Warning], filename: str, lineno: int) -> None:
        """Writes a Python warning: its `message`, `category`, and the `filename` and `lineno` that it names."""
        fields = {"category": category.__name__, "file": filename, "line": lineno}
        self.append(
            {
                "time": _time(time.time()),
                "level": "WARNING",
                "event": "warning",
                "stage": self.stage,
                "message": str(message)[:MAX_TEXT],
                "logger": "py.warnings",
                "fields": fields,
            }
        )

    def append(self, line: dict[str, Any]) -> None:
        """Writes one `line` by one write at the end of the file."""
        if self._descriptor < 0:
            self.failed += 1
            return
        try:
            # ASCII, so that no text can break the encoding; a line begun and not ended stays a line of its own.
            data = ("\n" * self._in_line + json.dumps(line, allow_nan=False) + "\n").encode("ascii")
            written = os.write(self._descriptor, data)
            self._in_line = written < len(data) if written else self._in_line
            if written < len(data):
                self._lost(f"{written} of {len(data)} bytes written")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            self._lost(error)

    def _lost(self, why: object) -> None:
        self.failed += 1
        self.problem = self.problem or str(why)


class _Tap(logging.Handler):
    """The one handler on the "biollm" logger while runs are open: opens the logger to DEBUG for them alone."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._runs: list[RunLog] = []
        self._level = logging.NOTSET
        self._narrowed: list[tuple[logging.Handler, logging.Filter]] = []
        self._fallback: logging.Handler | None = None
        self._show: Any = None

    def add(self, run: RunLog) -> None:
        """Begins to write to `run`."""
        with _LOCK:
            self._runs = [*self._runs, run]
            if len(self._runs) == 1:
                self._begin()

    def remove(self, run: RunLog) -> None:
        """Ends that; with the last of the runs, loggers, handlers and warnings are as before."""
        with _LOCK:
            self._runs = [other for other in self._runs if other is not run]
            if not self._runs:
                self._end()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record to its run, and to the fallback where nobody else would show it."""
        if self._fallback is not None and record.levelno >= self._fallback.level:
            self._fallback.handle(record)
        for run in self._of_thread(record.thread):
            with suppress(Exception):  # a message whose arguments do not fit it, an object that cannot be printed
                run.record(record)

    def _of_thread(self, thread: int | None) -> list[RunLog]:
        return [run for run in self._runs if len(self._runs) == 1 or run.thread == thread]

    def _begin(self) -> None:
        log = logging.getLogger(_LIBRARY)
        self._level, before = log.level, log.getEffectiveLevel()
        handlers = _reached(log)
        self._fallback = None if handlers else logging.lastResort
        only = _Above(before)
        for handler in handlers:
            handler.addFilter(only)
            self._narrowed.append((handler, only))
        log.setLevel(logging.DEBUG)
        log.addHandler(self)
        self._show = warnings.showwarning
        warnings.showwarning = self._warned

    def _end(self) -> None:
        log = logging.getLogger(_LIBRARY)
        log.removeHandler(self)
        log.setLevel(self._level)
        for handler, only in self._narrowed:
            handler.removeFilter(only)
        self._narrowed = []
        if warnings.showwarning == self._warned:  # else someone else's stands now, and stays
            warnings.showwarning = self._show

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        for run in self._of_thread(threading.get_ident()):
            with suppress(Exception):
                run.python_warning(message, category, filename, lineno)
        self._show(message, category, filename, lineno, file, line)


class _Above(logging.Filter):
    """Lets through what the "biollm" loggers gave before a run opened them, and all of other loggers."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a handler sees the record."""
        ours = record.name == _LIBRARY or record.name.startswith(f"{_LIBRARY}.")
        return not ours or record.levelno >= self._level


def _reached(log: logging.Logger) -> list[logging.Handler]:
    """The handlers that a record of `log` comes to."""
    handlers: list[logging.Handler] = []
    current: logging.Logger | None = log
    while current is not None:
        handlers += current.handlers
        current = current.parent if current.propagate else None
    return handlers


_LOCK: Final = threading.Lock()
_TAP: Final = _Tap()


def _plain(value: object) -> Scalar:
    """A value as JSON has it: what is no scalar as its text, and a number that is none by its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)[:MAX_TEXT]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
