"""The native reader of PubMed and JATS by itself: what it refuses, how it stops, what its buffers hold."""

from __future__ import annotations

import gzip
import html.entities
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from biollm import _native
from biollm.errors import FormatError, InputError, LimitError
from biollm.readers.options import MAX_DOCUMENT_BYTES_CEILING

RECORD = "<PubmedArticle><MedlineCitation><PMID>{}</PMID><Article>{}</Article></MedlineCitation></PubmedArticle>"
CONTENT = (
    "<Journal><JournalIssue><PubDate><Year>2001</Year></PubDate></JournalIssue></Journal><ArticleTitle>T</ArticleTitle>"
    "<Abstract><AbstractText Label='L'>ab</AbstractText></Abstract><Language>eng</Language><Language>kor</Language>"
)
PUBMED = f"<PubmedArticleSet>\n{RECORD.format(7, CONTENT)}{RECORD.format(8, '')}</PubmedArticleSet>\n".encode()


@pytest.fixture
def pubmed(tmp_path: Path) -> Path:
    path = tmp_path / "a.xml"
    path.write_bytes(PUBMED)
    return path


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Over a second of reading in one batch."""
    path = tmp_path / "endless.xml.gz"
    records = "".join(RECORD.format("x", "") for _ in range(5000)).encode()
    path.write_bytes(gzip.compress(b"<PubmedArticleSet>") + gzip.compress(records, mtime=0) * 3000)
    return path


def test_buffers_hold_what_they_say(pubmed: Path) -> None:
    reader = _native.XmlReader(pubmed, text=["text"])
    assert (reader.kind, reader.xxh3_128, reader.ended) == (None, None, False)
    batch = reader.next_batch()
    assert batch is not None
    rows, columns, rejected = batch
    assert (rows, rejected) == (2, [])
    kinds = {name: kind for name, kind, _ in columns}
    assert kinds == {
        **dict.fromkeys(("id", "text", "source", "title"), "text"),
        "year": "int32",
        **dict.fromkeys(("languages", "publication_types"), "list_text"),
        **dict.fromkeys(("journal", "pmid", "pmc", "doi"), "optional_text"),
        "sections": "sections",
    }
    buffers = {name: [bytes(buffer) for buffer in given] for name, _, given in columns}

    def numbers(data: bytes, dtype: str) -> list[int]:
        return np.frombuffer(data, dtype).tolist()

    assert buffers["text"][1] == b"T\n\nL: ab"
    assert numbers(buffers["text"][0], "<i8") == [0, 8, 8]
    assert (numbers(buffers["year"][0], "<i4"), buffers["year"][1]) == ([2001, 0], b"\x01")
    assert (buffers["pmid"][1], buffers["pmid"][2]) == (b"78", b"\x03")
    assert (buffers["doi"][1], buffers["doi"][2]) == (b"", b"\x00")
    assert numbers(buffers["languages"][0], "<i4") == [0, 2, 2]
    assert (numbers(buffers["languages"][1], "<i8"), buffers["languages"][2]) == ([0, 3, 6], b"engkor")
    sections = buffers["sections"]
    assert numbers(sections[0], "<i4") == [0, 1, 1]
    assert (numbers(sections[1], "<i8"), sections[2]) == ([0, 1], b"L")
    assert (numbers(sections[3], "<i8"), numbers(sections[4], "<i8")) == ([3], [8])
    assert reader.next_batch() is None
    assert (reader.kind, reader.ended, reader.bytes_read) == ("pubmed", True, len(PUBMED))
    assert reader.xxh3_128 == _native.hash_file(pubmed)


def test_every_entity_of_html5_is_known(tmp_path: Path) -> None:
    names = sorted(name.removesuffix(";") for name in html.entities.html5 if name.endswith(";"))
    path = tmp_path / "a.xml"
    body = "".join(f"<p>[&{name};]</p>" for name in names)
    path.write_text(f"<article><body>{body}</body></article>")
    batch = _native.XmlReader(path, text=["body"]).next_batch()
    assert batch is not None
    given = bytes(batch[1][1][2][1]).decode().split("\n\n")
    for name, got in zip(names, given, strict=True):
        stands_for = html.entities.html5[name + ";"]
        # White space of XML is normalised, however it is written.
        assert got == "[" + stands_for.replace("\t", " ").replace("\n", " ") + "]", name


def test_progress_counts_bytes_and_may_stop_the_reading(pubmed: Path, endless: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert _native.XmlReader(pubmed, text=["text"]).next_batch(lambda *given: seen.append(given)) is not None
    assert seen[-1] == (len(PUBMED), len(PUBMED))

    class EnoughError(Exception):
        pass

    def stop(done: int, total: int | None) -> None:
        raise EnoughError

    left_out = b"\xff" * (5000 * 3000 // 8)
    reader = _native.XmlReader(endless, compression="gzip", text=["text"], left_out=left_out)
    with pytest.raises(EnoughError):
        reader.next_batch(stop)
    # A stop is no failure: the reading goes on, to the end, which is cut off here.
    with pytest.raises(FormatError, match="cut off"):
        reader.next_batch()
    with pytest.raises(EnoughError):
        _native.scan_pubmed([(endless, "gzip", False, None)], progress=stop)


def test_a_failed_reader_stays_failed(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(PUBMED.replace(b">8<", b">x<"))
    reader = _native.XmlReader(path, name="shown.xml", text=["text"])
    with pytest.raises(FormatError) as caught:
        reader.next_batch()
    assert (caught.value.path, caught.value.line, caught.value.field) == ("shown.xml", 2, "pmid")
    with pytest.raises(InputError, match="failed before"):
        reader.next_batch()


def test_it_does_not_pickle(pubmed: Path) -> None:
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(_native.XmlReader(pubmed, text=["text"]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks where threads have been.
def test_a_forked_child_is_refused(pubmed: Path) -> None:
    reader = _native.XmlReader(pubmed, text=["text"])
    child = os.fork()
    if child == 0:
        try:
            reader.next_batch()
        except InputError as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.next_batch() is not None


def test_a_second_thread_is_refused(endless: Path) -> None:
    reader = _native.XmlReader(endless, compression="gzip", text=["text"], left_out=b"\xff" * (5000 * 3000 // 8))
    began, refused, enough = threading.Event(), threading.Event(), InterruptedError()

    def progress(done: int, total: int | None) -> None:
        began.set()
        if refused.is_set():
            raise enough

    def first() -> None:
        with pytest.raises(InterruptedError):
            reader.next_batch(progress)

    thread = threading.Thread(target=first)
    thread.start()
    assert began.wait(20)
    try:
        with pytest.raises(InputError, match="another thread"):
            reader.next_batch()
    finally:
        refused.set()
        thread.join()


def test_the_declared_limits_are_those_of_the_kernel(pubmed: Path) -> None:
    _native.XmlReader(pubmed, text=["text"], max_document_bytes=MAX_DOCUMENT_BYTES_CEILING)
    with pytest.raises(LimitError) as caught:
        _native.XmlReader(pubmed, text=["text"], max_document_bytes=MAX_DOCUMENT_BYTES_CEILING + 1)
    assert caught.value.limit == MAX_DOCUMENT_BYTES_CEILING
    with pytest.raises(LimitError):
        _native.scan_pubmed([(pubmed, "none", False, None)], max_document_bytes=MAX_DOCUMENT_BYTES_CEILING + 1)
