"""Thresholds: their values, their directions, and how they are changed by name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from biollm.errors import ConfigError
from biollm.selection.options import SelectOptions
from biollm.selection.rules import GOPHER_QUALITY, GOPHER_REPETITION, PRESETS, Rule, failed_rules, resolve
from biollm.selection.statistics import STATISTICS


@pytest.mark.parametrize("rule", [*GOPHER_QUALITY, *GOPHER_REPETITION], ids=lambda rule: rule.name)
def test_a_value_on_the_threshold_stays(rule: Rule) -> None:
    below, above = np.nextafter(rule.threshold, -np.inf), np.nextafter(rule.threshold, np.inf)
    scores = pa.table({rule.statistic: [below, float(rule.threshold), above]})
    fails = {"<": [1, 0, 0], ">": [0, 0, 1]}[rule.drop_if]
    assert failed_rules(scores, [rule]).tolist() == fails
    assert rule.name == f"{'min' if rule.drop_if == '<' else 'max'}_{rule.statistic}"


def test_the_tables_are_gophers() -> None:
    quality = {rule.name: rule.threshold for rule in GOPHER_QUALITY}
    assert quality == {
        "min_words": 50,
        "max_words": 100_000,
        "min_mean_word_length": 3,
        "max_mean_word_length": 10,
        "max_hash_ratio": 0.1,
        "max_ellipsis_ratio": 0.1,
        "max_bullet_line_fraction": 0.9,
        "max_ellipsis_line_fraction": 0.3,
        "min_alphabetic_fraction": 0.8,
        "min_stop_words": 2,
    }
    repetition = [rule.threshold for rule in GOPHER_REPETITION]
    assert repetition == [1, 0.3, 0.2, 0.3, 0.2, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10]
    for name, rules in PRESETS.items():
        for rule in rules:
            assert STATISTICS[rule.statistic].group in ("common", name.removeprefix("gopher_"))


def test_each_rule_has_its_bit() -> None:
    rules = resolve(["gopher_quality", "gopher_repetition"])
    perfect = {rule.statistic: 0.0 for rule in rules} | {"words": 100.0, "mean_word_length": 5.0, "characters": 500.0}
    perfect |= {"alphabetic_fraction": 1.0, "stop_words": 4.0}
    rows = [perfect] + [{**perfect, r.statistic: r.threshold + (1 if r.drop_if == ">" else -1)} for r in rules]
    scores = pa.Table.from_pylist(rows)
    assert failed_rules(scores, rules).tolist() == [0] + [1 << i for i in range(len(rules))]


def test_thresholds_are_changed_by_name() -> None:
    rules = {rule.name: rule for rule in resolve(["gopher_quality"], {"min_words": 20, "max_words": "off"})}
    assert rules["min_words"].threshold == 20
    assert "max_words" not in rules
    assert len(rules) == len(GOPHER_QUALITY) - 1
    assert resolve(["gopher_quality"], {"min_words": None}) == GOPHER_QUALITY[1:]


@pytest.mark.parametrize(
    ("rules", "thresholds", "message"),
    [
        (["gopher_qualty"], None, "did you mean 'gopher_quality'"),
        (["fineweb_everything"], None, "unknown rules"),
        ([], None, "must name presets"),
        (["gopher_quality"] * 2, None, "each once"),
        ("gopher_quality", None, "a list of names"),
        (["gopher_quality"], {"min_word": 3}, "did you mean 'min_words'"),
        (["gopher_quality"], {"max_duplicate_line_fraction": 0.1}, "belongs to 'gopher_repetition'"),
        (["gopher_quality"], {"min_words": float("nan")}, "finite"),
        (["gopher_quality"], {"min_words": True}, "finite"),
        (["gopher_quality"], {"min_words": "20"}, "finite"),
    ],
)
def test_unknown_names_and_values_are_refused(rules: list[str], thresholds: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelectOptions(rules=rules, thresholds=thresholds)  # type: ignore[arg-type]


def test_a_missing_statistic_is_an_error() -> None:
    with pytest.raises(ConfigError, match="which was not measured") as caught:
        failed_rules(pa.table({"words": [1]}), GOPHER_QUALITY)
    assert caught.value.field == "mean_word_length"
    with pytest.raises(ConfigError, match="missing for 1 rows"):
        failed_rules(pa.table({"words": [1, None]}), GOPHER_QUALITY[:1])
