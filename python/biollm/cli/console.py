"""What the commands say and where: results on stdout, progress, warnings and errors on stderr."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import typer

from biollm.errors import BiollmError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from biollm.results import Progress, Summary

EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


class Level(StrEnum):
    """What `--log-level` takes."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Voice:
    """The options every command has: `--json`, `--quiet`, `--debug`, and `--log-level` of those that work long."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
    log_level: Level | None = None

    @property
    def level(self) -> int:
        """The least level of records that go to stderr."""
        if self.log_level is not None:
            return logging.getLevelNamesMapping()[self.log_level.upper()]
        return logging.DEBUG if self.debug else logging.WARNING if self.quiet else logging.INFO

    def say(self, text: str) -> None:
        """A line of the result for people; with `--json` only the object goes to stdout."""
        if not self.json:
            sys.stdout.write(f"{text}\n")

    def result(self, value: Mapping[str, Any]) -> None:
        """The one JSON object of a command, where it was asked for."""
        if self.json:
            sys.stdout.write(json.dumps({"ok": True, **value}, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def reporting(voice: Voice) -> Iterator[None]:
    """Turns errors of the library into a message and exit code 1, Ctrl-C into 130; logs to stderr meanwhile.

    An exception that is none of ours is a fault: it passes, with its traceback.
    """
    log = logging.getLogger("biollm")
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(voice.level)
    try:
        yield
    except BiollmError as error:
        _complain(error, voice)
        raise typer.Exit(EXIT_ERROR) from error
    except KeyboardInterrupt as error:
        sys.stderr.write("interrupted\n")
        if voice.json:
            sys.stdout.write(json.dumps({"ok": False, "error": {"type": "KeyboardInterrupt"}}) + "\n")
        raise typer.Exit(EXIT_INTERRUPTED) from error
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def _complain(error: BiollmError, voice: Voice) -> None:
    if voice.debug:
        traceback.print_exception(error, file=sys.stderr)
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    sys.stderr.write(f"error: {error}{notes}\n")
    if voice.json:
        names = ("path", "line", "row", "field", "limit")
        attributes = {name: value for name in names if (value := getattr(error, name)) is not None}
        described = {"type": type(error).__name__, "message": error.message, **attributes}
        sys.stdout.write(json.dumps({"ok": False, "error": described}, ensure_ascii=False) + "\n")


class _StderrHandler(logging.Handler):
    """Writes to the `sys.stderr` of the moment, which rich redirects while bars are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        sys.stderr.write(f"{prefix}{self.format(record)}\n")


def summary_text(summary: Summary) -> str:
    """The facts of a result, one a line, names in a column."""
    from biollm.report.markup import number, words

    width = max((len(name) for name in summary.facts), default=0)
    return "\n".join(f"  {words(name).ljust(width)}  {number(value)}" for name, value in summary.facts.items())


@contextmanager
def progress_bars(voice: Voice) -> Iterator[StageBars]:
    """Bars on stderr with rate and time left; none where stderr is no terminal, nor with `--quiet`."""
    if voice.quiet or not sys.stderr.isatty():
        yield StageBars(None)
        return
    from rich.console import Console

    with _bars(Console(stderr=True)) as bars:
        yield StageBars(bars)


def _bars(console: Console) -> Bars:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units a second."""

        def render(self, task: Task) -> Text:
            """The mean over the last half minute, or of the whole where the stage was done before."""
            speed = task.finished_speed or task.speed
            if not speed and task.completed and task.elapsed:
                speed = task.completed / task.elapsed
            return Text(f"{speed:,.0f}/s" if speed and speed >= 10 else f"{speed:.2g}/s" if speed else "", style="dim")

    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


@dataclass
class StageBars:
    """One bar a stage; a `RunProgress` for the recipe runner. Without `bars` it shows nothing."""

    bars: Bars | None
    _tasks: dict[str, TaskID] = field(default_factory=dict)

    def begin(self, name: str, verb: str, position: int, total: int, /) -> Progress | None:
        """Adds the stage's bar; gives what the stage reports to."""
        if self.bars is None:
            return None
        place = f"{position + 1}/{total} " if total > 1 else ""
        words = name if name == verb else f"{name} ({verb})"
        task = self.bars.add_task(f"{place}{words}", total=None)
        self._tasks[name] = task
        bars = self.bars

        def advance(done: int, whole: int | None, /) -> None:
            bars.update(task, completed=done, total=whole)

        return advance

    def end(self, name: str, status: str, wall_s: float, /) -> None:
        """Stops the stage's bar; one that did not run says so."""
        if self.bars is None:
            return
        task = self._tasks[name]
        state = next(t for t in self.bars.tasks if t.id == task)
        done = state.completed if status == "complete" else 0
        total = max(state.total or 0, done, 1)
        if status in ("complete", "matched", "kept"):
            self.bars.update(task, completed=total, total=total)
        how = {"matched": "not run again", "kept": "taken as it stands"}.get(status, status)
        note = "" if status == "complete" else f" – {how}"
        self.bars.update(task, description=f"{state.description}{note}")
        self.bars.stop_task(task)
