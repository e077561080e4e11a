"""PubMed and JATS files among the sources: names, archives, URLs and pipes, versions, mixed columns, errors.

That the fields are right is held in tests/parity/test_xml.py.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import biollm
import interrupted
from biollm.errors import FileError, FormatError, InputError, LimitError
from biollm.manifest import Manifest
from biollm.readers import Rejected, as_documents
from shared_data import shared_file

COLUMNS = [
    *("id", "text", "source", "title", "year", "languages", "publication_types", "journal", "pmid", "pmc", "doi"),
    "sections",
]


def record(pmid: object, title: str = "Title", abstract: str = "Abstract.") -> str:
    article = f"<Article><Journal><Title>J</Title></Journal><ArticleTitle>{title}</ArticleTitle>"
    article += f"<Abstract><AbstractText>{abstract}</AbstractText></Abstract><Language>eng</Language></Article>"
    pmid = f"<PMID Version='1'>{pmid}</PMID>" if pmid is not None else ""
    return f"<PubmedArticle>\n<MedlineCitation>{pmid}{article}</MedlineCitation>\n</PubmedArticle>\n"


def pubmed(*records: str, deleted: tuple[object, ...] = ()) -> bytes:
    gone = f"<DeleteCitation>{''.join(f'<PMID>{pmid}</PMID>' for pmid in deleted)}</DeleteCitation>" if deleted else ""
    return f"<?xml version='1.0'?>\n<PubmedArticleSet>\n{''.join(records)}{gone}</PubmedArticleSet>\n".encode()


def article(name: str, ids: str = "") -> bytes:
    meta = f"{ids}<title-group><article-title>{name}</article-title></title-group>"
    front = f"<front><article-meta>{meta}</article-meta></front>"
    return f"<article>{front}<body><p>Body of {name}.</p></body></article>".encode()


def tar_of(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """A baseline of two files and an update of one; three records are replaced, two deleted, five stay."""
    folder = tmp_path / "pubmed"
    folder.mkdir()
    files = {
        "pubmed26n0001.xml.gz": pubmed(*(record(i, f"First {i}") for i in (1, 2, 3))),
        "pubmed26n0002.xml.gz": pubmed(*(record(i, f"Second {i}") for i in (4, 5, 2, 4))),
        "pubmed26n1001.xml.gz": pubmed(record(5, "Update 5"), record(6, "Update 6"), deleted=(3, 5, 99)),
    }
    for name, data in files.items():
        (folder / name).write_bytes(gzip.compress(data))
    return folder


def test_updates_replace_and_delete(baseline: Path, tmp_path: Path) -> None:
    result = biollm.read(baseline / "*.xml.gz", output=tmp_path / "OUT")
    table = result.documents.to_table()
    assert table.column_names == COLUMNS
    assert table.column("title").to_pylist() == ["First 1", "Second 2", "Second 4", "Update 6"]
    manifest = Manifest.read(tmp_path / "OUT")
    assert manifest.counts == {
        "documents": 4,
        "rejected": 0,
        "replaced": 3,
        "deleted": 2,
        "text_bytes": sum(len(text) for text in table.column("text").to_pylist()),
    }
    assert result.summary().facts["records replaced"] == 3
    assert result.summary().facts["records deleted"] == 2
    assert [record.xxh3_128 for record in manifest.inputs] == [
        biollm._native.hash_file(path) for path in sorted(baseline.iterdir())
    ]
    # Order of reading is that of the source; which record is later is told from the names.
    backwards = as_documents(sorted(baseline.iterdir(), reverse=True)).to_table()
    assert backwards.column("title").to_pylist() == ["Update 6", "Second 2", "Second 4", "First 1"]
    # Without the update nothing is deleted.
    assert as_documents(baseline / "pubmed26n000*").to_table().column("pmid").to_pylist() == ["1", "3", "5", "2", "4"]


def test_a_second_pass_does_not_look_for_versions_again(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scan = biollm._native.scan_pubmed
    monkeypatch.setattr("biollm._native.scan_pubmed", lambda *args, **kwargs: scans.append(1) or scan(*args, **kwargs))
    documents = as_documents(baseline / "*.gz")
    assert documents.to_table() == documents.to_table()
    assert len(scans) == 1
    (baseline / "pubmed26n1001.xml.gz").write_bytes(gzip.compress(pubmed(record(7))))
    assert documents.to_table().num_rows == 6
    assert len(scans) == 2


def test_a_file_that_changes_between_the_passes_is_noticed(baseline: Path) -> None:
    batches = as_documents(baseline / "*.gz").reader()
    assert batches.read_next_batch().num_rows == 1
    (baseline / "pubmed26n1001.xml.gz").write_bytes(gzip.compress(pubmed(record(1))))
    with pytest.raises(InputError, match="changed while it was read") as caught:
        batches.read_all()
    assert caught.value.path == str(baseline / "pubmed26n1001.xml.gz")


@pytest.mark.parametrize(
    "suffix", [".xml", ".nxml", ".XML", ".xml.gz", ".nxml.zst", ".tar", ".tar.gz", ".tgz", ".tar.zst"]
)
def test_names_say_format_and_compression(tmp_path: Path, suffix: str) -> None:
    data = article("A")
    if ".tar" in suffix or suffix == ".tgz":
        data = tar_of({"folder/a.nxml": data, "folder/a.txt": b"no", "b.XML": article("B"), "c.xml.gz": b"no"})
    if suffix.endswith(("gz", "tgz")):
        data = gzip.compress(data)
    elif suffix.endswith("zst"):
        data = zstd(data)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(data)
    rows = as_documents(path).to_table().to_pylist()
    texts = ["A\n\nBody of A.", "B\n\nBody of B."]
    if ".tar" in suffix or suffix == ".tgz":
        assert [row["text"] for row in rows] == texts
        assert [row["id"] for row in rows] == [f"{path.name}/folder/a.nxml:0", f"{path.name}/b.XML:0"]
    else:
        assert [row["text"] for row in rows] == texts[:1]
        assert rows[0]["id"] == f"{path.name}:0"
        assert rows[0]["source"] == "jats"


def test_a_torn_tar_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    whole = tar_of({f"{i}.xml": article(f"A{i}") for i in range(5)})
    path.write_bytes(whole[:2000])
    for on_error in ("raise", "skip"):
        with pytest.raises(FormatError) as caught:
            as_documents(path, on_error=on_error).to_table()
        assert caught.value.path == str(path)


def test_a_tar_without_xml_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for members in ({}, {"a.txt": b"no xml", "b.xml.gz": b"none of ours"}):
        path.write_bytes(tar_of(members))
        with pytest.raises(FormatError, match=r"no file in this tar ends in \.xml or \.nxml"):
            as_documents(path, on_error="skip").to_table()
    path.write_bytes(tar_of({"a.xml": b"<PubmedArticleSet/>"}))
    assert as_documents(path).to_table().num_rows == 0


def test_xml_lines_and_folders_of_documents_together(baseline: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"id": "l1", "text": "A line", "year": 1999}\n')
    biollm.read(baseline / "pubmed26n1001.xml.gz", output=tmp_path / "stage")
    nxml = tmp_path / "a.nxml"
    nxml.write_bytes(article("A", "<article-id pub-id-type='doi'>10.1/a</article-id>"))
    table = as_documents([lines, nxml, tmp_path / "stage", baseline / "pubmed26n0001.xml.gz"]).to_table()
    table.validate(full=True)
    assert table.column("id").to_pylist() == ["l1", "10.1/a", "6", "1", "2", "3"]
    assert table.column("source").to_pylist() == [None, "jats", "pubmed", "pubmed", "pubmed", "pubmed"]
    assert table.column("meta").to_pylist() == ['{"year": 1999}', None, None, None, None, None]
    assert table.column("sections").to_pylist()[:3] == [
        None,
        [],
        [{"title": "", "start_byte": 10, "end_byte": 19}],
    ]
    assert set(table.column_names) == {*COLUMNS, "meta"}
    result = biollm.read([lines, nxml], output=tmp_path / "both")
    assert biollm.read(tmp_path / "both").documents.to_table() == result.documents.to_table()
    assert result.manifest.counts["replaced"] == 0


def test_columns_of_one_name_and_other_types_are_an_error(baseline: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"], "year": ["1999"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="one name and different types"):
        as_documents([tmp_path / "a.parquet", baseline / "pubmed26n0001.xml.gz"])


def test_options_name_what_the_files_have(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    ids = "<ArticleIdList><ArticleId IdType='doi'>10.1/a</ArticleId></ArticleIdList>"
    path.write_bytes(
        pubmed(record(1)).replace(b"</PubmedArticle>", f"<PubmedData>{ids}</PubmedData></PubmedArticle>".encode())
    )
    for options, expected in (
        ({}, ("1", "Title\n\nAbstract.", "pubmed")),
        ({"id": "id", "source": "source"}, ("1", "Title\n\nAbstract.", "pubmed")),
        ({"id": "doi", "source": "journal", "text": ["abstract", "title"]}, ("10.1/a", "Abstract.\n\nTitle", "J")),
        ({"id": "pmid", "text": "body"}, ("1", "", "pubmed")),
    ):
        (row,) = as_documents(path, **options).to_table().to_pylist()
        assert (row["id"], row["text"], row["source"]) == expected
    for field, wrong, words in (
        ("text", "abstrct", "title, abstract, body"),
        ("text", ["text", "title"], "title, abstract, body"),
        ("id", "pmcid", "pmid, pmc, doi"),
        ("source", "title", "source or journal"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            as_documents(path, **{field: wrong})
        assert caught.value.field == field
        assert caught.value.path == str(path)


def test_bad_records_are_raised_or_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(pubmed(record(1), record(None), record(2)))
    with pytest.raises(FormatError, match="PMID") as caught:
        biollm.read(path)
    assert (caught.value.path, caught.value.line) == (str(path), 6)
    result = biollm.read(path, on_error="skip", output=tmp_path / "OUT")
    assert result.documents.to_table().column("id").to_pylist() == ["1", "2"]
    assert [(r.file, r.line) for r in result.rejected] == [(str(path), 6)]
    assert "PMID" in result.rejected[0].reason
    assert Manifest.read(tmp_path / "OUT").counts["rejected"] == 1
    # An article whose id is asked for and missing is a bad record too.
    nxml = tmp_path / "a.nxml"
    nxml.write_bytes(article("A"))
    with pytest.raises(FormatError, match="doi"):
        biollm.read(nxml, id="doi")
    assert len(biollm.read(nxml, id="doi", on_error="skip").rejected) == 1


def test_a_malformed_pubmed_file_is_always_an_error_and_an_article_a_bad_record(tmp_path: Path) -> None:
    broken = tmp_path / "b.xml"
    broken.write_bytes(pubmed(record(1), record(2)).replace(b"</PubmedArticleSet>", b""))
    for on_error in ("raise", "skip"):
        with pytest.raises(FormatError) as caught:
            biollm.read(broken, on_error=on_error)
        assert caught.value.path == str(broken)
        assert caught.value.line is not None
    for name in ("a", "c"):
        (tmp_path / f"{name}.nxml").write_bytes(article(name))
    (tmp_path / "b.nxml").write_bytes(article("b").replace(b"</p>", b"</q>"))
    with pytest.raises(FormatError):
        biollm.read(tmp_path / "*.nxml")
    result = biollm.read(tmp_path / "*.nxml", on_error="skip")
    assert result.documents.to_table().column("title").to_pylist() == ["a", "c"]
    assert [Path(r.file).name for r in result.rejected] == ["b.nxml"]
    packed = tmp_path / "all.tar.gz"
    members = {path.name: path.read_bytes() for path in sorted(tmp_path.glob("*.nxml"))}
    packed.write_bytes(gzip.compress(tar_of(members)))
    result = biollm.read(packed, on_error="skip")
    assert result.documents.to_table().column("title").to_pylist() == ["a", "c"]
    (skipped,) = result.rejected
    assert isinstance(skipped, Rejected)
    assert "b.nxml" in skipped.reason


def test_records_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(pubmed(record(1), record(2, abstract="x" * 5000)))
    with pytest.raises(LimitError) as caught:
        biollm.read(path, max_document_bytes=1000)
    assert caught.value.limit == 1000
    assert caught.value.path == str(path)


def test_progress_counts_both_passes_and_may_stop(baseline: Path) -> None:
    total = 2 * sum(path.stat().st_size for path in baseline.iterdir())
    seen: list[tuple[int, int | None]] = []
    biollm.read(baseline / "*.gz", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)

    class EnoughError(Exception):
        pass

    def stop(done: int, of: int | None) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        biollm.read(baseline / "*.gz", progress=stop)


def test_a_pipe_is_copied_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    path = tmp_path / "pipe.xml.gz"
    os.mkfifo(path)
    packed = gzip.compress(pubmed(*(record(i % 900) for i in range(1000))))
    writer = threading.Thread(target=lambda: path.write_bytes(packed))
    writer.start()
    documents = as_documents(path)
    assert documents.one_shot
    assert documents.to_table().num_rows == 900
    writer.join()
    (made,) = documents.inputs
    assert (made.name, made.xxh3_128, made.size_bytes) == (str(path), biollm._native.hash_bytes(packed), len(packed))
    assert list(temporary.iterdir()) == []


@pytest.fixture
def store() -> Iterator[Any]:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/xml", recursive=True)


def test_files_of_a_store(store: Any, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for path in baseline.iterdir():
        store.pipe(f"/xml/{path.name}", path.read_bytes())
    store.pipe("/xml/oa.tar.gz", gzip.compress(tar_of({"a.xml": article("A")})))
    documents = as_documents("memory://xml/*.xml.gz")
    assert not documents.one_shot
    for _ in range(2):
        assert documents.to_table() == as_documents(baseline / "*.gz").to_table()
    assert [record.kind for record in documents.inputs] == ["url"] * 3
    assert documents.inputs[0].xxh3_128 == biollm._native.hash_file(baseline / "pubmed26n0001.xml.gz")
    # Local files and those of a store are versions of each other as well.
    both = as_documents(["memory://xml/pubmed26n1001.xml.gz", baseline / "pubmed26n0001.xml.gz"])
    assert both.to_table().column("title").to_pylist() == ["Update 6", "First 1", "First 2"]
    assert as_documents("memory://xml/oa.tar.gz").to_table().column("title").to_pylist() == ["A"]
    assert list(temporary.iterdir()) == []
    store.pipe("/xml/cut.xml.gz", gzip.compress(pubmed(record(1)))[:-3])
    with pytest.raises(FormatError) as caught:
        as_documents("memory://xml/cut.xml.gz").to_table()
    assert caught.value.path is not None
    assert caught.value.path.endswith("xml/cut.xml.gz")
    assert list(temporary.iterdir()) == []


def test_no_room_for_a_copy_is_a_file_error(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/xml/a.xml", article("A"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(FileError):
        as_documents("memory://xml/a.xml").to_table()


def test_verbs_take_xml(tmp_path: Path) -> None:
    for i, name in enumerate(("A", "B", "A")):
        text = article(name).replace(b"Body of", b"One two three four five six seven eight nine of")
        (tmp_path / f"{i}.nxml.gz").write_bytes(gzip.compress(text))
    result = biollm.dedup(str(tmp_path / "*.nxml.gz"), output=tmp_path / "OUT")
    assert result.keep_mask.tolist() == [True, True, False]
    kept = as_documents(tmp_path / "OUT").to_table()
    assert kept.column("title").to_pylist() == ["A", "B"]
    assert kept.schema.field("sections").type == as_documents(tmp_path / "0.nxml.gz").schema.field("sections").type


def test_the_command(baseline: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "biollm", "read", f"{baseline}/*.xml.gz", "-o", str(tmp_path / "OUT"), "--json"]
    command[1:3] = ["-c", "from biollm.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)["summary"]["facts"]
    assert (facts["documents"], facts["records replaced"], facts["records deleted"]) == (4, 3, 2)


def test_a_cut_off_reading_goes_on_with_the_same_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted.set_limits(
        monkeypatch, {"biollm.readers.reading.GROUP_ROWS": 100, "biollm.document_files.ROWS_PER_FILE": 500}
    )
    folder = tmp_path / "pubmed"
    folder.mkdir()
    for i in range(6):
        # Each file holds the last hundred PMIDs of the one before once more, deletes ten, and has a bad record.
        records = [record(pmid, f"Of file {i}") for pmid in range(i * 400, i * 400 + 500)]
        gone = tuple(range(i * 400, i * 400 + 10))
        (folder / f"{i}.xml.gz").write_bytes(gzip.compress(pubmed(*records, record(None), deleted=gone)))
    source = folder / "*.gz"
    whole = biollm.read(source, on_error="skip", output=tmp_path / "whole")
    assert whole.manifest.counts["replaced"] == 500
    assert whole.manifest.counts["deleted"] == 60
    out = tmp_path / "out"

    def stop(done: int, total: int | None) -> None:
        if len(list((out / ".partial").glob("part-*.piece"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        biollm.read(source, on_error="skip", output=out, progress=stop)
    result = biollm.read(source, on_error="skip", output=out)
    (resumption,) = result.manifest.resumptions
    assert 0 < resumption.kept < len(whole)
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    assert result.manifest.counts == whole.manifest.counts
    assert result.manifest.inputs == whole.manifest.inputs


def test_real_files_together() -> None:
    folder = shared_file("jats/efetch_pmc.xml").parent
    articles = biollm.read([folder / "*.gz", folder / "*.xml"])
    assert articles.manifest.counts["documents"] == 74
    records = biollm.read(folder.parent / "pubmed_xml" / "*.xml")
    assert records.manifest.counts["documents"] == 7
    assert records.manifest.counts["replaced"] == 0
    assert all(len(text) > 60 for text in records.documents.to_table().column("text").to_pylist())


PEAK = """
import re, sys
from biollm.readers import as_documents
rows = sum(len(batch) for batch in as_documents(sys.argv[1]).reader())
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(rows, peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    abstract = "A sentence of some words, with <i>marks</i> &amp; more. " * 100
    with path.open("wb") as file:
        file.write(b"<PubmedArticleSet>")
        for i in range(10_000):
            file.write(record(i, abstract=abstract).encode())
        file.write(b"</PubmedArticleSet>")
    assert path.stat().st_size > 55e6
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    rows, peak_kib = map(int, done.stdout.split())
    assert rows == 10_000
    assert peak_kib < 200 << 10, f"{peak_kib >> 10} MiB"
