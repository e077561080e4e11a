"""The options of `evaluate`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from biollm.errors import ConfigError

__all__ = ["ALGORITHM_VERSION", "UNMATCHED_OPTIONS", "EvaluateOptions"]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options, checkpoint and files give other figures."""
UNMATCHED_OPTIONS: Final = frozenset({"batch_tokens"})
"""Options that do not change the output, but for the last bits of rounding."""
MAX_RESAMPLES: Final = 1_000_000
SETTINGS: Final = ("reasoning-required", "reasoning-free")
"""Of PubMedQA: with the abstract's contexts, or with its conclusion (Jin et al. 2019, section 4)."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of an evaluation. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    Attributes:
        shots: numbers of worked examples before each question, one pass over the items for each: 0, 1, 5, ….
        chain_of_thought: answer once more after a generated rationale.
        rationale_tokens: tokens of a rationale at most.
        answer: text scores the words of each option; letter lists the options in the question and scores their letters.
        normalize: what an option's log-likelihood is divided by: bytes, characters or tokens of it, or none.
        settings: of PubMedQA: reasoning-required (question and contexts) and reasoning-free (question and conclusion).
        example_share: share of a task's items kept apart for worked examples, never scored; by default 0.1 where shots
            are asked for, else 0.
        max_items: of each task, so many items drawn by the seed; by default all.
        max_documents: of each domain, the first so many documents; by default all.
        text: column of the documents that holds the text.
        domain: column of the documents that names their domain; by default source where there is one, and where a
            document names none, its input's name.
        split: of token shards, the split whose documents are read.
        stride: new tokens of each window of a document longer than the context; by default half the context.
        on_error: raise at a malformed or too long item or document, or skip and count it.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap resamples of an interval.
        seed: draws examples, items and resamples.
        batch_tokens: tokens of one batch, padding among them.
        device: auto (cuda where there is one), cpu, cuda.
        dtype: auto (bfloat16 on cuda, float32 on the CPU), float32, bfloat16, float16, float64.
    """

    shots: tuple[int, ...] = (0,)
    chain_of_thought: bool = False
    rationale_tokens: int = 96
    answer: Literal["text", "letter"] = "text"
    normalize: Literal["bytes", "characters", "tokens", "none"] = "bytes"
    settings: tuple[str, ...] = SETTINGS
    example_share: float | None = None
    max_items: int | None = None
    max_documents: int | None = None
    text: str = "text"
    domain: str | None = None
    split: str = "validation"
    stride: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0
    batch_tokens: int = 8192
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        _one_of("answer", self.answer, ("text", "letter"))
        _one_of("normalize", self.normalize, ("bytes", "characters", "tokens", "none"))
        _one_of("on_error", self.on_error, ("raise", "skip"))
        for setting in self.settings:
            _one_of("settings", setting, SETTINGS)
        if not self.shots or not self.settings:
            name = "shots" if not self.shots else "settings"
            raise ConfigError(f"{name} is empty: give one or more", field=name)
        if len(set(self.shots)) < len(self.shots) or not all(0 <= number <= 64 for number in self.shots):
            message = f"shots is {list(self.shots)}: give different numbers from 0 to 64"
            raise ConfigError(message, field="shots", value=self.shots)
        if self.example_share is not None and not 0 <= self.example_share < 1:
            message = f"example_share is {self.example_share}, not in [0, 1)"
            raise ConfigError(message, field="example_share", value=self.example_share)
        if max(self.shots) and self.example_share == 0:
            raise ConfigError("shots need examples: give an example_share above 0", field="example_share", value=0)
        if not 0 < self.confidence < 1:
            message = f"confidence is {self.confidence}, not in (0, 1)"
            raise ConfigError(message, field="confidence", value=self.confidence)
        for name in ("rationale_tokens", "max_items", "max_documents", "stride", "resamples", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: give 1 or more", field=name, value=value)
        if self.resamples > MAX_RESAMPLES:
            message = f"resamples is {self.resamples}, over {MAX_RESAMPLES:,}"
            raise ConfigError(message, field="resamples", value=self.resamples)
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed is {self.seed}, not in [0, 2**64)", field="seed", value=self.seed)

    @property
    def share_apart(self) -> float:
        """The share of a task's items that are kept apart."""
        if self.example_share is not None:
            return self.example_share
        return 0.1 if max(self.shots) else 0.0

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in UNMATCHED_OPTIONS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _one_of(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{field} {value!r} is not one of {', '.join(choices)}", field=field, value=value)
