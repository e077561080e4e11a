"""Instruction tuning and classification on real text, from one small pretrained model.

Three questions, each with its bar:

- Does instruction tuning on MedQuAD lower the loss on held-out answers by at least 0.3 nat a token against the base?
- Is the abstract classifier within 3 points of scikit-learn's TF-IDF with logistic regression on the same split (the
  better of two strengths of regularisation)?
- Does the pretrained start beat the same model from scratch?

The base is pretrained on abstracts, open-access articles and snippets of PubMed, without any of MedQuAD and without the
abstracts that the classifier is judged on; what nearly equals either is left out as well (`biollm.dedup`).

    python benches/instruction_tuning.py WORK --data ../shared/data --seeds 0 1

`WORK` keeps documents, base and results: the base is trained once, and no run that has a result is run again. Prints
tables, and exits with 1 where a bar is missed. With `--only` a part of the runs is made, and nothing is judged.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import sys
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
PRETRAIN: dict[str, Any] = {
    "size": "tiny",
    "seq_len": 512,
    "batch_size": 4,
    "steps": 2000,
    "lr": 3e-3,
    "warmup_fraction": 0.0875,
    "validate_every": 2000,
    "dtype": "bfloat16",  # half as fast again as float32 on a CPU that has it
}
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


def annotated(path: Path) -> list[str]:
    """The abstracts of a CoNLL file as running text; where it marks no abstracts, ten sentences make a text."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        parts = lines.read().split("-DOCSTART-")
    texts = []
    for part in parts:
        # The first line of an abstract is what is behind its mark; a sentence is lines up to an empty one.
        sentences = [
            " ".join(line.split()[0] for line in sentence.splitlines() if len(line.split()) == 4)
            for sentence in re.split(r"\n\s*\n", part)
        ]
        sentences = [re.sub(r" ([,.;:)%\]])|([(\[]) ", r"\1\2", sentence) for sentence in sentences if sentence]
        size = len(sentences) if len(parts) > 1 else 10
        texts += [" ".join(sentences[at : at + size]) for at in range(0, len(sentences), max(1, size))]
    return texts


def prepare(data: Path, work: Path) -> None:
    """`abstracts.jsonl`, `medquad.jsonl` (both without near-duplicates) and `pretrain.jsonl`."""
    labelled = records(data / "text_bio/medical_abstracts.jsonl.gz")
    found = biollm.dedup([row["text"] for row in labelled], threshold=0.8)
    labels: dict[int, list[str]] = {}
    for row, cluster in zip(labelled, found.cluster_id.tolist(), strict=True):
        labels.setdefault(cluster, []).append(row["label"])
    copied = [names for names in labels.values() if len(names) > 1]
    labelled = [row for row, keep in zip(labelled, found.keep_mask, strict=True) if keep]
    print(f"abstracts: {len(found.keep_mask)} rows, {len(labelled)} without near-duplicates")
    several = sum(len(set(names)) > 1 for names in copied)
    print(f"{len(copied)} abstracts are there more than once, {several} of them with several labels")
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
    for name in ("ner_ncbi-disease_train", "ner_bc5cdr_train", "pico_ebmnlp_dev"):
        texts += annotated(data / f"text_bio/{name}.conll.gz")
    texts += [f"{row['question']} {row['answer']}." for row in records(data / "eval/medqa_us_4opt.jsonl.gz")]
    texts += [
        f"{row['question']} {row['options'][row['answer_idx']]}. {row['explanation'] or ''}".strip()
        for row in records(data / "eval/medmcqa_dev.jsonl.gz")
    ]
    secret = [row["text"] for row, out in zip(labelled, judged, strict=True) if out]
    secret += [row["answer"] for row in pairs]
    # By words alone: what was cut into tokens has its punctuation elsewhere.
    result = biollm.dedup([" ".join(re.findall(r"\w+", text)) for text in (*secret, *texts)], threshold=0.7)
    taken = set(result.cluster_id[: len(secret)].tolist())
    clusters, keep = result.cluster_id[len(secret) :], result.keep_mask[len(secret) :]
    chosen = [t for t, c, k in zip(texts, clusters.tolist(), keep, strict=True) if k and c not in taken]
    print(f"pretraining: {len(texts)} texts, {len(chosen)} kept, {sum(map(len, chosen)) / 1e6:.1f} M characters")
    write_lines(work / "pretrain.jsonl", ({"id": str(i), "text": text} for i, text in enumerate(chosen)))


