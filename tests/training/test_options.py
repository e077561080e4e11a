from __future__ import annotations

import inspect
from dataclasses import MISSING, asdict, fields
from typing import Any

import pytest

import biollm
from biollm.errors import ConfigError
from biollm.training import TrainOptions


def test_round_trip_through_a_dict() -> None:
    options = TrainOptions(size="tiny", steps=3, lr=1e-3, schedule="cosine", dtype="float64", seed=5)
    assert TrainOptions(**asdict(options)) == options
    assert TrainOptions(**asdict(TrainOptions())) == TrainOptions()


def test_the_function_has_the_options_and_their_defaults() -> None:
    parameters = inspect.signature(biollm.train).parameters
    others = {"source", "output", "start", "progress"}
    assert {name: p.default for name, p in parameters.items() if name not in others} == {
        field.name: field.default for field in fields(TrainOptions)
    }
    assert all(field.default is not MISSING for field in fields(TrainOptions))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "huge"),
        ("schedule", "linear"),
        ("device", "tpu"),
        ("dtype", "float16"),
        ("steps", 0),
        ("steps", 2**41),
        ("epochs", 0.0),
        ("epochs", float("inf")),
        ("seq_len", 1),
        ("seq_len", 2**21),
        ("batch_size", 0),
        ("accumulation", 0),
        ("accumulation", 17),
        ("accumulation", 3),
        ("lr", 0.0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", 11),
        ("warmup_fraction", 1.5),
        ("decay_fraction", -0.1),
        ("final_lr_fraction", 2.0),
        ("weight_decay", -1.0),
        ("beta1", 1.0),
        ("beta2", 1.0),
        ("eps", 0.0),
        ("clip_norm", -1.0),
        ("validate_every", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("threads", 0),
        ("threads", 10**6),
        ("objective", "reason"),
        ("lora_rank", -1),
    ],
)
def test_a_value_out_of_range_names_its_field_and_the_way_out(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"use|make") as caught:
        TrainOptions(**{field: value})
    assert caught.value.field == field
    assert caught.value.value == value or value != value


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 3), ("steps", "ten"), ("steps", 1.0), ("seq_len", True), ("lr", "1e-3"), ("epochs", True)],
)
def test_a_wrong_type_is_a_type_error(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=field):
        TrainOptions(**{field: value})


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave one out"):
        TrainOptions(steps=3, epochs=1.0)


@pytest.mark.parametrize(
    ("objective", "field", "value"),
    [
        ("instruct", "validation_fraction", 1.0),
        ("instruct", "split_seed", -1),
        ("classify", "on_error", "ignore"),
        ("classify", "label_every", -1),
        ("classify", "token_noise", 1.0),
        ("instruct", "lora_alpha", 0.0),
        ("instruct", "lora_dropout", 1.0),
    ],
)
def test_values_of_rows_and_of_adapters(objective: str, field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match="use") as caught:
        TrainOptions(**{"objective": objective, field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("objective", "field", "value"),
    [
        ("pretrain", "question", "q"),
        ("pretrain", "split_seed", 1),
        ("instruct", "new_weights", True),
        ("instruct", "token_noise", 0.1),
        ("classify", "answer", "a"),
    ],
)
def test_an_option_of_another_objective_is_refused(objective: str, field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} is an option of .*, not of the objective {objective}"):
        TrainOptions(**{"objective": objective, field: value})


def test_the_options_that_count_are_those_of_the_objective() -> None:
    before = {"size", "steps", "epochs", "seq_len", "batch_size", "accumulation", "lr", "schedule", "warmup_fraction"}
    before |= {"decay_fraction", "final_lr_fraction", "weight_decay", "beta1", "beta2", "eps", "clip_norm"}
    before |= {"validate_every", "seed", "device", "dtype", "deterministic"}
    assert set(TrainOptions().matched()) == before
    rows = {"objective", "group", "validation_fraction", "split_seed", "on_error"}
    own = {"text", "label", "label_every", "token_noise", "new_weights"}
    assert set(TrainOptions(objective="classify").matched()) == before | rows | own
    lora = {"lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "save_adapter"}
    assert set(TrainOptions(lora_rank=2).matched()) == before | lora


def test_whole_numbers_are_numbers() -> None:
    assert TrainOptions(epochs=2, lr=1, clip_norm=0, beta1=0).epochs == 2
