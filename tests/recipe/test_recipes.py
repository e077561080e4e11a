"""The recipes that come with the library: all are understood, and the one for real data runs through all stages."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import biollm
from biollm.demo.conversations import FILES
from biollm.manifest import Manifest
from biollm.readers import as_documents
from biollm.recipe import VERBS, plan, read_recipe, run
from shared_data import shared_file

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted([*(ROOT / "recipes").glob("*.toml"), *(ROOT / "python/biollm/demo/recipes").glob("*.toml")])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_understood(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    (tmp_path / "sample").mkdir()
    for name in ("a.jsonl.gz", *(f"sample/{name}" for name in FILES)):
        (tmp_path / name).write_bytes(b"")
    recipe = tmp_path / path.name
    recipe.write_bytes(path.read_bytes())
    reads = [stage.name for stage in read_recipe(recipe).stages if stage.verb == "read"]
    assert reads
    nodes = plan(read_recipe(recipe, [f'{name}.inputs=["{tmp_path}/a.jsonl.gz"]' for name in reads]))
    assert {"tokenize", "train", "generate"} <= {node.stage.verb for node in nodes}


def test_the_recipes_of_the_demo_have_every_verb() -> None:
    for path in RECIPES:
        if path.is_relative_to(ROOT / "python"):
            assert {stage.verb for stage in read_recipe(path).stages} == set(VERBS)


def test_real_documents_become_a_model_that_writes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    inputs = {
        "pubmed": shared_file("pubmed_xml/pubmed1.xml").with_name("*.xml"),
        "articles": shared_file("jats/efetch_pmc.xml").with_name("*xml*"),
        "abstracts": shared_file("text_bio/medical_abstracts.jsonl.gz"),
        "questions": shared_file("text_bio/medquad_qa.jsonl.gz"),
    }
    changes = [
        *(f'{name}.inputs=["{path}"]' for name, path in inputs.items()),
        "tokenize.vocab_size=2048",
        "tokenize.validation_fraction=0.005",
        "train.steps=50",
        "train.validate_every=60",
        "generate.max_tokens=16",
        "generate.compile=false",
    ]
    recipe = ROOT / "recipes" / "pubmed.toml"
    result = run(recipe, output=tmp_path / "RUN", set=changes)
    assert [stage.status for stage in result.stages] == ["complete"] * 9

    folders = {stage.name: stage.folder for stage in result.stages}
    counts = {stage.name: stage.manifest.counts for stage in result.stages}
    assert [counts[name]["documents"] for name in inputs] == [7, 74, 1_912, 7_328]
    assert counts["dedup"]["documents_in"] == 7 + 74 + 1_912 + 7_328
    assert counts["dedup"]["documents_kept"] == counts["select"]["documents_in"]
    assert counts["select"]["documents_kept"] == counts["tokenize"]["documents_in"]
    # Gopher's own thresholds drop a third of the abstracts; those of the recipe leave nearly all, and every article.
    kept = Counter(as_documents(folders["select"]).to_table().column("id").to_pylist())
    abstracts = as_documents(folders["dedup"]).to_table().column("id").to_pylist()
    mine = [name for name in abstracts if not name.startswith("medquad")]
    assert sum(name in kept for name in mine) > 0.97 * len(mine)
    assert_nothing_held_out_is_known(folders["select"], folders["tokenize"])

    facts = json.loads((folders["train"] / "summary.json").read_text())["facts"]
    assert facts["unigram_entropy_nats"] - facts["validation_loss_nats"] >= 1.0
    # The bar of a whole run: what it is held against stands beside it.
    assert 0 < facts["bigram_bits_per_byte"] < facts["validation_bits_per_byte"] < facts["unigram_bits_per_byte"]
    texts = [json.loads(line)["text"] for line in (folders["generate"] / "completions.jsonl").read_text().splitlines()]
    assert len(texts) == 3
    assert all(texts)

    report = result.report.read_text()
    for words in (
        "Loss",
        "unigram",
        "bigram",
        "Clusters by size",
        "min_words",
        "records replaced",
        *texts[0].split()[:3],
    ):
        assert words in report, words
    again = run(recipe, output=tmp_path / "RUN", set=changes)
    assert [stage.status for stage in again.stages] == ["matched"] * 9
    assert Manifest.read(folders["train"]).hash == result.stages[7].manifest.hash


def assert_nothing_held_out_is_known(documents: Path, shards: Path) -> None:
    """No held-out document has a near copy among the others, by other permutations than those of the recipe."""
    table = as_documents(documents).to_table()
    ids = table.column("id").to_pylist()
    assert len(set(ids)) == len(ids)
    sides = {
        side: set(pq.read_table(file).column("id").to_pylist())
        for side in ("train", "validation")
        for file in shards.glob(f"{side}*.documents.parquet")
    }
    assert sides["train"] | sides["validation"] == set(ids)
    assert len(sides["validation"]) > 20
    pairs = biollm.dedup(table, threshold=0.8, bands=64, seed=1).pairs().to_pylist()
    assert [pair for pair in pairs if {ids[pair["a"]], ids[pair["b"]]} & sides["validation"]] == []
