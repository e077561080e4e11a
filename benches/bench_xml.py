"""PubMed and JATS XML to Arrow on one core: MB/s of XML and records/s, beside lxml's iterparse with the same fields.

Every engine reads the same file in a fresh process that is held to one core, in turn (A B C A B C …): wall and CPU
seconds of the reading alone (imports are done before) and peak memory, the whole process's and beyond the imports.
Each drops what it has read, as a stream does; that all fields are equal is checked in passes of their own.

* `biollm`: `as_documents`, with the first pass that looks for later versions of records, and Arrow columns.
* `native`: the bare native reader, without that pass.
* `lxml`: iterparse to Python dicts; `lxml+arrow`: these into record batches, as `biollm` gives them. For JATS it is the
  oracle of the tests, written to be read and not to be fast: no claim rests on that row.
* `pubmed_parser`: where it is installed; it gives other fields, so it is only timed, and reads no plain .xml.

The file repeats real records with other abstracts and PMIDs: good for speed, not for statistics.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import escape

import pytest

from biollm import _native
from shared_data import shared_file, shared_records

MEGABYTES = 60
ROUNDS = 5
TESTS = Path(__file__).resolve().parents[1] / "tests"
ENGINES = ("biollm", "native", "lxml", "lxml+arrow", "pubmed_parser")

PROBE = r"""
import gzip, hashlib, json, os, re, sys, time
engine, kind, path, check, tests = sys.argv[1:]
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
import pyarrow as pa
from biollm import _native
from biollm.readers import as_documents
from biollm.readers.xml import xml_schema
if engine == "pubmed_parser":
    import pubmed_parser
if engine.startswith("lxml"):
    sys.path.insert(0, tests)
    from lxml import etree
    from parity.xml_oracle import jats, RefusedError
as_documents(["warm"]).to_table()

SPACES = re.compile(r"[ \t\r\n]+")

def text_of(element):
    if element is None:
        return ""
    text = "".join(element.itertext()) if len(element) else element.text or ""
    return SPACES.sub(" ", text).strip(" \t\r\n")

def year_of(text):
    return int(text) if re.fullmatch("[0-9]{4}", text) else None

def pubmed_row(record):
    citation = record.find("MedlineCitation")
    article = citation.find("Article")
    pmid, title = text_of(citation.find("PMID")), text_of(article.find("ArticleTitle"))
    paragraphs, sections, end = [], [], -1
    for element in article.iterfind("Abstract/AbstractText"):
        if text := text_of(element):
            label = SPACES.sub(" ", element.get("Label", "")).strip(" ")
            paragraphs.append(f"{label}: {text}" if label else text)
            start, end = end + 1, end + 1 + len(paragraphs[-1].encode())
            sections.append((label, start, end))
    abstract = "\n".join(paragraphs)
    shift = len(title.encode()) + 2 if title else 0
    date = article.find("Journal/JournalIssue/PubDate")
    year = None
    if date is not None:
        year = year_of(text_of(date.find("Year")))
        if year is None and (match := re.search("(?<![0-9])[0-9]{4}(?![0-9])", text_of(date.find("MedlineDate")))):
            year = int(match[0])
    if year is None:
        year = year_of(text_of(article.find("ArticleDate/Year")))
    ids = {}
    for element in record.iterfind("PubmedData/ArticleIdList/ArticleId"):
        ids.setdefault(element.get("IdType"), text_of(element))
    doi = ids.get("doi")
    if doi is None:
        for element in article.iterfind("ELocationID"):
            if element.get("EIdType") == "doi" and element.get("ValidYN") != "N":
                doi = text_of(element)
                break
    return {
        "id": pmid, "text": "\n\n".join(part for part in (title, abstract) if part), "source": "pubmed", "title": title,
        "year": year, "languages": [text_of(e) for e in article.iterfind("Language")],
        "publication_types": [text_of(e) for e in article.iterfind("PublicationTypeList/PublicationType")],
        "journal": text_of(article.find("Journal/Title")) or None, "pmid": pmid, "pmc": ids.get("pmc"), "doi": doi,
        "sections": [{"title": t, "start_byte": a + shift, "end_byte": b + shift} for t, a, b in sections],
    }

def jats_row(article):
    row = jats(article)
    title, abstract, body = row.pop("_title"), row.pop("_abstract"), row.pop("_body")
    row["text"] = "\n\n".join(part for part in (title, abstract, body) if part)
    start, sections = len((title + "\n\n").encode()) if title else 0, []
    for part, found in ((abstract, row.pop("_abstract_sections")), (body, row.pop("_body_sections"))):
        sections += [{"title": t, "start_byte": a + start, "end_byte": b + start} for t, a, b in found]
        start += len((part + "\n\n").encode()) if part else 0
    row["sections"] = sections
    return row

