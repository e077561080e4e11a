from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from biollm.errors import ConfigError
from biollm.manifest import Manifest
from biollm.recipe import Node, parse_recipe, plan
from toy_stages import STAGES


def planned(text: str, folder: Path) -> tuple[Node, ...]:
    return plan(parse_recipe(text, folder / "r.toml"), STAGES)


def stage(name: str, verb: str, inputs: str, more: str = "") -> str:
    return f"[[stage]]\nname = '{name}'\nverb = '{verb}'\ninputs = {inputs}\n{more}\n"


def test_a_graph(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text("x")
    text = stage("one", "gather", "['*.txt', 's3://bucket/x.jsonl']", "weight = 1")
    text += stage("two", "gather", "['one', 'a.txt']") + stage("three", "fit", "['two', 'one']", "steps = 2")
    text = text.replace("'a.txt']", f"'a.txt', '{(tmp_path / 'b.txt').as_uri()}']")
    one, two, three = planned(text, tmp_path)
    assert one.options.weight == 1.0
    assert one.sources[0].files == (tmp_path / "a.txt", tmp_path / "b.txt")
    assert one.sources[1].files == ("s3://bucket/x.jsonl",)
    assert [source.kind for source in two.sources] == ["documents", "files", "files"]
    assert two.sources[2].files == (tmp_path / "b.txt",)
    assert three.sources[0].stage == "two"


def test_a_stage_above_wins_over_a_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    nodes = planned(stage("one", "gather", "['./one']") + stage("two", "gather", "['one']"), tmp_path)
    assert nodes[0].sources[0].kind == "files"
    assert nodes[1].sources[0].stage == "one"


def test_folders_of_other_runs_and_models(tmp_path: Path) -> None:
    for name in ("model", "shards", "clean"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "shards" / "shards.json").write_text("{}")
    Manifest("dedup", "documents", 1).write(tmp_path / "clean")
    (node,) = planned(stage("one", "fit", "['clean', 'model']", "steps = 1"), tmp_path)
    assert [source.kind for source in node.sources] == ["documents", "checkpoint"]
    with pytest.raises(ConfigError, match="the input 'shards' is of kind 'shards', but fit takes documents"):
        planned(stage("one", "fit", "['clean', 'shards']", "steps = 1"), tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (stage("one", "gathr", "[]"), "unknown verb 'gathr': did you mean 'gather'"),
        (stage("one", "gather", "['a.txt']", "wieght = 1"), "unknown key 'wieght': did you mean 'weight'"),
        (stage("one", "gather", "['a.txt']", "weight = 'x'"), 'weight is "x"'),
        (stage("one", "gather", "[]"), "no inputs, but gather takes files .any number., documents .any number."),
        (stage("one", "gather", "['b.txt']"), "neither a stage above it nor a file .*did you mean 'a.txt'"),
        (stage("one", "gather", "['zzzzz']"), "no stage stands above it"),
        (stage("one", "gather", "['*.csv']"), "matches no file"),
        (stage("one", "gather", "['one']"), "names itself as input"),
        (stage("one", "gather", "['two']") + stage("two", "gather", "['one']"), "names 'two', which stands below it"),
        (stage("one", "gather", "['a.txt']") + stage("two", "gather", "['on']"), "did you mean 'one'"),
        (stage("one", "gather", "['a.txt']") + stage("two", "gather", "['qqq']"), "stages above it: one"),
        (stage("one", "fit", "['a.txt']", "steps = 1"), 'put a stage with verb = "read" between'),
        (stage("one", "fit", "['a.txt']"), "steps is missing"),
        (stage("one", "fit", "['a.txt']", "steps = 0"), "stage 'one': steps must be 1 or more"),
        (stage("one", "gather", "['folder']"), r"write a glob, as in folder/\*.jsonl.gz"),
        (
            stage("d", "gather", "['a.txt']")
            + stage("m", "fit", "['d']", "steps = 1")
            + stage("n", "fit", "['m']", "steps = 1"),
            "none of kind 'documents'",
        ),
        (
            stage("d", "gather", "['a.txt']")
            + stage("m", "fit", "['d']", "steps = 1")
            + stage("k", "fit", "['d']", "steps = 1")
            + stage("n", "fit", "['d', 'm', 'k']", "steps = 1"),
            "2 of kind 'checkpoint' among the inputs, but fit takes documents .1 or more., checkpoint .at most 1.",
        ),
    ],
)
def test_wrong_graphs_are_refused_before_anything_runs(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=words) as caught:
        planned(text, tmp_path)
    assert caught.value.path == str(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        (["d"], "", "stage 'm': the input 'd' is of kind 'documents', but the objective pretrain takes shards"),
        (
            ["s"],
            'objective = "instruct"',
            "'s' is of kind 'shards', but the objective instruct takes",
        ),
        (["d"], 'objective = "classify"', "the objective classify needs a checkpoint among the inputs"),
        (["s"], "lora_rank = 4", "lora_rank needs a checkpoint among the inputs"),
    ],
)
def test_inputs_that_do_not_go_with_the_options(inputs: list[str], options: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    text = stage("d", "read", "['a.jsonl']") + stage("s", "tokenize", "['d']", "vocab_size = 300")
    with pytest.raises(ConfigError, match=words):
        plan(parse_recipe(text + stage("m", "train", str(inputs), options), tmp_path / "r.toml"))


def test_paths_among_the_options_start_from_the_recipe(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Options:
        vocabulary: str | None = field(default=None, metadata={"path": True})

    stages = {"use": replace(STAGES["gather"], verb="use", options=Options)}
    (tmp_path / "a.txt").write_text("x")
    recipe = parse_recipe(stage("one", "use", "['a.txt']", "vocabulary = 'a.txt'"), tmp_path / "r.toml")
    assert plan(recipe, stages)[0].options.vocabulary == str(tmp_path / "a.txt")
    recipe = parse_recipe(stage("one", "use", "['a.txt']", "vocabulary = 'b.txt'"), tmp_path / "r.toml")
    with pytest.raises(ConfigError, match=r"stage 'one': vocabulary names no file or folder .looked for .*b.txt"):
        plan(recipe, stages)


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text("[")
    with pytest.raises(ConfigError, match="cannot be used"):
        planned(stage("one", "gather", "['old']"), tmp_path)
