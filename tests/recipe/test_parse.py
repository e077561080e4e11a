from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import pytest

from biollm.errors import BiollmError, ConfigError, FileError, LimitError
from biollm.recipe import parse_recipe, read_recipe
from biollm.recipe.parse import MAX_RECIPE_BYTES, parse_value

GOOD = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["a.txt", "b/*.txt"]
weight = 0.25

[stage.table]
deep = { deeper = 1 }

[[stage]]
name = "two"
verb = "fit"
inputs = ["one"]
"""


def test_a_recipe() -> None:
    recipe = parse_recipe(GOOD, Path("folder/r.toml"))
    assert [stage.name for stage in recipe.stages] == ["one", "two"]
    assert recipe.stages[0].inputs == ("a.txt", "b/*.txt")
    assert recipe.stages[0].options == {"weight": 0.25, "table": {"deep": {"deeper": 1}}}
    assert recipe.stages[0].base == Path.cwd() / "folder"
    assert recipe.text == GOOD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no stage"),
        ("x = ", "not TOML"),
        ("a = " + "[" * 100_000, "nested too deep"),
        ("a = " + "9" * 5000, "not TOML"),
        ('[[stages]]\nname = "a"', "did you mean 'stage'"),
        ('[stage]\nname = "a"', r"write \[\[stage\]\]"),
        ("stage = [1]", r"write \[\[stage\]\]"),
        ("[[stage]]\nverb = 'x'", "stage number 1: name is missing"),
        ("[[stage]]\nname = 'a'", "stage 'a': verb is missing"),
        ("[[stage]]\nname = 3\nverb = 'x'", "name is 3, but must be a string"),
        ("[[stage]]\nname = 'a'\nverb = ['x']", 'verb is \\["x"\\]'),
        ("[[stage]]\nname = '../a'\nverb = 'x'", "the name becomes a folder"),
        ("[[stage]]\nname = '.lock'\nverb = 'x'", "the name becomes a folder"),
        ("[[stage]]\nname = 'a b'\nverb = 'x'", "the name becomes a folder"),
        ('[[stage]]\nname = "a\\n"\nverb = "x"', "the name becomes a folder"),
        ("[[stage]]\nname = ''\nverb = 'x'", "the name becomes a folder"),
        (f"[[stage]]\nname = '{'a' * 65}'\nverb = 'x'", "64 characters"),
        ("[[stage]]\nname = 'a'\nverb = 'x'\ninputs = 'b'", r'inputs must be a list: write inputs = \["b"\]'),
        ("[[stage]]\nname = 'a'\nverb = 'x'\ninputs = [1]", "inputs must be a list"),
        ("[[stage]]\nname = 'a'\nverb = 'x'\ninputs = ['']", "inputs must be a list"),
        ("[[stage]]\nname = 'a'\nverb = 'x'\ninputs = ['b', 'b']", "named twice"),
        ('[[stage]]\nname = "a"\nverb = "x"\ninputs = ["\\u0000"]', "NUL"),
        ("[[stage]]\nname = 'a'\nverb = 'x'\n[[stage]]\nname = 'a'\nverb = 'x'", "two stages are named 'a':"),
        ("[[stage]]\nname = 'a'\nverb = 'x'\n[[stage]]\nname = 'A'\nverb = 'x'", "two stages are named 'A' .and 'a'"),
        ("[[stage]]\nname='a'\nverb='x'\n" * 1001, "1001 stages, at most 1000"),
    ],
)
def test_errors_name_the_file_and_the_fault(text: str, words: str) -> None:
    with pytest.raises((ConfigError, LimitError), match=words) as caught:
        parse_recipe(text, Path("bad.toml"))
    assert str(caught.value).startswith("bad.toml: ")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        read_recipe(tmp_path / "missing.toml")
    with pytest.raises(FileError):
        read_recipe(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_recipe(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_RECIPE_BYTES + 1))
    with pytest.raises(LimitError):
        read_recipe(tmp_path / "large.toml")


def test_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["one.weight=1e-4", "one.prefix=plain text", 'one.names=["a", "b"]', "two.inputs=['c.txt']"]
    recipe = parse_recipe(GOOD, Path("/elsewhere/r.toml"), [*overrides, "one.table.deep.deeper=2", "two.on = true"])
    one, two = recipe.stages
    assert one.options["weight"] == 1e-4
    assert one.options["prefix"] == "plain text"
    assert one.options["names"] == ["a", "b"]
    assert one.options["table"] == {"deep": {"deeper": 2}}
    assert one.base == Path("/elsewhere")
    assert two.options == {"on": True}
    assert (two.inputs, two.base) == (("c.txt",), tmp_path)
    assert recipe.overrides[0] == "one.weight=1e-4"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("one", "write --set NAME.KEY=VALUE"),
        ("one.weight", "write --set"),
        ("=1", "write --set"),
        (".a=1", "write --set"),
        ("on.weight=1", "no stage 'on' in r.toml: did you mean 'one'"),
        ("one.name=x", "name cannot be set"),
        ("one.weight=", "no value behind the ="),
        ("one.weight=[1", "not a TOML value"),
        ("one.inputs=x", "inputs must be a list"),
    ],
)
def test_wrong_overrides(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_recipe(GOOD, Path("r.toml"), [override])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ('"1"', "1"),
        ("word", "word"),
        ("a = b", "a = b"),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse_value(text, "here") == value


def test_any_text_is_a_recipe_or_a_biollm_error() -> None:
    for cut in range(len(GOOD)):
        for text in (GOOD[:cut], GOOD[cut:], GOOD[:cut] + "\x00" + GOOD[cut:], GOOD[:cut] + "]" + GOOD[cut + 1 :]):
            with contextlib.suppress(BiollmError):
                parse_recipe(text, Path("r.toml"))
