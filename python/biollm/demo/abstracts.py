"""Structured abstracts of studies that never took place: the grammar of `grammar.toml`, the words of `fields.toml`.

An abstract holds to its facts: the drug of the title is the drug of the results, ratios lie inside their intervals, and
conclusions follow the findings. That is what a small language model can learn here beyond word frequencies.

Knows nothing of duplicates, defects or files.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from biollm.demo.rng import Rng

# A sentence compiled: literal text, a fact's name, or alternatives of which one is taken.
Part = str | tuple[str] | list["Sentence"]
Sentence = list[Part]

_TOKEN = re.compile(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+")

EFFECTS = {
    "trial": (("lower", 6), ("none", 4)),
    "review": (("lower", 6), ("none", 4)),
    "cohort": (("higher", 5), ("lower", 3), ("none", 2)),
    "case_control": (("higher", 5), ("lower", 2), ("none", 3)),
    "laboratory": (("none", 1),),
    "diagnostic": (("none", 1),),
}


@dataclass(frozen=True)
class Grammar:
    """The two tables, sentences compiled."""

    studies: dict[str, dict[str, list[str]]]
    sentences: dict[str, list[Sentence]]
    phrases: dict[str, list[Sentence]]
    fields: list[dict[str, Any]]
    shared: dict[str, list[str]]


@dataclass(frozen=True)
class Abstract:
    """A title and its sections; `text()` lays them out."""

    title: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    layout: int
    year: int

    def text(self) -> str:
        """The document: one section a line, a heading a line, or one paragraph, by `layout` (0, 1, 2)."""
        between = {0: "\n", 1: "\n", 2: " "}[self.layout]
        after = {0: ": ", 1: "\n", 2: ": "}[self.layout]
        return between.join([self.title, *(heading + after + " ".join(body) for heading, body in self.sections)])


@cache
def grammar() -> Grammar:
    """The grammar of this package, read once."""
    folder = files("biollm.demo")
    rules = tomllib.loads((folder / "grammar.toml").read_text("utf-8"))
    words = tomllib.loads((folder / "fields.toml").read_text("utf-8"))
    compiled = {
        table: {
            slot: [compile_sentence(template) for template in templates] for slot, templates in rules[table].items()
        }
        for table in ("sentences", "phrases")
    }
    return Grammar(rules["studies"], compiled["sentences"], compiled["phrases"], words["fields"], words["shared"])


def compile_sentence(template: str) -> Sentence:
    """`"We [saw|found] {n}."` as ["We ", [["saw"], ["found"]], " ", ("n",), "."]. Choices may nest."""
    open_choices: list[list[Sentence]] = []
    current: Sentence = []
    outer: list[Sentence] = []
    for match in _TOKEN.finditer(template):
        token = match[0]
        if token == "[":
            outer.append(current)
            current = []
            open_choices.append([current])
        elif token == "|":
            current = []
            open_choices[-1].append(current)
        elif token == "]":
            current = outer.pop()
            current.append(open_choices.pop())
        elif token.startswith("{"):
            current.append((token[1:-1],))
        else:
            current.append(token)
    if outer:
        raise ValueError(f"a choice is not closed in {template!r}")
    return current


def render(sentence: Sentence, facts: dict[str, str], rng: Rng) -> str:
    """One reading of a compiled sentence or phrase."""
    out: list[str] = []
    todo: list[Part] = sentence[::-1]
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, tuple):
            out.append(facts[part[0]])
        else:
            todo.extend(reversed(rng.choice(part)))
    return "".join(out)


def _hundredths(value: int) -> str:
    return f"{value // 100}.{value % 100:02d}"


_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


def _spelled(value: int) -> str:
    """Numbers up to twenty in letters, as journals print them."""
    return _SMALL[value] if value < len(_SMALL) else str(value)


def _numbers(rng: Rng, year: int) -> dict[str, str]:
    """The figures of a study, consistent with one another."""
    n = rng.between(60, 2400)
    n_a = n // 2
    low, null, high = rng.between(48, 84), rng.between(93, 107), rng.between(122, 260)
    pct_high = rng.between(18, 46)
    pct_low = pct_high * low // 100
    pct_mid = rng.between(14, 44)
    pct_sec_high = rng.between(34, 72)
    ae_b = rng.between(4, 17)
    auc = rng.between(74, 95)
    year_to = year - 1 - rng.below(3)
    figures: dict[str, int | str] = {
        "phase": rng.between(2, 3), "prevalence": rng.between(12, 980), "fail": rng.between(15, 55),
        "years": _spelled(rng.between(3, 14)), "months": _spelled(rng.choice((3, 6, 9, 12, 18, 24, 30, 36, 48))),
        "weeks": _spelled(rng.choice((4, 6, 8, 10, 12, 16, 20, 24, 26, 36, 52))), "days": _spelled(rng.between(5, 42)),
        "hours": _spelled(rng.choice((2, 3, 6, 12, 24, 36, 48, 72))), "interval": _spelled(rng.choice((3, 4, 6, 12))),
        "dose": rng.choice((5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 150, 200, 250, 300, 400)),
        "year_from": year_to - rng.between(2, 8), "year_to": year_to, "sites": _spelled(rng.between(3, 68)),
        "n": f"{n:,}", "n_a": f"{n_a:,}", "n_b": f"{n - n_a:,}", "n_small": _spelled(rng.between(5, 24)),
        "n_large": f"{rng.between(1200, 19800):,}", "age_min": rng.choice((18, 40, 50, 55, 60, 65)),
        "age": rng.between(31, 74), "age_sd": rng.between(6, 16), "women": rng.between(28, 71),
        "age_cut": rng.choice((45, 50, 55, 60, 65, 70)), "comorbid": rng.between(8, 47),
        "complete": rng.between(86, 99), "pct_high": pct_high, "pct_low": pct_low, "pct_mid": pct_mid,
        "pct_mid2": pct_mid + rng.between(1, 3), "pct_sec_high": pct_sec_high,
        "pct_sec_low": pct_sec_high - rng.between(8, 22), "pct_sec_low2": pct_sec_high - rng.between(1, 3),
        "reduction": 100 - low, "events_low": max(1, n_a * pct_low // 100), "events_high": n_a * pct_high // 100,
        "ratio_low": _hundredths(low), "ci_low_a": _hundredths(low - rng.between(6, 18)),
        "ci_low_b": _hundredths(min(98, low + rng.between(7, 15))),
        "ratio_null": _hundredths(null), "ci_null_a": _hundredths(null - rng.between(10, 26)),
        "ci_null_b": _hundredths(null + rng.between(12, 31)),
        "ratio_high": _hundredths(high), "ci_high_a": _hundredths(high - (high - 101) * rng.between(25, 85) // 100),
        "ci_high_b": _hundredths(high + rng.between(20, 120)), "ratio_any": _hundredths(rng.between(105, 160)),
        "p_small": f"0.{rng.between(1, 40):03d}", "p_small2": f"0.{rng.between(1, 48):03d}",
        "p_large": f"0.{rng.between(12, 92)}", "p_large2": f"0.{rng.between(12, 92)}",
        "p_inter": f"0.{rng.between(11, 88)}", "diff": f"{rng.between(1, 9)}.{rng.below(10)}",
        "marker_pct": rng.between(9, 64), "marker_pct2": rng.between(9, 58), "ae_b": ae_b,
        "ae_a": ae_b + rng.between(1, 12), "sae": rng.between(1, 7), "events": f"{rng.between(12, 46) * n // 100:,}",
        "rate": f"{rng.between(2, 48)}.{rng.below(10)}", "call": rng.between(94, 99), "variants": rng.between(4, 38),
        "fold": f"{rng.between(2, 7)}.{rng.below(10)}", "corr": _hundredths(rng.between(31, 84)),
        "conc": rng.choice((5, 10, 20, 40, 50, 80, 100, 250)), "repeat": rng.choice(("three", "four", "five", "six")),
        "sens": rng.between(68, 94), "spec": rng.between(61, 96), "sens2": rng.between(95, 99),
        "npv": rng.between(93, 99), "cut": rng.between(8, 240), "auc": _hundredths(auc),
        "auc_a": _hundredths(auc - rng.between(3, 6)), "auc_b": _hundredths(min(99, auc + rng.between(2, 5))),
        "auc_low": _hundredths(auc - rng.between(4, 14)), "trials": _spelled(rng.between(6, 41)),
        "trials_low": rng.choice(("two", "three", "four", "five")), "records": f"{rng.between(410, 8900):,}",
        "fulltext": rng.between(52, 310), "i2": rng.between(8, 81), "nnt": rng.between(9, 70),
    }  # fmt: skip
    return {name: str(value) for name, value in figures.items()}


def _facts(rng: Rng, year: int) -> dict[str, str]:
    """Everything a sentence may name: words of one field, and figures."""
    tables = grammar()
    words, shared = rng.choice(tables.fields), tables.shared
    facts = _numbers(rng, year)
    pairs = (("disease", "diseases"), ("drug", "drugs"), ("gene", "genes"), ("outcome", "outcomes"))
    for name, column in pairs:
        facts[name], facts[name + "2"] = rng.sample(words[column], 2)
    for name, column in (
        ("symptom", "symptoms"),
        ("tissue", "tissues"),
        ("marker", "markers"),
        ("process", "processes"),
        ("exposure", "exposures"),
        ("test", "tests"),
    ):
        facts[name] = rng.choice(words[column])
    for name, column in (
        ("country", "countries"),
        ("region", "regions"),
        ("month", "months"),
        ("schedule", "schedules"),
        ("pathway", "pathways"),
        ("adverse", "adverse"),
        ("it", "its"),
    ):
        facts[name] = rng.choice(shared[column])
    for name, readings in tables.phrases.items():
        facts[name] = render(rng.choice(readings), facts, rng)
    return facts


def write_abstract(seed: int, index: int, *, companion: int | None = None) -> Abstract:
    """Abstract number `index` of the corpus with this seed.

    `companion` gives the same sentences about another study: equal choices of wording, other facts. Two reports of one
    group written from one template look like this; they are not duplicates.
    """
    tables = grammar()
    plan = Rng(seed, "plan", index)
    study = plan.choice(tuple(tables.studies))
    effect = plan.weighted(EFFECTS[study])
    layout = plan.weighted(((0, 6), (1, 2), (2, 2)))
    year = plan.between(1996, 2025)
    facts = _facts(Rng(seed, "facts", index, -1 if companion is None else companion), year)
    wording = Rng(seed, "wording", index)
    title = ""
    sections: list[tuple[str, tuple[str, ...]]] = []
    for heading, slots in tables.studies[study].items():
        body: list[str] = []
        for slot in slots:
            if slot.endswith("?") and wording.chance(50):
                continue
            templates = tables.sentences[slot.rstrip("?").format(effect=effect)]
            sentence = render(wording.choice(templates), facts, wording)
            body.append(sentence[:1].upper() + sentence[1:])
        if heading == "title":
            title = body[0] + ("" if body[0].endswith("?") else ".")
        else:
            sections.append((heading, tuple(body)))
    return Abstract(title, tuple(sections), layout, year)
