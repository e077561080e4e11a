"""The reader of PubMed and JATS, and the scan for versions."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from biollm import _native
from native_case import ODD_VALUES, Call, NativeCase, mutations, scratch

RECORD = """<PubmedArticle><MedlineCitation Status='x > y'><PMID Version="1">{}</PMID><Article><Journal><JournalIssue>
<PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue><Title>J &amp; X</Title></Journal>
<ArticleTitle>Caf\u00e9 <i>BRCA1</i> &lt; 5 &#x3bc;g</ArticleTitle><Abstract><AbstractText Label="AIM"><![CDATA[x]]> y
</AbstractText></Abstract><Language>eng</Language></Article></MedlineCitation><PubmedData><ArticleIdList>
<ArticleId IdType="doi">10.1/x</ArticleId></ArticleIdList></PubmedData></PubmedArticle>"""
PUBMED = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD" "x.dtd" '
    '[<!ENTITY a "b"><!-- c -->]>\n<PubmedArticleSet><!-- c --><?p i?>'
    + "".join(RECORD.format(1 + i % 5) for i in range(8))
    + "<DeleteCitation><PMID>3</PMID></DeleteCitation></PubmedArticleSet>\n"
).encode()
ARTICLE = b"""<article xml:lang="en" article-type="review"><front><article-meta>
<article-id pub-id-type="pmc">7</article-id>
<title-group><article-title>T <italic>i</italic></article-title></title-group><pub-date><year>2011</year></pub-date>
<abstract><p>A</p></abstract></article-meta></front><body><sec><title>S</title><p>x <alternatives><tex-math>t</tex-math>
<mml:math xmlns:mml="m">m</mml:math></alternatives>&alpha;</p><list><list-item><p>y</p></list-item></list></sec></body>
</article>"""


def _archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


ARCHIVE = _archive({"a.nxml": ARTICLE, "figure.jpg": b"\xff" * 700, "l" * 150 + ".xml": ARTICLE})

# (bytes, compression, tar) of a valid file of each sort.
FILES: list[tuple[bytes, str, bool]] = [
    (PUBMED, "none", False),
    (ARTICLE, "none", False),
    (ARCHIVE, "none", True),
    (gzip.compress(PUBMED, mtime=0), "gzip", False),
    (gzip.compress(ARCHIVE, mtime=0), "gzip", True),
    (pa.compress(ARTICLE, "zstd", asbytes=True), "zstd", False),
]


def _read_all(reader: _native.XmlReader) -> tuple[Any, ...]:
    """What a reader gives from where it stands."""
    out: list[Any] = []
    while (batch := reader.next_batch()) is not None:
        rows, columns, rejected = batch
        out.append((rows, [(name, kind, [bytes(b) for b in buffers]) for name, kind, buffers in columns], rejected))
    return (*out, reader.kind, reader.xxh3_128, reader.bytes_read, reader.ended)


def _scan(path: Path, compression: str, tar: bool, **options: Any) -> list[Any]:
    files: list[Any] = [(path, compression, tar, None), (path, compression, tar, "other.xml")]
    return [(n, bytes(bits), *counts) for n, bits, *counts in _native.scan_pubmed(files, **options)]


def _read_file(path: Path, compression: str, tar: bool, **options: Any) -> tuple[Any, ...]:
    given = {"text": ["text"], "max_document_bytes": 1 << 20, **options}
    return _read_all(_native.XmlReader(path, compression=compression, tar=tar, **given))


def _prepare_new(size: int) -> Call:
    path = scratch("new.xml")
    path.write_bytes(PUBMED)
    return lambda: _native.XmlReader(path, text=["title", "abstract"], left_out=b"\0" * min(size, 1 << 20)).bytes_read


def _prepare_long(name: str, size: int) -> Path:
    """A file of records that takes long to read: about a MiB a unit, many times smaller compressed."""
    path = scratch(f"{name}-{size}.xml.gz")
    member = "".join(RECORD.format("none") for _ in range(1500)).encode()
    pieces = gzip.compress(b"<PubmedArticleSet>", mtime=0), gzip.compress(member, mtime=0) * size
    path.write_bytes(b"".join(pieces) + gzip.compress(b"</PubmedArticleSet>", mtime=0))
    return path


def _prepare_next_batch(size: int) -> Call:
    # All of it is one batch of records that are left out.
    path, left_out = _prepare_long("next_batch", size), b"\xff" * (200 * size)
    return lambda: _read_all(_native.XmlReader(path, compression="gzip", text=["text"], skip=True, left_out=left_out))


def _prepare_scan(size: int) -> Call:
    path = _prepare_long("scan", size)
    return lambda: _scan(path, "gzip", False, threads=1)


def _bombs() -> Iterator[tuple[bytes, str, bool]]:
    laughs = b'<!DOCTYPE article [<!ENTITY a "ha">%s]><article><body><p>&z;</p></body></article>'
    entities = b"".join(b'<!ENTITY %c "&%c;&%c;&%c;">' % (98 + i, *[97 + i] * 3) for i in range(25))
    yield laughs % entities, "none", False
    yield b"<article>" + b"<p>" * 1_000_000, "none", False
    yield b"<" + b"a" * 10_000_000, "none", False
    yield b"<article a='" + b"x" * 20_000_000, "none", False
    yield b"<article " + b" ".join(b"a%d=''" % i for i in range(100_000)), "none", False
    yield b"<article><!--" + b"-" * 5_000_000, "none", False
    yield b"<article><!--" + b"x" * 20_000_000, "none", False
    yield b"<article><?x " + b"?" * 20_000_000, "none", False
    yield b"<article><![CDATA[" + b"]" * 20_000_000, "none", False
    yield b"<article>" + b"]" * 20_000_000, "none", False
    yield b"<article>" + b"&lt;" * 2_000_000, "none", False
    yield b"<article>&" + b"#0" * 2_000_000, "none", False
    yield b"<!DOCTYPE article [" + b"<!ENTITY a ''>" * 500_000, "none", False
    yield b"<!DOCTYPE article [" + b"<!--" * 1_000_000, "none", False
    yield b"<PubmedArticleSet>" + b"<PubmedArticle/>" * 200_000, "none", False
    yield gzip.compress(b"<article>" + b" " * (64 << 20), mtime=0), "gzip", False
    yield gzip.compress(b"\0" * (64 << 20), mtime=0), "gzip", True
    yield gzip.compress(b"\0" * (64 << 20), mtime=0), "gzip", False


def _malformed_files(call: Any, rng: random.Random) -> Iterator[Call]:
    path = scratch("malformed.xml")

    def write_and_call(data: bytes, compression: str, tar: bool, skip: bool) -> Any:
        path.write_bytes(data)
        return call(path, compression, tar, skip=skip)

    for valid, compression, tar in FILES:
        for i, data in enumerate(mutations(valid, rng, 60)):
            yield partial(write_and_call, data, compression, tar, bool(i % 2))
    for data, compression, tar in _bombs():
        yield partial(write_and_call, data, compression, tar, False)
        yield partial(write_and_call, data, compression, tar, True)
    for absent in ("/nonexistent/x.xml", "/", "/dev/zero", "", "x" * 5000):
        yield partial(call, absent, "none", False)


def _malformed_new(rng: random.Random) -> Iterator[Call]:
    path = scratch("options.xml")
    path.write_bytes(PUBMED)
    names = (
        "name",
        "compression",
        "tar",
        "text",
        "id",
        "source",
        "id_prefix",
        "max_document_bytes",
        "skip",
        "left_out",
    )
    for value in ODD_VALUES:
        for name in names:
            yield lambda value=value, name=name: _read_all(_native.XmlReader(path, **{"text": ["text"], name: value}))
        yield partial(_native.XmlReader, path, text=[value])
        yield partial(_native.XmlReader, value, text=["text"])
        if not callable(value):  # What a callback raises comes out as it is.
            yield lambda value=value: _native.XmlReader(path, text=["text"]).next_batch(value)
    yield partial(_native.XmlReader, path, text=["title"] * 2)
    yield partial(_native.XmlReader, path, text=["title"] * 1000)


def _malformed_scan(rng: random.Random) -> Iterator[Call]:
    path = scratch("scan.xml")
    path.write_bytes(PUBMED)
    good: Any = (path, "none", False, None)
    for value in ODD_VALUES:
        yield partial(_native.scan_pubmed, value)
        yield partial(_native.scan_pubmed, [value])
        for at in range(4):
            yield partial(_native.scan_pubmed, [(*good[:at], value, *good[at + 1 :])])
        for name in ("max_document_bytes", "skip", "threads"):
            yield lambda value=value, name=name: _native.scan_pubmed([good], **{name: value})
        if not callable(value):
            yield partial(_native.scan_pubmed, [good], progress=value)
    yield from _malformed_files(_scan, rng)


XML_CASES = [
    NativeCase("XmlReader", "short", _prepare_new, _malformed_new),
    NativeCase("XmlReader.next_batch", "long", _prepare_next_batch, partial(_malformed_files, _read_file)),
    NativeCase("XmlReader.kind", "property"),
    NativeCase("XmlReader.ended", "property"),
    NativeCase("XmlReader.bytes_read", "property"),
    NativeCase("XmlReader.xxh3_128", "property"),
    NativeCase("XmlReader.__reduce__", "property"),
    NativeCase("scan_pubmed", "long", _prepare_scan, _malformed_scan),
]
