"""The verb `generate`, its folder, and the stage."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import biollm
from biollm.errors import ConfigError, FileError
from biollm.inference import Completion, Completions, GenerateOptions, generate
from biollm.inference.stage import STAGE
from biollm.manifest import InputRecord, Manifest
from biollm.results import Result, Summary
from biollm.stages import StageContext, StageInput
from random_models import random_hf_folder

PROMPTS = [[5, 6, 7], [8], [9] * 30]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    random_hf_folder(path, num_hidden_layers=1)
    return path


def test_the_verb_gives_a_list_that_tells_of_itself(checkpoint: Path) -> None:
    completions = biollm.generate(checkpoint, PROMPTS, max_tokens=6)
    assert isinstance(completions, list)
    assert isinstance(completions, Completions)
    assert isinstance(completions, Result)
    assert all(isinstance(completion, Completion) for completion in completions)
    facts = completions.summary().facts
    assert facts["prompts"] == 3
    assert facts["prompt tokens"] == 34
    assert facts["generated tokens"] == sum(len(c.token_ids) for c in completions)
    assert completions.manifest.verb == "generate"


def test_the_folder(checkpoint: Path, tmp_path: Path) -> None:
    completions = generate(checkpoint, PROMPTS, max_tokens=6, logprobs=1, output=tmp_path / "out")
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["completions.jsonl", "manifest.json", "summary.json"]
    rows = [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]
    assert [tuple(row["token_ids"]) for row in rows] == [c.token_ids for c in completions]
    assert [row["prompt"] for row in rows] == PROMPTS
    summary = Summary.from_dict(json.loads((folder / "summary.json").read_text()))
    assert len(summary.samples) == 3
    manifest = Manifest.read(folder)
    assert manifest == completions.manifest
    assert manifest.kind == "completions"
    assert set(manifest.outputs) == {"completions.jsonl", "summary.json"}
    assert manifest.options["prompts"] == PROMPTS
    assert "compile" not in manifest.options


def test_options_and_checkpoint_decide_the_match_key(checkpoint: Path, tmp_path: Path) -> None:
    first = generate(checkpoint, PROMPTS, max_tokens=4).manifest.match_key
    assert generate(checkpoint, PROMPTS, max_tokens=4, compile=False).manifest.match_key == first
    assert generate(checkpoint, PROMPTS, max_tokens=5).manifest.match_key != first
    assert generate(checkpoint, PROMPTS[:2], max_tokens=4).manifest.match_key != first
    random_hf_folder(tmp_path, num_hidden_layers=1, seed=9)
    assert generate(tmp_path, PROMPTS, max_tokens=4).manifest.match_key != first


@pytest.fixture
def with_tokenizer(checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint with a tokenizer beside it."""
    from biollm import tokenization

    folder = tmp_path / "with_tokenizer"
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenization.train(["the patient was given aspirin and recovered"] * 20, vocab_size=290).save(folder)
    return folder


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "question": "the patient"}\n{"id": "b", "question": "aspirin \u2028 and"}\n')
    return path


def test_prompts_from_documents(with_tokenizer: Path, prompt_file: Path, tmp_path: Path) -> None:
    completions = generate(with_tokenizer, prompt_file, text="question", max_tokens=5, output=tmp_path / "out")
    assert [c.prompt for c in completions] == ["the patient", "aspirin \u2028 and"]
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.options["prompts"] == []
    assert [Path(record.name).name for record in manifest.inputs] == ["with_tokenizer", "prompts.jsonl"]
    assert manifest.inputs[1].xxh3_128 == InputRecord.of_file(prompt_file).xxh3_128
    lines = (tmp_path / "out" / "completions.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 3
    assert json.loads(lines[1])["prompt"] == "aspirin \u2028 and"


def test_the_stage_leaves_what_the_verb_leaves(with_tokenizer: Path, prompt_file: Path, tmp_path: Path) -> None:
    from biollm.recipe.options import plain

    options = GenerateOptions(text="question", max_tokens=5)
    trained = StageInput(with_tokenizer, "checkpoint", "pretrain", InputRecord("pretrain", "stage", "0" * 32))
    STAGE.run(context(tmp_path / "stage", trained, StageInput(prompt_file, "files", "p.jsonl")), options)
    verb = generate(with_tokenizer, prompt_file, text="question", max_tokens=5, output=tmp_path / "verb")
    stage = Manifest.read(tmp_path / "stage")
    assert stage.options == verb.manifest.options
    assert stage.options == {k: v for k, v in plain(options).items() if k not in STAGE.unmatched_options}
    assert [record.name for record in stage.inputs] == ["pretrain", str(prompt_file)]
    texts = [
        [
            json.loads(line)["text"]
            for line in (tmp_path / name / "completions.jsonl").read_text("utf-8").split("\n")[:-1]
        ]
        for name in ("stage", "verb")
    ]
    assert texts[0] == texts[1]
    inline = GenerateOptions(prompts=("the patient",), max_tokens=5)
    completions = STAGE.run(context(tmp_path / "inline", trained), inline)
    assert completions[0].text == texts[0][0]
    assert Manifest.read(tmp_path / "inline").options["prompts"] == ["the patient"]


def test_what_train_returns_is_taken(checkpoint: Path) -> None:
    class Trained:
        path = checkpoint

    assert generate(Trained(), PROMPTS, max_tokens=2)[0].token_ids


def test_a_missing_checkpoint_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        generate(tmp_path / "nothing", PROMPTS)


def context(folder: Path, *inputs: StageInput) -> StageContext:
    folder.mkdir()
    return StageContext(folder, inputs, None, logging.getLogger("test"))


def test_the_stage_needs_prompts_from_one_place(checkpoint: Path, tmp_path: Path) -> None:
    record = InputRecord("pretrain", "folder", "0" * 32)
    trained = StageInput(checkpoint, "checkpoint", "pretrain", record)
    with pytest.raises(ConfigError, match="prompts"):
        STAGE.run(context(tmp_path / "a", trained), GenerateOptions())
    documents = StageInput(tmp_path, "documents", "clean", record)
    with pytest.raises(ConfigError, match="prompts"):
        STAGE.run(context(tmp_path / "b", trained, documents), GenerateOptions(prompts=("x",)))


def test_options_round_trip_as_a_recipe_writes_them() -> None:
    from biollm.recipe.options import build, describe, plain

    given: dict[str, Any] = {
        "prompts": ["The patient", "Aspirin"],
        "max_tokens": 64,
        "temperature": 0.8,
        "stop": ["\n"],
        "seed": 3,
        "compile": "auto",
    }
    options = build(GenerateOptions, given, where="stage 'samples'")
    assert plain(options) == {**plain(GenerateOptions()), **given}
    assert all(option.help for option in describe(GenerateOptions))
    assert build(GenerateOptions, {"compile": False}, where="x").compile is False
    with pytest.raises(ConfigError, match="max_tokens"):
        build(GenerateOptions, {"max_tokens": 0}, where="stage 'samples'")
