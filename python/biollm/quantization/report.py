"""What a quantization says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biollm.models.quantized import SCALE_DTYPE
from biollm.quantization.options import QuantizeOptions
from biollm.results import Scalar, Series, Summary, Table

if TYPE_CHECKING:
    from biollm.evaluation import Interval
    from biollm.quantization.converting import LayerError

__all__ = ["Outcome", "summarize"]

BF16_BYTES = SCALE_DTYPE.itemsize


@dataclass(frozen=True)
class Outcome:
    """What is known when a model has been quantized and written.

    Attributes:
        options: of the run.
        errors: of each layer.
        calibration_documents, calibration_tokens: that the rounding was fitted to.
        dropped: documents left out of these because they were held out.
        evaluation_documents, evaluation_tokens: that perplexity was measured on.
        perplexity: before and after.
        increase: the rise as a share of what it was, with its interval over documents.
        file_bytes: of the weights in the checkpoint, before and after.
        rates: dtype → tokens a second before and after, at batch 1.
    """

    options: QuantizeOptions
    errors: Sequence[LayerError]
    calibration_documents: int
    calibration_tokens: int
    dropped: int
    evaluation_documents: int
    evaluation_tokens: int
    perplexity: tuple[float, float]
    increase: Interval
    file_bytes: tuple[int, int]
    rates: Mapping[str, tuple[float, float]]

    @property
    def linear_bytes(self) -> tuple[int, int]:
        """Of the quantized layers' weights: as bfloat16, and as whole numbers with scales."""
        as_bf16 = sum(error.shape[0] * error.shape[1] for error in self.errors) * BF16_BYTES
        return as_bf16, sum(error.weight_bytes for error in self.errors)


def summarize(outcome: Outcome) -> Summary:
    """Facts, the table of before and after, and the error of each layer, for `summary.json` and the report."""
    quantization = outcome.options.quantization()
    before, after = outcome.perplexity
    as_bf16, packed = outcome.linear_bytes
    facts: dict[str, Scalar] = {
        "weights": quantization.name,
        "method": outcome.options.method,
        "calibration_documents": outcome.calibration_documents,
        "calibration_tokens": outcome.calibration_tokens,
        "calibration_documents_dropped": outcome.dropped,
        "evaluation_documents": outcome.evaluation_documents,
        "evaluation_tokens": outcome.evaluation_tokens,
        "perplexity_before": before,
        "perplexity_after": after,
        "perplexity_increase": outcome.increase.estimate,
        "perplexity_increase_low": outcome.increase.low,
        "perplexity_increase_high": outcome.increase.high,
        "max_perplexity_increase": outcome.options.max_perplexity_increase,
        "linear_share_of_bf16": packed / as_bf16,
        "largest_relative_error": max(error.relative_error for error in outcome.errors),
    }
    rows: list[tuple[Scalar, ...]] = [
        ("perplexity of held-out documents", before, after, after / before),
        ("bytes of the quantized layers' weights (before: as bfloat16)", as_bf16, packed, packed / as_bf16),
        ("bytes of the checkpoint's weights", *outcome.file_bytes, outcome.file_bytes[1] / outcome.file_bytes[0]),
    ]
    for dtype, (was, now) in outcome.rates.items():
        rows.append((f"tokens/s decoded in {dtype}, batch 1, not compiled", was, now, now / was))
    layers = tuple(
        (error.name.removeprefix("model."), " × ".join(map(str, error.shape)), error.relative_error)
        for error in outcome.errors
    )
    return Summary(
        title="quantize",
        facts=facts,
        tables=(
            Table("Before and after", ("", "before", "after", "after / before"), tuple(rows)),
            Table("Layers", ("layer", "outputs × inputs", "relative output error"), layers),
        ),
        series=(
            Series(
                "Relative output error by layer",
                "layer",
                "‖(W - Ŵ) X‖ / ‖W X‖",
                tuple(error.name.removeprefix("model.layers.") for error in outcome.errors),
                tuple(error.relative_error for error in outcome.errors),
                kind="bar",
            ),
        ),
    )
