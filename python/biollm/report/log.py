"""The end of a run's log (`log.jsonl`), for the report: the last attempt's records, and what was warned of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biollm.report.markup import Markup, chip, escape, fold, join, note, tag

MAX_BYTES: Final = 4 << 20
"""Of the end of the file that are read."""
SHOWN: Final = 60
"""Records that are shown."""
LOUD: Final = ("WARNING", "ERROR", "CRITICAL")
_MAX_MESSAGE: Final = 2000


@dataclass(frozen=True)
class LogRecord:
    """One line of the log.

    Attributes:
        time: ISO 8601, UTC.
        level: as in `logging`.
        event: its name, as "stage_finished".
        stage: that it is about, or empty.
        message: for people.
        fields: plain values, in words.
    """

    time: str
    level: str
    event: str
    stage: str
    message: str
    fields: str


@dataclass(frozen=True)
class LogTail:
    """The last attempt's records.

    Attributes:
        records: in order; at most what lies in the last `MAX_BYTES` of the file.
        attempts: times that the run began, as far as the file was read.
        broken: lines that are no records.
        begins: whether the file was read from its beginning.
        problem: why the file cannot be read; empty where it can.
    """

    records: tuple[LogRecord, ...] = ()
    attempts: int = 0
    broken: int = 0
    begins: bool = True
    problem: str = ""


def read_log_tail(path: Path) -> LogTail | None:
    """The end of a log; `None` where there is none. Never raises: what is wrong stands in the result.

    Args:
        path: of the file.
    """
    try:
        with path.open("rb") as opened:
            end = opened.seek(0, 2)
            start = opened.seek(max(0, end - MAX_BYTES))
            data = opened.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        return LogTail(problem=error.strerror or str(error))
    lines = data.split(b"\n")
    if start:
        lines = lines[1:]  # the first one is cut
    records: list[LogRecord] = []
    attempts = broken = 0
    for line in lines:
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            broken += 1
            continue
        if record.event == "run_started":
            attempts += 1
            records = []
        records.append(record)
    return LogTail(tuple(records), attempts, broken, start == 0)


def _record(line: bytes) -> LogRecord | None:
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("message"), str):
        return None
    given = data.get("fields")
    fields = ", ".join(f"{name}={_plain(value)}" for name, value in given.items()) if isinstance(given, dict) else ""
    time, level, event, stage = (str(data.get(key) or "")[:100] for key in ("time", "level", "event", "stage"))
    return LogRecord(time, level, event, stage, _cut(data["message"]), _cut(fields))


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[:_MAX_MESSAGE] + " …"


def log_section(log: LogTail, warnings: Sequence[str]) -> Markup:
    """Warnings and errors first, then the end of the log folded away.

    Args:
        log: what was read.
        warnings: those of the run's record, shown already.
    """
    parts: list[object] = [tag("h2", "Log")]
    if log.problem:
        parts.append(tag("p", f"log.jsonl cannot be read: {log.problem}", class_="error"))
    if log.broken:
        lines = "One line of log.jsonl is" if log.broken == 1 else f"{log.broken:,} lines of log.jsonl are"
        parts.append(note(f"{lines} torn or no record of a log, and not shown."))
    loud = [r for r in log.records if r.level in LOUD and not any(w in r.message for w in warnings)]
    if loud:
        parts += [tag("h4", "Warnings and errors"), _table(loud[-SHOWN:])]
    if log.records:
        count = len(log.records)
        shown = log.records[-SHOWN:]
        whole = f"All {count:,} records" if len(shown) == count else f"The last {SHOWN} of {count:,} records"
        label = f"{whole} of the last attempt" if log.attempts > 1 else f"{whole} of the log"
        parts.append(fold(label, _table(shown)))
        if log.attempts > 1 and log.begins:
            parts.append(note(f"The run was begun {log.attempts:,} times; log.jsonl holds every attempt."))
    elif not log.problem:
        parts.append(note("The log is empty."))
    return tag("section", *parts, id="log")


def _table(records: Sequence[LogRecord]) -> Markup:
    head = tag("tr", *(tag("th", name, scope="col") for name in ("Time", "Level", "Stage", "Message")))
    kinds: Mapping[str, str] = {"WARNING": "wait", "ERROR": "bad", "CRITICAL": "bad"}
    rows = []
    for record in records:
        kind = kinds.get(record.level)
        level = chip(record.level.lower(), kind) if kind else escape(record.level.lower())
        fields = tag("div", record.fields, class_="note") if record.fields else ""
        cells = (tag("td", _clock(record.time), class_="when"), tag("td", level), tag("td", record.stage))
        rows.append(tag("tr", *cells, tag("td", record.message, fields, class_="text")))
    return tag("div", tag("table", tag("thead", head), tag("tbody", join(rows)), class_="log"), class_="wide")


def _clock(time: str) -> str:
    """The time of day of "2026-11-24T04:30:00.123Z"; another text as it is."""
    return time[11:19] if len(time) >= 19 and time[10] == "T" else time
