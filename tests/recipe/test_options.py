from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from biollm.errors import ConfigError
from biollm.recipe.options import build, describe, nearest, plain, type_name


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Options:
    """What may be said.

    Some words that end with a colon: and go on.
        name: what it is called,
            in one or two words.
        count, ratio: numbers. flag: yes or no.

    choice: not confused by `count`: really.
    """

    name: str = "x"
    count: int = 2
    ratio: float = 0.5
    flag: bool = False
    choice: Literal["a", "b", 3] = "a"
    names: tuple[str, ...] = ()
    pair: tuple[int, str] = (1, "a")
    one_or_many: str | tuple[str, ...] = "x"
    maybe: int | None = None
    number: int | float = 1
    place: Path = Path("here")
    table: dict[str, float] = field(default_factory=dict)
    inner: Inner = Inner()
    marked: str = field(default="", metadata={"help": "said in the field"})


def made(**values: Any) -> Options:
    options = build(Options, values, where="stage 's'")
    assert isinstance(options, Options)
    return options


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ratio": 1}, Options(ratio=1.0)),
        ({"number": 1}, Options(number=1)),
        ({"number": 1.5}, Options(number=1.5)),
        ({"names": ["a", "b"]}, Options(names=("a", "b"))),
        ({"pair": [2, "b"]}, Options(pair=(2, "b"))),
        ({"one_or_many": "a"}, Options(one_or_many="a")),
        ({"one_or_many": ["a"]}, Options(one_or_many=("a",))),
        ({"choice": 3}, Options(choice=3)),
        ({"maybe": 4}, Options(maybe=4)),
        ({"place": "a/b"}, Options(place=Path("a/b"))),
        ({"table": {"a": 1}}, Options(table={"a": 1.0})),
        ({"inner": {"size": 2}}, Options(inner=Inner(2))),
        ({}, Options()),
    ],
)
def test_values_become_typed(values: dict[str, Any], expected: Options) -> None:
    options = made(**values)
    assert options == expected
    assert type(options.ratio) is float
    assert build(Options, plain(options), where="again") == expected if options.maybe is not None else True


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 1.0}, ["count is 1.0 (a number)", "must be a whole number", "count = 2"]),
        ({"count": True}, ["count is true (true or false)", "must be a whole number"]),
        ({"flag": 1}, ["flag is 1 (a whole number)", "must be true or false"]),
        ({"ratio": "0.5"}, ['ratio is "0.5" (a string)', "must be a number", "ratio = 0.5"]),
        ({"ratio": float("nan")}, ["not finite"]),
        ({"ratio": 10**400}, ["must be a number"]),
        ({"name": ["a"]}, ['name is ["a"] (a list)', "must be a string"]),
        ({"names": "a"}, ["must be a list, each item a string", 'names = ["…"]']),
        ({"names": ["a", 1]}, ["must be a list"]),
        ({"pair": [1]}, ["must be a list of a whole number, a string"]),
        ({"one_or_many": 3}, ["must be a string or a list, each item a string"]),
        ({"choice": "c"}, ['must be one of "a", "b", 3']),
        ({"maybe": "1"}, ["must be a whole number", "maybe = 1"]),
        ({"table": {"a": "b"}}, ["must be a table"]),
        ({"inner": {"sise": 2}}, ["unknown key 'sise'", "did you mean 'size'"]),
        ({"Count": 2}, ["unknown key 'Count'", "did you mean 'count'"]),
        ({"one-or-many": "a"}, ["did you mean 'one_or_many'"]),
        ({"qqqq": 2}, ["unknown key 'qqqq'", "known: choice, count"]),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Options, values, where="stage 's'", path=Path("r.toml"))
    for word in words:
        assert word in str(caught.value)
    if "inner" not in values:
        assert str(caught.value).startswith("r.toml: stage 's': ")
        assert caught.value.field == next(iter(values))


def test_a_required_option() -> None:
    @dataclass(frozen=True)
    class Required:
        size: int

    with pytest.raises(ConfigError, match="size is missing: write size = 1"):
        build(Required, {}, where="stage 's'")


def test_what_the_dataclass_refuses_is_a_config_error_with_the_stage() -> None:
    @dataclass(frozen=True)
    class Picky:
        size: int = 1

        def __post_init__(self) -> None:
            raise ValueError("never right")

    with pytest.raises(ConfigError, match="stage 's': never right"):
        build(Picky, {}, where="stage 's'")


def test_sentences_come_from_the_docstring() -> None:
    sentences = {option.name: option.help for option in describe(Options)}
    assert sentences["name"] == "what it is called, in one or two words."
    assert sentences["count"] == sentences["ratio"] == "numbers."
    assert sentences["flag"] == "yes or no."
    assert sentences["choice"] == "not confused by `count`: really."
    assert sentences["marked"] == "said in the field"
    assert sentences["names"] == ""


def test_nearest_ignores_case_and_hyphens() -> None:
    assert nearest("NUM-PERM", ["num_perm", "bands"]) == ": did you mean 'num_perm'?"
    assert nearest("zzz", ["b", "a"]) == " (known: a, b)"
    assert nearest("zzz", []) == ""


def test_types_in_words() -> None:
    assert type_name(float | None) == "a number"
    assert type_name(list[str]) == "a list, each item a string"
