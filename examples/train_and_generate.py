"""From texts to a model's first words in half a minute on a CPU. Needs `biollm[train]`.

python examples/train_and_generate.py [STEPS]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import biollm
from biollm.demo.abstracts import write_abstract


def main(steps: int = 60) -> None:
    """Tokenizes abstracts of invented studies, trains on them, and lets the model speak."""
    texts = [write_abstract(seed=0, index=index).text() for index in range(200)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shards = biollm.tokenize(texts, vocab_size=1024, validation_fraction=0.1, output=folder / "shards")
        print(f"{shards.num_documents} documents, {shards.num_tokens:,} tokens")

        checkpoint = biollm.train(shards, size="tiny", steps=steps, seq_len=128, batch_size=4, output=folder / "model")
        facts = checkpoint.summary().facts
        print(f"validation loss {facts['validation_loss_nats']:.2f} nats a token after {steps} steps")
        print(f"unigram {facts['unigram_entropy_nats']:.2f}, bigram {facts['bigram_entropy_nats']:.2f}")

        llm = biollm.LLM(checkpoint)
        for completion in llm.generate(["BACKGROUND:", "METHODS:"], max_tokens=24, temperature=0.7, seed=0):
            print(f"{completion.prompt}{completion.text} …")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
