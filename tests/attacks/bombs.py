"""Small files that stand for a great deal: what each is, and a maker of its bytes.

    python tests/attacks/bombs.py

reads each in a process of its own and prints what came of it, how much more memory it took at its peak than a small
valid file of the same kind, and how many seconds of CPU. `python bombs.py JOBS` reads the files that are named in a
JSON file: see `read_jobs`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20
#: Bytes that a document may have where bombs are read.
LIMIT = 64 * MIB

# --- compressed text ------------------------------------------------------------------------------------------------


def gzipped(block: bytes, times: int) -> bytes:
    return gzip.compress(block, mtime=0) * times


def zstd(block: bytes, times: int) -> bytes:
    return bytes(pa.compress(block, "zstd", asbytes=True)) * times


# --- Parquet, by hand -----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(value: int) -> bytes:
    return varint(value << 1 ^ value >> 63 if value >= 0 else (-value << 1) - 1)


def struct(*fields: tuple[int, int, bytes]) -> bytes:
    """A Thrift struct: (field, type, encoded value), in order of the fields."""
    out, last = bytearray(), 0
    for field, kind, value in fields:
        out += bytes([(field - last) << 4 | kind]) + value
        last = field
    return bytes(out) + b"\0"


def array(kind: int, items: Iterable[bytes]) -> bytes:
    items = list(items)
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + varint(len(items))
    return head + b"".join(items)


def text(value: str) -> bytes:
    return varint(len(value)) + value.encode()


def page(kind: int, data: bytes, values: int, encoding: int, *, uncompressed: int | None = None) -> bytes:
    """A page of version 1 (kind 0), or of a dictionary (kind 2), not compressed; sizes may be made up."""
    fields = [(1, 5, number(values)), (2, 5, number(encoding))]
    if kind == 0:
        fields += [(3, 5, number(3)), (4, 5, number(3))]
    sizes = [number(kind), number(len(data) if uncompressed is None else uncompressed), number(len(data))]
    inner = struct(*fields)
    return struct((1, 5, sizes[0]), (2, 5, sizes[1]), (3, 5, sizes[2]), (7 if kind == 2 else 5, 12, inner)) + data


LEAF = struct((1, 5, number(6)), (3, 5, number(0)), (4, 8, text("text")), (6, 5, number(0)))
ROOT = struct((4, 8, text("schema")), (5, 5, number(1)))


def column_chunk(offset: int, length: int, values: int, dictionary: int | None = None) -> bytes:
    fields = [
        (1, 5, number(6)),
        (2, 9, array(5, [number(0), number(8)])),
        (3, 9, array(8, [text("text")])),
        (4, 5, number(0)),
        (5, 6, number(values)),
        (6, 6, number(length)),
        (7, 6, number(length)),
        (9, 6, number(offset)),
    ]
    if dictionary is not None:
        fields.append((11, 6, number(dictionary)))
    return struct((2, 6, number(0)), (3, 12, struct(*fields)))


def row_group(chunks: Iterable[bytes], rows: int) -> bytes:
    return struct((1, 9, array(12, chunks)), (2, 6, number(100)), (3, 6, number(rows)))


def parquet(pages: bytes, groups: Iterable[bytes], rows: int, schema: Iterable[bytes] = (ROOT, LEAF)) -> bytes:
    footer = struct((1, 5, number(1)), (2, 9, array(12, schema)), (3, 6, number(rows)), (4, 9, array(12, groups)))
    return b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def one_chunk(
    pages: bytes, rows: int, *, offset: int = 4, length: int | None = None, dictionary: bool = False
) -> bytes:
    """A file of one column `text`; where it says it lies may be made up."""
    size = len(pages) if length is None else length
    first = column_chunk(offset, size, rows, offset if dictionary else None)
    return parquet(pages, [row_group([first], rows)], rows)


def plain(values: Iterable[bytes]) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


SOUND = one_chunk(page(0, plain([b"a", b"bc"]), 2, 0), 2)


def run(count: int) -> bytes:
    """Indices of one bit: a run of `count` zeros."""
    return b"\x01" + varint(count << 1) + b"\0"


def written(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def repeated(size: int, times: int) -> bytes:
    """One text, `times` over, by a dictionary."""
    indices = pa.array([0] * times, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * size]))
    return written(pa.table({"text": column}), store_schema=False)


def huge_page(**options: object) -> bytes:
    return written(pa.table({"text": pa.array(["y" * (160 * MIB)], pa.large_string())}), **options)


def lists(values: pa.Array, times: int) -> bytes:
    """A row that holds a list of one value, `times` over."""
    column = pa.ListArray.from_arrays(pa.array([0, times], pa.int32()), values)
    return written(pa.table({"text": ["a"], "n": column}))


def prefixes() -> bytes:
    """Texts each of which repeats all of the one before."""
    sink, table = io.BytesIO(), pa.table({"text": ["x" * 65536] * 2000})
    options = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}, "compression": "zstd"}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        for _ in range(3):
            writer.write_table(table)
    return sink.getvalue()


def empty_rows(count: int) -> bytes:
    pages = page(2, plain([b""]), 1, 0) + page(0, run(count), count, 8)
    return one_chunk(pages, count, dictionary=True)


def deep_schema(depth: int) -> bytes:
    groups = [struct((3, 5, number(0)), (4, 8, text("g")), (5, 5, number(1)))] * depth
    return parquet(b"", [], 0, [ROOT, *groups, LEAF])


def many_chunks(count: int) -> bytes:
    return parquet(b"", [row_group([struct((2, 6, number(0)))] * count, 0)], 0)


def shared_chunk() -> bytes:
    """Many row groups that name the same pages as theirs."""
    pages = page(0, plain([b"a" * 100] * 1000), 1000, 0)
    group = row_group([column_chunk(4, len(pages), 1000)], 1000)
    return parquet(pages, [group] * 3000, 3_000_000)


# --- XML and tar ----------------------------------------------------------------------------------------------------

RECORD = "<PubmedArticle><MedlineCitation><PMID>1</PMID>{}</MedlineCitation></PubmedArticle>"
PUBMED = f"<PubmedArticleSet>{RECORD}</PubmedArticleSet>"
TITLE = "<Article><ArticleTitle>{}</ArticleTitle></Article>"


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    body = PUBMED.format(TITLE.format("&l9;"))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{entities}]>{body}'.encode()


def long_title(inside: str) -> bytes:
    """A record of 1 GiB, by gzip."""
    before, after = PUBMED.format(TITLE.format("\0")).encode().split(b"\0")
    start = gzipped(before + inside.partition("\0")[0].encode(), 1)
    return start + gzipped(b"x" * (16 * MIB), 64) + gzipped(inside.partition("\0")[2].encode() + after, 1)


def tar(name: str, size: int, data: bytes = b"", **attributes: object) -> bytes:
    """A member's header, whose size may be made up, and some of its data."""
    member = tarfile.TarInfo(name)
    member.size = size
    for key, value in attributes.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT) + data


