"""One recipe from raw text to an aligned, quantized, evaluated model: what each stage leaves, the next one takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")

from biollm.alignment import SafetyCorpus
from biollm.models.checkpoints import read_config
from biollm.recipe import run

RECIPE = """
[[stage]]
name = "read"
verb = "read"
inputs = ["documents.jsonl"]

[[stage]]
name = "tokenize"
verb = "tokenize"
inputs = ["read"]
vocab_size = 400
validation_fraction = 0.2

[[stage]]
name = "pretrain"
verb = "train"
inputs = ["tokenize"]
size = "tiny"
steps = 3
seq_len = 128
batch_size = 2

[[stage]]
name = "instruct"
verb = "train"
inputs = ["pretrain", "corpus/texts.jsonl"]
objective = "instruct"
question = "prompt"
on_error = "skip"
steps = 3
seq_len = 128
batch_size = 2

[[stage]]
name = "align"
verb = "align"
inputs = ["instruct", "corpus/pairs.jsonl"]
method = "ppo"
steps = 1
batch_size = 4
samples = 8
max_tokens = 8
evaluation = "corpus/evaluation.jsonl"
benign = "corpus/benign.jsonl"

[[stage]]
name = "int8"
verb = "quantize"
inputs = ["align", "tokenize"]
bits = 8
calibration_documents = 8
evaluation_documents = 8

[[stage]]
name = "int4"
verb = "quantize"
inputs = ["align", "tokenize"]
bits = 4
calibration_documents = 8
evaluation_documents = 8

[[stage]]
name = "generate"
verb = "generate"
inputs = ["int4"]
prompts = ["What helps a mother with anaemia?"]
chat = true
max_tokens = 4
compile = false

[[stage]]
name = "before"
verb = "evaluate"
inputs = ["pretrain", "questions.jsonl", "tokenize"]
resamples = 100

[[stage]]
name = "after"
verb = "evaluate"
inputs = ["int4", "questions.jsonl", "tokenize"]
resamples = 100
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("chain")
    corpus = SafetyCorpus.generate(seed=0, texts=120, pairs=60, evaluation=8, benign=8)
    corpus.write(place / "corpus")
    rows = [" ".join(text[name] for name in ("text", "prompt", "answer") if name in text) for text in corpus.texts]
    (place / "documents.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    items = []
    for i in range(6):
        options = {"A": "rest", "B": f"dose {i}"}
        items.append({"id": str(i), "question": f"Which is {i}?", "options": options, "answer_idx": "AB"[i % 2]})
    (place / "questions.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (place / "chain.toml").write_text(RECIPE)
    return place


@pytest.mark.slow
def test_every_stage_takes_what_the_one_before_it_left(folder: Path) -> None:
    result = run(folder / "chain.toml", output=folder / "RUN")
    assert [stage.status for stage in result.stages] == ["complete"] * 10
    manifests = {stage.name: stage.manifest for stage in result.stages}
    assert [manifests[name].kind for name in ("instruct", "align", "int8", "int4")] == ["checkpoint"] * 4  # type: ignore[union-attr]
    # The template of the tuning goes through all the way, and so does the tokenizer.
    for name in ("instruct", "align", "int8", "int4"):
        for file in ("chat_template.jinja", "tokenizer.json"):
            assert (folder / "RUN" / name / file).read_bytes() == (folder / "RUN" / "instruct" / file).read_bytes()
    assert [read_config(folder / "RUN" / name).quantization is None for name in ("align", "int8", "int4")] == [
        True,
        False,
        False,
    ]
    (completion,) = map(json.loads, (folder / "RUN" / "generate" / "completions.jsonl").read_text().splitlines())
    assert completion["prompt_tokens"] > 3
    assert 1 <= len(completion["token_ids"]) <= 4
    for name in ("before", "after"):
        found = json.loads((folder / "RUN" / name / "evaluation.json").read_bytes())
        assert len(found["tasks"]) == 1
        assert found["domains"]
    page = result.report.read_text()
    for name in manifests:
        assert f">{name}<" in page
    again = run(folder / "chain.toml", output=folder / "RUN")
    assert {stage.status for stage in again.stages} == {"matched"}
