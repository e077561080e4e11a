"""The options of `quantize`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from biollm.errors import ConfigError
from biollm.models.config import Quantization

__all__ = ["ALGORITHM_VERSION", "METHODS", "UNMATCHED_OPTIONS", "QuantizeOptions"]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and inputs give other weights."""
UNMATCHED_OPTIONS: Final = frozenset({"threads"})
"""Options that do not change the output."""
METHODS: Final = ("gptq", "rtn")
DEFAULT_GROUP_SIZE: Final = 64


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Options of a quantization. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    Attributes:
        bits: of a weight: 4 or 8.
        group_size: inputs that share a scale, at 4 bits; without a number 64. At 8 bits each output channel has one.
        method: gptq rounds each weight so that later ones make up for its error; rtn rounds to the nearest.
        calibration_documents: documents that the rounding is fitted to, at most.
        evaluation_documents: other documents that perplexity is measured on, before and after, at most.
        max_perplexity_increase: greatest share by which perplexity may rise (0.06: 6 %); a worse model is not written.
        seed: of the choice of documents.
        text: column of the text where documents are given, or several joined by a blank line.
        device: auto (cuda where there is one), cpu, cuda.
        threads: of torch on the CPU; without a number, the cores this process may use.
    """

    bits: int = 4
    group_size: int | None = None
    method: str = "gptq"
    calibration_documents: int = 256
    evaluation_documents: int = 256
    max_perplexity_increase: float | None = None
    seed: int = 0
    text: str | tuple[str, ...] = "text"
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        self.quantization()
        for name, allowed in (("method", METHODS), ("device", ("auto", "cpu", "cuda"))):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}: use one of {', '.join(allowed)}", field=name, value=value)
        for name, least in (("calibration_documents", 1), ("evaluation_documents", 1), ("seed", 0), ("threads", 1)):
            value = getattr(self, name)
            if name == "threads" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
            if value < least:
                raise ConfigError(f"{name} is {value}: give {least} or more", field=name, value=value)
        limit = self.max_perplexity_increase
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
            raise TypeError(f"max_perplexity_increase must be a number, not {type(limit).__name__}")
        if limit is not None and not (math.isfinite(limit) and limit >= 0):
            message = f"max_perplexity_increase is {limit}: give a share of 0 or more, as 0.06 for 6 %"
            raise ConfigError(message, field="max_perplexity_increase", value=limit)

    def quantization(self) -> Quantization:
        """What the layers become.

        Raises:
            ConfigError: `bits` or `group_size` makes no sense.
        """
        group_size = DEFAULT_GROUP_SIZE if self.bits == 4 and self.group_size is None else self.group_size
        return Quantization(self.bits, group_size)

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values."""
        values = asdict(self) | {"text": list(self.text) if isinstance(self.text, tuple) else self.text}
        return {name: value for name, value in values.items() if name not in UNMATCHED_OPTIONS}
