"""The page of one run: timings, resumptions, log, profile, and what is missing or broken."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from biollm.errors import BiollmError
from biollm.manifest import Resumption
from biollm.report import compare, write_report
from biollm.results import Series, Summary
from report_folders import Page, write_model_run, write_record, write_stage

PROFILE: dict[str, Any] = {
    "format": "biollm-profile",
    "version": 1,
    "stage": "train",
    "verb": "train",
    "status": "complete",
    "wall_s": 1.5,
    "cpu_s": 2.5,
    "peak_rss_bytes": 123_000_000,
    "read_bytes": None,
    "written_bytes": 5_000,
    "interval_s": 0.5,
    "samples": {
        "t_s": [0.0, 0.5, 1.0],
        "rss_bytes": [1e8, 1.23e8, 1.2e8],
        "cpu_percent": [0.0, 150.0, 200.0],
        "read_bytes": None,
        "written_bytes": [0, 10, 5000],
    },
    "functions": {
        "title": "Functions by their own time",
        "columns": ["function", "calls", "own_s", "total_s"],
        "rows": [["step <b>", 3, 0.5, 1.0]],
    },
    "stats": "train.prof",
    "operators": None,
    "trace": None,
}


def report(folder: Path) -> Page:
    return Page.read(write_report(folder))


def record_of(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    return value


def log_line(event: str, message: str, level: str = "INFO", **fields: Any) -> str:
    line = {"time": "2026-11-24T04:30:00.123Z", "level": level, "event": event, "stage": "train", "message": message}
    return json.dumps({**line, "logger": "biollm.recipe", "fields": fields}) + "\n"


def test_bits_per_byte_stand_on_top(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    text = report(tmp_path).text
    assert "Bits per byte of validation text (train): model 1.200, interpolated bigram 1.500, unigram 2.500." in text
    assert "The model needs 1.200 bits for a byte of validation text, 0.300 below the interpolated bigram." in text


def test_records_that_pubmed_left_out_stand_in_the_read_section(tmp_path: Path) -> None:
    write_stage(tmp_path, "read", "documents", facts={"documents": 10, "records replaced": 1234, "records deleted": 5})
    text = report(tmp_path).text
    assert "1,234 replaced by a later record of the same PMID, 5 deleted by a later file" in text


def test_time_memory_plan_and_resumptions(tmp_path: Path) -> None:
    write_model_run(tmp_path, resumptions=(Resumption("steps", 60, 64), Resumption("steps", 80, 80)))
    record = record_of(tmp_path)
    estimate = {"wall_s": 12.0, "output_bytes": 3_000_000, "basis": "measured"}
    record["stages"][2] |= {"peak_rss_bytes": 456_000_000, "estimate": estimate}
    record["machine"] = {"cpus": 2, "memory_bytes": 25_000_000_000, "platform": "Linux", "processor": "EPYC"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    text = report(tmp_path).text
    for words in (
        "Peak memory",
        "456 MB",
        "12.0 s wall",
        "3 MB on disk",
        "went on from 60 of 64 steps (4 done again)",
        "went on from 80 of 80 steps (none done again)",
        "those of its last part",
        "Machine: 2 CPUs, EPYC, 25 GB of memory, Linux.",
    ):
        assert words in text, words


def test_a_run_that_failed(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    record = record_of(tmp_path)
    record |= {"status": "failed", "error": "InputError: <b>no</b> luck"}
    record["stages"][2] |= {"status": "failed", "reason": "options changed", "wall_s": 3.0}
    (tmp_path / "run.json").write_text(json.dumps(record))
    text = report(tmp_path).text
    assert "InputError: <b>no</b> luck" in text
    assert "It ran because: options changed." in text
    assert "It failed after 3.00 s, so there is no result to show." in text
    assert "1.200" not in text, "what an earlier run left is not this run's"


def test_a_run_that_is_at_work_or_was_killed(tmp_path: Path) -> None:
    write_model_run(tmp_path, status="running", warnings=["one: made with numpy 1"])
    record = record_of(tmp_path)
    record["stages"][2]["status"] = "running"
    (tmp_path / "run.json").write_text(json.dumps(record))
    text = report(tmp_path).text
    assert "The run was at work in stage train when its record was last written (2026-11-24 04:31:00 UTC)" in text
    assert "It has not finished, so there is no result to show." in text
    assert "one: made with numpy 1" in text


def test_stages_that_were_kept_or_left_out(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    record = record_of(tmp_path)
    record["stages"][0] |= {"status": "kept", "reason": "options changed: text"}
    record["stages"][2] |= {
        "status": "skipped",
        "reason": "--only leaves it out",
        "out_of_date": "the input 'tokenize' changed",
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    page = report(tmp_path)
    assert "Taken as it stands, though it would be made again by now: options changed: text." in page.text
    assert "Not part of this run: --only leaves it out. What lies in its folder is of an earlier run." in page.text
    assert "no longer holds what the stages above would give: the input 'tokenize' changed." in page.text
    assert "1.200" in page.text
    (tmp_path / "train" / "manifest.json").unlink()
    text = report(tmp_path).text
    assert "1.200" not in text
    assert "an earlier run" not in text


def test_the_log(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    lines = [log_line("run_started", "the first attempt"), "not json\n"]
    lines += [log_line("run_started", "the second attempt", cpus=2, share=0.123456789)]
    lines += [log_line("warning", "numpy <i>is</i> old", "WARNING"), log_line("stage_failed", "boom", "ERROR")]
    lines += ['{"message": 3}\n', '{"time": "2026-11-24T04:3']
    (tmp_path / "log.jsonl").write_text("".join(lines))
    page = report(tmp_path)
    assert "log" in page.ids
    assert "3 lines of log.jsonl are torn or no record of a log" in page.text
    assert "The run was begun 2 times" in page.text
    assert "All 3 records of the last attempt" in page.text
    assert "the first attempt" not in page.text
    assert "cpus=2, share=0.123457" in page.text
    assert page.text.count("numpy <i>is</i> old") == 2  # among the warnings, and where it happened
    assert page.text.index("Warnings and errors") < page.text.index("All 3 records")


def test_a_long_log_is_read_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model_run(tmp_path)
    monkeypatch.setattr("biollm.report.log.MAX_BYTES", 20_000)
    (tmp_path / "log.jsonl").write_text("".join(log_line("log", f"number {i}") for i in range(1000)))
    text = report(tmp_path).text
    assert "The last 60 of" in text
    assert "number 999" in text
    assert "number 939" not in text
    assert "torn" not in text


def test_a_log_that_is_no_file(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    (tmp_path / "log.jsonl").mkdir()
    assert "log.jsonl cannot be read: Is a directory" in report(tmp_path).text
    (tmp_path / "log.jsonl").rmdir()
    (tmp_path / "log.jsonl").write_bytes(b"")
    assert "The log is empty." in report(tmp_path).text


def test_the_profile(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "train.json").write_text(json.dumps(PROFILE))
    page = report(tmp_path)
    for words in ("wall 1.50 s, CPU 2.50 s, peak memory 123 MB", "cores busy", "step <b>", "train.prof"):
        assert words in page.text, words
    assert page.text.count("Profile") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        "[]",
        "{}",
        json.dumps({**PROFILE, "samples": None}),
        json.dumps({**PROFILE, "samples": {**PROFILE["samples"], "rss_bytes": [1]}}),
        json.dumps({**PROFILE, "functions": {"title": "t", "columns": [], "rows": [[1]]}}),
        "[" * 100_000,
    ],
)
def test_a_broken_profile(tmp_path: Path, wrong: str) -> None:
    write_model_run(tmp_path)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "train.json").write_text(wrong)
    assert "The profile cannot be shown" in report(tmp_path).text


@pytest.mark.parametrize("name", ["manifest.json", "summary.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"format": "biollm-manifest"}', "[" * 100_000, "\xff"])
def test_a_broken_piece_leaves_the_others(tmp_path: Path, name: str, content: str) -> None:
    write_model_run(tmp_path)
    (tmp_path / "train" / name).write_bytes(content.encode("latin-1"))
    page = report(tmp_path)
    assert f"{name} cannot be shown" in page.text
    assert {"stage-read", "stage-train"} <= set(page.ids)
    assert "b = 2" in page.text


@pytest.mark.parametrize(
    "change",
    [
        {"counts": {"documents": "many"}},
        {"counts": []},
        {"wall_s": "long"},
        {"wall_s": -1},
        {"options": 3},
        {"outputs": {"a": 1}},
        {"verb": None},
        {"versions": {"numpy": None}},
        {"resumptions": [{"unit": "steps", "kept": "x", "done": 1}]},
        {"inputs": [{"name": 1, "kind": "file"}]},
    ],
)
def test_a_manifest_of_other_types(tmp_path: Path, change: dict[str, Any]) -> None:
    write_stage(tmp_path, "read", "documents", facts={"shown": 77})
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    page = report(tmp_path)
    assert "manifest.json cannot be shown: " in page.text
    assert "77" in page.text


def test_a_broken_record_leaves_the_stages(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    for text in ("{", '{"format": "biollm-run"}', '{"format": "biollm-run", "stages": [{"name": "../x"}]}'):
        (tmp_path / "run.json").write_text(text)
        page = report(tmp_path)
        assert "The run's record cannot be read" in page.text
        assert {"stage-read", "stage-tokenize", "stage-train"} <= set(page.ids)


def test_broken_extra_sections(tmp_path: Path) -> None:
    write_model_run(tmp_path)
    (tmp_path / "report_extra.json").write_text("[")
    assert "Sections of the report cannot be read" in report(tmp_path).text


HOSTILE: tuple[Any, ...] = (
    None,
    True,
    "</style></title><script>alert(1)</script>",
    '"\' onload=alert(1) x="',
    "\u202e\x00\ud800",
    -1,
    10**400,
    1e308,
    float("nan"),
    float("-inf"),
    [],
    {},
    [[["x"]]],
    {"a": {"b": [None]}},
)


def paths_in(value: Any) -> list[tuple[Any, ...]]:
    """Where every value stands in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, item in items for rest in paths_in(item))]


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = value.copy()
    copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("file", ["run.json", "train/manifest.json", "train/summary.json", "profile/train.json"])