ARTICLE = b'<article><front><article-meta><article-id pub-id-type="pmc">1</article-id></article-meta></front></article>'


def tar_of(data: bytes) -> bytes:
    return tar("a.xml", len(data), data) + b"\0" * (-len(data) % 512) + b"\0" * 1024


# --- the table ------------------------------------------------------------------------------------------------------

Bomb = tuple[str, Callable[[], bytes], str, str]

#: Name → (suffix, maker, error, part of its message). Read with a limit of 64 MiB for a document.
BOMBS: dict[str, Bomb] = {
    "a line of a GiB, gz": (".jsonl.gz", lambda: gzipped(b"x" * (16 * MIB), 64), "LimitError", "max_document_bytes"),
    "a line of a GiB, zst": (".jsonl.zst", lambda: zstd(b"x" * (16 * MIB), 64), "LimitError", "max_document_bytes"),
    "a text of a GiB, gz": (".txt.gz", lambda: gzipped(b"ab " * (5 * MIB), 70), "LimitError", "max_document_bytes"),
    "gz header without end": (
        ".jsonl.gz",
        lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\x03" + b"n" * MIB,
        "FormatError",
        "header",
    ),
    "zst window of 2 GiB": (".jsonl.zst", lambda: b"\x28\xb5\x2f\xfd\x00\xa8\x01\0\0", "LimitError", "window"),
    "JSON nested 4 million deep": (".jsonl", lambda: b'{"text": ' + b"[" * (4 * MIB), "LimitError", "depth"),
    "JSON number of a MiB of digits": (".jsonl", lambda: b'{"text": ' + b"9" * MIB + b"}\n", "FormatError", "text"),
    "parquet: one text a million times": (".parquet", lambda: repeated(MIB, 1_000_000), "LimitError", "holds up to"),
    "parquet: a page of 160 MiB": (".parquet", lambda: huge_page(use_dictionary=False), "LimitError", "pages"),
    "parquet: a dictionary of 160 MiB": (".parquet", lambda: huge_page(), "LimitError", "pages"),
    "parquet: a page that says it has 2 GiB": (
        ".parquet",
        lambda: one_chunk(page(0, plain([b"a"]), 1, 0, uncompressed=2**31 - 1), 1),
        "LimitError",
        "pages",
    ),
    "parquet: a page of a negative size": (
        ".parquet",
        lambda: one_chunk(page(0, plain([b"a"]), 1, 0, uncompressed=-5), 1),
        "FormatError",
        "negative",
    ),
    "parquet: a list of 50 million numbers": (
        ".parquet",
        lambda: lists(pa.array(bytearray(50_000_000), pa.int8()), 50_000_000),
        "LimitError",
        "lists of column 'n.list.element'",
    ),
    "parquet: a list of one long text": (
        ".parquet",
        lambda: lists(pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["z" * MIB]), 10_000),
        "LimitError",
        "lists of column",
    ),
    "parquet: texts by their prefixes": (".parquet", prefixes, "LimitError", "holds up to"),
    "parquet: two billion empty rows": (".parquet", lambda: empty_rows(2**31 - 1), "LimitError", "holds up to"),
    "parquet: more rows than values": (
        ".parquet",
        lambda: one_chunk(page(0, plain([b"a", b"b"]), 2, 0), 3),
        "FormatError",
        "row group",
    ),
    "parquet: 2**60 rows": (
        ".parquet",
        lambda: one_chunk(page(0, plain([b"a"]), 1, 0), 1 << 60),
        "FormatError",
        "row group",
    ),
    "parquet: a chunk of 2**62 bytes": (
        ".parquet",
        lambda: one_chunk(page(0, plain([b"a"]), 1, 0), 1, length=1 << 62),
        "FormatError",
        "bytes",
    ),
    "parquet: a chunk behind the end": (
        ".parquet",
        lambda: one_chunk(page(0, plain([b"a"]), 1, 0), 1, offset=1 << 40),
        "FormatError",
        "outside the file",
    ),
    "parquet: row groups above each other": (".parquet", shared_chunk, "FormatError", "the file"),
    "parquet: a schema 100,000 deep": (".parquet", lambda: deep_schema(100_000), "LimitError", "groups deep"),
    "parquet: a million column chunks": (".parquet", lambda: many_chunks(1_000_000), "LimitError", "footer takes"),
    "XML: entities of entities": (".xml", laughs, "FormatError", "entit"),
    "XML: 100,000 deep": (".xml", lambda: PUBMED.format(TITLE.format("<b>" * 100_000)).encode(), "LimitError", "dep"),
    "XML: a title of a GiB, gz": (".xml.gz", lambda: long_title("\0"), "LimitError", "max_document_bytes"),
    "XML: a comment of a GiB, gz": (".xml.gz", lambda: long_title("<!--\0-->"), "LimitError", "max_document_bytes"),
    "XML: an attribute of a GiB, gz": (
        ".xml.gz",
        lambda: long_title("<b a='\0'/>"),
        "LimitError",
        "max_document_bytes",
    ),
    "XML: a name of a GiB, gz": (".xml.gz", lambda: long_title("<\0/>"), "LimitError", "max_document_bytes"),
    "tar: a member of 2**62 bytes": (".tar", lambda: tar("a.xml", 1 << 62, ARTICLE), "FormatError", ""),
    "tar: a member of a GiB, gz": (
        ".tar.gz",
        lambda: gzipped(tar("a.xml", 1 << 30) + b"<article><body><p>", 1) + gzipped(b"x" * (16 * MIB), 65),
        "LimitError",
        "max_document_bytes",
    ),
    "tar: a name of a GiB, gz": (
        ".tar.gz",
        lambda: gzipped(tar("././@LongLink", 1 << 30, type=b"L"), 1) + gzipped(b"n" * (16 * MIB), 65),
        "LimitError",
        "extended header",
    ),
    "tar: a pax header of a GiB, gz": (
        ".tar.gz",
        lambda: gzipped(tar("pax", 1 << 30, type=b"x"), 1) + gzipped(b"n" * (16 * MIB), 65),
        "LimitError",
        "extended header",
    ),
}