SCHEMA = as_documents(path).schema if engine != "pubmed_parser" else None

def lxml_rows():
    tag, row = ("PubmedArticle", pubmed_row) if kind == "pubmed" else ("article", jats_row)
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as file:
        for _, element in etree.iterparse(file, tag=tag, events=("end",), load_dtd=False, huge_tree=True):
            yield row(element)
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]

def arrow_batches():
    held = []
    for row in lxml_rows():
        held.append(row)
        if len(held) == 1000:
            yield pa.RecordBatch.from_pylist(held, SCHEMA)
            held = []
    yield pa.RecordBatch.from_pylist(held, SCHEMA)

def native_batches():
    compression = "gzip" if path.endswith(".gz") else "none"
    reader = _native.XmlReader(path, compression=compression, text=["text"])
    while (batch := reader.next_batch()) is not None:
        yield batch

def pass_over():
    if engine == "biollm":
        return sum(map(len, as_documents(path).reader()))
    if engine == "native":
        return sum(batch[0] for batch in native_batches())
    if engine == "lxml":
        return sum(1 for _ in lxml_rows())
    if engine == "lxml+arrow":
        return sum(map(len, arrow_batches()))
    return sum(1 for _ in pubmed_parser.parse_medline_xml(path, author_list=False, reference_list=False))

def digest():
    if engine in ("native", "pubmed_parser"):
        return None
    if engine == "lxml":
        rows = lxml_rows()
    else:
        batches = as_documents(path).reader() if engine == "biollm" else arrow_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
    made = hashlib.blake2b()
    for row in rows:
        made.update(json.dumps(row, sort_keys=True).encode())
    return made.hexdigest()

def peak_kib():
    # Not ru_maxrss, which a child inherits from the process that started it.
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])

before = peak_kib()
wall, cpu = time.perf_counter(), time.process_time()
rows = pass_over()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = peak_kib()
print(json.dumps([wall, cpu, peak / 1024, (peak - before) / 1024, rows, digest() if check == "True" else None]))
"""

Turn = tuple[float, float, float, float, int, str | None]
Measured = tuple[str, int, dict[str, list[Turn]]]


def pubmed_file(path: Path, size_bytes: int) -> None:
    """Real records, each with another abstract (labelled in part, with inline tags) and a PMID of its own."""
    records: list[str] = []
    for name in ("pubmed1", "pubmed2", "pubmed4", "pubmed6", "pubmed-29768149"):
        text = shared_file(f"pubmed_xml/{name}.xml").read_text()
        records += re.findall(r"<PubmedArticle>.*?</PubmedArticle>", text, re.DOTALL)
    records = [record for record in records if len(record) < 30_000]
    abstracts = [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    rng, written, number = Random(0), 0, 0
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet SYSTEM "pubmed_260101.dtd">\n')
        file.write("<PubmedArticleSet>\n")
        while written < size_bytes:
            record, abstract = records[number % len(records)], abstracts[number % len(abstracts)]
            whole = f"<Abstract>{marked(abstract, rng, labelled=number % 3 != 0)}</Abstract>"
            record = re.sub("<Abstract>.*?</Abstract>", lambda _, whole=whole: whole, record, count=1, flags=re.DOTALL)
            pmid = str(30_000_000 + number)
            record = re.sub(r"(<PMID[^>]*>)\d+", lambda m, pmid=pmid: m[1] + pmid, record, count=1)
            written += file.write(record + "\n")
            number += 1
        file.write("</PubmedArticleSet>\n")


def marked(abstract: str, rng: Random, *, labelled: bool) -> str:
    """An abstract as PubMed marks it up: every tenth word in italics or raised, beta as an entity."""
    words = [escape(word) for word in abstract.replace("beta", "β").split(" ")]
    for i in range(rng.randrange(10), len(words), 10):
        tag = rng.choice(("i", "sup", "sub"))
        words[i] = f"<{tag}>{words[i]}</{tag}>"
    cut = len(words) // 2
    parts = (" ".join(words[:cut]), " ".join(words[cut:]))
    if not labelled:
        return f"<AbstractText>{' '.join(parts)}</AbstractText>"
    labels = ("BACKGROUND", "RESULTS")
    pairs = zip(labels, parts, strict=True)
    return "".join(
        f'<AbstractText Label="{label}" NlmCategory="{label}">{part}</AbstractText>' for label, part in pairs
    )


def jats_file(path: Path, size_bytes: int) -> None:
    """All real articles, over and over, in one set."""
    folder = shared_file("jats/efetch_pmc.xml").parent
    articles = []
    for name in sorted(folder.glob("*.gz")):
        text = gzip.decompress(name.read_bytes()).decode()
        articles.append(text[re.search(r"<article[\s>]", text).start() :])  # type: ignore[union-attr]
    with path.open("w", encoding="utf-8") as file:
        file.write("<pmc-articleset>")
        written = number = 0
        while written < size_bytes:
            written += file.write(articles[number % len(articles)])
            number += 1
        file.write("</pmc-articleset>")


@pytest.fixture(
    scope="module", params=[("pubmed", ""), ("pubmed", ".gz"), ("jats", ""), ("jats", ".gz")], ids=lambda p: "".join(p)
)
def turns(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Name, bytes of XML, and the turns of each engine that is installed and reads the file."""
    kind, suffix = request.param
    path = tmp_path_factory.mktemp("xml") / f"{kind}.xml"
    (pubmed_file if kind == "pubmed" else jats_file)(path, MEGABYTES * 1_000_000)
    size_bytes = path.stat().st_size
    if suffix:
        packed = path.with_name(path.name + suffix)
        packed.write_bytes(gzip.compress(path.read_bytes(), 6))
        path = packed
    turns: dict[str, list[Turn]] = {}
    for round_ in range(ROUNDS):
        for engine in ENGINES:
            if (turn := run(engine, kind, path, check=round_ == 0)) is not None:
                turns.setdefault(engine, []).append(turn)
    made = {turn[5] for each in turns.values() for turn in each[:1] if turn[5] is not None}
    assert len(made) == 1, "the engines read different fields"
    assert len({turn[4] for each in turns.values() for turn in each}) == 1, "the engines read different records"
    return f"{kind}.xml{suffix}", size_bytes, turns


