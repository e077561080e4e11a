"""The verbs that need no torch as stages: what they write into their manifests is what the runner matches."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from biollm.recipe import RunResult, load_stage, run
from biollm.recipe.graph import VERBS
from biollm.recipe.options import describe

RECIPE = """
[[stage]]
name = "notes"
verb = "read"
inputs = ["*.jsonl"]
text = ["title", "body"]

[[stage]]
name = "unique"
verb = "dedup"
inputs = ["notes"]

[[stage]]
name = "good"
verb = "select"
inputs = ["unique"]
rules = ["gopher_repetition"]

[[stage]]
name = "trained"
verb = "tokenize"
inputs = ["good"]
vocab_size = 300
validation_fraction = 0.25

[[stage]]
name = "loaded"
verb = "tokenize"
inputs = ["good"]
tokenizer = "vocabulary"
"""
WORDS = ("asthma", "migraine", "anaemia", "sepsis", "gout", "angina", "in", "of", "after", "with", "adults", "trial")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    (folder / "r.toml").write_text(RECIPE)
    draw = random.Random(0)
    rows = [{"title": f"Note {i}", "body": " ".join(draw.choices(WORDS, k=60))} for i in range(100)]
    for name, part in (("a", rows[:60]), ("b", [*rows[60:], rows[0]])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    # A first run makes the vocabulary that the recipe then loads.
    (folder / "first.toml").write_text(RECIPE.rpartition("[[stage]]")[0])
    made = run(folder / "first.toml", output=folder / "FIRST").folder / "trained"
    (folder / "vocabulary").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "vocabulary" / name).write_bytes((made / name).read_bytes())
    return folder


def statuses(result: RunResult) -> list[str]:
    return [stage.status for stage in result.stages]


def test_a_second_run_runs_nothing(place: Path) -> None:
    first = run(place / "r.toml", output=place / "RUN")
    assert statuses(first) == ["complete"] * 5
    assert first.stages[1].manifest.counts["documents_in"] == 101
    again = run(place / "r.toml", output=place / "RUN", verify=True)
    assert statuses(again) == ["matched"] * 5
    report = (place / "RUN" / "report.html").read_text()
    for stage in first.stages:
        assert f'id="stage-{stage.name}"' in report
        assert "cannot be shown" not in report


def test_equal_inputs_give_equal_folders_elsewhere(place: Path) -> None:
    here = run(place / "r.toml", output=place / "RUN")
    there = run(place / "r.toml", output=place / "OTHER")
    assert [s.manifest.outputs for s in here.stages] == [s.manifest.outputs for s in there.stages]
    assert [s.manifest.hash for s in here.stages] == [s.manifest.hash for s in there.stages]


def test_a_tokenizer_is_known_by_its_content(place: Path) -> None:
    run(place / "r.toml", output=place / "RUN")
    config = place / "vocabulary" / "tokenizer_config.json"
    before = config.read_bytes()
    config.write_bytes(before + b"\n")
    result = run(place / "r.toml", output=place / "RUN")
    config.write_bytes(before)
    assert statuses(result) == [*["matched"] * 4, "complete"]
    assert result.stages[-1].reason.startswith("options changed: tokenizer ")


def test_a_url_is_read_again_but_what_follows_is_not_run_again(place: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/notes/a.jsonl", (place / "a.jsonl").read_bytes())
    recipe = place / "url.toml"
    recipe.write_text(RECIPE.split('[[stage]]\nname = "good"')[0].replace('"*.jsonl"', '"memory://notes/a.jsonl"'))
    assert statuses(run(recipe, output=place / "URL")) == ["complete", "complete"]
    again = run(recipe, output=place / "URL")
    assert statuses(again) == ["complete", "matched"]
    assert "is a URL" in again.stages[0].reason


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("train", "align", "generate")])
def test_every_option_of_a_verb_has_its_sentence(verb: str) -> None:
    stage = load_stage(verb)
    assert stage.verb == verb
    assert [option.name for option in describe(stage.options) if not option.help] == []
    assert stage.unmatched_options <= {option.name for option in describe(stage.options)}


@pytest.mark.parametrize("verb", ["train", "align", "generate"])
def test_every_option_of_a_model_verb_has_its_sentence(verb: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    test_every_option_of_a_verb_has_its_sentence(verb)
