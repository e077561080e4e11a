"""The one coercion: everything that holds documents, and what is refused and how."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
from biollm.documents import Documents
from biollm.errors import ConfigError, FileError, FormatError, InputError, LimitError
from biollm.readers import as_documents
from biollm.readers.source import MAX_REJECTED, PassLog, Rejected

TEXTS = ["one", "zwei é", ""]


def rows(source: Any, **options: Any) -> list[dict[str, Any]]:
    return as_documents(source, **options).to_table().to_pylist()


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


class ForeignStream:
    """Exports an Arrow stream once, as a database cursor does."""

    def __init__(self, table: pa.Table) -> None:
        self.reader = table.to_reader()

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self.reader.__arrow_c_stream__(requested_schema)


TABLE = pa.table({"text": TEXTS, "n": [1, 2, 3]})
SAME = [{"id": str(i), "text": text, "n": i + 1} for i, text in enumerate(TEXTS)]
IN_MEMORY: dict[str, Callable[[], Any]] = {
    "table": lambda: TABLE,
    "batch": lambda: TABLE.to_batches()[0],
    "reader": TABLE.to_reader,
    "foreign": lambda: ForeignStream(TABLE),
    "polars": lambda: pl.from_arrow(TABLE),
    "pandas": lambda: pd.DataFrame({"text": TEXTS, "n": [1, 2, 3]}),
    "documents": lambda: Documents.from_table(pa.table({"id": ["0", "1", "2"], "text": TEXTS, "n": [1, 2, 3]})),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_every_kind_of_table_gives_the_same_documents(kind: str) -> None:
    documents = as_documents(IN_MEMORY[kind]())
    assert documents.schema.names == ["id", "text", "n"]
    assert documents.to_table().to_pylist() == SAME
    if kind in ("reader", "foreign"):
        assert documents.one_shot
        with pytest.raises(InputError, match=r"\.materialize\(\)"):
            documents.to_table()
    else:
        assert documents.to_table().to_pylist() == SAME
    kept = as_documents(IN_MEMORY[kind]()).materialize()
    assert kept.to_table() == kept.to_table()


def test_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"text": [*TEXTS, "gone"], "n": [1, 2, 3, 4]})
    documents = as_documents(dataset.filter(lambda row: row["text"] != "gone"))
    assert not documents.one_shot
    assert documents.to_table().to_pylist() == documents.to_table().to_pylist() == SAME
    iterable = dataset.select(range(3)).to_iterable_dataset()
    assert as_documents(iterable).to_table().to_pylist() == SAME
    unknown = datasets.IterableDataset.from_generator(lambda: iter([{"text": "a"}]))
    with pytest.raises(TypeError, match="features"):
        as_documents(unknown)


@pytest.mark.parametrize(
    "source",
    [TEXTS, tuple(TEXTS), iter(TEXTS), (t for t in TEXTS), pa.array(TEXTS), pa.chunked_array([TEXTS[:1], TEXTS[1:]])],
)
def test_texts(source: Any) -> None:
    assert rows(source) == [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]


def test_texts_come_in_batches_and_keep_counting() -> None:
    table = as_documents(str(i) for i in range(10_000)).to_table()
    assert table.column("id").to_pylist() == table.column("text").to_pylist() == [str(i) for i in range(10_000)]


def test_an_empty_corpus_is_one_of_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    for source in ([], (), iter(()), pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.jsonl"):
        documents = as_documents(source)
        assert len(documents.to_table()) == 0
        assert documents.schema.names[:2] == ["id", "text"]


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        (5, TypeError, "int holds no documents"),
        (None, TypeError, "NoneType holds no documents"),
        ({"text": "a"}, TypeError, "dict holds no documents"),
        (b"a.jsonl", TypeError, "bytes holds no documents"),
        (["a", None], TypeError, r"text\[1\] is NoneType"),
        (["a", 5], TypeError, r"text\[1\] is int"),
        (iter(["a", 5]), TypeError, r"text\[1\] is int"),
        (["a", Path("b")], FileError, "no such file"),
        ([Path("b"), 5], TypeError, "list of paths holds int"),
        (["a", "b\ud800"], InputError, r"text\[1\] is not valid Unicode"),
        (pa.table({"body": ["a"]}), InputError, "no one column 'text'"),
        (pa.table({"text": [1]}), InputError, "not text"),
        (pa.table({"text": pa.array([b"\xff"]).cast(pa.binary())}), InputError, "not text"),
        (pa.table({"text": ["a", None]}), InputError, "row 1: column 'text' is null"),
        (pa.array([1, 2]), InputError, "not text"),
        (pl.Series("text", ["a"]), TypeError, "not a stream of records"),
        ("absent.jsonl", FileError, "no such file"),
        ("", FileError, "no such file"),
        ("absent*/\ud800.jsonl", InputError, "no path"),
        ("absent*.jsonl", InputError, "matches no file"),
        ("a\0b", InputError, "no path"),
        ("\ud800.jsonl", InputError, "no path"),
        ("/dev/null", InputError, "format of this file is not known"),
        ("/etc/hostname", InputError, r"read are \.jsonl"),
        ("/tmp", InputError, "a folder: name its files with a glob"),
        ("gopher://host/a.jsonl", InputError, r"pyarrow\.fs.*fsspec"),
    ],
)
def test_what_holds_no_documents_says_so(source: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        as_documents(source).to_table()


def test_a_bad_text_names_its_row() -> None:
    with pytest.raises(InputError) as caught:
        rows(["a", "b", "\udfff"])
    assert (caught.value.row, caught.value.field) == (2, "text")
    bad = pa.LargeStringArray.from_buffers(2, pa.py_buffer(b"\0" * 16 + b"\1" + b"\0" * 7), pa.py_buffer(b"\xff"))
    with pytest.raises(InputError, match="does not read as text"):
        rows(pa.table({"text": bad}))


@pytest.mark.parametrize(
    "options",
    [
        {"text": ()},
        {"text": ("a", "a")},
        {"text": "a", "id": "a"},
        {"id": "a", "source": "a"},
        {"text": (1,)},
        {"text": "\ud800"},
        {"on_error": "ignore"},
        {"max_document_bytes": 0},
        {"max_document_bytes": 1 << 40},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        as_documents(pa.table({"a": ["x"], "text": ["y"]}), **options)


def test_a_name_for_texts_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'pmid'"):
        as_documents(["a"], id="pmid")


COLUMNS = {"pmid": [12, 13], "title": ["T", None], "abstract": ["A", "B"], "id": ["x", "y"], "journal": ["J", None]}


def test_columns_are_chosen_joined_and_carried() -> None:
    table = pa.table({**COLUMNS, "text": ["old", "old"], "year": [1999, 2000]})
    documents = as_documents(table, text=["title", "abstract"], id="pmid", source="journal")
    assert documents.schema.names == ["id", "text", "source", "original_id", "original_text", "year"]
    assert documents.to_table().to_pylist() == [
        {"id": "12", "text": "T\n\nA", "source": "J", "original_id": "x", "original_text": "old", "year": 1999},
        {"id": "13", "text": "B", "source": None, "original_id": "y", "original_text": "old", "year": 2000},
    ]


def test_jsonl_and_tables_agree(tmp_path: Path) -> None:
    records = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]
    path = write_jsonl(tmp_path / "a.jsonl", records)
    options = {"text": ("title", "abstract"), "id": "pmid", "source": "journal"}
    names = ["id", "text", "source"]
    from_table = as_documents(pa.table(COLUMNS), **options).to_table().select(names)
    assert as_documents(path, **options).to_table().select(names).to_pylist() == from_table.to_pylist()


def test_ids_without_a_column(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "a.jsonl", [{"text": "t"}, {"text": "u", "id": None}, {"text": "v", "id": 5}])
    one = as_documents(tmp_path / "x" / "a.jsonl").to_table().column("id").to_pylist()
    assert one == ["a.jsonl:0", "a.jsonl:1", "5"]
    # Files of equal names are told apart, in the same way wherever they lie.
    both = as_documents(str(tmp_path / "*" / "a.jsonl")).to_table().column("id").to_pylist()
    assert both == ["x/a.jsonl:0", "x/a.jsonl:1", "5", "y/a.jsonl:0", "y/a.jsonl:1", "5"]
    assert [row["id"] for row in rows(pa.table({"text": ["a", "b"], "id": ["x", None]}))] == ["x", "1"]
    with pytest.raises(InputError, match="column 'id' is null"):
        rows(pa.table({"text": ["a", "b"], "id": ["x", None]}), id="id")
    with pytest.raises(FormatError, match='field "id" is missing'):
        rows(tmp_path / "x" / "a.jsonl", id="id")


def test_globs_are_sorted_and_a_path_that_exists_is_no_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a", "c[1]"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name}])
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write_jsonl(tmp_path / "deep" / "er" / "d.jsonl.gz", [{"text": "d"}])
    monkeypatch.chdir(tmp_path)
    assert [row["text"] for row in rows("*.jsonl")] == ["a", "b", "c[1]"]
    assert [row["text"] for row in rows(Path("c[1].jsonl"))] == ["c[1]"]
    assert [row["text"] for row in rows("**/*.jsonl*")] == ["a", "b", "c[1]", "d"]
    assert [row["id"] for row in rows("**/*.jsonl*")][-1] == "deep/er/d.jsonl.gz:0"
    assert [row["text"] for row in rows([Path("b.jsonl"), Path("a.jsonl")])] == ["b", "a"]
    assert [row["text"] for row in rows([Path("b.jsonl"), "[a]*.jsonl"])] == ["b", "a"]


def test_files_of_several_formats_get_the_columns_of_all(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "source": "s", "n": 1}])
    (tmp_path / "b.txt").write_text("b")
    pq.write_table(pa.table({"text": ["c"], "year": pa.array([1999], pa.int32())}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"text": ["d"], "year": pa.array([2000], pa.int64())}), tmp_path / "d.parquet")
    found = rows(str(tmp_path / "*"))
    empty = {"source": None, "meta": None, "year": None}
    assert found == [
        {**empty, "id": "a.jsonl:0", "text": "a", "source": "s", "meta": '{"n": 1}'},
        {**empty, "id": "b.txt:0", "text": "b"},
        {**empty, "id": "c.parquet:0", "text": "c", "year": 1999},
        {**empty, "id": "d.parquet:0", "text": "d", "year": 2000},
    ]
    pq.write_table(pa.table({"text": ["e"], "year": [["list"]]}), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="different types"):
        as_documents(str(tmp_path / "*"))


def test_a_stage_folder_is_its_documents(tmp_path: Path) -> None:
    biollm.read(["a", "b"], output=tmp_path / "read")
    documents = as_documents(tmp_path / "read")
    assert documents.to_table().to_pylist() == [{"id": "0", "text": "a"}, {"id": "1", "text": "b"}]
    (record,) = documents.inputs
    assert (record.kind, record.name) == ("stage", str(tmp_path / "read"))
    write_jsonl(tmp_path / "a.jsonl", [{"text": "c"}])
    mixed = as_documents([tmp_path / "read", tmp_path / "a.jsonl"])
    assert [row["text"] for row in mixed.to_table().to_pylist()] == ["a", "b", "c"]
    assert [r.kind for r in mixed.inputs] == ["stage", "file"]
    manifest = json.loads((tmp_path / "read" / "manifest.json").read_text())
    (tmp_path / "read" / "manifest.json").write_text(json.dumps({**manifest, "kind": "shards"}))
    with pytest.raises(InputError, match="a folder of shards"):
        as_documents(tmp_path / "read")


def test_inputs_are_hashed_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl.gz", [{"text": "a"}] * 10)
    want = biollm._native.hash_file(path)
    (unread,) = as_documents(path).inputs
    documents = as_documents(path)
    documents.to_table()
    monkeypatch.setattr("biollm.manifest._native", None)  # Whoever hashes again fails.
    (record,) = documents.inputs
    assert record == unread
    assert (record.xxh3_128, record.size_bytes, record.inode) == (want, path.stat().st_size, path.stat().st_ino)


def test_bad_rows_of_tables_are_skipped_or_raised(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None, "long" * 10, "b"], "key": ["1", "2", "3", None]})
    for source in (table, tmp_path / "t.parquet"):
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
        result = biollm.read(source, id="key", on_error="skip", max_document_bytes=20)
        assert [row["text"] for row in result.documents.to_table().to_pylist()] == ["a"]
        assert [record.row for record in result.rejected] == [1, 2, 3]
        with pytest.raises(InputError) as caught:
            rows(source, id="key")
        assert (caught.value.row, caught.value.field) == (1, "text")
    with pytest.raises(LimitError, match="max_document_bytes") as limited:
        rows(table.slice(2), max_document_bytes=20)
    assert (limited.value.row, limited.value.value, limited.value.limit) == (0, 40, 20)


def test_there_is_a_limit_to_skipping(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_REJECTED == 1_000_000
    monkeypatch.setattr("biollm.readers.source.MAX_REJECTED", 2)
    log = PassLog()
    log.reject(Rejected("f", "why"))
    log.reject(Rejected("f", "why"))
    with pytest.raises(LimitError, match="right format"):
        log.reject(Rejected("f", "why"))


def test_what_an_iterator_raises_comes_out_as_it_is() -> None:
    class OwnError(Exception):
        pass

    def texts() -> Any:
        yield "a"
        raise OwnError

    with pytest.raises(OwnError):
        as_documents(texts()).to_table()