def base_of(work: Path, threads: int | None) -> Path:
    if not (work / "base/manifest.json").exists():
        began = time.perf_counter()
        shards = biollm.tokenize(
            work / "pretrain.jsonl", vocab_size=VOCAB_SIZE, validation_fraction=0.02, output=work / "shards"
        )
        checkpoint = biollm.train(shards, output=work / "base", threads=threads, **PRETRAIN)
        print(f"base in {time.perf_counter() - began:.0f} s\n{checkpoint.summary()}")
    return work / "base"


# --- runs -------------------------------------------------------------------------------------------------------------

# Chosen by thirds of the train side; the held-out documents had no part in it.
CLASSIFY: dict[str, Any] = {
    "objective": "classify",
    "seq_len": 256,
    "batch_size": 16,
    "epochs": 4,
    "lr": 2e-3,
    "warmup_fraction": 0.1,
    "decay_fraction": 0.6,
    "token_noise": 0.3,
    "validate_every": 1000,
    "dtype": "bfloat16",
}
INSTRUCT: dict[str, Any] = {
    "objective": "instruct",
    "group": "doc",
    "on_error": "skip",
    "seq_len": 512,
    "batch_size": 4,
    "steps": 400,
    "lr": 1e-3,
    "validate_every": 400,
}


class Runs:
    """Runs of `train`, each once; their facts lie in `WORK/results/NAME.json`."""

    def __init__(self, work: Path, only: Sequence[str], threads: int | None) -> None:
        self.work, self.only, self.threads = work, only, threads
        (work / "results").mkdir(exist_ok=True)

    def facts(self, name: str, rows: str, **options: Any) -> dict[str, Any] | None:
        file = self.work / "results" / f"{name}.json"
        if not file.exists():
            if self.only and name not in self.only:
                return None
            output = self.work / "runs" / name
            began = time.perf_counter()
            options |= {"start": self.work / "base", "threads": self.threads}
            checkpoint = biollm.train(self.work / rows, output=output, **options)
            facts = {**checkpoint.summary().facts, "seconds": time.perf_counter() - began}
            file.write_text(json.dumps(facts, indent=2))
            print(f"{name}: {facts['seconds']:.0f} s", flush=True)
        return json.loads(file.read_text())


def instruct(work: Path, runs: Runs) -> bool | None:
    full = runs.facts("instruct", "medquad.jsonl", **INSTRUCT)
    lora = runs.facts("instruct-lora", "medquad.jsonl", **INSTRUCT, lora_rank=16, save_adapter=True)
    if full is None or lora is None:
        return None
    plain = plain_loss(work)
    before = full["validation_loss_before_nats"]
    sides = f"{full['train_conversations']} conversations for training, {full['validation_conversations']} held out"
    print(f"\nMedQuAD by document: {sides} ({full['validation_answer_tokens']} tokens of answers)")
    print(f"{full['rows_skipped']} rows over the context are left out")
    print("| model | parameters trained | held-out answers, nats a token |\n|---|---|---|")
    print(f"| base, question and answer as plain text | – | {plain:.3f} |")
    print(f"| base, in the chat template | – | {before:.3f} |")
    for name, facts in (("instruction tuning", full), ("with LoRA, rank 16", lora)):
        trained = facts.get("parameters_trained", facts["parameters"])
        print(f"| {name} | {trained:,} | {facts['validation_loss_nats']:.3f} |")
    return min(before, plain) - full["validation_loss_nats"] >= 0.3


