from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")

import torch

from biollm.alignment.chat import ChatFormat
from biollm.alignment.corpus import SafetyCorpus
from biollm.models import Llama, ModelConfig
from biollm.training import Checkpoint
from chat_models import train_chat_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpus() -> SafetyCorpus:
    return SafetyCorpus.generate(texts=400, pairs=60, evaluation=16, benign=12)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, corpus: SafetyCorpus) -> Checkpoint:
    """A chat model that has seen its texts for a few steps."""
    folder = tmp_path_factory.mktemp("tuned")
    return train_chat_model(folder, corpus, base_steps=20, steps=20, vocab_size=512, batch_size=8, threads=1)


@pytest.fixture(scope="session")
def chat(tuned: Checkpoint) -> ChatFormat:
    return ChatFormat.of_folder(tuned.path)


@pytest.fixture
def small() -> Llama:
    """A random model of 16 ids."""
    torch.manual_seed(0)
    shape = {"dim": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "ffn_dim": 32, "max_seq_len": 32}
    return Llama(ModelConfig(vocab_size=16, tie_embeddings=False, eos_id=1, **shape))


def rows_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
