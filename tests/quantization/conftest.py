from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")

import biollm  # noqa: E402

WORDS = (
    *("asthma", "migraine", "anaemia", "sepsis", "gout", "angina", "in", "of", "after", "with", "adults", "trial"),
    *("dose", "the", "placebo", "risk"),
)
FOLLOWS = {word: WORDS[(3 * place + 1) % len(WORDS)] for place, word in enumerate(WORDS)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def text_of(seed: int) -> str:
    """30 words, most of them followed by the one that goes with them: something to learn, and to lose."""
    draw = random.Random(seed)
    words = [draw.choice(WORDS)]
    for _ in range(29):
        words.append(FOLLOWS[words[-1]] if draw.random() < 0.8 else draw.choice(WORDS))
    return " ".join(words)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [text_of(seed) for seed in range(120)]


@pytest.fixture(scope="session")
def shards(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantization") / "shards"
    biollm.tokenize(texts, vocab_size=300, validation_fraction=0.25, output=folder)
    return folder


@pytest.fixture(scope="session")
def model(shards: Path) -> Path:
    """A model that has learnt the words' order: rounding it can only do harm."""
    folder = shards.parent / "model"
    biollm.train(shards, output=folder, size="tiny", steps=60, seq_len=64, batch_size=8, threads=1, validate_every=60)
    return folder
