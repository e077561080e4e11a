"""`select` goes on from a run that was killed: finished groups are not measured again, and the folder is the same."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import biollm
import interrupted
from biollm import _native
from biollm.manifest import Manifest, Resumption
from biollm.selection.options import SelectOptions
from biollm.selection.stage import STAGE
from biollm.stages import StageContext, StageInput

LIMITS = {
    "biollm.document_files.BLOCK_ROWS": 100,
    "biollm.document_files.ROWS_PER_FILE": 150,
    "biollm.selection.measuring.GROUP_BYTES": 60_000,
}
OPTIONS: dict[str, Any] = {"rules": ["gopher_quality"], "thresholds": {"min_words": 20}}
ROWS = 1000
WORDS = "the patients with acute heart failure were treated for months and that risk of death stayed low"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    words = WORDS.split()
    records = [
        {
            "id": f"d{i}",
            "text": " ".join(words[(i + k * (1 + i % 7)) % 17] for k in range(i % 60)),
            "source": "ab"[i % 2],
        }
        for i in range(ROWS)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each call that measures."""
    interrupted.set_limits(monkeypatch, LIMITS)
    rows: list[int] = []
    native = _native.gopher_statistics

    def counted(texts: list[tuple[Any, Any, int]], **options: Any) -> Any:
        rows.append(sum(n for _, _, n in texts))
        return native(texts, **options)

    monkeypatch.setattr(_native, "gopher_statistics", counted)
    return rows


def kill(source: Path, out: Path, pieces: int) -> None:
    interrupted.kill("select", source, out, OPTIONS, LIMITS, ("scores-*.piece", pieces))


def test_a_killed_run_is_gone_on_with(
    tmp_path: Path, source: Path, measured: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    whole = biollm.select(source, output=tmp_path / "whole", **OPTIONS)
    expected = interrupted.outputs(tmp_path / "whole")
    assert sum(measured) == ROWS
    assert len(expected) > 4
    out = tmp_path / "out"
    kill(source, out, 1)
    kill(source, out, 3)
    measured.clear()
    caplog.set_level(logging.INFO, "biollm.select")
    result = biollm.select(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == expected
    first, second = result.manifest.resumptions
    assert Manifest.read(out).resumptions == (first, second)
    assert 0 < first.kept <= first.done < second.kept <= second.done
    assert first.repeated <= 300
    assert second.repeated <= 300
    assert sum(measured) == ROWS - second.kept
    assert "going on from" in caplog.text
    assert result.scores.equals(whole.scores)
    assert result.dropped_texts == whole.dropped_texts
    measured.clear()
    assert biollm.select(source, output=out, **OPTIONS).manifest.resumptions == ()
    assert sum(measured) == ROWS


def test_what_is_damaged_is_done_again(tmp_path: Path, source: Path, measured: list[int]) -> None:
    biollm.select(source, output=tmp_path / "whole", **OPTIONS)
    out = tmp_path / "out"
    kill(source, out, 3)
    pieces = sorted((out / ".partial").glob("scores-*"))
    parts = sorted((out / ".partial" / "documents").glob("*.parquet"))
    assert (len(pieces), len(parts)) >= (2, 2)
    interrupted.damage(pieces[1])
    interrupted.damage(parts[0])
    measured.clear()
    result = biollm.select(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    (resumption,) = result.manifest.resumptions
    assert 0 < resumption.kept < resumption.done
    assert sum(measured) == ROWS - resumption.kept


@pytest.mark.parametrize("change", ["option", "input", "memory", "write"])
def test_other_work_begins_anew(tmp_path: Path, source: Path, measured: list[int], change: str) -> None:
    out = tmp_path / "out"
    kill(source, out, 3)
    options, given = dict(OPTIONS), source
    if change == "option":
        options["thresholds"] = {"min_words": 21}
    elif change == "input":
        source.write_bytes(source.read_bytes())
    elif change == "memory":
        given = biollm.read(source).documents.materialize()  # type: ignore[assignment]
    else:
        biollm.select(source, **OPTIONS).write(out)
        interrupted.outputs(out)
        return
    measured.clear()
    result = biollm.select(given, output=out, **options)
    assert result.manifest.resumptions == ()
    assert sum(measured) == ROWS
    interrupted.outputs(out)


def test_a_stage_is_gone_on_with_after_an_error(tmp_path: Path, source: Path, measured: list[int]) -> None:
    def context(folder: str, progress: Any) -> StageContext:
        inputs = (StageInput(str(source), "files", "source"),)
        return StageContext(tmp_path / folder, inputs, progress, logging.getLogger("biollm.select.test"))

    def stop(done: int, total: int | None) -> None:
        if done > 600:
            raise KeyboardInterrupt

    options = SelectOptions(**{**OPTIONS, "rules": ("gopher_quality",)})
    STAGE.run(context("whole", None), options)
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(context("out", stop), options)
    result = STAGE.run(context("out", None), options)
    assert interrupted.outputs(tmp_path / "out") == interrupted.outputs(tmp_path / "whole")
    assert [type(r) for r in result.manifest.resumptions] == [Resumption]
