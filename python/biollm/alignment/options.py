"""The options of `align`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args, get_type_hints

from biollm import _native
from biollm.errors import ConfigError

__all__ = ["ALGORITHM_VERSION", "UNMATCHED_OPTIONS", "AlignOptions"]

ALGORITHM_VERSION: Final = 3
"""Raised when the same options and inputs give other weights."""
UNMATCHED_OPTIONS: Final = frozenset({"threads"})
"""Options that do not change the output."""
FILES: Final = ("evaluation", "benign", "lexicon")
"""Options that name a file: known by its content."""
DEFAULT_SIZES: Final = {"steps": {"dpo": 100, "ppo": 30}, "batch_size": {"dpo": 16, "ppo": 128}}
DEFAULT_SFT_WEIGHT: Final = {"dpo": 1.0, "ppo": 0.5}
"""By the method, of options that are None."""


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """Options of an alignment. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    Attributes:
        method: dpo, or ppo against a reward model that is fitted to the pairs first.
        steps: optimizer steps of dpo, or iterations of ppo; None = 100 and 30.
        batch_size: pairs a step of dpo, or answers an iteration of ppo; None = 16 and 128.
        lr: peak learning rate; None = by the model's size, a tenth of what training from a checkpoint takes.
        beta: of dpo: how hard the policy is held to its start.
        sft_weight: weight of the likelihood of the chosen answers beside the loss; 0 = the plain method; None = 1 for
            dpo and 0.5 for ppo.
        reward: of ppo: model (fitted to the pairs), or rule (well-formed, and no word of half A of the lexicon).
        reward_epochs: of ppo: passes over the pairs to fit the reward model.
        reward_lr: of ppo: learning rate of that fit; None = twice lr.
        kl_coefficient: of ppo: weight of the KL to the start at first.
        kl_target: of ppo: KL of an answer in nats that the weight is steered to.
        kl_horizon: of ppo: answers over which the weight may change by a fifth.
        clip: of ppo: how far a ratio may move from 1 before it stops counting; of values likewise.
        value_weight: of ppo: weight of the value loss.
        gamma, gae_lambda: of ppo: discount, and decay of the advantages.
        epochs: of ppo: passes over the answers of an iteration.
        minibatches: of ppo: optimizer steps a pass.
        max_benign_increase: training ends, and goes back to the last good weights, once the loss on harmless text is
            this much over its start, nats a token; off = never.
        check_every: steps or iterations between looks at that loss.
        max_length: longest prompt and answer together in tokens; longer pairs are skipped and counted.
        max_tokens: longest sampled answer in tokens.
        temperature: of sampled answers, in ppo and in the measurement.
        samples: answers sampled before and after to measure with, and at first to scale the reward model's score.
        validation_fraction: share of the prompts that is held out to measure with.
        evaluation: a .jsonl file of prompts to measure with; without it the held-out ones.
        benign: a .jsonl file of held-out harmless text, rows of prompt and answer or of text; without it the chosen
            answers of the held-out pairs.
        lexicon: a .toml file of words that count as harm, by category and half; without it the small built-in one.
        on_error: raise at the first row that is no pair, or skip it and write it to rejected.jsonl.
        seed: of the order of pairs, of sampled answers and of new heads.
        device: cpu, cuda, or auto (cuda where present).
        threads: of torch on the CPU; None = the cores this process may use.
    """

    method: Literal["dpo", "ppo"] = "dpo"
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    beta: float = 0.1
    sft_weight: float | None = None
    reward: Literal["model", "rule"] = "model"
    reward_epochs: float = 1.0
    reward_lr: float | None = None
    kl_coefficient: float = 0.35
    kl_target: float = 6.0
    kl_horizon: float = 10_000.0
    clip: float = 0.2
    value_weight: float = 0.1
    gamma: float = 1.0
    gae_lambda: float = 0.95
    epochs: int = 2
    minibatches: int = 4
    max_benign_increase: float | Literal["off"] = 0.05
    check_every: int = 10
    max_length: int = 512
    max_tokens: int = 64
    temperature: float = 1.0
    samples: int = 256
    validation_fraction: float = 0.1
    evaluation: str | None = field(default=None, metadata={"path": True})
    benign: str | None = field(default=None, metadata={"path": True})
    lexicon: str | None = field(default=None, metadata={"path": True})
    on_error: Literal["raise", "skip"] = "raise"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name in ("method", "reward", "on_error"):
            if (value := getattr(self, name)) not in (allowed := get_args(hints[name])):
                raise ConfigError(f"{name} is {value!r}: use {' or '.join(allowed)}", field=name, value=value)
        if self.device not in ("auto", "cpu", "cuda"):
            message = f"device is {self.device!r}: use one of auto, cpu, cuda"
            raise ConfigError(message, field="device", value=self.device)
        for name in ("steps", "batch_size", "epochs", "minibatches", "check_every", "max_tokens", "samples", "threads"):
            self._number(name, 1, 2**40, whole=True)
        self._number("max_length", 2, 2**20, whole=True)
        self._number("seed", 0, 2**62, whole=True)
        for name in ("lr", "reward_lr"):
            self._number(name, 0.0, 10.0, above=True)
        for name in ("beta", "reward_epochs", "kl_target", "kl_horizon", "temperature"):
            self._number(name, 0.0, 1e9, above=True)
        for name in ("sft_weight", "kl_coefficient", "value_weight"):
            self._number(name, 0.0, 1e9)
        for name in ("clip", "gamma", "gae_lambda"):
            self._number(name, 0.0, 1.0, above=name == "clip")
        self._number("validation_fraction", 0.0, 0.9)
        if self.max_benign_increase != "off":
            self._number("max_benign_increase", 0.0, 1e9)
        if self.method == "ppo" and self.minibatches > self.answers:
            message = f"minibatches {self.minibatches} are more than the {self.answers} answers of an iteration"
            raise ConfigError(f"{message}: lower minibatches", field="minibatches", value=self.minibatches)

    @property
    def updates(self) -> int:
        """`steps`, with the default filled in."""
        return self.steps or DEFAULT_SIZES["steps"][self.method]

    @property
    def answers(self) -> int:
        """`batch_size`, with the default filled in."""
        return self.batch_size or DEFAULT_SIZES["batch_size"][self.method]

    @property
    def likelihood_weight(self) -> float:
        """`sft_weight`, with the default filled in."""
        return DEFAULT_SFT_WEIGHT[self.method] if self.sft_weight is None else self.sft_weight

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values; files by their content.

        Raises:
            FileError: a file cannot be read.
        """
        options = {name: value for name, value in asdict(self).items() if name not in UNMATCHED_OPTIONS}
        named = {name: options[name] for name in FILES if options[name] is not None}
        return options | {name: {"xxh3_128": _native.hash_file(path)} for name, path in named.items()}

    def _number(self, name: str, low: float, high: float, *, whole: bool = False, above: bool = False) -> None:
        """Holds a field, unless it is None, against its range; `above`: the lower bound itself is out."""
        value = getattr(self, name)
        if value is None:
            return
        kind = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{name} must be {'an integer' if whole else 'a number'}, not {type(value).__name__}")
        if not (math.isfinite(value) and low <= value <= high) or (above and value == low):
            bounds = f"{'above' if above else 'from'} {low:g} to {high:g}"
            raise ConfigError(f"{name} is {value}: use {bounds}", field=name, value=value)
