"""Who answers: the protocol of a scorer, the model as one, and those that a task is checked with.

A scorer gives each option of a question a log-likelihood. Beside the model there are scorers that know an answer by
other means (the right one, the most frequent one, one stored in the file, a random one): they run through the same code
as a model and must come out at figures that are known.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from biollm.errors import InputError
from biollm.evaluation.items import Item, draw
from biollm.evaluation.prompts import Question

if TYPE_CHECKING:
    from biollm.inference import LLM
    from biollm.results import Progress

__all__ = ["AnswerScorer", "ModelScorer", "OptionScores", "Scorer", "majority", "oracle", "random_answers", "stored"]


@dataclass(frozen=True)
class OptionScores:
    """What a scorer says of one question.

    Attributes:
        log_likelihoods: nats, one an option.
        tokens: of each option.
        cut_tokens: of the context that were left out on its left, for the whole did not fit.
        rationale: what was written before the answer, of chain of thought.
        problem: why the question could not be scored (then there are no log-likelihoods); empty where it was.
    """

    log_likelihoods: tuple[float, ...]
    tokens: tuple[int, ...]
    cut_tokens: int = 0
    rationale: str = ""
    problem: str = ""


class Scorer(Protocol):
    """What answers questions."""

    def score(self, questions: Sequence[Question], progress: Progress | None = None) -> list[OptionScores]:
        """The scores of the options of each question, in order.

        Args:
            questions: to be answered.
            progress: called with questions done and in all.

        Returns:
            One `OptionScores` a question.
        """


@dataclass(frozen=True)
class AnswerScorer:
    """A scorer that gives one option log-likelihood 0 and the others -1.

    Attributes:
        answer: the index of an item's option.
    """

    answer: Callable[[Item], int]

    def score(self, questions: Sequence[Question], progress: Progress | None = None) -> list[OptionScores]:
        """The scores of `questions`, as `Scorer.score` gives them; `progress` is not called."""
        scores = []
        for question in questions:
            chosen = self.answer(question.item)
            options = range(len(question.item.options))
            scores.append(OptionScores(tuple(0.0 if o == chosen else -1.0 for o in options), tuple(1 for _ in options)))
        return scores


def oracle() -> AnswerScorer:
    """A scorer that is always right: accuracy 1."""
    return AnswerScorer(lambda item: item.answer)


def majority(items: Sequence[Item]) -> AnswerScorer:
    """A scorer that gives every item the most frequent right answer of `items`, by its place among the options."""
    frequent = Counter(item.answer for item in items).most_common(1)[0][0]
    return AnswerScorer(lambda item: min(frequent, len(item.options) - 1))


def random_answers(seed: int = 0) -> AnswerScorer:
    """A scorer that draws each answer by `seed` and the item's id, all options alike."""
    return AnswerScorer(lambda item: random.Random(draw(seed, "answer", item.id)).randrange(len(item.options)))


def stored(field: str) -> AnswerScorer:
    """A scorer that gives the answers in a `field` of the file: "reasoning_required_pred" of PubMedQA's annotators.

    Its scores raise InputError where an item has no such field, or one that is none of its options.
    """

    def answer(item: Item) -> int:
        given = item.stored.get(field)
        if given not in item.options:
            message = f"item {item.id!r} has {given!r} in {field}, none of its options"
            raise InputError(message, field=field, value=given)
        return item.options.index(given)

    return AnswerScorer(answer)


