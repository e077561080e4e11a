"""The log of a run: every record, whole lines, nobody else disturbed, and no trouble of its own."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from biollm import telemetry
from biollm.telemetry import RunLog, event, read_log

log = logging.getLogger("biollm.test")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_every_record_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with RunLog(path) as run:
        event(log, "checkpoint", "step 10 – ü\n", level=logging.DEBUG, step=10, loss=float("nan"), path="x")
        run.stage = "train"
        log.info("plain %s", "words")
        log.warning("careful")
        try:
            raise ZeroDivisionError("oh")
        except ZeroDivisionError:
            log.exception("failed")
        run.event("run_failed", "gone", error="X")
        log.info("broken %d", "words")  # logging's own habit: nothing is raised
        logging.getLogger("other").error("not ours")
    log.error("too late")
    found = lines(path)
    keys = {"time", "level", "event", "stage", "message", "logger", "fields"}
    assert all(keys <= set(line) for line in found)
    assert [(line["event"], line["level"], line["stage"]) for line in found] == [
        ("checkpoint", "DEBUG", None),
        ("log", "INFO", "train"),
        ("warning", "WARNING", "train"),
        ("log", "ERROR", "train"),
        ("run_failed", "ERROR", "train"),
    ]
    assert found[0]["message"] == "step 10 – ü\n"
    assert found[0]["fields"] == {"step": 10, "loss": "nan", "path": "x"}
    assert found[0]["logger"] == "biollm.test"
    assert found[0]["time"].endswith("Z")
    assert len(found[0]["time"]) == len("2026-11-24T04:30:00.123Z")
    assert "ZeroDivisionError: oh" in found[3]["error"]
    assert run.failed == 0


def test_others_see_no_more_than_without_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("biollm")
    before = (library.level, list(library.handlers), warnings.showwarning)
    with RunLog(tmp_path / "log.jsonl"):
        log.debug("hidden")
        log.warning("seen")
        logging.getLogger("other").warning("also seen")
    assert [record.message for record in caplog.records] == ["seen", "also seen"]
    assert (library.level, list(library.handlers), warnings.showwarning) == before
    log.warning("after")
    assert caplog.messages[-1] == "after"
    assert [line["message"] for line in lines(tmp_path / "log.jsonl")] == ["hidden", "seen"]


def test_warnings_without_a_handler_still_reach_stderr(tmp_path: Path) -> None:
    code = (
        "import sys, logging, warnings\n"
        "from biollm.telemetry import RunLog\n"
        "with RunLog(sys.argv[1]):\n"
        "    logging.getLogger('biollm.x').info('note')\n"
        "    logging.getLogger('biollm.x').warning('careful')\n"
        "    warnings.warn('python says', UserWarning)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.startswith("careful\n")
    assert "UserWarning: python says" in done.stderr
    assert "note" not in done.stderr
    found = lines(tmp_path / "log.jsonl")
    assert [line["message"] for line in found] == ["note", "careful", "python says"]
    assert found[2]["event"] == "warning"
    assert found[2]["logger"] == "py.warnings"
    assert found[2]["fields"] == {"category": "UserWarning", "file": "<string>", "line": 6}


def test_earlier_lines_stay_and_a_cut_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"message": "first"}\n{"message": "cu')
    with RunLog(path):
        log.error("second")
        log.error("third")
    assert path.read_text().startswith('{"message": "first"}\n{"message": "cu\n{"time"')
    assert [line["message"] for line in read_log(path)] == ["first", "second", "third"]


def test_two_runs_in_two_threads_are_told_apart(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def one(name: str) -> None:
        with RunLog(tmp_path / name):
            both.wait()
            log.debug("%s", name)
            both.wait()

    threads = [threading.Thread(target=one, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[line["message"] for line in lines(tmp_path / name)] for name in ("a", "b")] == [["a"], ["b"]]
    assert telemetry._TAP not in logging.getLogger("biollm").handlers


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    write = os.write
    room = [10]

    def short(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(descriptor, data[: room[0]])
        room[0] -= taken
        return taken

    with RunLog(path) as run:
        monkeypatch.setattr(os, "write", short)
        log.error("cut")
        log.error("lost")
        monkeypatch.undo()
        log.error("whole")
    assert run.failed == 2
    assert "10 of" in run.problem
    assert [line["message"] for line in read_log(path)] == ["whole"]


def test_a_file_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    with RunLog(tmp_path / "missing" / "log.jsonl") as run:
        log.error("lost")
    assert run.failed == 2
    assert "No such file" in run.problem


KILLED = """
import logging, sys
from biollm.telemetry import RunLog
with RunLog(sys.argv[1]):
    number = 0
    while True:
        logging.getLogger("biollm.x").info("%d %s", number, "x" * (number % 300))
        number += 1
"""


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for size in (20_000, 200_000):
        command = [sys.executable, "-c", KILLED, str(path)]
        with subprocess.Popen(command) as process:
            while not path.exists() or path.stat().st_size < size:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
    found = [int(line["message"].split()[0]) for line in read_log(path)]
    assert found.count(0) == 2
    first = found.index(0, 1)
    assert found == [*range(first), *range(len(found) - first)]  # no line is lost
