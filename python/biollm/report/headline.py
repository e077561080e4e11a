"""The few facts that a report shows above the others, known by the names that the verbs give them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from biollm.report.charts import shares
from biollm.report.markup import Markup, join, note, number, tag
from biollm.results import Scalar

MODEL, BIGRAM, UNIGRAM = "validation_bits_per_byte", "bigram_bits_per_byte", "unigram_bits_per_byte"
PREDICTORS: Final = ((MODEL, "model"), (BIGRAM, "interpolated bigram"), (UNIGRAM, "unigram"))
"""Facts of a training: bits per byte of the validation text, and what predicts it at that rate."""


def bits_per_byte(facts: Mapping[str, Scalar]) -> dict[str, float]:
    """Bits per byte by the fact's name, of those of `PREDICTORS` that are there.

    Args:
        facts: of a summary.
    """
    return {name: value for name, _ in PREDICTORS if (value := finite(facts.get(name))) is not None}


def finite(value: Scalar) -> float | None:
    """A fact as a number that can be reckoned with; `None` where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e15:
        return None
    return float(value)


def against_bigram(facts: Mapping[str, Scalar]) -> str:
    """How the model's bits per byte stand to the bigram's, in words; empty where one is missing.

    Args:
        facts: of a summary.
    """
    rates = bits_per_byte(facts)
    if MODEL not in rates or BIGRAM not in rates:
        return ""
    below = rates[BIGRAM] - rates[MODEL]
    shown = f"{abs(below):.3f}"
    if not float(shown):
        return "as many as the interpolated bigram"
    return f"{shown} {'below' if below > 0 else 'above'} the interpolated bigram"


def headline(facts: Mapping[str, Scalar]) -> Markup:
    """What stands on top of a stage's section: bits per byte of a training, records left out of a reading.

    Args:
        facts: of the stage's summary.
    """
    return join([_predictions(facts), _left_out(facts)])


def _predictions(facts: Mapping[str, Scalar]) -> Markup:
    rates = bits_per_byte(facts)
    if MODEL not in rates:
        return Markup()
    rows = [(label, rates[name], f"{rates[name]:.3f}") for name, label in PREDICTORS if name in rates]
    said = against_bigram(facts)
    words = f"The model needs {rates[MODEL]:.3f} bits for a byte of validation text"
    title = tag("figcaption", "Bits per byte of validation text")
    close = note("Fewer is better. The unigram and the bigram are counted on the same training shards.")
    figure = tag("figure", title, shares(rows), close, class_="chart")
    return join([tag("p", f"{words}, {said}." if said else f"{words}.", class_="headline"), figure])


def _left_out(facts: Mapping[str, Scalar]) -> Markup:
    replaced, deleted = (finite(facts.get(f"records {why}")) for why in ("replaced", "deleted"))
    if replaced is None and deleted is None:
        return Markup()
    parts = []
    if replaced is not None:
        parts.append(f"{number(math.trunc(replaced))} replaced by a later record of the same PMID")
    if deleted is not None:
        parts.append(f"{number(math.trunc(deleted))} deleted by a later file")
    shown = "headline" if replaced or deleted else "note"
    return tag("p", f"PubMed records left out: {', '.join(parts)}.", class_=shown)
