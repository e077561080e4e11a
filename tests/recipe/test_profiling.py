"""Profiles of stages and the log of a whole run: there, readable, and without effect on what is made."""

from __future__ import annotations

import gzip
import json
import pstats
import time
from pathlib import Path
from typing import Any

import pytest

from biollm.errors import InputError
from biollm.manifest import Manifest
from biollm.recipe import profiling, run
from biollm.recipe.profiling import StepProfile
from biollm.recipe.usage import Usage, machine, memory_available, memory_limit
from biollm.results import table_from_dict
from biollm.telemetry import read_log
from toy_stages import STAGES

RECIPE = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["a.txt"]

[[stage]]
name = "two"
verb = "fit"
inputs = ["one"]
steps = 4
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "a.txt").write_text("alpha\n")
    return tmp_path


def go(place: Path, *overrides: str, output: str = "RUN", **asked: Any) -> None:
    run(place / "r.toml", output=place / output, set=overrides, stages=STAGES, **asked)


def log(place: Path) -> list[dict[str, Any]]:
    return list(read_log(place / "RUN" / "log.jsonl"))


def test_a_profile_of_each_stage_that_ran(place: Path) -> None:
    go(place, profile=True)
    go(place, output="PLAIN")
    for name in ("one", "two"):
        assert Manifest.read(place / "RUN" / name).hash == Manifest.read(place / "PLAIN" / name).hash
        data = json.loads((place / "RUN" / "profile" / f"{name}.json").read_text())
        assert (data["format"], data["stage"], data["status"]) == ("biollm-profile", name, "complete")
        samples = data["samples"]
        assert len(samples["t_s"]) >= 2
        assert {len(column) for column in samples.values()} == {len(samples["t_s"])}
        assert samples["t_s"] == sorted(samples["t_s"])
        assert data["peak_rss_bytes"] >= max(samples["rss_bytes"]) > 1 << 20
        assert data["written_bytes"] > 0
        table = table_from_dict(data["functions"])
        assert table.columns == ("function", "calls", "own_s", "total_s")
        assert 1 <= len(table.rows) <= profiling.MAX_FUNCTIONS
        assert any(str(row[0]).startswith(("biollm/", "toy_stages.py:")) for row in table.rows)
        functions = vars(pstats.Stats(str(place / "RUN" / "profile" / data["stats"])))["stats"]
        assert any(name == "write_json" for _, _, name in functions)
        assert data["operators"] is None
    assert json.loads((place / "RUN" / "run.json").read_text())["profile"] is True
    assert not (place / "PLAIN" / "profile").exists()


def test_a_stage_that_failed_has_a_profile_and_one_that_matched_has_none(place: Path) -> None:
    go(place, "two.steps=1")
    with pytest.raises(InputError):
        go(place, "two.fail_at=3", profile=True)
    assert [path.name for path in sorted((place / "RUN" / "profile").glob("*.json"))] == ["two.json"]
    assert json.loads((place / "RUN" / "profile" / "two.json").read_text())["status"] == "failed"


def test_a_profile_that_cannot_be_written_is_a_warning(place: Path) -> None:
    (place / "RUN").mkdir()
    (place / "RUN" / "profile").write_text("in the way")
    go(place, profile=True)
    messages = [line["message"] for line in log(place) if line["event"] == "warning"]
    assert [message.partition(":")[0] for message in messages] == ["one", "two"]
    assert all("profile could not be written" in message for message in messages)


