"""What a training run says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from biollm.manifest import Resumption
from biollm.results import Scalar, Series, Summary, Table
from biollm.training.baselines import Baselines
from biollm.training.loop import History
from biollm.training.options import TrainOptions
from biollm.training.world import World

MAX_POINTS: Final = 500
"""Points of a curve in a summary; of more steps, means of equal stretches are shown."""


@dataclass(frozen=True)
class Outcome:
    """What is known when training has ended. ``validation_tokens`` is 0 where there was nothing to validate on."""

    options: TrainOptions
    history: History
    parameters: int
    train_tokens: int  # in the shards
    validation_tokens: int
    validation_bytes: int
    baselines: Baselines | None
    device: str
    dtype: str
    world: World = field(default_factory=World)
    resumptions: tuple[Resumption, ...] = ()
    trained_parameters: int | None = None  # None: all
    unit: str = "token"  # what the losses are a mean over
    facts: Mapping[str, Scalar] = field(default_factory=dict)  # of the objective
    tables: tuple[Table, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)  # of the objective, for the manifest


def summarize(outcome: Outcome) -> Summary:
    """Facts and curves, for ``summary.json`` and the report. Losses are nats a token."""
    history, baselines = outcome.history, outcome.baselines
    steps = len(history.train_loss)
    loss = history.validation[-1][1] if history.validation else math.nan
    facts: dict[str, Scalar] = {"parameters": outcome.parameters}
    if outcome.options.lora_rank:
        facts["parameters_trained"] = outcome.trained_parameters
    facts |= {
        **outcome.facts,
        "steps": steps,
        "tokens_trained_on": history.train_tokens,
        "epochs": history.train_tokens / outcome.train_tokens,
        "learning_rate_peak": max(history.learning_rate),
        "train_loss_nats": history.train_loss[-1],
    }
    if math.isfinite(loss):
        facts["validation_loss_nats"] = loss
        if history.validation[0][0] == 0:
            before = history.validation[0][1]
            facts |= {"validation_loss_before_nats": before, "nats_below_start": before - loss}
    if baselines is not None and math.isfinite(loss):
        facts |= {
            "unigram_entropy_nats": baselines.unigram_nats,
            "bigram_entropy_nats": baselines.bigram_nats,
            "bigram_weight": baselines.bigram_weight,
            "nats_below_unigram": baselines.unigram_nats - loss,
            "nats_below_bigram": baselines.bigram_nats - loss,
        }
        if outcome.validation_bytes:
            rate = bits_per_byte(1.0, outcome.validation_tokens, outcome.validation_bytes)
            facts |= {
                "validation_bits_per_byte": loss * rate,
                "unigram_bits_per_byte": baselines.unigram_nats * rate,
                "bigram_bits_per_byte": baselines.bigram_nats * rate,
            }
    facts |= {
        "tokens_per_s": history.tokens_per_s,
        "train_s": history.train_s,
        "device": outcome.device,
        "dtype": outcome.dtype,
        **_processes(outcome),
        "resumptions": len(outcome.resumptions),
        "steps_repeated": sum(item.repeated for item in outcome.resumptions),
    }
    return Summary(title="train", facts=facts, tables=outcome.tables, series=_curves(history, baselines, outcome.unit))


def _processes(outcome: Outcome) -> dict[str, Scalar]:
    options, size = outcome.options, outcome.world.size
    if size == 1 and options.engine == "ddp":
        return {}
    stage = {"zero_stage": options.zero_stage} if options.engine == "deepspeed" else {}
    return {"processes": size, "engine": options.engine, **stage}


def bits_per_byte(nats_per_token: float, tokens: int, num_bytes: int) -> float:
    """Cross entropy in bits a byte of text, comparable between tokenizers: nats a token / ln 2 x tokens a byte."""
    return nats_per_token / math.log(2.0) * tokens / num_bytes


def _curves(history: History, baselines: Baselines | None, unit: str) -> tuple[Series, ...]:
    steps = list(range(1, len(history.train_loss) + 1))
    at, losses = _thin(steps, history.train_loss)

    def loss_curve(name: str, steps: Sequence[int], losses: Sequence[float]) -> Series:
        return Series("Loss", "step", f"nats a {unit}", tuple(steps), tuple(losses), name=name)

    curves = [loss_curve("train", at, losses)]
    if history.validation:
        curves.append(loss_curve("validation", *zip(*history.validation, strict=True)))
    if baselines is not None and math.isfinite(baselines.unigram_nats):
        ends = (at[0], at[-1])
        curves.append(loss_curve("unigram entropy", ends, (baselines.unigram_nats,) * 2))
        curves.append(loss_curve("interpolated bigram", ends, (baselines.bigram_nats,) * 2))
    at, rates = _thin(steps, history.learning_rate)
    return (*curves, Series("Learning rate", "step", "learning rate", tuple(at), tuple(rates)))


def _thin(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """At most ``MAX_POINTS`` points: the mean of each stretch, at its last step."""
    stride = -(-len(steps) // MAX_POINTS)
    starts = range(0, len(steps), stride)
    means = [sum(values[i : i + stride]) / len(values[i : i + stride]) for i in starts]
    return [steps[min(i + stride, len(steps)) - 1] for i in starts], means