def test_hostile_values_give_a_page_or_an_error_of_ours(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value of every file replaced by some of `HOSTILE`, the next ones each time."""
    pages: list[bytes] = []
    for module in ("page", "comparison_page"):
        monkeypatch.setattr(f"biollm.report.{module}.write_bytes", lambda _, data: pages.append(data))
    write_model_run(tmp_path / "good")
    run = tmp_path / "run"
    write_model_run(run, warnings=["one"], machine={"cpus": 2, "memory_bytes": 3, "platform": "x", "processor": "y"})
    record = record_of(run)
    record["stages"][2] |= {"estimate": {"wall_s": 1.0}, "peak_rss_bytes": 5, "out_of_date": "x", "cpu_s": 1.0}
    (run / "run.json").write_text(json.dumps(record))
    bars = Series("Bars", "bin", "count", (1, 2), (3.0, 4.0), kind="bar")
    names = Series("Names", "name", "count", ("a", "b"), (3.0, 4.0), kind="bar")
    summary = Summary.from_dict(json.loads((run / "train" / "summary.json").read_bytes())).to_dict()
    summary["series"] += Summary("x", series=(bars, names)).to_dict()["series"]
    (run / "train" / "summary.json").write_text(json.dumps(summary))
    (run / "profile").mkdir()
    (run / "profile" / "train.json").write_text(json.dumps(PROFILE))
    original = json.loads((run / file).read_bytes())
    for number, place in enumerate(paths_in(original)):
        for new in HOSTILE[number % 4 :: 4]:
            (run / file).write_text(json.dumps(with_value(original, place, new)))
            with suppress(BiollmError):
                write_report(run)
            with suppress(BiollmError):
                found = compare(tmp_path / "good", run)
                (json.dumps(found.to_dict(), allow_nan=False, ensure_ascii=False) + found.text()).encode()
            for data in pages[number % 7 :: 7]:  # to look at all of them takes too long
                Page(data.decode())
            pages.clear()


def test_names_of_files_cannot_become_markup(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x>&'\""
    write_model_run(folder)
    write_record(folder, [{"name": 'a"><script>', "verb": "<b>"}], status="<i>")
    assert 'a"><script>' in report(folder).text
    found = compare(folder, folder)
    assert found.path is not None
    assert found.path.name == "compare-img-src-x.html"
    assert "<img src=x>" in Page.read(found.path).text
