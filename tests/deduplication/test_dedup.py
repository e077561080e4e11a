"""`dedup` from documents to decisions, and the folder it leaves."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
from biollm.deduplication import DedupOptions
from biollm.deduplication.stage import STAGE
from biollm.documents import Documents
from biollm.errors import ConfigError, FileError, InputError, LimitError
from biollm.manifest import Manifest
from biollm.results import Result, Summary
from biollm.stages import StageContext, StageInput

BASE = "patients with acute heart failure were treated for six months while the risk of death stayed low in all"
OTHER = "an unrelated report of bacterial growth on agar plates under blue light at room temperature over night"
TEXTS = [BASE, OTHER, BASE.upper() + ".", BASE + " groups", "", BASE, "...", ""]
KEEP = [True, True, False, False, True, False, True, False]


def test_masks_clusters_pairs() -> None:
    result = biollm.dedup(TEXTS, threshold=0.8)
    assert result.keep_mask.tolist() == KEEP
    assert result.cluster_id.tolist() == [0, 1, 0, 0, 4, 0, 6, 4]
    assert result.representative.tolist() == [0, 1, 0, 0, 4, 0, 6, 4]
    assert (result.keep_mask.dtype, result.cluster_id.dtype, result.representative.dtype) == (bool, np.int64, np.int64)
    assert result.pairs().schema == pa.schema([("a", pa.int64()), ("b", pa.int64()), ("jaccard", pa.float64())])
    pairs = [(p["a"], p["b"], p["jaccard"]) for p in result.pairs().to_pylist()]
    assert pairs == [(0, 2, 1.0), (0, 3, 15 / 16), (0, 5, 1.0), (4, 7, 1.0)]
    assert len(result) == 8
    assert repr(result) == "DedupResult(4 of 8 documents kept, 2 clusters)"
    assert isinstance(result, Result)


@pytest.mark.parametrize(
    ("keep", "kept"), [("first", [0, 1, 4, 6]), ("longest", [1, 3, 4, 6]), ("shortest", [0, 1, 4, 6])]
)
def test_which_document_is_kept(keep: Any, kept: list[int]) -> None:
    result = biollm.dedup(TEXTS, keep=keep)
    assert result.keep_mask.nonzero()[0].tolist() == kept
    assert set(result.representative.tolist()) == set(kept)
    assert result.cluster_id.tolist() == [0, 1, 0, 0, 4, 0, 6, 4]


def test_short_documents_are_compared_whole() -> None:
    texts = ["Heart failure", "heart, failure!", "heart", "failure heart", "heart failure today", "!", "!", "?"]
    assert biollm.dedup(texts).cluster_id.tolist() == [0, 0, 2, 3, 4, 5, 5, 7]


def test_why() -> None:
    table = pa.table({"id": [f"d{i}" for i in range(8)], "text": TEXTS})
    result = biollm.dedup(table, id="id")
    kept, removed, alone = result.why("d0"), result.why(3), result.why(1)
    assert (kept.keep, kept.cluster_size, kept.links) == (True, 4, ())
    assert str(kept) == "row 0, id d0: kept, for 4 alike"
    assert [(link.row, link.id, link.jaccard) for link in removed.links] == [(0, "d0", 15 / 16)]
    assert (removed.cluster_id, removed.representative, removed.keep) == (0, 0, False)
    assert str(removed) == "row 3, id d3: like row 0, id d0 (Jaccard 0.9375), which is kept"
    assert str(alone) == "row 1, id d1: kept, nothing like it"
    for wrong in ("d9", 8, -1):
        with pytest.raises(InputError):
            result.why(wrong)
    twice = biollm.dedup(pa.table({"id": ["a", "a"], "text": [BASE, OTHER]}), id="id")
    with pytest.raises(InputError, match="2 documents have the id 'a'"):
        twice.why("a")


def test_why_follows_a_chain() -> None:
    """Neighbours are alike, ends are not: a cluster is a connected component."""
    words = [f"w{i}" for i in range(140)]
    texts = [" ".join(words[i * 10 : i * 10 + 100]) for i in range(5)]
    result = biollm.dedup(texts, threshold=0.75, num_perm=256, bands=128)
    assert result.cluster_id.tolist() == [0] * 5
    links = result.why(4).links
    assert [link.row for link in links] == [3, 2, 1, 0]
    assert all(link.jaccard == 86 / 106 for link in links)
    assert (0, 4) not in {(p["a"], p["b"]) for p in result.pairs().to_pylist()}


def frames() -> list[Any]:
    table = pa.table({"text": TEXTS, "n": range(8)})
    sources: list[Any] = [TEXTS, tuple(TEXTS), table, table.to_batches()[0], table["text"], table["text"].chunk(0)]
    for package, make in (("polars", lambda m: m.from_arrow(table)), ("pandas", lambda _: table.to_pandas())):
        try:
            sources.append(make(__import__(package)))
        except ImportError:
            continue
    return sources


@pytest.mark.parametrize("source", frames(), ids=lambda source: f"{type(source).__module__}.{type(source).__name__}")
def test_filter_gives_back_the_type_that_came_in(source: Any) -> None:
    result = biollm.dedup(source)
    assert result.keep_mask.tolist() == KEEP
    kept = result.filter()
    assert type(kept) is type(source)
    assert len(kept) == 4


def test_readers_must_be_passed_again() -> None:
    table = pa.table({"text": TEXTS})
    result = biollm.dedup(table.to_reader(max_chunksize=3))
    assert result.keep_mask.tolist() == KEEP
    with pytest.raises(InputError, match="only once"):
        result.filter()
    kept = result.filter(table.to_reader(max_chunksize=2))
    assert isinstance(kept, pa.RecordBatchReader)
    assert kept.read_all()["text"].to_pylist() == [BASE, OTHER, "", "..."]
    with pytest.raises(InputError, match="rows"):
        result.filter(table.slice(1))


def jsonl(path: Path, texts: list[str], **columns: list[Any]) -> Path:
    rows = ({"text": text, **{k: v[i] for k, v in columns.items()}} for i, text in enumerate(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_paths(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", TEXTS)
    for source in (path, str(path), [path], str(tmp_path / "*.jsonl")):
        result = biollm.dedup(source)
        assert result.keep_mask.tolist() == KEEP
        kept = result.filter()
        assert isinstance(kept, Documents)
        assert kept.to_table()["text"].to_pylist() == [BASE, OTHER, "", "..."]
    assert "a.jsonl" in result.why(2).id


SOURCES = ["x", "x", "y", "y", "x", "y", "z", "x"]


def test_the_folder(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", TEXTS, source=SOURCES, id=list("abcdefgh"))
    folder = tmp_path / "out"
    result = biollm.dedup(path, id="id", output=folder)
    kept = pq.read_table(folder / "documents")
    assert kept["text"].to_pylist() == [BASE, OTHER, "", "..."]
    assert kept["cluster_id"].to_pylist() == [0, 1, 4, 6]
    assert kept["source"].to_pylist() == ["x", "x", "x", "z"]
    decisions = pq.read_table(folder / "decisions.parquet").to_pylist()
    assert decisions[0] == {"id": "a", "keep": True, "cluster_id": 0, "representative": 0, "reason": None}
    assert decisions[7] == {
        "id": "h",
        "keep": False,
        "cluster_id": 4,
        "representative": 4,
        "reason": "duplicate of e",
    }
    manifest = Manifest.read(folder)
    assert (manifest.verb, manifest.kind) == ("dedup", "documents")
    assert manifest == result.manifest
    assert manifest.options == DedupOptions(id="id").matched()
    assert manifest.inputs[0].xxh3_128 is not None
    assert dict(manifest.counts) == {
        "documents_in": 8,
        "documents_kept": 4,
        "documents_dropped": 4,
        "clusters": 2,
        "copies": 3,
        "candidates_compared": 1,
        "pairs": 4,
        "text_bytes_in": sum(map(len, TEXTS)),
        "text_bytes_kept": len(BASE + OTHER + "..."),
    }
    summary = Summary.from_dict(json.loads((folder / "summary.json").read_text()))
    assert summary == result.summary()

    # The result's own write leaves the same; and the folder is a source in its turn.
    result.write(tmp_path / "again")
    again = Manifest.read(tmp_path / "again")
    assert again.outputs == manifest.outputs
    assert biollm.dedup(folder, id="id").keep_mask.all()


def test_a_second_dedup_replaces_the_clusters(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS, "cluster_id": pa.array(["old"] * 8)})
    biollm.dedup(table, output=tmp_path)
    assert pq.read_table(tmp_path / "documents")["cluster_id"].to_pylist() == [0, 1, 4, 6]


def test_one_shot_sources_are_written(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS})
    result = biollm.dedup(table.to_reader(), output=tmp_path / "a")
    assert pq.read_table(tmp_path / "a" / "documents").num_rows == 4
    with pytest.raises(InputError, match="only once"):
        result.write(tmp_path / "b")
    result.write(tmp_path / "b", table.to_reader())
    assert Manifest.read(tmp_path / "b").outputs == result.manifest.outputs
    for wrong in (table.slice(1), pa.concat_tables([table, table])):
        with pytest.raises(InputError, match="rows"):
            result.write(tmp_path / "c", wrong)
    assert not (tmp_path / "c" / "manifest.json").exists()


def test_an_output_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError):
        biollm.dedup(TEXTS, output=tmp_path / "file" / "x")
    with pytest.raises(InputError, match="holds other files"):
        biollm.dedup(TEXTS, output=tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


def test_summary() -> None:
    table = pa.table({"text": TEXTS, "source": SOURCES})
    summary = biollm.dedup(table).summary()
    assert summary.facts["dropped_fraction"] == 0.5
    tables = {t.title: t for t in summary.tables}
    assert tables["Clusters by size"].rows == (("2", 1, 2, 1), ("4 to 5", 1, 4, 3))
    assert tables["Largest clusters"].rows == ((0, 4, 0, "0"), (4, 2, 4, "4"))
    assert tables["Documents by source"].rows == (("x", 4, 3, 0.75, 0), ("y", 3, 0, 0.0, 3), ("z", 1, 1, 1.0, 0))
    assert sum(summary.series[0].y) == 1
    assert summary.series[0].x[-2:] == (0.9, 0.95)
    assert any("Jaccard 0.938" in sample.title for sample in summary.samples)
    assert any("groups" in sample.text for sample in summary.samples)
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary


def test_nothing_and_one() -> None:
    for texts in ([], ["alone"]):
        result = biollm.dedup(texts)
        assert result.keep_mask.tolist() == [True] * len(texts)
        assert result.pairs().num_rows == 0
        assert result.summary().facts["clusters"] == 0
        assert result.filter() == texts
        assert result.decisions().num_rows == len(texts)


def test_text_of_several_columns() -> None:
    table = pa.table({"title": ["A b", "a B", "x"], "body": ["c d e f", "C D E F", "y"]})
    assert biollm.dedup(table, text=["title", "body"]).keep_mask.tolist() == [True, False, True]


def test_a_result_pickles() -> None:
    result = biollm.dedup(TEXTS)
    back = pickle.loads(pickle.dumps(result))
    assert back.keep_mask.tolist() == KEEP
    assert back.pairs().equals(result.pairs())
    assert back.why(3) == result.why(3)


def test_progress_counts_documents_and_may_stop() -> None:
    seen: list[tuple[int, int | None]] = []
    biollm.dedup(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)

    class EnoughError(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        biollm.dedup(TEXTS, progress=stop)


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"threshold": 0}, ConfigError, "threshold"),
        ({"threshold": 1.01}, ConfigError, "threshold"),
        ({"threshold": float("nan")}, ConfigError, "threshold"),
        ({"num_perm": 0}, ConfigError, "num_perm"),
        ({"num_perm": 2**40}, LimitError, "num_perm"),
        ({"num_perm": 2**80}, LimitError, "num_perm"),
        ({"bands": 0}, ConfigError, "bands"),
        ({"bands": 33}, ConfigError, "bands"),
        ({"bands": 512}, ConfigError, "bands"),
        ({"shingle": "word:0"}, ConfigError, "shingle"),
        ({"shingle": "word:65"}, LimitError, "shingle"),
        ({"shingle": "word"}, ConfigError, "shingle"),
        ({"shingle": "char:5"}, ConfigError, "shingle"),
        ({"shingle": "word:٣"}, ConfigError, "shingle"),
        ({"keep": "newest"}, ConfigError, "keep"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"threads": 0}, ConfigError, "threads"),
        ({"threads": 2**40}, LimitError, None),
        ({"max_document_bytes": 0}, ConfigError, "max_document_bytes"),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], field: str | None) -> None:
    with pytest.raises(error) as caught:
        biollm.dedup(TEXTS, **options)
    if field is not None:
        assert caught.value.field == field  # type: ignore[attr-defined]


def test_the_message_on_bands_names_a_divisor() -> None:
    with pytest.raises(ConfigError, match="does not divide num_perm = 256: give 32"):
        DedupOptions(bands=33)


@pytest.mark.parametrize("options", [{"threshold": "x"}, {"num_perm": "256"}, {"shingle": 5}, {"num_perm": 2.0}])
def test_wrong_types(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        biollm.dedup(TEXTS, **options)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (["a", None], (TypeError, InputError)),
        (["a", 5], (TypeError, InputError)),
        (["a", "\ud800"], InputError),
        (pa.table({"text": ["a", None]}), InputError),
        (pa.table({"body": ["a"]}), InputError),
        (pa.table({"text": [1, 2]}), InputError),
        ("/nonexistent/x.jsonl", FileError),
        (5, TypeError),
    ],
)
def test_bad_sources(source: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        biollm.dedup(source)


def test_invalid_utf8_and_long_documents_name_the_row() -> None:
    bad = pa.Array.from_buffers(
        pa.large_string(), 2, [None, pa.py_buffer(np.array([0, 1, 3])), pa.py_buffer(b"a\xff\xfe")]
    )
    with pytest.raises(InputError, match="UTF8 sequence at string index 1"):
        biollm.dedup(pa.table({"text": bad}))
    with pytest.raises(LimitError, match="max_document_bytes") as limit:
        biollm.dedup(["short", "x" * 101], max_document_bytes=100)
    assert limit.value.row == 1


def test_many_copies_are_not_compared_with_each_other() -> None:
    result = biollm.dedup([BASE] * 50_000 + [OTHER + " again"] * 50_000)
    assert result.keep_mask.sum() == 2
    assert result.manifest.counts["candidates_compared"] == 0
    assert result.manifest.counts["copies"] == 99_998


def test_the_stage(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", TEXTS)
    folder = tmp_path / "stage"
    folder.mkdir()
    context = StageContext(folder, (StageInput(path, "files", "a"),), None, logging.getLogger("test"))
    result = STAGE.run(context, DedupOptions(keep="longest"))
    manifest = Manifest.read(folder)
    assert manifest.options["keep"] == "longest"
    assert manifest.hash == result.manifest.hash
    assert STAGE.gives == manifest.kind
    assert pq.read_table(folder / "documents").num_rows == 4


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 3)):
        biollm.dedup(TEXTS, output=tmp_path / name, threads=threads)
    first, second = Manifest.read(tmp_path / "a"), Manifest.read(tmp_path / "b")
    assert (first.outputs, first.match_key) == (second.outputs, second.match_key)


@pytest.mark.parametrize("name", ["threshold", "num_perm", "bands", "seed", "threads", "max_document_bytes"])
def test_a_number_of_the_wrong_type_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is str, not a number"):
        biollm.dedup(["a b c d e"], **{name: "x"})
