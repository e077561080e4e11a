"""Items of a task: a question, its options, and which of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from biollm import _native
from biollm.errors import InputError

__all__ = ["Item", "Rejection", "Task"]


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: of the item, as its file has it.
        question: the question itself.
        options: what may be answered, in order.
        answer: index of the right one.
        context: what is read before the question (an abstract, a conclusion); empty where there is nothing.
        context_name: what that is called in the prompt.
        group: subject of the item; empty where the file names none.
        rationale: why the answer is right, for worked examples of chain of thought; empty where the file has none.
        stored: answers that the file has beside the right one (of human annotators), by the field's name.
    """

    id: str
    question: str
    options: tuple[str, ...]
    answer: int
    context: str = ""
    context_name: str = "Context"
    group: str = ""
    rationale: str = ""
    stored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejection:
    """An item that was skipped.

    Attributes:
        file: where it stands.
        line: of the file, counted from 1; of a JSON object of items, the row.
        reason: why.
    """

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Task:
    """Items of one file in one setting.

    Attributes:
        name: of the task: the file's, without its endings.
        setting: of PubMedQA "reasoning-required" or "reasoning-free", else empty.
        items: in the order of the file.
        labels: the options where all items have the same ones (yes, no, maybe), which macro-F1 is over; else empty.
        rejected: items that were skipped.
    """

    name: str
    items: tuple[Item, ...]
    setting: str = ""
    labels: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def split(self, share: float, shots: int, seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
        """Items to be scored and items kept apart for worked examples: disjoint, whatever the shots of a pass.

        Args:
            share: of the items that are kept apart.
            shots: how many examples one question needs.
            seed: decides which: by a hash of seed and id, so that the other items of a file do not matter.

        Returns:
            The two parts, each in the order of the file.

        Raises:
            InputError: fewer than `shots` are kept apart, or none is left to score.
        """
        ranked = sorted(range(len(self.items)), key=lambda row: draw(seed, "example", self.items[row].id))
        apart = set(ranked[: round(share * len(self.items))])
        if len(apart) < shots:
            message = (
                f"{self.name}: {shots} shots need {shots} items kept apart, and example_share = {share} of "
                f"{len(self.items)} items are {len(apart)}: raise it"
            )
            raise InputError(message, field="example_share", value=share)
        scored = tuple(item for row, item in enumerate(self.items) if row not in apart)
        return scored, tuple(item for row, item in enumerate(self.items) if row in apart)

    def sample(self, items: Sequence[Item], count: int | None, seed: int) -> tuple[Item, ...]:
        """So many of the items, drawn by the seed, in their order.

        Args:
            items: of this task.
            count: how many at most; None for all.
            seed: decides which.

        Returns:
            The items drawn.
        """
        if count is None or count >= len(items):
            return tuple(items)
        ranked = sorted(range(len(items)), key=lambda row: draw(seed, "item", items[row].id))
        return tuple(items[row] for row in sorted(ranked[:count]))


def draw(seed: int, purpose: str, key: str) -> str:
    """A hash to order by: the same on every platform and version."""
    return _native.hash_bytes(f"{seed}\n{purpose}\n{key}".encode("utf-8", "surrogatepass"))