#: Suffix → a small file that reads well: what reading costs anyway.
VALID: dict[str, Callable[[], bytes]] = {
    ".jsonl": lambda: b'{"text": "a"}\n',
    ".jsonl.gz": lambda: gzipped(b'{"text": "a"}\n', 1),
    ".jsonl.zst": lambda: zstd(b'{"text": "a"}\n', 1),
    ".txt.gz": lambda: gzipped(b"a", 1),
    ".parquet": lambda: SOUND,
    ".xml": lambda: PUBMED.format(TITLE.format("a")).encode(),
    ".xml.gz": lambda: gzipped(PUBMED.format(TITLE.format("a")).encode(), 1),
    ".tar": lambda: tar_of(ARTICLE),
    ".tar.gz": lambda: gzipped(tar_of(ARTICLE), 1),
}

#: Not bombs: many documents in few bytes, which go through in batches. Name → (maker, rows); Parquet.
DENSE: dict[str, tuple[Callable[[], bytes], int]] = {
    "200 texts of a MiB by a dictionary": (lambda: repeated(MIB, 200), 200),
    "a million short texts by one run": (
        lambda: one_chunk(
            page(2, plain([b"abc"]), 1, 0) + page(0, run(1_000_000), 1_000_000, 8), 1_000_000, dictionary=True
        ),
        1_000_000,
    ),
}