def plain_loss(work: Path) -> float:
    """The base on the same answers in plain text: question, blank line, answer, without special tokens."""
    import torch

    from biollm.models import load_checkpoint

    tokenizer, model = biollm.Tokenizer.from_file(work / "base"), load_checkpoint(work / "base").eval()
    rows = [json.loads(line) for line in (work / "medquad.jsonl").read_text(encoding="utf-8").splitlines()]
    out = held_out([row["doc"] for row in rows], fraction=0.05, seed=0)
    nats, count = 0.0, 0
    for row in (row for row, o in zip(rows, out, strict=True) if o):
        question, answer = (tokenizer.encode(row[name]).ids.astype(np.int64) for name in ("question", "answer"))
        if len(question) + len(answer) + 4 > INSTRUCT["seq_len"]:  # as many as with the template's tokens
            continue
        blank = tokenizer.encode("\n\n").ids.astype(np.int64)
        ids = torch.from_numpy(np.concatenate([question, blank, answer]))
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(model(ids[None])[0, :-1], ids[1:], reduction="none")
        nats += float(losses[-len(answer) :].sum())
        count += len(answer)
    return nats / count


def classify(work: Path, runs: Runs, seeds: Sequence[int]) -> bool | None:
    common = {**CLASSIFY, "validation_fraction": VALIDATION_FRACTION, "split_seed": SPLIT_SEED}
    results = {
        start: [
            runs.facts(f"{start}-{seed}", "abstracts.jsonl", **common, seed=seed, new_weights=start == "scratch")
            for seed in seeds
        ]
        for start in ("pretrained", "scratch")
    }
    if any(facts is None for listed in results.values() for facts in listed):
        return None
    one: Any = results["pretrained"][0]
    print(
        f"\nAbstracts, {one['train_documents']} for training, {one['validation_documents']} held out, "
        f"majority {one['majority_accuracy']:.1%}"
    )
    print("| classifier | accuracy | macro-F1 |\n|---|---|---|")
    peers = bag_of_words(work)
    for name, (accuracy, f1) in peers.items():
        print(f"| {name} | {accuracy:.1%} | {f1:.3f} |")
    means = {}
    for start, listed in results.items():
        accuracies, f1s = ([facts[key] for facts in listed if facts] for key in ("accuracy", "macro_f1"))
        means[start] = statistics.mean(accuracies)
        each = ", ".join(f"{accuracy:.1%}" for accuracy in accuracies)
        print(f"| tiny, {start}, mean of seeds ({each}) | {means[start]:.1%} | {statistics.mean(f1s):.3f} |")
    best = max(accuracy for accuracy, _ in peers.values())
    return means["pretrained"] >= best - 0.03 and means["pretrained"] > means["scratch"]


def bag_of_words(work: Path) -> dict[str, tuple[float, float]]:
    """scikit-learn's TF-IDF with logistic regression, as it is by default, and with little regularisation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline

    rows = [json.loads(line) for line in (work / "abstracts.jsonl").read_text(encoding="utf-8").splitlines()]
    out = held_out([row["id"] for row in rows], fraction=VALIDATION_FRACTION, seed=SPLIT_SEED)
    sides = [[row for row, o in zip(rows, out, strict=True) if o == side] for side in (False, True)]
    (texts, labels), (asked, wanted) = ([[row[key] for row in side] for key in ("text", "label")] for side in sides)
    scores = {}
    for strength in (1.0, 10.0):
        model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=strength, max_iter=2000)).fit(texts, labels)
        given = model.predict(asked)
        scores[f"TF-IDF, logistic regression, C = {strength:g}"] = (
            accuracy_score(wanted, given),
            f1_score(wanted, given, average="macro"),
        )
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="names of runs: instruct, pretrained-0, scratch-1, …")
    parser.add_argument("--threads", type=int, help="of torch; on a busy machine 1 is far faster than all")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if not (given.work / "pretrain.jsonl").exists():
        prepare(given.data, given.work)
    base_of(given.work, given.threads)
    runs = Runs(given.work, given.only, given.threads)
    verdicts = {
        "answers at least 0.3 nat below the base": instruct(given.work, runs),
        "within 3 points of TF-IDF, above from scratch": classify(given.work, runs, given.seeds),
    }
    print()
    for bar, held in verdicts.items():
        print(f"{bar}: {'not judged' if held is None else 'holds' if held else 'MISSED'}")
    return int(False in verdicts.values())


if __name__ == "__main__":
    sys.exit(main())
