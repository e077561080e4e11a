"""`dedup` by line, paragraph and sentence: spans, sources without them, words, folders."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
from biollm.deduplication import DedupResult
from biollm.documents import Documents
from biollm.errors import ConfigError, InputError, LimitError
from biollm.manifest import Manifest
from biollm.results import Summary

TEXTS = ["Menü\nFirst text.\nMenü\n", "menü\nSecond text.\n", "MENÜ\n", "한국어\nfirst  text.", "", "\n"]
OPTIONS: dict[str, Any] = {"method": "line", "normalize": "case,space", "min_length": 3}
LEFT = ["Menü\nFirst text.\nMenü\n", "Second text.\n", "한국어\n", "", "\n"]


def dedup(source: Any, **options: Any) -> DedupResult:
    return biollm.dedup(source, **{**OPTIONS, **options})


def test_spans() -> None:
    result = dedup(TEXTS)
    assert result.keep_mask.tolist() == [True, True, False, True, True, True]
    assert result.spans().to_pylist() == [
        {"row": 1, "start_byte": 0, "end_byte": 6},
        {"row": 2, "start_byte": 0, "end_byte": 6},
        {"row": 3, "start_byte": 10, "end_byte": 22},
    ]
    assert result.cluster_id.tolist() == list(range(6))
    assert result.representative.tolist() == [0, 1, -1, 3, 4, 5]
    assert result.pairs().num_rows == 0
    with pytest.raises(InputError, match="cuts nothing"):
        biollm.dedup(TEXTS).spans()


def test_why_in_words() -> None:
    result = dedup(TEXTS)
    assert str(result.why(0)) == "row 0, id 0: kept, nothing is cut"
    assert str(result.why(1)) == "row 1, id 1: kept, 1 line cut: 1 that row 0 has"
    assert str(result.why(2)) == "row 2, id 2: nothing is left, 1 line cut: 1 that row 0 has"
    assert (result.why(2).keep, result.why(2).links, dict(result.why(3).cut)) == (False, (), {0: 1})


def frames() -> list[Any]:
    table = pa.table({"n": range(6), "text": TEXTS})
    sources: list[Any] = [TEXTS, tuple(TEXTS), table, table.to_batches()[0], table["text"], table["text"].chunk(0)]
    sources.append(table.set_column(1, "text", table["text"].cast(pa.large_string())))
    sources.append(table.set_column(1, "text", table["text"].dictionary_encode()))
    for package, make in (
        ("polars", lambda m: m.from_arrow(table)),
        ("pandas", lambda _: table.to_pandas().set_index("n")),
        ("datasets", lambda m: m.Dataset(table)),
    ):
        try:
            sources.append(make(__import__(package)))
        except ImportError:
            continue
    return sources


@pytest.mark.parametrize("source", frames(), ids=lambda source: f"{type(source).__module__}.{type(source).__name__}")
def test_filter_cuts_what_came_in(source: Any) -> None:
    result = dedup(source)
    kept = result.filter()
    assert type(kept) is type(source)
    if hasattr(kept, "schema"):
        assert kept.schema == source.schema
    column = kept["text"] if hasattr(kept, "columns") or hasattr(kept, "column_names") else kept
    texts = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    assert texts == LEFT


def test_readers_documents_and_paths(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS, "n": range(6)})
    result = dedup(table)
    for size in (1, 4):
        kept = result.filter(table.to_reader(max_chunksize=size))
        assert isinstance(kept, pa.RecordBatchReader)
        read = kept.read_all()
        assert (read["text"].to_pylist(), read["n"].to_pylist()) == (LEFT, [0, 1, 3, 4, 5])
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in TEXTS))
    of_path = dedup(path, text="body")
    kept = of_path.filter()
    assert isinstance(kept, Documents)
    assert kept.to_table()["text"].to_pylist() == LEFT
    columns = pa.table({"id": list("abcdef"), "text": [""] * 6, "body": TEXTS})
    documents = Documents(columns.to_reader, columns.schema)
    assert dedup(documents, text="body").filter().to_table()["body"].to_pylist() == LEFT
    with pytest.raises(InputError, match="rows"):
        result.filter(table.slice(1))
    with pytest.raises(InputError, match="no column 'text'"):
        result.filter(table.select(["n"]))


def test_chunks_and_slices() -> None:
    """Spans count from the text's own first byte, wherever it lies in a buffer."""
    whole = pa.array(["padding", *TEXTS, "padding"], pa.large_string())
    column = pa.chunked_array([whole.slice(1, 2), whole.slice(3, 0), whole.slice(3, 4)])
    assert dedup(column).filter().to_pylist() == LEFT


