"""`select` from documents to decisions, and the folder it leaves."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
from biollm import _native
from biollm.documents import Documents
from biollm.errors import ConfigError, InputError, LimitError
from biollm.manifest import Manifest
from biollm.results import Summary
from biollm.selection import STATISTICS
from biollm.selection.stage import STAGE
from biollm.stages import StageContext

GOOD = (
    "the patients with acute heart failure were treated and followed for months while that risk of death remained "
    "low to moderate in most groups although some have shown signs of renal disease which would be expected after "
    "longer use of diuretics because older people often suffer from several chronic illnesses at once without notice."
)
WORDS = GOOD.rstrip(".").split()
SHORT = "Too short."
NOISE = "### 12 34 56 ### " * 30
LOOP = "the risk of death " * 60
TEXTS = [GOOD, SHORT, NOISE, "", GOOD.replace("heart", "liver"), LOOP]


def test_decisions_and_reasons() -> None:
    result = biollm.select(TEXTS)
    assert result.keep_mask.tolist() == [True, False, False, False, True, False]
    assert result.keep_mask.dtype == np.bool_
    assert result.scores.column_names == list(STATISTICS)
    assert result.scores.num_rows == len(TEXTS) == len(result)
    assert result.reason.to_pylist()[0] is None
    assert result.reason[1].as_py().startswith("min_words: words 2 < 50; ")
    names = [failure.rule for failure in result.why(2).failures]
    assert names[:2] == ["min_mean_word_length", "max_hash_ratio"]
    assert "max_top_2_gram_character_fraction" in names
    decision = result.why("5")
    assert (decision.row, decision.keep) == (5, False)
    assert {f.rule for f in decision.failures} >= {"max_duplicate_5_gram_character_fraction"}
    assert decision.scores["words"] == 240
    assert "row 5" in str(decision)
    assert "fails no rule" in str(result.why(0))
    assert repr(result) == "Selection(2 of 6 documents kept, 24 rules)"


def test_columns_name_variant_and_definition() -> None:
    for field in biollm.select([GOOD]).scores.schema:
        assert field.metadata[b"variant"] == b"datatrove 0.10, UAX 29 segments"
        assert field.metadata[b"definition"].decode() == STATISTICS[field.name].definition


@pytest.mark.parametrize(("rules", "group"), [(["gopher_quality"], "quality"), (["gopher_repetition"], "repetition")])
def test_only_what_the_rules_look_at_is_measured(rules: list[str], group: str) -> None:
    whole, part = biollm.select(TEXTS), biollm.select(TEXTS, rules=rules)
    wanted = [name for name, statistic in STATISTICS.items() if statistic.group in ("common", group)]
    assert part.scores.column_names == wanted
    assert part.scores == whole.scores.select(wanted)


def test_thresholds_by_name() -> None:
    thresholds = {"min_words": 2, "min_stop_words": "off", "min_alphabetic_fraction": 2 / 3}
    result = biollm.select([SHORT, GOOD], rules=["gopher_quality"], thresholds=thresholds)
    assert result.keep_mask.tolist() == [True, True]
    with pytest.raises(ConfigError, match="did you mean 'min_words'"):
        biollm.select([GOOD], thresholds={"min_wrds": 2})


def test_choosing_again_from_the_same_scores() -> None:
    result = biollm.select(TEXTS)
    for rules, thresholds in ((None, {"min_words": 1}), (("gopher_repetition",), None)):
        again = result.choose(rules=rules, thresholds=thresholds)
        fresh = biollm.select(TEXTS, rules=rules or ("gopher_quality", "gopher_repetition"), thresholds=thresholds)
        assert again.keep_mask.tolist() == fresh.keep_mask.tolist()
        assert again.manifest.options == fresh.manifest.options
        assert again.manifest.counts == fresh.manifest.counts
    with pytest.raises(ConfigError, match="which was not measured"):
        biollm.select(TEXTS, rules=["gopher_quality"]).choose(rules=["gopher_repetition"])


def test_no_documents_and_empty_ones() -> None:
    nothing = biollm.select([])
    assert len(nothing) == 0
    assert nothing.scores.column_names == list(STATISTICS)
    assert nothing.filter() == []
    assert nothing.summary().facts["documents_in"] == 0
    empty = biollm.select(["", " \n ", "word"], rules=["gopher_repetition"])
    assert empty.why(0).failures[0].rule == "min_characters"
    assert not empty.keep_mask[0]


def test_nulls_are_refused_by_row() -> None:
    with pytest.raises(InputError, match="null"):
        biollm.select(pa.table({"text": [GOOD, None]}))


def test_too_long_a_document_is_named() -> None:
    with pytest.raises(LimitError) as caught:
        biollm.select([SHORT, GOOD], max_document_bytes=50)
    assert caught.value.row == 1
    assert caught.value.value == len(GOOD)


def test_the_row_of_an_error_is_that_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biollm.document_files.BLOCK_ROWS", 3)
    with pytest.raises(LimitError, match="row 7") as caught:
        biollm.select([SHORT] * 7 + [GOOD], max_document_bytes=50)
    assert caught.value.row == 7


def test_results_do_not_depend_on_threads_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(WORDS[i % 7 : i % 41]) * (i % 5) for i in range(600)]
    one = biollm.select(texts, threads=1)
    for threads in (2, 5):
        other = biollm.select(texts, threads=threads)
        assert other.scores == one.scores
        assert other.failed.tolist() == one.failed.tolist()
    monkeypatch.setattr("biollm.document_files.BLOCK_ROWS", 7)
    blocks = biollm.select(texts, threads=2)
    assert blocks.scores == one.scores
    assert blocks.dropped_texts == one.dropped_texts
    assert blocks.why(599) == one.why(599)


def test_progress_counts_documents_and_may_stop_the_work() -> None:
    seen: list[tuple[int, int | None]] = []
    biollm.select(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == len(TEXTS)

    def stop(done: int, total: int | None) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        biollm.select(TEXTS, progress=stop)


def test_results_survive_pickle() -> None:
    result = biollm.select(TEXTS)
    copy = pickle.loads(pickle.dumps(result))
    assert copy.why(2) == result.why(2)
    assert copy.filter() == result.filter()


# --- filter ---------------------------------------------------------------------------------------------------------


def test_filter_gives_the_type_that_came_in() -> None:
    table = pa.table({"text": TEXTS, "n": range(len(TEXTS))})
    assert biollm.select(TEXTS).filter() == [TEXTS[0], TEXTS[4]]
    kept = biollm.select(table).filter()
    assert isinstance(kept, pa.Table)
    assert kept.column("n").to_pylist() == [0, 4]


def test_a_reader_must_be_passed_again() -> None:
    table = pa.table({"id": [str(i) for i in range(6)], "text": TEXTS}).cast(
        pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
    )
    result = biollm.select(table.to_reader(max_chunksize=2))
    with pytest.raises(InputError, match="pass it again"):
        result.filter()
    kept = result.filter(table.to_reader(max_chunksize=2))
    assert isinstance(kept, pa.RecordBatchReader)
    assert kept.read_all().column("id").to_pylist() == ["0", "4"]
    with pytest.raises(InputError, match="4 rows"):
        result.filter(TEXTS[:4])
    with pytest.raises(InputError, match="output="):
        result.write("anywhere")


def test_why_knows_rows_and_ids() -> None:
    result = biollm.select(pa.table({"key": ["a", "b", "b"], "text": [GOOD, SHORT, SHORT]}), id="key")
    assert result.why("a").row == 0
    assert result.why(np.int64(2)).id == "b"
    for wrong in (3, -1, "c", "b"):
        with pytest.raises(InputError):
            result.why(wrong)
    with pytest.raises(TypeError):
        result.why(1.0)  # type: ignore[arg-type]


# --- folder ---------------------------------------------------------------------------------------------------------


def check_folder(folder: Path, result: Any) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"documents/part-00000.parquet", "decisions.parquet", "summary.json", "manifest.json"}
    kept = pq.read_table(folder / "documents")
    assert kept.column("text").to_pylist() == [TEXTS[0], TEXTS[4]]
    decisions = pq.read_table(folder / "decisions.parquet")
    assert decisions.column_names == ["id", "keep", *STATISTICS, "reason"]
    assert decisions.column("keep").to_pylist() == result.keep_mask.tolist()
    assert decisions.column("reason").to_pylist() == result.reason.to_pylist()
    assert decisions.schema.field("words").metadata[b"variant"].startswith(b"datatrove")
    manifest = Manifest.read(folder)
    assert (manifest.verb, manifest.kind) == ("select", "documents")
    assert manifest.counts == {"documents_in": 6, "documents_kept": 2, "documents_dropped": 4}
    assert manifest.outputs == {name: _native.hash_file(folder / name) for name in names - {"manifest.json"}}
    summary = Summary.from_dict(json.loads((folder / "summary.json").read_text()))
    assert summary == Summary.from_dict(result.summary().to_dict())


def test_output_leaves_a_folder(tmp_path: Path) -> None:
    result = biollm.select(TEXTS, output=tmp_path / "out")
    check_folder(tmp_path / "out", result)
    assert Manifest.read(tmp_path / "out").hash == result.manifest.hash
    biollm.select(TEXTS).write(tmp_path / "again")
    check_folder(tmp_path / "again", result)
    assert Manifest.read(tmp_path / "again").outputs == result.manifest.outputs
    # A second run takes the folder over; a folder of other files it leaves alone.
    biollm.select(TEXTS, output=tmp_path / "out")
    check_folder(tmp_path / "out", result)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        biollm.select(TEXTS, output=tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").exists()


def test_a_failing_run_leaves_no_manifest(tmp_path: Path) -> None:
    biollm.select(TEXTS, output=tmp_path)
    with pytest.raises(LimitError):
        biollm.select(TEXTS, output=tmp_path, max_document_bytes=100)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_parts_of_a_large_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biollm.document_files.BLOCK_ROWS", 10)
    monkeypatch.setattr("biollm.document_files.ROWS_PER_FILE", 25)
    texts = [f"{GOOD} {i}" for i in range(60)]
    result = biollm.select(texts, output=tmp_path)
    assert sorted(path.name for path in (tmp_path / "documents").iterdir()) == [
        f"part-0000{i}.parquet" for i in range(3)
    ]
    assert pq.read_table(tmp_path / "documents").column("text").to_pylist() == texts
    assert set(result.manifest.outputs) >= {f"documents/part-0000{i}.parquet" for i in range(3)}


def test_the_output_may_not_hold_the_source(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": GOOD}) + "\n")
    with pytest.raises(InputError, match="holds the source"):
        biollm.select(source, output=tmp_path)
    assert source.exists()


def test_a_selection_is_a_source_and_a_stage(tmp_path: Path) -> None:
    import logging

    from biollm.manifest import InputRecord
    from biollm.stages import StageInput

    first = tmp_path / "first"
    biollm.select(TEXTS, thresholds={"min_words": 1}, output=first)
    record = InputRecord.of_stage(first)
    inputs = (StageInput(first, "documents", "first", record),)
    folder = tmp_path / "second"
    folder.mkdir()
    context = StageContext(folder, inputs, None, logging.getLogger("test"))
    options = STAGE.options(rules=("gopher_quality",), thresholds={"min_words": 60.0})
    result = STAGE.run(context, options)
    manifest = Manifest.read(folder)
    assert manifest.inputs == (record,)
    assert manifest.options["thresholds"] == {"min_words": 60.0}
    assert isinstance(result.filter(), Documents)  # type: ignore[attr-defined]
    assert pq.read_table(folder / "documents").column("text").to_pylist() == []


# --- summary --------------------------------------------------------------------------------------------------------


def test_summary_tells_rules_sources_and_samples() -> None:
    table = pa.table({"text": TEXTS, "source": ["a", "a", "b", "b", None, "b"]})
    result = biollm.select(table)
    summary = result.summary()
    assert summary.facts["documents_in"] == 6
    assert summary.facts["characters_kept"] == 2 * len(GOOD)
    rules, sources = summary.tables
    rows = {row[0]: row[1:] for row in rules.rows}
    assert rows["min_words"] == ("words < 50", 2, 2 / 6, 0)
    assert sources.rows == (("b", 3, 0, 0.0), ("a", 2, 1, 0.5), ("(none)", 1, 1, 1.0))
    for series in summary.series:
        assert series.kind == "bar"
        assert len(series.x) == len(series.y)
    words = [series for series in summary.series if series.title == "words"]
    assert [series.name for series in words] == ["kept", "dropped"]
    assert [sum(series.y) for series in words] == [2, 4]
    assert {sample.text for sample in summary.samples} >= {SHORT, ""}
    assert any(sample.title.startswith("dropped: row 1, id 1: min_words") for sample in summary.samples)
    assert Summary.from_dict(summary.to_dict()) == summary