# --- reading them ---------------------------------------------------------------------------------------------------


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    """What came of reading each small valid file (by its suffix), each bomb and each dense file (by their names)."""
    makers = {name: (name, make) for name, make in VALID.items()}
    makers |= {name: (bomb[0], bomb[1]) for name, bomb in BOMBS.items()}
    makers |= {name: (".parquet", dense[0]) for name, dense in DENSE.items()}
    files: dict[str, Path] = {}
    for position, (name, (suffix, make)) in enumerate(makers.items()):
        files[name] = folder / f"{position}{suffix}"
        files[name].write_bytes(make())
        assert files[name].stat().st_size < 10 * MIB, name
    jobs = folder / "jobs.json"
    jobs.write_text(json.dumps([[str(path), LIMIT] for path in files.values()]))
    command = [sys.executable, __file__, str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(files, map(json.loads, done.stdout.splitlines()), strict=True))


def peak_mib() -> float:
    """Not ru_maxrss, which a process inherits from the one that started it."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _read(path: str, limit: int) -> dict[str, object]:
    from biollm.errors import BiollmError
    from biollm.readers import as_documents

    before = resource.getrusage(resource.RUSAGE_SELF)
    outcome: dict[str, object]
    try:
        rows = sum(len(batch) for batch in as_documents(path, max_document_bytes=limit).reader())
        outcome = {"rows": rows}
    except BiollmError as error:
        outcome = {"error": type(error).__name__, "message": error.message, "path": error.path}
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**outcome, "peak_mib": peak_mib(), "seconds": seconds}


def read_jobs(jobs: Path) -> None:
    """`jobs` is a JSON file of [path, limit]; each is read in a fork, and gives a line of JSON, or its exit status."""
    import biollm.readers.parquet  # noqa: F401  (what is imported before the forks is not counted to any of them)

    for path, limit in json.loads(jobs.read_text()):
        sys.stdout.flush()
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            print(json.dumps(_read(path, limit)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"status": status}))


def print_table() -> None:
    """A line for each bomb; then the worst of them."""
    with tempfile.TemporaryDirectory(prefix="biollm-bombs-") as folder:
        found = outcomes(Path(folder))
    rows = []
    for name, bomb in BOMBS.items():
        over = found[name]["peak_mib"] - found[bomb[0]]["peak_mib"]
        rows.append((name, found[name].get("error", "read"), over, found[name]["seconds"]))
        print(f"{name:<42} {rows[-1][1]:<12} {over:>7.1f} MiB {rows[-1][3]:>6.2f} s")
    worst = f"{max(row[2] for row in rows):.1f} MiB over a valid file, {max(row[3] for row in rows):.2f} s of CPU"
    print(f"{len(rows)} bombs, limit {LIMIT // MIB} MiB; at most {worst}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read_jobs(Path(sys.argv[1]))
    else:
        print_table()
