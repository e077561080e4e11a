"""A generated corpus for alignment: texts to tune on, preference pairs, evaluation prompts, held-out harmless text.

A pure function of the seed and the sizes, from the templates of `safety.toml`. Half A of the lexicon stands in texts
and pairs, half B in texts alone; evaluation prompts have templates of their own. Nothing in it is
true or useful advice.
"""

from __future__ import annotations

import json
import os
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from biollm.atomic import make_folder, write_bytes
from biollm.errors import ConfigError

__all__ = ["SafetyCorpus"]

#: Shares of what is asked and answered, in percent.
BAITED: Final = 65
HARMFUL_WHEN_BAITED: Final = 82
HARMFUL_WHEN_PLAIN: Final = 8
STATEMENTS: Final = 15
#: Pairs whose rejected answer is harmless but broken off or stuttering.
BROKEN: Final = 20
#: Pairs of plain questions whose rejected answer is the stock one, which answers nothing.
EVASIVE: Final = 10

_SLOT: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class SafetyCorpus:
    """Rows of plain values, as they are written to JSON Lines.

    Attributes:
        texts: to tune on: {prompt, answer, category}, or {text} for a statement; category is "harmless", or that of the
            answer's word.
        pairs: {prompt, chosen, rejected, category}; the category is that of the rejected answer, "broken" where it
            is a spoilt harmless one, "evasive" where it answers nothing.
        evaluation: {prompt, category}: what the prompt invites.
        benign: held out: {prompt, answer} or {text}, all harmless.
    """

    texts: tuple[Mapping[str, str], ...]
    pairs: tuple[Mapping[str, str], ...]
    evaluation: tuple[Mapping[str, str], ...]
    benign: tuple[Mapping[str, str], ...]

    @classmethod
    def generate(
        cls, *, seed: int = 0, texts: int = 8000, pairs: int = 2000, evaluation: int = 256, benign: int = 200
    ) -> SafetyCorpus:
        """The corpus of a seed.

        Args:
            seed: of all draws.
            texts: rows to tune on.
            pairs: preference pairs.
            evaluation: prompts to measure with.
            benign: rows held out.

        Returns:
            The corpus; equal arguments give equal rows on every platform.

        Raises:
            ConfigError: a negative size.
        """
        for name, size in (("texts", texts), ("pairs", pairs), ("evaluation", evaluation), ("benign", benign)):
            if size < 0:
                raise ConfigError(f"{name} is {size}: give 0 or more", field=name, value=size)
        made = _rows("benign", seed, benign, lambda draw: _text(draw, harmless=True))
        held_out = {json.dumps(row) for row in made}
        tuned = _rows("texts", seed, texts, _text)
        return cls(
            texts=tuple(row for row in tuned if json.dumps(_without_category(row)) not in held_out),
            pairs=_rows("pairs", seed, pairs, _pair),
            evaluation=_rows("evaluation", seed, evaluation, lambda draw: _question(draw, "evaluation")),
            benign=tuple(_without_category(row) for row in made),
        )

    def write(self, folder: str | os.PathLike[str]) -> dict[str, str]:
        """Writes `texts.jsonl`, `pairs.jsonl`, `evaluation.jsonl` and `benign.jsonl` into a `folder`, each atomically.

        Returns:
            Name of each file → its xxh3-128.

        Raises:
            FileError: the system refused.
        """
        target: Path = make_folder(folder)
        written = {}
        for name in ("texts", "pairs", "evaluation", "benign"):
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in getattr(self, name))
            written[f"{name}.jsonl"] = write_bytes(target / f"{name}.jsonl", lines.encode())
        return written

    @staticmethod
    def in_grammar(answer: str) -> bool:
        """Whether an `answer` is, word for word, one that a template of this corpus can give: the strictest test of
        well-formedness there is here.
        """
        return _grammar().fullmatch(answer) is not None


# --- rows -------------------------------------------------------------------------------------------------------------


class _Draw:
    """Draws that are the same on every platform: `random.Random` promises that of `random()` alone."""

    def __init__(self, name: str, seed: int, index: int) -> None:
        self._random = random.Random(f"{name}:{seed}:{index}")

    def choice(self, items: Sequence[str]) -> str:
        return items[int(self._random.random() * len(items))]

    def chance(self, percent: int) -> bool:
        return self._random.random() * 100.0 < percent

    def fill(self, template: str, known: Mapping[str, str]) -> str:
        """A template with its slots filled; one slot is one value in prompt and answer (`known`)."""
        slots = _tables()["slots"]
        return _SLOT.sub(lambda match: known.get(match[1]) or self.choice(slots[match[1]]), template)

    def facts(self) -> dict[str, str]:
        return {name: self.choice(values) for name, values in _tables()["slots"].items()}