def run(engine: str, kind: str, path: Path, *, check: bool) -> Turn | None:
    """One reading in a fresh process; `None` where the engine cannot."""
    if engine == "pubmed_parser" and (kind == "jats" or path.suffix != ".gz"):
        return None
    command = [sys.executable, "-c", PROBE, engine, kind, str(path), str(check), str(TESTS)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        assert "ModuleNotFoundError" in done.stderr, done.stderr[-2000:]
        assert engine not in ("biollm", "native")
        return None
    wall, cpu, peak_mib, more_mib, rows, made = json.loads(done.stdout)
    return wall, cpu, peak_mib, more_mib, rows, made


@pytest.mark.benchmark(group="read.xml")
@pytest.mark.parametrize("engine", ENGINES)
def test_read_xml(benchmark: Any, turns: Measured, engine: str) -> None:
    name, size_bytes, measured = turns
    if engine not in measured:
        pytest.skip(f"{engine} does not read {name} here")
    walls = iter([turn[0] for turn in measured[engine]])
    # The plugin's own clock shows the cost of this loop; the figures of the fresh processes stand in extra_info.
    benchmark.pedantic(lambda: next(walls), rounds=len(measured[engine]))

    def median(position: int, engine: str = engine) -> float:
        return statistics.median(turn[position] for turn in measured[engine])  # type: ignore[type-var]

    records = measured[engine][0][4]
    benchmark.extra_info.update(
        xml_bytes=size_bytes,
        records=records,
        wall_s=round(median(0), 4),
        cpu_s=round(median(1), 4),
        mb_per_s=round(size_bytes / 1e6 / median(0), 1),
        mb_per_cpu_s=round(size_bytes / 1e6 / median(1), 1),
        records_per_s=round(records / median(0)),
        peak_mib=round(median(2)),
        peak_beyond_imports_mib=round(median(3)),
        **{f"cpu_speed_over_{peer}": round(median(1, peer) / median(1), 2) for peer in measured if peer != engine},
        control_gb_per_s=_control_gb_per_s(),
    )
    print(f"\n{name} {engine}: {benchmark.extra_info}")


def _control_gb_per_s() -> float:
    """xxh3-128 over 32 MiB: what this machine reads at just now."""
    data = bytes(32 << 20)
    began = time.perf_counter()
    _native.hash_bytes(data)
    return round(len(data) / (time.perf_counter() - began) / 1e9, 1)
