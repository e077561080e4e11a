"""Measures the reference rates of `biollm run --dry-run` and prints what belongs into `recipe/rates.toml`.

    python benches/measure_rates.py [--megabytes 64]

Each verb runs on a text and on a quarter of it, the best of three, and what grows is told from what does not. Training
runs a few steps of models of several shapes; a least-squares fit tells the cost of a layer, of a parameter and of an
operation. A few minutes on two quiet cores; everything is written to a temporary folder. The shares and the memory in
`rates.toml` are not measured here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

import biollm
from biollm.demo.corpus import generate
from biollm.evaluation import text_losses
from biollm.manifest import Manifest
from biollm.recipe.estimate import train_work
from biollm.recipe.rates import hash_rate, load_table, matmul_rate
from biollm.recipe.usage import processor
from biollm.recipe.volumes import Volume

ROUNDS = 3
#: size, tokens a row, rows, steps
SHAPES = (("tiny", 256, 4, 30), ("tiny", 256, 16, 10), ("small", 256, 8, 8), ("15M", 256, 4, 6), ("60M", 128, 2, 4))


def main() -> None:
    """Prints the tables that are measured."""
    parser = argparse.ArgumentParser(description="Measure the reference rates of biollm run --dry-run.")
    parser.add_argument("--megabytes", type=int, default=64, help="of text for the data verbs")
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory(prefix="biollm-rates-") as folder:
        place = Path(folder)
        controls = {"xxh3_gb_s": hash_rate(), "matmul_gflops": matmul_rate() or 0.0}
        print(f'[machine]\nprocessor = "{processor()}"')
        show(controls, digits=3)
        data(place, megabytes << 20)
        train(place)
        # Once more: if they moved, the machine was not quiet.
        print(f"# controls at the end: xxh3 {hash_rate():.3g} GB/s, matmul {matmul_rate() or 0.0:.3g} GFLOP/s")


def data(place: Path, size: int) -> None:
    """The verbs that read and write text."""
    texts, out = documents(size), place / "out"
    jsonl, xml = {}, {}
    for name, count in (("quarter", len(texts) // 4), ("whole", len(texts))):
        jsonl[name], xml[name] = place / f"{name}.jsonl", place / f"{name}.xml"
        jsonl[name].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:count]))
        xml[name].write_text(pubmed(texts[:count]))

    def both(files: dict[str, Path], verb: Callable[[Path, Path], Any]) -> tuple[float, float]:
        """Seconds that do not grow, and seconds a byte of file."""
        few, many = (best(lambda file=files[name]: verb(file, out), out) for name in ("quarter", "whole"))
        small, large = (files[name].stat().st_size for name in ("quarter", "whole"))
        each = (many - few) / (large - small)
        return max(0.0, few - each * small), each

    text_share = sum(len(text.encode()) for text in texts) / jsonl["whole"].stat().st_size
    fixed, each = both(jsonl, lambda file, out: biollm.read(file, output=out))
    _, each_xml = both(xml, lambda file, out: biollm.read(file, output=out))
    print("\n[read]")
    show({"fixed_s": fixed, "s_per_byte": each / text_share, "s_per_xml_byte": each_xml})

    # From here on what comes in is what a stage would find: documents that were read.
    folders = {name: place / f"{name}-read" for name in jsonl}
    for name, folder in folders.items():
        biollm.read(jsonl[name], output=folder)
    sizes = {name: float(Manifest.read(folder).counts["text_bytes"]) for name, folder in folders.items()}

    def growth(verb: Callable[[Path, Path], Any]) -> tuple[float, float]:
        few, many = (best(lambda folder=folders[name]: verb(folder, out), out) for name in ("quarter", "whole"))
        each = (many - few) / (sizes["whole"] - sizes["quarter"])
        return max(0.0, few - each * sizes["quarter"]), each

    fixed, each = growth(lambda folder, out: biollm.dedup(folder, num_perm=256, bands=32, output=out))
    _, fewer = growth(lambda folder, out: biollm.dedup(folder, num_perm=128, bands=16, output=out))
    permutation = max(0.0, (each - fewer) / 128)
    print("\n[dedup]")
    show({"fixed_s": fixed, "s_per_byte": each - 256 * permutation, "s_per_byte_and_permutation": permutation})

    fixed, each = growth(lambda folder, out: biollm.select(folder, output=out))
    print("\n[select]")
    show({"fixed_s": fixed, "s_per_byte": each})

    biollm.tokenize(folders["whole"], vocab_size=4096, output=place / "vocabulary")
    given = str(place / "vocabulary" / "tokenizer.json")
    fixed, each = growth(lambda folder, out: biollm.tokenize(folder, tokenizer=given, output=out))
    _, trained = growth(lambda folder, out: biollm.tokenize(folder, vocab_size=4096, output=out))
    whole = folders["whole"]
    few, many = (best(lambda ids=ids: biollm.tokenize(whole, vocab_size=ids, output=out), out) for ids in (2048, 16384))
    print("\n[tokenize]")
    rates = {"fixed_s": fixed, "s_per_byte": each, "s_per_trained_byte": max(0.0, trained - each)}
    show({**rates, "s_per_id": max(0.0, (many - few) / (16384 - 2048))})


def train(place: Path) -> None:
    """Training and decoding."""
    quarter = place / "quarter-read"
    biollm.tokenize(quarter, vocab_size=4096, validation_fraction=0.01, output=place / "shards")
    tokens = float(Manifest.read(place / "shards").counts["train_tokens"])
    rows, step_s, walls = [], [], []
    for size, seq_len, batch, steps in SHAPES:
        options = {"size": size, "seq_len": seq_len, "batch_size": batch, "steps": steps, "validate_every": 10**6}
        shutil.rmtree(place / "model", ignore_errors=True)
        made = biollm.train(place / "shards", output=place / "model", **options)
        facts = json.loads((place / "model" / "summary.json").read_text())["facts"]
        came = Volume(train_tokens=tokens, vocab_size=4096)
        work = train_work({**options, "accumulation": 1}, came)
        assert work is not None
        rows.append([work.layers, work.parameters, work.flops / steps])
        step_s.append(facts["train_s"] / steps)
        walls.append((made.manifest.wall_s - facts["train_s"], float(made.manifest.counts["validation_tokens"]), work))
    measured, weights = np.array(step_s), np.array(rows)
    # Each shape counts by its relative error.
    fit = positive_fit(weights / measured[:, None], np.ones(len(measured)))
    flops_per_s = 1 / fit[2] if fit[2] else 0.0
    print("\n[train]")
    show({"s_per_layer": fit[0], "s_per_parameter": fit[1], "flops_per_s": flops_per_s})
    predicted = weights @ fit
    for (size, seq_len, batch, _), took, said in zip(SHAPES, step_s, predicted, strict=True):
        print(f"# {size} {batch} x {seq_len}: {took:.4f} s a step, by the fit {said:.4f}")
    rest_s, held_out, work = walls[0]
    validation_s = work.flops / (work.steps * work.step_tokens) * held_out / 3 / flops_per_s if flops_per_s else 0.0
    print(f"# beside the steps of the first: {rest_s:.2f} s, of which the validation by the fit {validation_s:.2f} s,")
    print(f"# the rest beginning (fixed_s) and baselines over {tokens:,.0f} tokens (s_per_scanned_token)")
    decode(place)


def decode(place: Path) -> None:
    """The last model and a tiny one decode."""
    biollm.train(place / "shards", output=place / "tiny", size="tiny", steps=1, seq_len=256, batch_size=1)
    seconds = []
    for model in ("tiny", "model"):
        llm = biollm.LLM(place / model)
        count = float(Manifest.read(place / model).counts["parameters"])
        seconds.append((count, best(lambda llm=llm: llm.generate(["A"], max_tokens=100)) / 100))
    (few, fast), (many, slow) = seconds
    each = max(0.0, (slow - fast) / (many - few))
    print("\n[generate]")
    show({"s_per_token": fast - each * few, "s_per_parameter": each})
    score(place)
    quantize(place)


def score(place: Path) -> None:
    """The same two models read texts."""
    texts = documents(1)[:100]
    seconds = []
    for model in ("tiny", "model"):
        llm = biollm.LLM(place / model)
        count = float(Manifest.read(place / model).counts["parameters"])
        tokens = float(text_losses(llm.model, llm.tokenizer, texts).tokens.sum())
        seconds.append((count, best(lambda llm=llm: text_losses(llm.model, llm.tokenizer, texts)) / tokens))
    (few, fast), (many, slow) = seconds
    each = max(0.0, (slow - fast) / (many - few))
    print("\n[evaluate]")
    show({"s_per_token": max(0.0, fast - each * few), "flops_per_s": 2 / each if each else 0.0})


def quantize(place: Path) -> None:
    """A small model and a large one, this with few documents and with many."""
    table = load_table()["quantize"]
    cases = {}
    for model, count in (("tiny", 8), ("model", 8), ("model", 64)):
        out, options = place / "quantized", {"calibration_documents": count, "evaluation_documents": count}

        def work(model: str = model, out: Path = out, options: dict[str, int] = options) -> biollm.Checkpoint:
            return biollm.quantize(place / model, place / "shards", output=out, **options)

        wall_s, made = best(work, out), work().manifest.counts
        passes = table["calibration_passes"] * made["calibration_tokens"] + 2 * made["evaluation_tokens"]
        cases[model, count] = (wall_s, float(made["parameters"]), float(made["parameters"]) * 2 * passes)
    (small_s, few, _), (short_s, many, less), (long_s, _, more) = cases.values()
    flops_per_s = (more - less) / max(long_s - short_s, 1e-9)
    each = max(0.0, (short_s - less / flops_per_s - small_s) / (many - few))
    print("\n[quantize]")
    show({"fixed_s": max(0.0, small_s - each * few), "flops_per_s": flops_per_s, "s_per_parameter": each})


def documents(size: int) -> list[str]:
    """At least `size` bytes of texts, all invented."""
    texts: list[str] = []
    seed = 0
    while sum(map(len, texts)) < size:
        texts += [document.text for document in generate("small", seed)]
        seed += 1
    return texts


def pubmed(texts: list[str]) -> str:
    """The texts as one PubMed file, with no more around them than a record needs."""
    records = [
        f"<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><Journal><JournalIssue><PubDate><Year>2020</Year>"
        f"</PubDate></JournalIssue><Title>Invented Medicine</Title></Journal><ArticleTitle>On {number}</ArticleTitle>"
        f"<Abstract><AbstractText>{escape(text)}</AbstractText></Abstract></Article></MedlineCitation>"
        f"<PubmedData><ArticleIdList><ArticleId IdType='doi'>10.1/{number}</ArticleId></ArticleIdList></PubmedData>"
        "</PubmedArticle>\n"
        for number, text in enumerate(texts, start=1)
    ]
    return f'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n{"".join(records)}</PubmedArticleSet>\n'


def best(work: Callable[[], Any], output: Path | None = None) -> float:
    """Seconds of the fastest of `ROUNDS` calls; `output` is removed before each."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        if output is not None:
            shutil.rmtree(output, ignore_errors=True)
        began = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


def positive_fit(weights: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares with coefficients of zero or more: those that come out negative are left out."""
    kept = list(range(weights.shape[1]))
    while True:
        found = np.linalg.lstsq(weights[:, kept], wanted, rcond=None)[0]
        if (found >= 0).all():
            break
        kept = [column for column, value in zip(kept, found, strict=True) if value >= 0]
    fit = np.zeros(weights.shape[1])
    fit[kept] = found
    return fit


def show(values: dict[str, float], digits: int = 2) -> None:
    """Prints lines of TOML."""
    for name, value in values.items():
        print(f"{name} = {value:.{digits}g}", flush=True)


if __name__ == "__main__":
    main()