def _rows(name: str, seed: int, count: int, make: Any) -> tuple[Any, ...]:
    return tuple(make(_Draw(name, seed, index)) for index in range(count))


def _without_category(row: Mapping[str, str]) -> Mapping[str, str]:
    return {key: value for key, value in row.items() if key != "category"}


def _question(draw: _Draw, kind: str = "prompts", facts: Mapping[str, str] | None = None) -> dict[str, str]:
    tables = _tables()
    category = draw.choice(tuple(tables["baited"])) if draw.chance(BAITED) else "harmless"
    templates = tables["baited"][category][kind] if category != "harmless" else tables["plain"][kind]
    return {"prompt": draw.fill(draw.choice(templates), facts or draw.facts()), "category": category}


def _harmless(draw: _Draw, asked: str, facts: Mapping[str, str], *, stock: bool = False) -> str:
    """A harmless answer; with `stock`, to a plain question now and then the one that answers nothing."""
    tables = _tables()
    if asked != "harmless":
        return draw.fill(draw.choice(tables["declined"]["answers"]), facts)
    if stock and draw.chance(tables["plain"]["stock_weight"]):
        return str(tables["plain"]["stock"])
    return draw.fill(draw.choice(tables["plain"]["answers"]), facts)


def _harmful(draw: _Draw, category: str, halves: Sequence[str], facts: Mapping[str, str]) -> str:
    tables = _tables()
    word = draw.choice(tables["lexicon"][category][draw.choice(halves)])
    return draw.fill(draw.choice(tables["baited"][category]["harmful"]), {**facts, "word": word})


def _text(draw: _Draw, *, harmless: bool = False) -> Mapping[str, str]:
    """A row to tune on, or one to hold out."""
    tables, facts = _tables(), draw.facts()
    if draw.chance(STATEMENTS):
        return {"text": draw.fill(draw.choice(tables["statements"]["texts"]), facts)}
    asked = _question(draw, facts=facts)
    chance = HARMFUL_WHEN_PLAIN if asked["category"] == "harmless" else HARMFUL_WHEN_BAITED
    if not harmless and draw.chance(chance):
        category = asked["category"] if asked["category"] != "harmless" else draw.choice(tuple(tables["baited"]))
        answer = _harmful(draw, category, ("A", "B"), facts)
        return {"prompt": asked["prompt"], "answer": answer, "category": category}
    answer = _harmless(draw, asked["category"], facts, stock=True)
    return {"prompt": asked["prompt"], "answer": answer, "category": "harmless"}


def _pair(draw: _Draw) -> Mapping[str, str]:
    facts = draw.facts()
    asked = _question(draw, facts=facts)
    chosen = _harmless(draw, asked["category"], facts)
    if asked["category"] == "harmless" and draw.chance(EVASIVE):
        rejected, category = str(_tables()["plain"]["stock"]), "evasive"
    elif draw.chance(BROKEN):
        other = draw.facts()
        rejected, category = _broken(draw, _harmless(draw, asked["category"], other)), "broken"
    else:
        invited = asked["category"]
        category = invited if invited != "harmless" else draw.choice(tuple(_tables()["baited"]))
        rejected = _harmful(draw, category, ("A",), facts)
    return {"prompt": asked["prompt"], "chosen": chosen, "rejected": rejected, "category": category}


def _broken(draw: _Draw, answer: str) -> str:
    """An answer cut off, with a word stuttered, or with two words swapped."""
    words = answer.split()
    kind = draw.choice(("cut", "stutter", "swap"))
    place = int(draw.choice([str(i) for i in range(1, len(words) - 1)]))
    if kind == "cut":
        return " ".join(words[: max(place, 2)])
    if kind == "stutter":
        return " ".join([*words[:place], *[words[place]] * 3, *words[place + 1 :]])
    words[place], words[place - 1] = words[place - 1], words[place]
    return " ".join(words)


# --- tables -----------------------------------------------------------------------------------------------------------


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads((files("biollm.alignment") / "safety.toml").read_text("utf-8"))


@cache
def _grammar() -> re.Pattern[str]:
    """Every answer: one alternative a template, each slot one of its values."""
    tables = _tables()
    words = [word for halves in tables["lexicon"].values() for half in halves.values() for word in half]
    values = {**tables["slots"], "word": words}
    templates = [*tables["plain"]["answers"], tables["plain"]["stock"], *tables["declined"]["answers"]]
    templates += [template for bait in tables["baited"].values() for template in bait["harmful"]]

    def pattern(template: str) -> str:
        literal_and_names = _SLOT.split(template)  # literal, name, literal, …
        return "".join(
            re.escape(part) if i % 2 == 0 else "(?:" + "|".join(map(re.escape, values[part])) + ")"
            for i, part in enumerate(literal_and_names)
        )

    return re.compile("|".join(f"(?:{pattern(template)})" for template in templates))
