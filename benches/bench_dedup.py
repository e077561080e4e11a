"""Texts to clusters: documents per CPU-second, with recall and precision against the exact truth beside every speed.

rensa and datasketch stand in the same run where they are installed; they take 5-grams, which are made in Python and
counted, and verify by the estimate of the signatures. Threshold 0.8, word 5-grams. The control is xxh3-128 over the
same bytes (`extra_info["control_gb_per_s"]`).

Equal texts: real abstracts (`../shared/data`), repeated to 200 MB so that three in ten are copies; polars and duckdb
in the same run, on one thread, each from Arrow to the distinct texts in Arrow.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

import biollm
import near_duplicates
from biollm import _native
from biollm.columns import text_array, text_chunks
from shared_data import shared_records

DOCUMENTS = 10_000
THRESHOLD = 0.8
ROUNDS = 5

Truth = dict[tuple[int, int], float]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return near_duplicates.make(DOCUMENTS, seed=2)


@pytest.fixture(scope="module")
def truth(texts: list[str]) -> Truth:
    return near_duplicates.similar_pairs(texts, THRESHOLD)


def measure(benchmark: Any, texts: list[str], call: Callable[[], list[int]], truth: Truth | None) -> None:
    """Times a call that gives each row's cluster; CPU time is that of all threads of this process."""
    cpu, control = [], []
    clusters: list[int] = []
    data = "".join(texts).encode()

    def timed() -> None:
        began = time.process_time()
        clusters[:] = call()
        cpu.append(time.process_time() - began)
        began_control = time.perf_counter()
        _native.hash_bytes(data)
        control.append(len(data) / (time.perf_counter() - began_control))

    benchmark.pedantic(timed, rounds=ROUNDS, warmup_rounds=1)
    median = statistics.median(cpu)
    benchmark.extra_info.update(
        documents=len(texts),
        documents_per_cpu_s=round(len(texts) / median),
        mb_per_cpu_s=round(len(data) / 1e6 / median, 1),
        control_gb_per_s=round(statistics.median(control) / 1e9, 1),
        documents_kept=len(set(clusters)),
    )
    if truth is not None:
        benchmark.extra_info.update(
            pair_recall=round(near_duplicates.recall(clusters, truth, THRESHOLD), 4),
            document_precision=round(near_duplicates.precision(clusters, truth, THRESHOLD), 4),
        )


@pytest.mark.benchmark(group="dedup.fuzzy")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("num_perm", "bands"), [(256, 32), (128, 16)])
def test_dedup(benchmark: Any, texts: list[str], truth: Truth, num_perm: int, bands: int, threads: int) -> None:
    column = text_array(texts)

    def run() -> list[int]:
        clusters: list[int] = biollm.dedup(
            column, threshold=THRESHOLD, num_perm=num_perm, bands=bands, threads=threads
        ).cluster_id.tolist()
        return clusters

    measure(benchmark, texts, run, truth)


@pytest.mark.benchmark(group="dedup.copies")
def test_many_copies(benchmark: Any) -> None:
    """Linear in the copies: none is compared with another."""
    texts = ["one document that a hundred thousand others repeat word for word"] * 100_000
    measure(benchmark, texts, lambda: biollm.dedup(texts, threads=1).cluster_id.tolist(), None)


def grams(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + 5]) for i in range(max(len(words) - 4, 1))]


