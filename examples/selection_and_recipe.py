"""A rule of your own over the scores of `select`, then a recipe from Python. No PyTorch.

python examples/selection_and_recipe.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

import biollm
from biollm.demo.corpus import generate
from biollm.recipe import run

RECIPE = """\
[[stage]]
name = "good"
verb = "select"
inputs = ["abstracts.jsonl"]
id = "id"
thresholds = { min_alphabetic_fraction = 0.7, min_words = 40 }

[[stage]]
name = "shards"
verb = "tokenize"
inputs = ["good"]
vocab_size = 600
validation_fraction = 0.1
"""


def main() -> None:
    """Selects twice: by hand, and as a recipe."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with open(folder / "abstracts.jsonl", "w", encoding="utf-8") as out:
            for document in generate("tiny")[:150]:
                out.write(json.dumps({"id": document.id, "text": document.text}) + "\n")

        # 1. By hand: every statistic of every document is a column, so a rule is a line of numpy.
        measured = biollm.select(folder / "abstracts.jsonl")
        scores = {name: measured.scores[name].to_numpy() for name in ("words", "stop_words", "duplicate_line_fraction")}
        mine = (scores["words"] >= 40) & (scores["stop_words"] >= 2) & (scores["duplicate_line_fraction"] < 0.2)
        print(f"Gopher keeps {measured.keep_mask.sum()}, the rule of three keeps {mine.sum()} of {len(mine)}")
        row = int(np.flatnonzero(mine & ~measured.keep_mask)[0])
        print("only Gopher drops", measured.why(row))

        # 2. As a recipe: the same engine as `biollm run`, with its manifests and report.
        (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        for override in ([], [], ["good.thresholds.min_words=60"]):
            result = run(folder / "recipe.toml", output=folder / "run", set=override)
            print(override, {stage.name: stage.status for stage in result.stages})
        kept = result.stages[0].manifest.counts["documents_kept"]
        shards = biollm.Shards.open(folder / "run" / "shards")
        print(f"{kept} documents, {shards.num_tokens:,} tokens; report: {result.report.name}")


if __name__ == "__main__":
    main()
