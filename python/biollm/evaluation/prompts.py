"""From an item to a prompt: its context and question, worked examples before it, and what may follow it.

    Abstract: …                      the context, of PubMedQA
    Question: …
    A. …                             the options, where letters are scored
    Answer: yes                      a space, and an option

A worked example is the same with its answer, and an empty line behind it. For chain of thought the question ends in
"Let's think step by step." (Kojima et al. 2022, arXiv 2205.11916, section 3); what the model writes there stands before
"Therefore, the answer is", behind which the options are scored.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from biollm.evaluation.items import Item, draw

__all__ = ["Question", "ask"]

CUE: Final = "Let's think step by step."
CONCLUSION: Final = "Therefore, the answer is"
LETTERS: Final = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Question:
    """An item as it is put to a scorer.

    Attributes:
        item: what is asked.
        context: worked examples and the item's context; what is cut, from its left, where all is too long.
        prompt: the question, up to where an answer is expected; never cut.
        continuations: what may follow it, one an option.
        conclusion: for chain of thought, what stands between the rationale that the scorer writes behind the prompt
            and the answer; else empty.
        examples: ids of the worked examples.
    """

    item: Item
    context: str
    prompt: str
    continuations: tuple[str, ...]
    conclusion: str = ""
    examples: tuple[str, ...] = ()


def ask(
    item: Item,
    *,
    examples: Sequence[Item] = (),
    shots: int = 0,
    answer: Literal["text", "letter"] = "text",
    chain_of_thought: bool = False,
    seed: int = 0,
) -> Question:
    """The question of an item.

    Args:
        item: what is asked.
        examples: items to draw worked examples from; the item itself is not among them.
        shots: how many are drawn, by the seed and the item's id.
        answer: "text": options are continuations, not shown; "letter": they are listed and their letters continue.
        chain_of_thought: whether a rationale is to be written before the answer.
        seed: of the draw.

    Returns:
        The question.
    """
    drawn = random.Random(draw(seed, "shots", item.id)).sample(list(examples), shots) if shots else []
    worked = "".join(f"{_worked(example, answer, chain_of_thought)}\n\n" for example in drawn)
    return Question(
        item=item,
        context=worked + _context(item),
        prompt=_prompt(item, answer, chain_of_thought),
        continuations=_continuations(item, answer),
        conclusion=CONCLUSION if chain_of_thought else "",
        examples=tuple(example.id for example in drawn),
    )


def _worked(item: Item, answer: str, chain_of_thought: bool) -> str:
    whole = _context(item) + _prompt(item, answer, chain_of_thought)
    if chain_of_thought:
        whole += f" {item.rationale}\n{CONCLUSION}" if item.rationale else f"\n{CONCLUSION}"
    return whole + _continuations(item, answer)[item.answer]


def _context(item: Item) -> str:
    return f"{item.context_name}: {item.context}\n" if item.context else ""


def _prompt(item: Item, answer: str, chain_of_thought: bool) -> str:
    listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False)]
    lines = [f"Question: {item.question}", *(listed if answer == "letter" else ())]
    return "\n".join([*lines, f"Answer: {CUE}" if chain_of_thought else "Answer:"])


def _continuations(item: Item, answer: str) -> tuple[str, ...]:
    options = LETTERS[: len(item.options)] if answer == "letter" else item.options
    return tuple(f" {option}" for option in options)
