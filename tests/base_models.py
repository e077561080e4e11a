"""A very small pretrained model with a vocabulary that has the tokens of chats, for the tests of tuning."""

from __future__ import annotations

from pathlib import Path

import torch

from biollm.models import Llama, ModelConfig, save_checkpoint
from biollm.tokenization import train

CONTEXT = 128
TOPICS = {
    "heart": ("the heart pumps blood", "a valve of the heart leaks", "blood pressure is high"),
    "brain": ("the brain thinks", "a nerve carries signals", "memory fades with age"),
    "gut": ("the stomach digests food", "the bowel absorbs water", "the liver makes bile"),
}


def base_model(folder: Path, *, seed: int = 0, tied: bool = False) -> Path:
    """A random model of two layers with its tokenizer."""
    texts = [text for sentences in TOPICS.values() for text in sentences]
    tokenizer = train(texts * 4, vocab_size=330)
    folder.mkdir(exist_ok=True)
    tokenizer.save(folder)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        dim=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        ffn_dim=64,
        max_seq_len=CONTEXT,
        tie_embeddings=tied,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
    )
    torch.manual_seed(seed)
    save_checkpoint(folder, Llama(config), folder)
    return folder


def pairs(count: int) -> list[dict[str, str]]:
    """Questions with answers of unequal lengths."""
    return [
        {"id": str(i), "question": f"what of the {topic} {i % 7} ?", "answer": " and ".join(sentences[: 1 + i % 3])}
        for i, (topic, sentences) in enumerate(list(TOPICS.items()) * (1 + count // 3))
    ][:count]


def documents(count: int) -> list[dict[str, str]]:
    """Texts with labels that their words tell."""
    return [
        {"id": str(i), "text": f"{sentences[i % 3]} {i} times", "label": topic}
        for i, (topic, sentences) in enumerate(list(TOPICS.items()) * (1 + count // 3))
    ][:count]