def joined(candidates: list[list[int]], jaccard: Callable[[int, int], float]) -> list[int]:
    """Clusters of the candidates whose estimate reaches the threshold, named by their smallest row."""
    parents = list(range(len(candidates)))

    def find(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for a, others in enumerate(candidates):
        for b in others:
            if b < a and jaccard(a, b) >= THRESHOLD:
                low, high = sorted((find(a), find(b)))
                parents[high] = low
    return [find(row) for row in range(len(candidates))]


@pytest.mark.benchmark(group="dedup.fuzzy")
@pytest.mark.skipif(importlib.util.find_spec("rensa") is None, reason="rensa is not installed")
def test_rensa(benchmark: Any, texts: list[str], truth: Truth) -> None:
    from rensa import RMinHash, RMinHashLSH

    def run() -> list[int]:
        hashes = RMinHash.from_token_sets([grams(text) for text in texts], num_perm=128, seed=1)
        index = RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
        index.insert_many(hashes)
        return joined(index.query_all(hashes), lambda a, b: hashes[a].jaccard(hashes[b]))

    measure(benchmark, texts, run, truth)


@pytest.mark.benchmark(group="dedup.fuzzy")
@pytest.mark.skipif(importlib.util.find_spec("datasketch") is None, reason="datasketch is not installed")
def test_datasketch(benchmark: Any, texts: list[str], truth: Truth) -> None:
    from datasketch import MinHash, MinHashLSH

    def run() -> list[int]:
        shingles = ([gram.encode() for gram in grams(text)] for text in texts)
        hashes = list(MinHash.bulk(shingles, num_perm=128, seed=1))
        index = MinHashLSH(num_perm=128, params=(16, 8))
        with index.insertion_session() as session:
            for row, minhash in enumerate(hashes):
                session.insert(row, minhash, check_duplication=False)
        return joined([index.query(minhash) for minhash in hashes], lambda a, b: hashes[a].jaccard(hashes[b]))

    measure(benchmark, texts, run, truth)


EXACT_BYTES = 200_000_000


@pytest.fixture(scope="module")
def column() -> Any:
    """About 160,000 abstracts as large_string."""
    rng = random.Random(1)
    abstracts = [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    rows: list[str] = []
    size = 0
    while size < EXACT_BYTES:
        text = rng.choice(abstracts)
        rows.append(text if rng.random() < 0.3 else f"{text} {len(rows)}")
        size += len(rows[-1])
    return text_array(rows)


def measure_distinct(benchmark: Any, column: Any, call: Callable[[], int]) -> None:
    """Times a call that gives the number of distinct texts."""
    cpu, control = [], []
    sample = bytes(memoryview(column.buffers()[2])[: 30 << 20])
    distinct = 0

    def timed() -> None:
        nonlocal distinct
        began = time.process_time()
        distinct = call()
        cpu.append(time.process_time() - began)
        began = time.process_time()
        _native.hash_bytes(sample)
        control.append(len(sample) / (time.process_time() - began))

    benchmark.pedantic(timed, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info.update(
        documents=len(column),
        distinct=distinct,
        gb_per_cpu_s=round(column.nbytes / 1e9 / statistics.median(cpu[1:]), 2),
        best_gb_per_cpu_s=round(column.nbytes / 1e9 / min(cpu[1:]), 2),
        control_gb_per_s=round(statistics.median(control) / 1e9, 1),
    )


STEPS = {"none": (), "nfc,case,space": ("nfc", "case", "space")}


@pytest.mark.benchmark(group="dedup.exact")
@pytest.mark.parametrize("normalize", STEPS)
def test_exact(benchmark: Any, column: Any, normalize: str) -> None:
    """The verb: ids, manifest and examples included."""

    def run() -> int:
        return int(biollm.dedup(column, method="exact", normalize=normalize, threads=1).keep_mask.sum())

    measure_distinct(benchmark, column, run)


@pytest.mark.benchmark(group="dedup.exact")
def test_exact_filter(benchmark: Any, column: Any) -> None:
    """The verb, and the texts that stay."""
    measure_distinct(benchmark, column, lambda: len(biollm.dedup(column, method="exact", threads=1).filter()))


@pytest.mark.benchmark(group="dedup.exact")
@pytest.mark.parametrize("normalize", STEPS)
def test_exact_kernel(benchmark: Any, column: Any, normalize: str) -> None:
    chunks = text_chunks(column)
    steps = {step: step in STEPS[normalize] for step in ("nfc", "case", "space")}

    def run() -> int:
        clusters, _, copies = _native.dedup_exact(chunks, **steps, keep="first", threads=1)
        return len(clusters) // 8 - copies

    measure_distinct(benchmark, column, run)


@pytest.mark.benchmark(group="dedup.exact")
@pytest.mark.parametrize("maintain_order", [True, False])
@pytest.mark.skipif(importlib.util.find_spec("polars") is None, reason="polars is not installed")
@pytest.mark.skipif(os.environ.get("POLARS_MAX_THREADS") != "1", reason="polars is measured with POLARS_MAX_THREADS=1")
def test_polars_unique(benchmark: Any, column: Any, maintain_order: bool) -> None:
    import polars as pl

    def run() -> int:
        series = pl.from_arrow(column)
        assert isinstance(series, pl.Series)
        return len(series.unique(maintain_order=maintain_order).to_arrow())

    measure_distinct(benchmark, column, run)


@pytest.mark.benchmark(group="dedup.exact")
@pytest.mark.skipif(importlib.util.find_spec("duckdb") is None, reason="duckdb is not installed")
def test_duckdb_distinct(benchmark: Any, column: Any) -> None:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(config={"threads": 1})
    connection.register("documents", pa.table({"text": column}))

    def run() -> int:
        return len(connection.sql("select distinct text from documents").to_arrow_table())

    measure_distinct(benchmark, column, run)


@pytest.mark.benchmark(group="dedup.url")
def test_url(benchmark: Any) -> None:
    """A million URLs of a hundred bytes, of which three in ten are other ways to write one before."""
    import pyarrow as pa

    rng = random.Random(1)
    urls: list[str] = []
    for i in range(1_000_000):
        page = rng.randrange(i) if i and rng.random() < 0.3 else i
        start = rng.choice(("https://www.", "http://", "HTTPS://"))
        end = rng.choice(("", "/", "?utm_source=feed", "#results"))
        urls.append(f"{start}journal{page % 997}.example.org/articles/{page:09}/effects-of-treatment-on-survival{end}")
    table = pa.table({"url": urls, "text": pa.array(["a text"]).take(pa.array([0] * len(urls)))})
    cpu = []

    def run() -> None:
        began = time.process_time()
        biollm.dedup(table, method="url", threads=1)
        cpu.append(time.process_time() - began)

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info.update(million_urls_per_cpu_s=round(len(urls) / 1e6 / statistics.median(cpu), 2))


@pytest.mark.benchmark(group="dedup.pieces")
@pytest.mark.parametrize("method", ["line", "paragraph", "sentence"])
def test_pieces(benchmark: Any, method: Any) -> None:
    """The answers of MedQuAD, eight times over, each time with another last line."""
    answers = [record["answer"] for record in shared_records("text_bio/medquad_qa.jsonl.gz") if record["answer"]]
    column = text_array([f"{answer}\nNumber {copy} {i}." for copy in range(8) for i, answer in enumerate(answers)])
    cpu, cut = [], []

    def run() -> None:
        began = time.process_time()
        cut.append(len(biollm.dedup(column, method=method, threads=1).spans()))
        cpu.append(time.process_time() - began)

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info.update(
        mb=round(column.nbytes / 1e6), mb_per_cpu_s=round(column.nbytes / 1e6 / statistics.median(cpu)), cut=cut[-1]
    )
