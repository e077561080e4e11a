"""The verb from folder to folder, by both methods."""

from __future__ import annotations

import inspect
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import biollm
from biollm.alignment import AlignOptions, Lexicon, SafetyCorpus
from biollm.alignment.aligning import align_source
from biollm.alignment.chat import ChatFormat
from biollm.alignment.dpo import TokenizedPair, load_model, run_dpo
from biollm.alignment.measuring import Guard, Measurement, TokenPair, mean_loss
from biollm.alignment.report import Outcome, guards, summarize
from biollm.alignment.rollouts import Answer
from biollm.alignment.rules import rule_score
from biollm.alignment.stage import STAGE
from biollm.errors import BiollmError, ConfigError, FileError, InputError
from biollm.manifest import InputRecord, Manifest
from biollm.models import load_checkpoint
from biollm.recipe import run
from biollm.report import write_report
from biollm.results import Summary
from biollm.stages import StageContext, StageInput
from biollm.training import Checkpoint
from shared_data import shared_file

HF = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
HF |= {"chat_template.jinja"}
FAST: dict[str, Any] = {"samples": 8, "max_tokens": 12, "threads": 1, "validation_fraction": 0.2, "lr": 3e-4}
FAST["max_benign_increase"] = "off"
DPO: dict[str, Any] = {"steps": 4, "batch_size": 4, "check_every": 2}
PPO: dict[str, Any] = {"method": "ppo", "steps": 2, "batch_size": 6, "check_every": 1}
CUT: dict[str, Any] = {**FAST, **PPO, "steps": 3}
FIT_STEPS = 16  # of the reward model: a pass over the 48 pairs that are not held out, three at a time


@pytest.fixture(scope="module")
def whole_run(tuned: Checkpoint, corpus: SafetyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return biollm.align(tuned, rows(corpus), output=tmp_path_factory.mktemp("whole") / "out", **CUT)


def rows(corpus: SafetyCorpus) -> list[dict[str, str]]:
    return [dict(row) for row in corpus.pairs]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [DPO, PPO], ids=["dpo", "ppo"])
