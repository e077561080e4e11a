"""What the stages behind pretraining learn from and are measured on: conversations, preference pairs, prompts,
harmless answers, and multiple-choice questions about the words of the abstracts.

Everyday questions, with answers of which some are harmful, are `biollm.alignment.SafetyCorpus`. The others are of the
sample: abstracts asked for by their titles, none of which lies among its documents, and what the names in it are: a
drug, gene or disease, and of which field. The multiple-choice questions ask the same in other words.
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
COLUMNS: Final[Mapping[str, str]] = {"drug": "drugs", "gene": "genes", "disease": "diseases", "symptom": "symptoms"}
"""Kind of a name → column of the word tables."""
ASKED: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": ("What kind of name is {name}?", "What is {name}?", "Tell me what {name} is.", "Say what {name} means."),
    "field": (
        "To which field of medicine does {name} belong?",
        "Which field is {name} from?",
        "Name the field of {name}.",
        "Who knows about {name}?",
    ),
}
"""What is asked → wordings: the first in the multiple-choice questions, the others in conversations."""
TITLE: Final = "Write the abstract of this study: {title}"
EXAM: Final = "Write an exam question about {name}, and its answer."


@dataclass(frozen=True)
class Fact:
    """What a name of the abstracts is: `asked` is "kind" or "field", `answer` the right answer."""

    name: str
    asked: str
    answer: str


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
    """The facts about names that stand in `texts`, in the order of the word tables."""
    everything = "\n".join(texts)
    return [
        fact
        for words in grammar().fields
        for kind, column in COLUMNS.items()
        for name in words[column]
        if name in everything
        for fact in (Fact(name, "kind", f"a {kind}"), Fact(name, "field", words["name"]))
    ]


def questions(known: Sequence[Fact], seed: int, most: int) -> list[Row]:
    """Multiple-choice questions as MedQA has them, `most` of the facts."""
    rows: list[Row] = []
    choices = {asked: sorted({fact.answer for fact in known if fact.asked == asked}) for asked in ASKED}
    for fact in known:
        rng = Rng(seed, "question", fact.name, fact.asked)
        options = rng.sample([other for other in choices[fact.asked] if other != fact.answer], OPTIONS - 1)
        place = rng.below(OPTIONS)
        options.insert(place, fact.answer)
        rows.append(
            {
                "id": f"{fact.asked} of {fact.name}",
                "question": ASKED[fact.asked][0].format(name=fact.name),
                "options": dict(zip("ABCD", options, strict=False)),
                "answer_idx": "ABCD"[place],
                "subject": fact.asked,
            }
        )
    Rng(seed, "questions").shuffle(rows)
    return rows[:most]


def conversations(known: Sequence[Fact], corpus: SafetyCorpus, abstracts: int, seed: int) -> list[Row]:
    """Conversations to tune on: the corpus's, each fact in several wordings, and `abstracts` asked for by title.

    The latter are there so that what was learned in pretraining is not forgotten.
    """
    rows: list[Row] = [{"prompt": row["prompt"], "answer": row["answer"]} for row in corpus.texts if "prompt" in row]
    for fact in known:
        for words in ASKED[fact.asked][1:]:
            question, answer = words.format(name=fact.name), f"Answer: {fact.answer}."
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