def test_steps_of_training_are_watched(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    weights = torch.ones(8, 8, requires_grad=True)
    steps = StepProfile()
    for _ in range(7):
        (weights @ weights).sum().backward()
        steps.step()
    steps.stop()
    table = steps.operators()
    assert table is not None
    assert table.title == "Operators of 3 training steps"
    products = next(row for row in table.rows if row[0] == "aten::mm")
    assert products[1] == 9  # one forward and two backward, three times
    steps.write_trace(tmp_path / "trace.json")
    assert "traceEvents" in json.loads((tmp_path / "trace.json").read_text())


def test_a_training_stage_leaves_operators_and_a_trace(place: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    profile = profiling.StageProfile(place, "pretrain", "train")
    told: list[int] = []
    advance = profile.progress(lambda done, whole: told.append(done))
    assert advance is not None
    profile.usage.start()
    profile.call(lambda: [advance(step, 5) for step in range(1, 6)])
    profile.usage.stop()
    profile.write("complete")
    assert told == [1, 2, 3, 4, 5]
    data = json.loads((place / "profile" / "pretrain.json").read_text())
    assert data["operators"]["title"] == "Operators of 3 training steps"
    assert data["trace"] == "pretrain.trace.json.gz"
    assert "traceEvents" in json.loads(gzip.decompress((place / "profile" / data["trace"]).read_bytes()))
    assert sorted(path.name for path in (place / "profile").iterdir()) == [
        "pretrain.json",
        "pretrain.prof",
        "pretrain.trace.json.gz",
    ]


def test_usage_sees_memory_and_work() -> None:
    usage = Usage(0.01, keep=True).start()
    held = bytearray(64 << 20)
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    usage.stop()
    peak = usage.peak_rss_bytes
    assert peak is not None
    assert peak >= len(held)
    assert usage.samples[0].rss_bytes is not None
    assert peak - usage.samples[0].rss_bytes >= 32 << 20
    assert usage.cpu_s >= 0.1
    assert usage.wall_s >= usage.samples[-1].t_s
    assert max(usage.series()["cpu_percent"]) > 0


def test_many_samples_become_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biollm.recipe.usage.MAX_SAMPLES", 10)
    usage = Usage(1000.0, keep=True)
    for _ in range(50):
        usage._look()
    assert 5 <= len(usage.samples) <= 10
    times = [sample.t_s for sample in usage.samples]
    assert times == sorted(times)


def test_what_there_is_of_memory() -> None:
    assert 1 << 28 < memory_available() <= memory_limit() == machine()["memory_bytes"]
    assert machine()["processor"]


def test_the_log_tells_a_run_from_its_begin_to_its_end(place: Path) -> None:
    go(place, "one.prefix=+")
    events = [(line["event"], line["stage"]) for line in log(place)]
    assert events == [
        ("run_started", None),
        ("stage_started", "one"),
        ("stage_finished", "one"),
        ("stage_started", "two"),
        ("checkpoint", "two"),
        ("checkpoint", "two"),
        ("stage_finished", "two"),
        ("run_finished", None),
    ]
    begin, started, finished = log(place)[:3]
    assert begin["fields"]["set"] == "one.prefix=+"
    assert begin["fields"]["stages"] == 2
    assert begin["fields"]["cpus"] >= 1
    assert begin["fields"]["version_python"]
    assert started["fields"] == {"verb": "gather", "reason": "not finished before", "unfinished_work": False}
    assert finished["fields"]["count_lines_in"] == 3
    assert {"wall_s", "cpu_s", "peak_rss_bytes", "status", "resumptions", "repeated"} <= set(finished["fields"])


def test_the_log_tells_of_failures_and_of_going_on(place: Path) -> None:
    with pytest.raises(InputError):
        go(place, "two.fail_at=3")
    failed = log(place)
    assert [line["event"] for line in failed[-2:]] == ["stage_failed", "run_failed"]
    assert [line["level"] for line in failed[-2:]] == ["ERROR", "ERROR"]
    assert failed[-1]["fields"]["error"] == "InputError"
    assert failed[-1]["fields"]["error_message"] == "step 3 fails"
    go(place, from_="two")
    again = log(place)[len(failed) :]
    assert [line["event"] for line in again] == [
        "run_started",
        "stage_matched",
        "stage_started",
        "resumed",
        "checkpoint",
        "stage_finished",
        "run_finished",
    ]
    assert again[0]["fields"]["from"] == "two"
    assert again[2]["fields"]["unfinished_work"] is True
    assert again[3]["fields"] == {"step": 2}
    assert (again[5]["fields"]["resumptions"], again[5]["fields"]["repeated"]) == (1, 1)


def test_an_interruption_is_logged(place: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(place, "one.fail=interrupt")
    assert [line["fields"]["status"] for line in log(place)[-2:]] == ["interrupted", "interrupted"]


def test_a_log_that_cannot_be_written_stops_no_run(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    (place / "RUN" / "log.jsonl").mkdir(parents=True)
    go(place)
    assert json.loads((place / "RUN" / "run.json").read_text())["status"] == "complete"
    assert any("log.jsonl lacks" in message for message in caplog.messages)