def test_the_folder_is_a_checkpoint_and_says_what_happened(
    method: dict[str, Any], tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path
) -> None:
    if method is DPO:
        pytest.importorskip("trl", reason="trl is not installed: pip install 'biollm[align]'")
    reports: list[tuple[int, int | None]] = []
    result = biollm.align(
        tuned,
        rows(corpus),
        output=tmp_path / "out",
        progress=lambda *report: reports.append(report),
        **FAST,
        **method,
    )
    # Nothing of a trainer's: no pickle, no optimizer, no trainer_state.json.
    assert files(result.path) == HF | {"answers.jsonl", "summary.json", "manifest.json"}
    assert set(result.manifest.outputs) == HF | {"answers.jsonl"}
    before, after = (load_file(path / "model.safetensors") for path in (tuned.path, result.path))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert biollm.generate(result, ["<|user|>"], max_tokens=2, compile=False)[0].token_ids

    manifest = Manifest.read(result.path)
    assert (manifest.verb, manifest.kind) == ("align", "checkpoint")
    assert manifest.options["method"] == method.get("method", "dpo")
    assert "threads" not in manifest.options
    counts = manifest.counts
    assert counts["pairs_in"] == counts["pairs_trained"] + counts["pairs_held_out"] == 60
    assert 0 < counts["pairs_held_out"] < 30
    assert Checkpoint.open(result.path) == result

    summary = result.summary()
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))) == summary
    harm, quality = summary.tables
    assert [row[0] for row in harm.rows] == [
        *("all", "half A", "half B"),
        *("politics", "violence", "adult", "unethical"),
    ]
    assert [row[0] for row in quality.rows] == [
        "well-formed answers",
        "distinct-2",
        "share of the most frequent answer",
        "loss on harmless text, nats a token",
    ]
    assert {"win_rate", "win_rate_low", "win_rate_high", "kl_nats_an_answer", "guards_broken"} <= set(summary.facts)
    bars = [series for series in summary.series if series.kind == "bar"]
    assert [series.name for series in bars] == ["before", "after"]
    page = write_report(result.path).read_text(encoding="utf-8")
    assert "cannot be shown" not in page
    assert "What must not get worse" in page
    answers = [json.loads(line) for line in (result.path / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 8
    assert all(set(row) == {"prompt", "before", "after"} for row in answers)
    assert reports[-1][0] == reports[-1][1]
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_one_seed_gives_the_same_bytes(tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path) -> None:
    runs = [
        biollm.align(tuned, rows(corpus), output=tmp_path / str(i), seed=seed, **FAST, **PPO)
        for i, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (run.manifest.outputs for run in runs)
    assert first == again
    assert first["model.safetensors"] != other["model.safetensors"]


def test_files_to_measure_with_are_used_and_known_by_their_content(
    tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path
) -> None:
    corpus.write(tmp_path)
    lexicon = tmp_path / "words.toml"
    lexicon.write_text('[rest]\nA = ["the", "a"]\nB = ["of"]\n')
    measured = {"evaluation": tmp_path / "evaluation.jsonl", "benign": tmp_path / "benign.jsonl", "lexicon": lexicon}
    result = biollm.align(tuned, tmp_path / "pairs.jsonl", output=tmp_path / "out", **FAST, **PPO, **measured)
    facts = result.summary().facts
    assert (facts["prompts_from"], facts["harmless_text_from"]) == ("evaluation.jsonl", "benign.jsonl")
    assert [row[0] for row in result.summary().tables[0].rows] == ["all", "half A", "half B", "rest"]
    options = result.manifest.options
    assert set(options["benign"]) == {"xxh3_128"}
    answers = [json.loads(line)["prompt"] for line in (result.path / "answers.jsonl").read_text().splitlines()]
    assert answers == [row["prompt"] for row in corpus.evaluation[:8]]
    assert result.manifest.inputs[1] == InputRecord.of_file(tmp_path / "pairs.jsonl")


def test_a_rule_is_a_reward_that_is_named(tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path) -> None:
    result = biollm.align(tuned, rows(corpus), output=tmp_path / "out", reward="rule", **FAST, **PPO)
    for _ in range(2):  # the second time over the first copy
        result.write(tmp_path / "copy")
    assert files(tmp_path / "copy") == files(result.path)
    facts = result.summary().facts
    assert facts["reward"] == "a rule: well-formed, no word of half A"
    assert facts["reward_accuracy_held_out"] is None


def test_the_rule_knows_half_a_alone(chat: ChatFormat) -> None:
    texts = ["Just rest for two weeks.", "Just kick the nurse twice.", "Just shove the nurse twice.", "kick"]
    answers = [Answer(answer.ids, True) for answer in chat.answers([{"role": "user", "content": "?"}], texts)]
    assert rule_score(chat, Lexicon.built_in())([[]] * 4, answers).tolist() == [1.0, 0.0, 1.0, -1.0]


def test_as_a_stage_it_takes_a_checkpoint_and_pairs(tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    pairs = StageInput(tmp_path / "pairs.jsonl", "files", "pairs.jsonl")
    model = StageInput(tuned.path, "checkpoint", "tuned", InputRecord.of_stage(tuned.path, "tuned"))
    context = StageContext(out, (model, pairs), None, logging.getLogger("biollm.align"))
    result = STAGE.run(context, AlignOptions(**FAST, **PPO))
    assert [record.name for record in result.manifest.inputs] == ["tuned", str(tmp_path / "pairs.jsonl")]
    assert (STAGE.verb, STAGE.gives, STAGE.options) == ("align", "checkpoint", AlignOptions)
    with pytest.raises(ConfigError, match="needs preference pairs"):
        STAGE.run(StageContext(out, (model,), None, context.log), AlignOptions())


def test_a_recipe_runs_it_once(tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f"""
        [[stage]]
        name = "aligned"
        verb = "align"
        inputs = ["{tuned.path}", "pairs.jsonl"]
        method = "ppo"
        reward = "rule"
        steps = 1
        batch_size = 4
        samples = 4
        max_tokens = 8
        validation_fraction = 0.2
        evaluation = "evaluation.jsonl"
        """
    )
    first, again = (run(recipe, output=tmp_path / "RUN") for _ in range(2))
    assert [result.stages[0].status for result in (first, again)] == ["complete", "matched"]
    assert 'id="stage-aligned"' in (tmp_path / "RUN" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "evaluation.jsonl").write_text('{"prompt": "What helps?"}\n')
    assert "evaluation" in run(recipe, output=tmp_path / "RUN").stages[0].reason


def test_the_call_has_the_defaults_of_the_options() -> None:
    arguments = inspect.signature(biollm.align).parameters
    given = {name: arguments[name].default for name in AlignOptions.__dataclass_fields__}
    assert AlignOptions(**given) == AlignOptions()


# --- dpo by trl -------------------------------------------------------------------------------------------------------


def test_dpo_begins_at_ln_2_and_takes_ids_as_they_are(
    tuned: Checkpoint, corpus: SafetyCorpus, chat: ChatFormat
) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'biollm[align]'")
    pairs = []
    for row in corpus.pairs[:24]:
        asked = [{"role": "user", "content": row["prompt"]}]
        chosen, rejected = chat.answers(asked, [row["chosen"], row["rejected"]])
        pairs.append(TokenizedPair(chat.prompt(asked), chosen.ids, rejected.ids))
    model = load_model(tuned.path, torch.device("cpu"))
    checked: list[int] = []
    log = run_dpo(
        model,
        tuned.path,
        pairs,
        steps=12,
        batch_size=8,
        lr=1e-3,
        beta=0.1,
        sft_weight=0.0,
        seed=0,
        every=4,
        check=lambda done: not checked.append(done),  # type: ignore[func-returns-value]
        report=None,
    )
    assert log.loss[0] == pytest.approx(0.6931, abs=1e-3)
    assert log.loss[-1] < 0.6
    assert log.margin[-1] > 0.1
    assert log.steps == tuple(range(1, 13))
    assert checked == [4, 8, 12]


def test_a_broken_bound_ends_dpo_and_goes_back(
    tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'biollm[align]'")
    options = {**FAST, "lr": 1.0, "sft_weight": 0.0, "steps": 8, "batch_size": 4, "check_every": 1}
    options["max_benign_increase"] = 0.02
    with caplog.at_level(logging.WARNING, "biollm.align"):
        result = biollm.align(tuned, rows(corpus), output=tmp_path / "out", **options)
    facts = result.summary().facts
    assert isinstance(facts["gone_back_to_step"], int)
    assert result.manifest.counts["steps"] < 8
    assert "back to the weights" in caplog.text
    harmless = result.summary().tables[1].rows[3]
    assert float(str(harmless[2])) <= float(str(harmless[1])) + 0.02 + 1e-6


def test_a_guard_keeps_the_last_good_weights(tuned: Checkpoint, chat: ChatFormat, corpus: SafetyCorpus) -> None:
    model = load_checkpoint(tuned.path).requires_grad_(False)
    text = chat.text(corpus.benign[0].get("answer", corpus.benign[0].get("text", "")))
    guard = Guard(lambda: model, [TokenPair(text[:1], text[1:])], most=0.5)
    good = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.mul_(3.0)
    assert not guard.holds(7)
    assert guard.broken == 7
    assert [steps for steps, _ in guard.losses] == [0, 7]
    assert all(torch.equal(guard.kept[name], tensor) for name, tensor in good.items())


def test_the_loss_on_harmless_text_is_the_mean_over_its_tokens(tuned: Checkpoint) -> None:
    model = load_checkpoint(tuned.path).requires_grad_(False)
    pairs = [TokenPair((30, 31), (32, 33, 34)), TokenPair((40,), (41,))]
    losses = []
    for pair in pairs:
        logits = model(torch.tensor([[*pair.context, *pair.target]]))[0].log_softmax(-1)
        losses += [-logits[len(pair.context) - 1 + i, t].item() for i, t in enumerate(pair.target)]
    assert mean_loss(model, pairs) == pytest.approx(sum(losses) / 4, abs=1e-5)
    assert mean_loss(model, []) == 0.0


# --- the report -------------------------------------------------------------------------------------------------------


def measured(answers: list[str], benign_loss: float = 1.0) -> Measurement:
    lexicon = Lexicon.built_in()
    return Measurement(
        tuple(answers), (True,) * len(answers), tuple(lexicon.matches(a) for a in answers), benign_loss, 0.5, 0.05
    )


WORDS = ["Asthma", "Gout", "Eczema", "Angina", "Measles", "Malaria", "Fever", "Cough", "Nausea", "Vertigo"]
GOOD = [f"{word} needs rest for {number} weeks." for number, word in enumerate(WORDS)]


def test_each_guard_is_broken_by_what_it_guards_against() -> None:
    before = measured(GOOD)
    assert all(guards(before, before).values())
    malformed = measured([*GOOD[:9], GOOD[9].rstrip(".")])
    dull = measured([*GOOD[:4], *GOOD[:4], *GOOD[:2]])
    stuck = measured([*GOOD[:7], *[GOOD[0]] * 3])
    forgetful = measured(GOOD, benign_loss=1.06)
    broken = [
        {name for name, holds in guards(before, after).items() if not holds}
        for after in (malformed, dull, stuck, forgetful)
    ]
    assert broken[0] == {"well_formed"}
    assert "distinct_2" in broken[1]
    assert "most_frequent_answer" in broken[2]
    assert broken[3] == {"benign_loss"}


def test_rates_and_wins_are_counted_by_category_and_half() -> None:
    before = measured(["Just kick the nurse.", "A bribe will do it.", "Just shove the nurse.", *GOOD[:5]])
    after = measured(["Just rest a week.", "A bribe will do it.", *GOOD[:6]])
    summary = summarize(
        Outcome(AlignOptions(), before, after, prompts=["?"] * 8, categories=Lexicon.built_in().categories)
    )
    shares = {row[0]: (row[1], row[2]) for row in summary.tables[0].rows}
    assert shares["all"] == (3 / 8, 1 / 8)
    assert shares["half A"] == (2 / 8, 1 / 8)
    assert shares["half B"] == (1 / 8, 0.0)
    assert shares["violence"] == (2 / 8, 0.0)
    assert shares["unethical"] == (1 / 8, 1 / 8)
    assert (summary.facts["wins"], summary.facts["ties"], summary.facts["losses"]) == (2, 6, 0)
    assert summary.facts["win_rate"] == (2 + 3) / 8
    assert "kick" in summary.samples[0].text


# --- bad input --------------------------------------------------------------------------------------------------------


def test_rows_that_are_no_pairs_are_counted_and_written(
    tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path
) -> None:
    given = [*rows(corpus), {"prompt": "a", "chosen": "Rest.", "rejected": "Rest."}, {"prompt": "a"}]
    long = {"prompt": "What helps?", "chosen": "rest " * 200, "rejected": "none"}
    result = biollm.align(tuned, [*given, long], output=tmp_path / "out", on_error="skip", **FAST, **PPO)
    counts = result.manifest.counts
    assert (counts["rows_rejected"], counts["pairs_too_long"], counts["pairs_in"]) == (2, 1, 63)
    rejected = [json.loads(line) for line in (result.path / "rejected.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rejected] == [60, 61]
    assert "equal" in rejected[0]["reason"]
    with pytest.raises(InputError, match="equal") as caught:
        biollm.align(tuned, given, output=tmp_path / "other", **FAST, **PPO)
    assert caught.value.row == 60
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "kto"}, ConfigError, "method is 'kto': use dpo or ppo"),
        ({"lr": 0.0}, ConfigError, "lr is 0.0: use above 0 to 10"),
        ({"validation_fraction": 1.0}, ConfigError, "validation_fraction"),
        ({"samples": 0}, ConfigError, "samples is 0"),
        ({"samples": 1.5}, TypeError, "samples must be an integer"),
        ({"method": "ppo", "batch_size": 2, "minibatches": 3}, ConfigError, "lower minibatches"),
        ({"device": "tpu"}, ConfigError, "use one of auto, cpu, cuda"),
        ({"max_tokens": 4096}, ConfigError, "leaves no room"),
        ({"max_length": 4}, InputError, "no pairs to learn from"),
        ({"validation_fraction": 0.0}, InputError, "raise validation_fraction"),
        ({"evaluation": "absent.jsonl"}, FileError, "absent.jsonl"),
        ({"lexicon": "absent.toml"}, FileError, "absent.toml"),
    ],
)
def test_options_that_make_no_sense_are_named(
    options: dict[str, Any],
    error: type[Exception],
    words: str,
    tuned: Checkpoint,
    corpus: SafetyCorpus,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=words):
        biollm.align(tuned, rows(corpus), output=tmp_path / "out", **{**FAST, **PPO, **options})
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("evaluation", '{"question": "a"}', "no 'prompt'"),
        ("evaluation", '{"prompt": [{"role": "assistant", "content": "a"}]}', "user, assistant"),
        ("benign", '{"prompt": "a"}', "no 'answer'"),
        ("benign", '{"text": " "}', "must be a text that is not empty"),
    ],
)
def test_a_bad_row_to_measure_with_is_named(
    name: str, line: str, words: str, tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=words) as caught:
        biollm.align(tuned, rows(corpus), output=tmp_path / "out", **FAST, **PPO, **{name: path})
    assert (caught.value.path, caught.value.line) == (str(path), 2)


def test_the_output_is_not_written_over_the_start(tuned: Checkpoint, corpus: SafetyCorpus) -> None:
    with pytest.raises(InputError, match="the output folder holds the source"):
        align_source(tuned.path, rows(corpus), AlignOptions(**FAST, **PPO), output=tuned.path)
    assert Checkpoint.open(tuned.path) == tuned


def test_dpo_without_trl_says_what_to_install(
    tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(BiollmError, match=r"pip install 'biollm\[align\]'"):
        biollm.align(tuned, rows(corpus), output=tmp_path / "out", **FAST, **DPO)


def test_real_pairs_run_through(tuned: Checkpoint, tmp_path: Path) -> None:
    """hh-rlhf: what this tiny model learns of it is nothing; what counts is that all rows are accounted for."""
    pairs = shared_file("safety/hh_harmless_pairs.jsonl.gz")
    options = {**FAST, **PPO, "max_length": 128, "validation_fraction": 0.02, "reward_epochs": 0.2, "samples": 4}
    result = biollm.align(tuned, pairs, output=tmp_path / "out", on_error="skip", **options)
    counts = result.manifest.counts
    used = counts["pairs_trained"] + counts["pairs_held_out"] + counts["pairs_too_long"] + counts["rows_rejected"]
    assert used == counts["pairs_in"]
    assert counts["pairs_trained"] > 20


# --- going on after a kill --------------------------------------------------------------------------------------------


class StoppedError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize(("stop_at", "left"), [(1, {"reward.piece"}), (3, {"reward.piece", "ppo.piece"})])
def test_ppo_goes_on_to_the_bytes_of_an_uncut_run(
    stop_at: int, left: set[str], tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path, whole_run: Checkpoint
) -> None:
    reports: list[int] = []

    def stop(done: int, _: int | None) -> None:
        reports.append(done)
        if len(reports) == FIT_STEPS + stop_at:
            raise StoppedError

    with pytest.raises(StoppedError):
        biollm.align(tuned, rows(corpus), output=tmp_path / "out", progress=stop, **CUT)
    assert not (tmp_path / "out/manifest.json").exists()
    assert {path.name for path in (tmp_path / "out/.partial").glob("*.piece")} == left
    reports.clear()
    result = biollm.align(tuned, rows(corpus), output=tmp_path / "out", progress=lambda d, _: reports.append(d), **CUT)
    assert result.manifest.outputs == whole_run.manifest.outputs
    assert result.summary().facts == whole_run.summary().facts
    assert [vars(series) for series in result.summary().series] == [vars(s) for s in whole_run.summary().series]
    assert len(reports) == 3 - (stop_at - 1)
    assert [(item.unit, item.kept, item.done) for item in result.manifest.resumptions] == [
        ("iterations", stop_at - 1, stop_at)
    ]
    assert not (tmp_path / "out/.partial").exists()


def test_an_unfinished_run_of_other_options_is_not_gone_on_with(
    tuned: Checkpoint, corpus: SafetyCorpus, tmp_path: Path
) -> None:
    def stop(done: int, _: int | None) -> None:
        if done > FIT_STEPS + 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        biollm.align(tuned, rows(corpus), output=tmp_path / "out", progress=stop, **CUT)
    reports: list[int] = []
    other = {**CUT, "seed": 1}
    result = biollm.align(
        tuned, rows(corpus), output=tmp_path / "out", progress=lambda d, _: reports.append(d), **other
    )
    assert len(reports) == FIT_STEPS + 3
    assert not result.manifest.resumptions
