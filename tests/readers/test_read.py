"""The verb `read`, its folder and its stage."""

from __future__ import annotations

import gzip
import json
import logging
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import biollm
from biollm.errors import FormatError, InputError
from biollm.manifest import Manifest
from biollm.readers import ReadOptions, Rejected, as_documents
from biollm.readers.stage import STAGE
from biollm.results import Result, Summary
from biollm.stages import StageContext, StageInput
from shared_data import shared_file, shared_records


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files, 4 bad records among 1,000."""
    for name, numbers in (("a", range(600)), ("b", range(600, 1000))):
        lines = [json.dumps({"id": f"d{i}", "text": f"text {i} " + "x" * (i % 50), "n": i}) for i in numbers]
        if name == "b":
            lines[3], lines[10], lines[399] = "broken", '{"text": null}', '{"id": "last", "text": "cut'
            lines[100] = json.dumps({"text": "y" * 5000})
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


def read(corpus: Path, **options: Any) -> Any:
    return biollm.read(corpus / "*.jsonl.gz", on_error="skip", max_document_bytes=1000, **options)


def test_what_is_read_is_counted(corpus: Path) -> None:
    result = read(corpus)
    assert isinstance(result, Result)
    assert len(result) == result.documents.to_table().num_rows == 996
    a, b = str(corpus / "a.jsonl.gz"), str(corpus / "b.jsonl.gz")
    assert [(r.file, r.line) for r in result.rejected] == [(b, 4), (b, 11), (b, 101), (b, 400)]
    assert result.rejected[1] == Rejected(b, 'field "text" is null, not a string', line=11)
    summary = result.summary()
    texts = result.documents.to_table().column("text").to_pylist()
    assert summary.facts["documents"] == 996
    assert summary.facts["records skipped"] == 4
    assert summary.facts["bytes of text"] == sum(len(text.encode()) for text in texts)
    assert summary.tables[0].rows == ((a, 600, 0), (b, 396, 4))
    (lengths,) = summary.series
    assert sum(lengths.y) == 996
    for at_most, count in zip(lengths.x, lengths.y, strict=True):
        assert isinstance(at_most, int)
        assert count == sum(at_most // 2 < len(text) <= at_most for text in texts)
    assert summary.samples[0].text == "text 0 "
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary


def test_bad_records_end_the_reading_by_default(corpus: Path) -> None:
    with pytest.raises(FormatError) as caught:
        biollm.read(corpus / "*.jsonl.gz")
    assert (caught.value.path, caught.value.line) == (str(corpus / "b.jsonl.gz"), 4)


def test_the_folder_is_the_same_written_at_once_or_later(corpus: Path, tmp_path: Path) -> None:
    at_once = read(corpus, output=tmp_path / "once")
    read(corpus).write(tmp_path / "later")
    again = read(corpus, output=tmp_path / "again")
    once, later = Manifest.read(tmp_path / "once"), Manifest.read(tmp_path / "later")
    assert once.outputs == later.outputs
    assert once.hash == later.hash == again.manifest.hash == at_once.manifest.hash
    assert set(once.outputs) == {"documents/part-00000.parquet", "rejected.jsonl", "summary.json"}
    found = {p.relative_to(tmp_path / "once").as_posix() for p in (tmp_path / "once").rglob("*") if p.is_file()}
    assert found == {*once.outputs, "manifest.json"}
    for name, checksum in once.outputs.items():
        assert biollm._native.hash_file(tmp_path / "once" / name) == checksum
    assert once.counts == {"documents": 996, "rejected": 4, "text_bytes": at_once.summary().facts["bytes of text"]}
    assert [record.name for record in once.inputs] == [str(corpus / f"{n}.jsonl.gz") for n in "ab"]
    assert at_once.documents.to_table() == read(corpus).documents.to_table()
    rejected = [json.loads(line) for line in (tmp_path / "once" / "rejected.jsonl").read_text().splitlines()]
    assert [(r["file"], r["line"], r["reason"]) for r in rejected] == [
        (r.file, r.line, r.reason) for r in at_once.rejected
    ]
    assert Summary.from_dict(json.loads((tmp_path / "once" / "summary.json").read_text())) == at_once.summary()


def test_a_failed_reading_leaves_no_folder_that_looks_finished(corpus: Path, tmp_path: Path) -> None:
    read(corpus, output=tmp_path / "out")
    with pytest.raises(FormatError):
        biollm.read(corpus / "*.jsonl.gz", output=tmp_path / "out")
    left = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert {p.parts[0] for p in left} == {".partial"}  # what a run with the same arguments would go on from
    read(corpus, output=tmp_path / "out")
    assert not (tmp_path / "out" / ".partial").exists()


def test_an_output_that_holds_other_files_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"other files \(mine\.txt\)"):
        read(corpus, output=tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_source_that_yields_once_is_kept() -> None:
    for source in (iter(["a", "b"]), pa.table({"text": ["a", "b"]}).to_reader()):
        result = biollm.read(source)
        assert len(result) == 2
        for _ in range(2):
            assert result.documents.to_table().column("text").to_pylist() == ["a", "b"]


def test_many_small_files_make_few_row_groups(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (tmp_path / "texts").mkdir()
    for i in range(50):
        (tmp_path / "texts" / f"{i:02}.txt").write_text(f"document {i}")
    biollm.read(tmp_path / "texts" / "*.txt", output=tmp_path / "out")
    parquet = pq.ParquetFile(tmp_path / "out" / "documents" / "part-00000.parquet")
    assert (parquet.num_row_groups, parquet.metadata.num_rows) == (1, 50)


def test_progress_counts_the_bytes_of_all_files_and_may_stop(corpus: Path) -> None:
    total = sum(path.stat().st_size for path in corpus.glob("*.gz"))
    seen: list[tuple[int, int | None]] = []
    read(corpus, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)

    class EnoughError(Exception):
        pass

    def stop(done: int, of: int | None) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        read(corpus, progress=stop)


def test_real_files_lose_nothing() -> None:
    names = ["text_bio/medical_abstracts.jsonl.gz", "text_bio/medquad_qa.jsonl.gz"]
    records = [record for name in names for record in shared_records(name)]
    result = biollm.read([shared_file(name) for name in names], text="text", on_error="skip")
    assert len(result) + len(result.rejected) == len(records)
    assert len(result) == sum("text" in record for record in records)
    joined = biollm.read(shared_file(names[1]), text=("question", "answer")).documents.to_table()
    medquad = shared_records(names[1])
    assert joined.column("text").to_pylist() == [
        "\n\n".join(part for part in (r["question"], r["answer"]) if part) for r in medquad
    ]
    assert joined.column("source").to_pylist() == [r["source"] for r in medquad]


def test_the_stage(corpus: Path, tmp_path: Path) -> None:
    assert STAGE.verb == "read"
    assert (STAGE.gives, dict(STAGE.takes)) == ("documents", {"files": (1, None)})
    assert STAGE.options is ReadOptions
    folder = tmp_path / "stage"
    folder.mkdir()
    inputs = tuple(StageInput(corpus / f"{name}.jsonl.gz", "files", "raw") for name in "ab")
    context = StageContext(folder, inputs, None, logging.getLogger("test"))
    options = ReadOptions(on_error="skip", max_document_bytes=1000)
    result = STAGE.run(context, options)
    manifest = Manifest.read(folder)
    assert manifest == result.manifest
    assert manifest.kind == "documents"
    assert manifest.options == options.matched()
    assert len(manifest.inputs) == len(inputs)
    # A stage and the call leave the same files.
    assert manifest.outputs == read(corpus, output=tmp_path / "call").manifest.outputs


def test_a_stage_of_one_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/biollm-stage/a.jsonl", b'{"text": "a"}\n')
    context = StageContext(
        tmp_path, (StageInput("memory://biollm-stage/a.jsonl", "files", "raw"),), None, logging.getLogger("test")
    )
    assert len(STAGE.run(context, ReadOptions()).documents.to_table()) == 1


def test_what_a_signal_handler_raises_ends_the_reading(tmp_path: Path) -> None:
    class AlarmError(Exception):
        pass

    def alarm(number: int, frame: object) -> None:
        raise AlarmError

    path = tmp_path / "endless.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * (1 << 20)) * 20_000)
    documents = as_documents(path, on_error="skip", max_document_bytes=100)
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        for read_all in (documents.to_table, lambda: list(documents.reader())):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            began = time.perf_counter()
            with pytest.raises(AlarmError):
                read_all()
            assert time.perf_counter() - began < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
