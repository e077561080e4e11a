"""A tiny model tuned on chats of the generated corpus: the start of the alignment tests, their pages and the bench.

The library's own chain: the corpus's texts are tokenized and a base is pretrained on them, then tuned on the chats
among them (`objective="instruct"`). Bait and harmful answer stand in both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import biollm
from biollm.alignment.corpus import SafetyCorpus
from biollm.training import Checkpoint


def train_chat_model(
    folder: Path, corpus: SafetyCorpus, *, base_steps: int, steps: int, vocab_size: int = 1152, **options: Any
) -> Checkpoint:
    """A model tuned for `steps` on the chats of `corpus.texts`, in `folder` / "sft", from a base of `base_steps`.

    options: of both trainings.
    """
    texts = [row.get("text") or f"{row['prompt']} {row['answer']}" for row in corpus.texts]
    chats = [dict(row) for row in corpus.texts if "answer" in row]
    shards = biollm.tokenize(texts, vocab_size=vocab_size, output=folder / "shards", threads=1)
    shared = {"seq_len": 128, "batch_size": 16, **options}
    base = biollm.train(
        shards,
        output=folder / "base",
        steps=base_steps,
        **{"size": "tiny", "lr": 3e-3, "warmup_fraction": 0.1, **shared},
    )
    return biollm.train(
        chats,
        start=base,
        objective="instruct",
        question="prompt",
        output=folder / "sft",
        steps=steps,
        **{"lr": 2e-3, "warmup_fraction": 0.1, **shared},
    )