def test_the_folder(tmp_path: Path) -> None:
    table = pa.table({"id": list("abcdef"), "text": TEXTS, "source": list("xxyyzz")})
    result = dedup(table, id="id", output=tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / "documents")
    assert (kept["id"].to_pylist(), kept["text"].to_pylist()) == (list("abdef"), LEFT)
    decisions = pq.read_table(tmp_path / "out" / "decisions.parquet").to_pylist()
    kept_one = {"id": "b", "keep": True, "cluster_id": 1, "representative": 1, "pieces_cut": 1, "reason": None}
    assert decisions[1] == kept_one
    assert decisions[2] == {
        "id": "c",
        "keep": False,
        "cluster_id": 2,
        "representative": -1,
        "pieces_cut": 1,
        "reason": "nothing is left",
    }
    manifest = Manifest.read(tmp_path / "out")
    assert dict(manifest.options) == {**OPTIONS, "keep": "first", "text": "text", "id": "id"}
    size = sum(len(text.encode()) for text in LEFT)
    counts = dict(manifest.counts)
    assert counts == {
        "documents_in": 6,
        "documents_kept": 5,
        "documents_dropped": 1,
        "documents_cut": 3,
        "pieces": 8,
        "pieces_cut": 3,
        "text_bytes_in": sum(len(text.encode()) for text in TEXTS),
        "text_bytes_kept": size,
    }
    summary = Summary.from_dict(json.loads((tmp_path / "out" / "summary.json").read_text()))
    assert summary == result.summary()
    assert summary.facts["pieces_cut"] == 3
    assert [sample.text for sample in summary.samples] == ["menü\n", "MENÜ\n", "first  text."]
    assert summary.tables[0].rows == (("x", 2, 2, 1.0, 0), ("y", 2, 1, 0.5, 0), ("z", 2, 2, 1.0, 0))
    assert repr(result) == "DedupResult(5 of 6 documents kept, 3 lines cut)"
    result.write(tmp_path / "again")
    assert Manifest.read(tmp_path / "again").outputs == manifest.outputs
    back = pickle.loads(pickle.dumps(result))
    assert back.spans().equals(result.spans())
    # Once more there is nothing to cut.
    assert len(dedup(tmp_path / "out", id="id").spans()) == 0


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"keep": "longest"}, ConfigError, "keep"),
        ({"text": ["a", "b"]}, ConfigError, "text"),
        ({"min_length": 0}, ConfigError, "min_length"),
        ({"min_length": 2**40}, LimitError, "min_length"),
        ({"method": "exact"}, ConfigError, "min_length"),
        ({"threshold": 0.5}, ConfigError, "threshold"),
        ({"min_length": "x"}, TypeError, None),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], field: str | None) -> None:
    with pytest.raises(error) as caught:
        dedup(TEXTS, **options)
    if field is not None:
        assert caught.value.field == field  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["line", "paragraph", "sentence"])
def test_nothing_and_progress(method: str) -> None:
    seen: list[tuple[int, int | None]] = []
    result = dedup(["a b c. d e f."] * 3, method=method, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    assert result.keep_mask.tolist() == [True, False, False]
    assert dedup([], method=method).filter() == []
