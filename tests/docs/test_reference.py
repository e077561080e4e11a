"""The reference has every public name, every command and every key of a recipe, and nothing that is gone."""

from __future__ import annotations

import re

import pytest

import doc_names
from biollm.recipe import VERBS, load_stage
from doc_pages import directives, generated, pages

SHOWN = [name for text in pages().values() for name in directives(text)]
KEYS = pages()["reference/recipe-keys.md"]
CLI = pages()["reference/cli.md"]


def test_every_public_name_is_in_the_reference() -> None:
    names = doc_names.public_names()
    shown = {(names[path].home, names[path].node.lineno) for path in SHOWN if path in names}
    missing = [path for path, name in names.items() if (name.home, name.node.lineno) not in shown]
    assert missing == [], "write ::: NAME into docs/reference"


def test_the_reference_shows_each_name_once_and_only_names_that_are_public() -> None:
    assert sorted(SHOWN) == sorted(set(SHOWN))
    assert [name for name in SHOWN if name not in doc_names.public_names()] == []


def test_the_top_page_lists_the_names_of_biollm() -> None:
    page = pages()["reference/biollm.md"]
    assert re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE) != []
    assert set(re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE)) == set(doc_names.declared("biollm"))


@pytest.mark.parametrize("verb", VERBS)
def test_the_keys_of_a_verb_are_the_fields_of_its_options(verb: str) -> None:
    section = KEYS.split(f"\n## {verb}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (yes|no) \|$", section, re.MULTILINE)
    stage = load_stage(verb)
    assert [row[0] for row in rows] == list(generated().fields_of(stage.options))
    assert {row[0] for row in rows if row[4] == "no"} == set(stage.unmatched_options)
    assert [row[0] for row in rows if not row[3].strip()] == [], "an option without a sentence in its docstring"


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_of_a_verb_has_an_option_for_each_key(verb: str) -> None:
    section = CLI.split(f"\n## biollm {verb}\n")[1].split("\n## ")[0]
    for field in generated().fields_of(load_stage(verb).options):
        assert f"--{field.replace('_', '-')}" in section


def test_every_command_is_in_the_reference() -> None:
    listed = generated().help_text().split("Commands:\n")[1].split("\n\n")[0]
    commands = re.findall(r"^  (\w+)", listed, re.MULTILINE)
    assert re.findall(r"^## biollm (\w+)$", CLI, re.MULTILINE) == commands


def test_each_verb_has_a_page() -> None:
    assert [verb for verb in VERBS if f"how-to/{verb}.md" not in pages()] == []