class ModelScorer:
    """A language model as a scorer: the log-likelihood of an option is that of its tokens behind the prompt.

    A prompt that does not fit the model's context together with its longest option loses tokens of its context, from
    the left; a token that the tokenizer puts before every text stays. Where the question alone does not fit, it is not
    scored.

    Args:
        llm: the model, with its tokenizer.
        rationale_tokens: of a rationale at most.
        batch_tokens: of one batch, padding among them.

    Raises:
        InputError: the checkpoint has no tokenizer.
    """

    def __init__(self, llm: LLM, *, rationale_tokens: int = 96, batch_tokens: int = 8192) -> None:
        self._llm = llm
        self._tokenizer: Any = llm.tokenizer
        self._rationale_tokens, self._batch_tokens = rationale_tokens, batch_tokens
        if self._tokenizer is None:
            raise InputError("questions need the checkpoint's tokenizer, and it has none we can use", path=llm.path)
        self._special = set(self._tokenizer.special_tokens.values())

    def score(self, questions: Sequence[Question], progress: Progress | None = None) -> list[OptionScores]:
        """See `Scorer.score`.

        Args:
            questions: to be answered; those with a `conclusion` get a rationale first, greedily decoded.
            progress: called with questions done and in all.

        Returns:
            One `OptionScores` a question.
        """
        rationales, problems = self._rationales(questions)
        fitted = [
            ([], 0, problem) if problem else self._fit(question, text)
            for question, text, problem in zip(questions, rationales, problems, strict=True)
        ]
        whole = [row for row, (_, _, problem) in enumerate(fitted) if not problem]
        options = [self._continuations(question) for question in questions]
        scored = self._llm.score(
            [fitted[row][0] for row in whole],
            [options[row] for row in whole],
            batch_tokens=self._batch_tokens,
            progress=progress,
        )
        found: dict[int, OptionScores] = {}
        for row, likelihoods in zip(whole, scored, strict=True):
            found[row] = OptionScores(
                tuple(likelihood.logprob for likelihood in likelihoods),
                tuple(likelihood.tokens for likelihood in likelihoods),
                fitted[row][1],
                rationales[row],
            )
        return [found.get(row) or OptionScores((), (), 0, "", fitted[row][2]) for row in range(len(questions))]

    def _rationales(self, questions: Sequence[Question]) -> tuple[list[str], list[str]]:
        """What the model writes behind the questions that ask for it: one paragraph; empty behind the others. And why
        it has no room to.
        """
        rows = [row for row, question in enumerate(questions) if question.conclusion]
        texts, problems = [""] * len(questions), [""] * len(questions)
        prompts: dict[int, list[int]] = {}
        for row in rows:
            ids, _, problems[row] = self._cut(questions[row], questions[row].prompt, self._rationale_tokens)
            if not problems[row]:
                prompts[row] = ids
        if prompts:
            stop = ("\n\n", "\nQuestion:")
            written = self._llm.generate(list(prompts.values()), max_tokens=self._rationale_tokens, stop=stop)
            for row, completion in zip(prompts, written, strict=True):
                texts[row] = (completion.text or "").strip()
        return texts, problems

    def _fit(self, question: Question, rationale: str) -> tuple[list[int], int, str]:
        """Ids of the prompt, tokens cut from it, and why it cannot be scored."""
        prompt = question.prompt
        if question.conclusion:
            prompt += f" {rationale}\n{question.conclusion}" if rationale else f"\n{question.conclusion}"
        longest = max(len(ids) for ids in self._continuations(question))
        return self._cut(question, prompt, longest - 1)

    def _cut(self, question: Question, prompt: str, behind: int) -> tuple[list[int], int, str]:
        """The ids of context and prompt, cut so that `behind` more tokens fit."""
        ids = [int(token_id) for token_id in self._tokenizer.encode(question.context + prompt).ids]
        limit = self._llm.config.max_seq_len - behind
        if len(ids) <= limit:
            return ids, 0, ""
        kept = len(self._tokenizer.encode(prompt, add_special=False).ids)
        head = ids[:1] if ids[0] in self._special else []
        cut = len(ids) - limit
        if cut > len(ids) - len(head) - kept:
            needed, room = kept + len(head) + behind, self._llm.config.max_seq_len
            return [], 0, f"question and answer or rationale are {needed} tokens, the model's context has {room}"
        return head + ids[len(head) + cut :], cut, ""

    def _continuations(self, question: Question) -> list[list[int]]:
        return [
            [int(token_id) for token_id in self._tokenizer.encode(text, add_special=False).ids]
            for text in question.continuations
        ]


Normalization = Literal["bytes", "characters", "tokens", "none"]


def choose(
    scores: OptionScores, continuations: Sequence[str], normalize: Normalization
) -> tuple[int, tuple[float, ...]]:
    """The option of the greatest log-likelihood by length (the first of equal ones), and all of these values."""
    lengths = {
        "bytes": [len(text.strip().encode()) for text in continuations],
        "characters": [len(text.strip()) for text in continuations],
        "tokens": list(scores.tokens),
        "none": [1] * len(continuations),
    }[normalize]
    values = tuple(value / max(1, n) for value, n in zip(scores.log_likelihoods, lengths, strict=True))
    return max(range(len(values)), key=values.__getitem__), values
