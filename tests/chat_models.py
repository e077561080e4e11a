"""A tiny model tuned on chats of the generated corpus: the start of the alignment tests and bench.

Texts become shards in the chat format, with only answers and statements in the loss, and `biollm.train` does the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import biollm
from biollm.alignment.chat import ChatTokens, Turn
from biollm.alignment.corpus import SafetyCorpus
from biollm.tokenization import ShardWriter, Tokenizer, train
from biollm.training import Checkpoint


def train_chat_model(
    folder: Path, corpus: SafetyCorpus, *, steps: int, vocab_size: int = 1152, seed: int = 0, **options: Any
) -> Checkpoint:
    """A model of `corpus.texts`, in `folder` / "sft"."""
    shards = write_chat_shards(folder / "shards", corpus.texts, vocab_size=vocab_size)
    defaults = {"size": "tiny", "seq_len": 128, "batch_size": 16, "lr": 3e-3, "warmup_fraction": 0.1}
    return biollm.train(shards, output=folder / "sft", steps=steps, seed=seed, **{**defaults, **options})


def write_chat_shards(folder: Path, rows: Sequence[Mapping[str, str]], *, vocab_size: int) -> Path:
    """Shards of chats; a twentieth of the rows is held out."""
    folder.mkdir(parents=True)
    texts = [" ".join(v for k, v in row.items() if k != "category") for row in rows]
    train(texts, vocab_size=vocab_size, threads=1).save(folder)
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    eos = tokenizer.eos_id
    assert eos is not None
    chat = ChatTokens(tokenizer, (eos,), folder)
    documents = []
    for row in rows:
        if "text" in row:
            ids = [*chat.text(row["text"]), eos]
            documents.append((ids, [1] * len(ids), len(row["text"])))
            continue
        prompt, answer = chat.prompt([Turn("user", row["prompt"])]), [*chat.answer(row["answer"]), eos]
        documents.append((prompt + answer, [0] * len(prompt) + [1] * len(answer), len(row["answer"])))
    data = (folder / "tokenizer.json").read_bytes()
    with ShardWriter(
        folder,
        vocab_size=vocab_size,
        eos_id=eos,
        append_eos=True,
        tokenizer_sha256=hashlib.sha256(data).hexdigest(),
        masked=True,
    ) as writer:
        held_out = len(documents) // 20
        for split, part in (("train", documents[held_out:]), ("validation", documents[:held_out])):
            if not part:
                continue
            writer.add(
                split,
                np.concatenate([np.asarray(ids, np.int64) for ids, _, _ in part]),
                np.cumsum([0, *(len(ids) for ids, _, _ in part)]),
                ids=[f"{split}-{i}" for i in range(len(part))],
                num_bytes=[size for _, _, size in part],
                mask=np.concatenate([np.asarray(mask, np.uint8) for _, mask, _ in part]),
            )
    return folder
