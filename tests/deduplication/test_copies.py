"""`dedup(method="exact")` and `dedup(method="url")`: decisions, words, folders, options."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

import biollm
from biollm.cli.verbs import verb_command
from biollm.deduplication import DedupOptions
from biollm.errors import ConfigError, InputError, LimitError
from biollm.manifest import Manifest
from biollm.recipe import run
from biollm.results import Summary

TEXTS = ["Heart failure", "heart  failure", "Heart failure", "", "other", "", "HEART FAILURE "]
URLS = ["https://www.a.org/x/?utm_source=y", "http://a.org/x", None, "", "doi:10.1/X", "a.org/x#top", None]


def table(**columns: list[Any]) -> pa.Table:
    return pa.table({"id": [f"d{i}" for i in range(len(TEXTS))], "text": TEXTS, **columns})


def test_equal_texts() -> None:
    result = biollm.dedup(TEXTS, method="exact")
    assert result.cluster_id.tolist() == [0, 1, 0, 3, 4, 3, 6]
    assert result.keep_mask.tolist() == [True, True, False, True, True, False, True]
    assert result.pairs().to_pylist() == [
        {"a": 0, "b": 2, "jaccard": 1.0},
        {"a": 3, "b": 5, "jaccard": 1.0},
    ]
    assert result.filter() == ["Heart failure", "heart  failure", "", "other", "HEART FAILURE "]
    assert (result.method, result.histogram) == ("exact", ())


@pytest.mark.parametrize(
    ("normalize", "clusters"),
    [
        ("nfc", [0, 1, 0, 3, 4, 3, 6]),
        ("case", [0, 1, 0, 3, 4, 3, 6]),
        ("space", [0, 1, 0, 3, 4, 3, 6]),
        ("case,space", [0, 0, 0, 3, 4, 3, 0]),
        ("space,nfc,case", [0, 0, 0, 3, 4, 3, 0]),
    ],
)
def test_normalised_texts(normalize: str, clusters: list[int]) -> None:
    assert biollm.dedup(TEXTS, method="exact", normalize=normalize).cluster_id.tolist() == clusters


@pytest.mark.parametrize(
    ("keep", "kept", "plain"), [("first", 0, 0), ("longest", 1, 0), ("shortest", 0, 0)], ids=lambda value: str(value)
)
def test_which_is_kept(keep: Any, kept: int, plain: int) -> None:
    """Texts equal as they are have one length, so each policy keeps the first."""
    result = biollm.dedup(TEXTS, method="exact", normalize="case,space", keep=keep)
    assert result.representative.tolist() == [kept, kept, kept, 3, 4, 3, kept]
    assert biollm.dedup(TEXTS, method="exact", keep=keep).representative.tolist() == [plain, 1, plain, 3, 4, 3, 6]


def test_why_in_words() -> None:
    result = biollm.dedup(table(), method="exact", normalize="case,space", keep="longest", id="id")
    decision = result.why("d6")
    assert [(link.row, link.jaccard) for link in decision.links] == [(0, 1.0), (1, 1.0)]
    words = "row 6, id d6: of the same text as row 0, id d0, of the same text as row 1, id d1, which is kept"
    assert str(decision) == words
    by_url = biollm.dedup(table(url=URLS), method="url").why(5)
    assert [(link.row, link.jaccard) for link in by_url.links] == [(0, None)]
    assert str(by_url) == "row 5, id d5: of the same URL as row 0, id d0, which is kept"
    assert pickle.loads(pickle.dumps(result)).why("d6") == decision


def test_equal_urls() -> None:
    result = biollm.dedup(table(url=URLS), method="url")
    assert result.cluster_id.tolist() == [0, 0, 2, 3, 4, 0, 6]
    pairs = [{"a": 0, "b": 1, "jaccard": None}, {"a": 0, "b": 5, "jaccard": None}]
    assert result.pairs().to_pylist() == pairs
    assert result.pairs().schema.field("jaccard").type == pa.float64()
    longest = biollm.dedup(table(link=URLS), method="url", url="link", keep="longest")
    assert longest.representative.tolist() == [1, 1, 2, 3, 4, 1, 6]
    assert longest.filter()["id"].to_pylist() == ["d1", "d2", "d3", "d4", "d6"]
    assert biollm.dedup(table(url=[None] * 7), method="url").keep_mask.all()


def test_urls_of_other_kinds_of_column(tmp_path: Path) -> None:
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array(URLS, pa.string()).cast(kind)
        found = biollm.dedup(table().append_column("url", column), method="url")
        assert found.cluster_id.tolist() == [0, 0, 2, 3, 4, 0, 6]
    # Of JSON Lines a reader keeps fields nobody named in `meta`.
    path = tmp_path / "a.jsonl"
    rows = [{"id": i, "text": text, "url": url} for i, (text, url) in enumerate(zip(TEXTS, URLS, strict=True))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = biollm.dedup(path, method="url", output=tmp_path / "out")
    assert result.cluster_id.tolist() == [0, 0, 2, 3, 4, 0, 6]
    assert pq.read_table(tmp_path / "out" / "documents")["id"].to_pylist() == ["0", "2", "3", "4", "6"]
    path.write_text('{"text": "a", "url": "x"}\n{"text": "b", "url": 5}\n')
    with pytest.raises(InputError, match="row 1 is int") as caught:
        biollm.dedup(path, method="url")
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (TEXTS, "no column 'url' for the URL"),
        (table(), "no column 'url' for the URL"),
        (table(url=list(range(7))), "not text"),
    ],
    ids=["texts", "no column", "numbers"],
)
def test_urls_that_are_not_there(source: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        biollm.dedup(source, method="url")


@pytest.mark.parametrize(
    ("options", "field", "match"),
    [
        ({"method": "simhash"}, "method", "give 'fuzzy', 'exact', 'url', 'line', 'paragraph', 'sentence'"),
        ({"method": "exact", "threshold": 0.9}, "threshold", "an option of method 'fuzzy', and method is 'exact'"),
        (
            {"method": "url", "normalize": "case"},
            "normalize",
            "an option of method 'exact' or 'line' or 'paragraph' or 'sentence', and method is 'url'",
        ),
        ({"normalize": "case"}, "normalize", "method is 'fuzzy'"),
        ({"url": "link"}, "url", "method is 'fuzzy'"),
        ({"method": "exact", "normalize": "nfkc"}, "normalize", "give 'none', or some of 'nfc,case,space'"),
        ({"method": "exact", "normalize": "case,case"}, "normalize", "give 'none'"),
        ({"method": "exact", "normalize": ""}, "normalize", "give 'none'"),
        ({"method": "exact", "keep": "best"}, "keep", "give 'first'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], field: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        biollm.dedup(TEXTS, **options)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["normalize", "url"])
def test_wrong_types(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is int, not str"):
        biollm.dedup(TEXTS, **{name: 5})  # type: ignore[arg-type]


def test_long_documents_and_urls() -> None:
    for options in ({"method": "exact"}, {"method": "url"}):
        with pytest.raises(LimitError) as caught:
            biollm.dedup(table(url=URLS), max_document_bytes=12, **options)
        assert caught.value.row == 0
    assert biollm.dedup(["x"] * 3, method="exact", max_document_bytes=1).keep_mask.sum() == 1


def test_the_folder_and_the_manifest(tmp_path: Path) -> None:
    result = biollm.dedup(table(), method="exact", normalize="space,case", id="id", output=tmp_path / "out")
    manifest = Manifest.read(tmp_path / "out")
    expected = {"method": "exact", "normalize": "case,space", "keep": "first", "text": "text", "id": "id"}
    assert dict(manifest.options) == expected
    assert manifest == result.manifest
    assert manifest.counts["copies"] == manifest.counts["pairs"] == 4
    decisions = pq.read_table(tmp_path / "out" / "decisions.parquet").to_pylist()
    assert decisions[1]["reason"] == "duplicate of d0"
    summary = Summary.from_dict(json.loads((tmp_path / "out" / "summary.json").read_text()))
    assert summary == result.summary()
    assert (summary.facts["same_text_as_an_earlier_document"], summary.facts["normalize"]) == (4, "case,space")
    assert len(summary.samples) == 4
    assert not summary.series
    result.write(tmp_path / "again")
    assert Manifest.read(tmp_path / "again").outputs == manifest.outputs
    by_url = biollm.dedup(table(url=URLS), method="url", output=tmp_path / "url", threads=2)
    assert by_url.summary().facts["same_url_as_an_earlier_document"] == 2
    assert dict(by_url.manifest.options) == {"method": "url", "url": "url", "keep": "first", "text": "text", "id": None}


def test_options_of_other_methods_do_not_match() -> None:
    assert DedupOptions(method="exact").matched() != DedupOptions(method="exact", normalize="nfc").matched()
    assert "num_perm" not in DedupOptions(method="exact").matched()


def test_nothing_and_progress() -> None:
    seen: list[tuple[int, int | None]] = []
    biollm.dedup(TEXTS, method="exact", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)
    for method in ("exact", "url"):
        empty = biollm.dedup(
            pa.table({"text": pa.array([], pa.string()), "url": pa.array([], pa.string())}), method=method
        )
        assert len(empty) == empty.pairs().num_rows == 0
        assert empty.summary().facts["clusters"] == 0


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    texts = [f"text {i % 700}" for i in range(3000)]
    for name, threads in (("a", 1), ("b", 3)):
        biollm.dedup(texts, method="exact", output=tmp_path / name, threads=threads)
    first, second = Manifest.read(tmp_path / "a"), Manifest.read(tmp_path / "b")
    assert (first.outputs, first.match_key) == (second.outputs, second.match_key)


def test_a_million_equal_documents() -> None:
    result = biollm.dedup(pa.array(["the same again"]).take(pa.array([0] * 1_000_000)), method="exact")
    assert result.keep_mask.sum() == 1
    assert result.manifest.counts["copies"] == 999_999


RECIPE = """
[[stage]]
name = "equal"
verb = "dedup"
inputs = ["*.jsonl"]
method = "exact"
normalize = "case,space"

[[stage]]
name = "lines"
verb = "dedup"
inputs = ["equal"]
method = "line"
min_length = 5
"""


def test_the_command_and_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": text, "url": url} for text, url in zip(TEXTS, URLS, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = typer.Typer(add_completion=False)
    alone.command("dedup")(verb_command("dedup"))
    found = CliRunner().invoke(alone, [str(path), "-o", str(tmp_path / "out"), "--method", "url", "--keep", "longest"])
    assert found.exit_code == 0, found.output
    assert Manifest.read(tmp_path / "out").options["method"] == "url"
    assert pq.read_table(tmp_path / "out" / "documents").num_rows == 5
    found = CliRunner().invoke(alone, [str(path), "-o", str(tmp_path / "no"), "--method", "simhash"])
    assert found.exit_code != 0
    assert 'must be one of "fuzzy", "exact", "url"' in found.output
    (tmp_path / "r.toml").write_text(RECIPE)
    folder = run(tmp_path / "r.toml", output=tmp_path / "run").folder
    assert pq.read_table(folder / "equal" / "documents")["text"].to_pylist() == ["Heart failure", "", "other"]
    assert Manifest.read(folder / "lines").options["min_length"] == 5
