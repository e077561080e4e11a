"""Instruction tuning and classification on real text, from one small pretrained model.

Three questions, each with its bar:

- Does instruction tuning on MedQuAD lower the loss on held-out answers by at least 0.3 nat a token against the base?
- Is the abstract classifier within 3 points of scikit-learn's TF-IDF with logistic regression on the same split?
- Does the pretrained start beat the same model from scratch?

The base is pretrained on abstracts, open-access articles and snippets of PubMed, without any of MedQuAD and without the
abstracts that the classifier is judged on; what nearly equals either is left out as well (`biollm.dedup`).

    python benches/instruction_tuning.py WORK --data ../shared/data
    python benches/instruction_tuning.py WORK --only classify --seeds 0 1 2

`WORK` keeps the documents and the base, which is trained once. Prints tables, and exits with 1 where a bar is missed.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import biollm
from biollm.readers import as_documents
from biollm.tokenization.sides import held_out

VALIDATION_FRACTION = 0.25
SPLIT_SEED = 0
PRETRAIN: dict[str, Any] = {"size": "tiny", "seq_len": 512, "batch_size": 4, "steps": 1000, "lr": 3e-3}
VOCAB_SIZE = 4096


# --- documents --------------------------------------------------------------------------------------------------------


def records(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def unique(texts: Sequence[str]) -> np.ndarray:
    return np.asarray(biollm.dedup(list(texts), threshold=0.8).keep_mask)


def prepare(data: Path, work: Path) -> None:
    """`abstracts.jsonl`, `medquad.jsonl` (both without near-duplicates) and `pretrain.jsonl`."""
    labelled = records(data / "text_bio/medical_abstracts.jsonl.gz")
    kept = unique([row["text"] for row in labelled])
    labelled = [row for row, keep in zip(labelled, kept, strict=True) if keep]
    print(f"abstracts: {len(kept)} rows, {len(labelled)} without near-duplicates")
    write_lines(work / "abstracts.jsonl", labelled)
    judged = held_out([row["id"] for row in labelled], fraction=VALIDATION_FRACTION, seed=SPLIT_SEED)

    questions = records(data / "text_bio/medquad_qa.jsonl.gz")
    kept = unique([row["answer"] for row in questions])
    pairs = [row for row, keep in zip(questions, kept, strict=True) if keep]
    print(f"MedQuAD: {len(kept)} rows, {len(pairs)} without near-duplicates, {len({row['doc'] for row in pairs})} docs")
    write_lines(work / "medquad.jsonl", pairs)

    texts = [row["text"] for row, out in zip(labelled, judged, strict=True) if not out]
    articles = as_documents([data / "jats/*.gz", data / "jats/*.xml"]).to_table()
    texts += [part for text in articles.column("text").to_pylist() for part in text.split("\n\n") if len(part) > 200]
    texts += ["\n\n".join(row["contexts"]) for row in records(data / "eval/pubmedqa_dev500.jsonl.gz")]
    texts += [
        s["text"] if isinstance(s, dict) else s
        for row in records(data / "eval/bioasq_7_9.jsonl.gz")
        for s in row["snippets"]
    ]
    secret = [row["text"] for row, out in zip(labelled, judged, strict=True) if out]
    secret += [row["answer"] for row in pairs]
    result = biollm.dedup([*secret, *texts], threshold=0.7)
    taken = set(result.cluster_id[: len(secret)].tolist())
    clusters, keep = result.cluster_id[len(secret) :], result.keep_mask[len(secret) :]
    chosen = [t for t, c, k in zip(texts, clusters.tolist(), keep, strict=True) if k and c not in taken]
    print(f"pretraining: {len(texts)} texts, {len(chosen)} kept, {sum(map(len, chosen)) / 1e6:.1f} M characters")
    write_lines(work / "pretrain.jsonl", ({"id": str(i), "text": text} for i, text in enumerate(chosen)))


def base_of(work: Path) -> Path:
    if not (work / "base/manifest.json").exists():
        began = time.perf_counter()
        shards = biollm.tokenize(
            work / "pretrain.jsonl", vocab_size=VOCAB_SIZE, validation_fraction=0.02, output=work / "shards"
        )
        checkpoint = biollm.train(shards, output=work / "base", **PRETRAIN)
        print(f"base in {time.perf_counter() - began:.0f} s\n{checkpoint.summary()}")
    return work / "base"
