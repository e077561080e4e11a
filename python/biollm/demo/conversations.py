"""What the stages behind pretraining learn from and are measured on: conversations, preference pairs, prompts,
harmless answers, and multiple-choice questions about the names in the abstracts.

Everyday questions, with answers of which some are harmful, are `biollm.alignment.SafetyCorpus`. The others are of the
sample: abstracts asked for by their titles, none of which lies among its documents, and what a name is: a drug, a gene,
a disease. A name is asked for in conversations or in the multiple-choice questions, never in both.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from biollm.alignment.corpus import SafetyCorpus
from biollm.atomic import write_bytes
from biollm.demo.abstracts import grammar, write_abstract
from biollm.demo.rng import Rng

Row = Mapping[str, object]

FILES: Final = ("conversations.jsonl", "pairs.jsonl", "prompts.jsonl", "harmless.jsonl", "questions.jsonl")

OPTIONS: Final = 4
FIRST_UNSEEN: Final = 1_000_000
"""Abstracts from this number on lie in no sample."""
KINDS: Final[Mapping[str, str]] = {
    "a drug": "drugs",
    "a gene": "genes",
    "a disease": "diseases",
    "a symptom": "symptoms",
    "a tissue": "tissues",
    "a test": "tests",
}
"""Kind of a name → column of the word tables."""
WORDINGS: Final = ("What is {name}?", "Tell me what {name} is.", "Say what {name} means.")
IN_QUESTIONS: Final = 40
"""Percent of the names that only the multiple-choice questions ask for."""
TITLE: Final = "Write the abstract of this study: {title}"
EXAM: Final = "Write an exam question about {name}, and its answer."


@dataclass(frozen=True)
class Fact:
    """That a `name` is of a `kind`."""

    name: str
    kind: str


@dataclass(frozen=True)
class Amounts:
    """How many rows of each: everyday conversations, pairs, prompts, harmless answers; questions at most."""

    conversations: int
    abstracts: int
    pairs: int
    prompts: int
    harmless: int
    questions: int


def facts(texts: Iterable[str]) -> list[Fact]:
    """The names that stand in `texts`, in the order of the word tables."""
    everything = "\n".join(texts)
    tables = grammar().fields
    named = {name: kind for kind, column in KINDS.items() for words in tables for name in words[column]}
    return [Fact(name, kind) for name, kind in named.items() if name in everything]


def is_for_questions(fact: Fact, seed: int) -> bool:
    """Whether only the multiple-choice questions ask for a name."""
    return Rng(seed, "asked", fact.name).chance(IN_QUESTIONS)


def questions(known: Sequence[Fact], seed: int, most: int) -> list[Row]:
    """Multiple-choice questions as MedQA has them, of the names that are for them."""
    rows: list[Row] = []
    for fact in known:
        if not is_for_questions(fact, seed):
            continue
        rng = Rng(seed, "question", fact.name)
        options = rng.sample([kind for kind in KINDS if kind != fact.kind], OPTIONS - 1)
        place = rng.below(OPTIONS)
        options.insert(place, fact.kind)
        rows.append(
            {
                "id": fact.name,
                "question": rng.choice(WORDINGS).format(name=fact.name),
                "options": dict(zip("ABCD", options, strict=True)),
                "answer_idx": "ABCD"[place],
                "subject": fact.kind.removeprefix("a "),
            }
        )
    Rng(seed, "questions").shuffle(rows)
    return rows[:most]


def conversations(known: Sequence[Fact], corpus: SafetyCorpus, abstracts: int, seed: int) -> list[Row]:
    """Conversations to tune on: the corpus's, each name that is for them in all wordings, and `abstracts` asked for by
    title.

    The latter are there so that what was learned in pretraining is not forgotten.
    """
    rows: list[Row] = [{"prompt": row["prompt"], "answer": row["answer"]} for row in corpus.texts if "prompt" in row]
    for fact in known:
        if is_for_questions(fact, seed):
            continue
        for wording in WORDINGS:
            question, answer = wording.format(name=fact.name), f"Answer: {fact.kind}."
            rows.append({"prompt": question, "answer": answer})
            rows.append({"prompt": EXAM.format(name=fact.name), "answer": f"Question: {question}\n{answer}"})
    for index in range(abstracts):
        abstract = write_abstract(seed, FIRST_UNSEEN + index)
        body = abstract.text().removeprefix(abstract.title).strip()
        rows.append({"prompt": TITLE.format(title=abstract.title), "answer": body})
    Rng(seed, "conversations").shuffle(rows)
    return rows


def generate_rows(texts: Iterable[str], amounts: Amounts, seed: int = 0) -> dict[str, list[Row]]:
    """The rows of each of `FILES`.

    Args:
        texts: of the sample's abstracts.
        amounts: how many rows.
        seed: of all draws.
    """
    corpus = SafetyCorpus.generate(
        seed=seed,
        texts=amounts.conversations,
        pairs=amounts.pairs,
        evaluation=amounts.prompts,
        benign=amounts.harmless,
    )
    known = facts(texts)
    made: tuple[Sequence[Row], ...] = (
        conversations(known, corpus, amounts.abstracts, seed),
        corpus.pairs,
        corpus.evaluation,
        [row for row in corpus.benign if "prompt" in row],  # the others are no conversations, and none is tuned on
        questions(known, seed, amounts.questions),
    )
    return {name: list(rows) for name, rows in zip(FILES, made, strict=True)}


def write_rows(folder: Path, rows: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Writes each file into `folder`, atomically; gives name → xxh3-128."""
    lines = {name: [f"{json.dumps(row, ensure_ascii=False)}\n" for row in of_file] for name, of_file in rows.items()}
    return {name: write_bytes(folder / name, "".join(of_file).encode()) for name, of_file in lines.items()}
