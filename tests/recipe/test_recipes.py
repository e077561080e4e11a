"""The recipes that come with the library: all are understood, and the one for real data runs through all stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biollm.manifest import Manifest
from biollm.recipe import plan, read_recipe, run
from shared_data import shared_file

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted([*(ROOT / "recipes").glob("*.toml"), *(ROOT / "python/biollm/demo/recipes").glob("*.toml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_understood(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    (tmp_path / "a.jsonl.gz").write_bytes(b"")
    reads = [stage.name for stage in read_recipe(path).stages if stage.verb == "read"]
    assert reads
    nodes = plan(read_recipe(path, [f'{name}.inputs=["{tmp_path}/a.jsonl.gz"]' for name in reads]))
    assert [node.stage.verb for node in nodes][-1] == "generate"


def test_real_documents_become_a_model_that_writes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    changes = [
        f'abstracts.inputs=["{shared_file("text_bio/medical_abstracts.jsonl.gz")}"]',
        f'questions.inputs=["{shared_file("text_bio/medquad_qa.jsonl.gz")}"]',
        "tokenize.vocab_size=2048",
        "train.size=tiny",
        "train.steps=50",
        "train.batch_size=8",
        "train.validate_every=60",
        "tokenize.validation_fraction=0.005",
        "generate.max_tokens=16",
        "generate.compile=false",
    ]
    # One of steps and epochs is given, and the recipe gives epochs.
    recipe = tmp_path / "recipe.toml"
    recipe.write_text((ROOT / "recipes" / "abstracts.toml").read_text().replace("epochs = 1\n", ""))
    result = run(recipe, output=tmp_path / "RUN", set=changes)
    assert [stage.status for stage in result.stages] == ["complete"] * 7

    folders = {stage.verb: stage.folder for stage in result.stages}
    counts = {stage.name: stage.manifest.counts for stage in result.stages}
    assert counts["dedup"]["documents_in"] == 1_912 + 7_328
    assert counts["dedup"]["documents_kept"] == counts["select"]["documents_in"]
    assert counts["select"]["documents_kept"] == counts["tokenize"]["documents_in"]
    facts = json.loads((folders["train"] / "summary.json").read_text())["facts"]
    assert facts["unigram_entropy_nats"] - facts["validation_loss_nats"] >= 1.0
    texts = [json.loads(line)["text"] for line in (folders["generate"] / "completions.jsonl").read_text().splitlines()]
    assert len(texts) == 3
    assert all(texts)

    report = result.report.read_text()
    for words in ("Loss", "unigram", "bigram", "Clusters by size", "min_words", *texts[0].split()[:3]):
        assert words in report, words
    again = run(recipe, output=tmp_path / "RUN", set=changes)
    assert [stage.status for stage in again.stages] == ["matched"] * 7
    assert Manifest.read(folders["train"]).hash == result.stages[5].manifest.hash
