"""A run that is cut off and started again ends as one that was not, byte for byte."""

from __future__ import annotations

import errno
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import biollm
from biollm import atomic
from biollm.errors import ConfigError, FileError, FormatError
from biollm.models import Llama, ModelConfig, load_checkpoint, save_checkpoint
from biollm.models.checkpoints import load_weights
from biollm.results import Summary
from biollm.stages import StageContext, StageInput
from biollm.training import Checkpoint, TrainOptions, engines, loop, resume, sources
from biollm.training.loop import History
from biollm.training.placement import resolve
from biollm.training.resume import COMMIT, read_history, write_history
from biollm.training.stage import STAGE

STEPS, EVERY = 14, 3
OPTIONS: dict[str, Any] = {
    "size": "tiny",
    "seq_len": 32,
    "batch_size": 4,
    "threads": 1,
    "steps": STEPS,
    "validate_every": 5,
    "checkpoint_every": EVERY,
    "lr": 1e-3,
}
CLOCK_FACTS = {"tokens_per_s", "train_s", "resumptions", "steps_repeated"}


class Cut(Exception):  # noqa: N818  (not an error of ours)
    """Ends a run as a kill does, as far as the run can tell: nothing is saved on the way out."""


@pytest.fixture(scope="module")
def shards(make_shards_in, documents, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    folder: Path = make_shards_in(tmp_path_factory.mktemp("corpus"), documents[:70], documents[70:])
    return folder


@pytest.fixture(scope="module")
def uncut(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return biollm.train(shards, output=tmp_path_factory.mktemp("uncut"), **OPTIONS)


def at(step: int, error: BaseException) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        if done == step:
            raise error

    return progress


def cut_at(step: int, shards: Path, output: Path, **options: Any) -> None:
    with pytest.raises(Cut):
        biollm.train(shards, output=output, progress=at(step, Cut()), **{**OPTIONS, **options})


def kept(output: Path) -> list[str]:
    """The checkpoints of the unfinished run; nothing else may stand in the folder, and no file may be torn."""
    assert [path.name for path in output.iterdir() if path.is_file()] == []
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]
    folders = sorted((output / ".partial").glob("step-*"))
    assert all((folder / COMMIT).is_file() for folder in folders)
    return [folder.name for folder in folders]


def resumptions(checkpoint: Checkpoint) -> list[tuple[int, int]]:
    assert all(item.unit == "steps" for item in checkpoint.manifest.resumptions)
    return [(item.kept, item.done) for item in checkpoint.manifest.resumptions]


def assert_equal(checkpoint: Checkpoint, uncut: Checkpoint) -> None:
    """Every file's bytes, and every fact and curve but those of the clock."""
    assert checkpoint.manifest.hash == uncut.manifest.hash
    assert checkpoint.manifest.counts == uncut.manifest.counts
    assert checkpoint.manifest.outputs == uncut.manifest.outputs
    for name in uncut.manifest.outputs:
        assert (checkpoint.path / name).read_bytes() == (uncut.path / name).read_bytes(), name
    assert timeless(checkpoint.summary()) == timeless(uncut.summary())
    assert checkpoint.summary().facts["resumptions"] == len(checkpoint.manifest.resumptions)
    assert checkpoint.summary().facts["steps_repeated"] == sum(i.repeated for i in checkpoint.manifest.resumptions)
    assert not (checkpoint.path / ".partial").exists()


def timeless(summary: Summary) -> dict[str, Any]:
    data = summary.to_dict()
    data["facts"] = {name: value for name, value in data["facts"].items() if name not in CLOCK_FACTS}
    return data


# --- kill -9 ----------------------------------------------------------------------------------------------------------

# The moments of the kills of a run, and what its manifest must then say: (steps kept, steps done) of each.
KILLS: dict[str, tuple[list[tuple[str, Any]], list[tuple[int, int]]]] = {
    "before the first checkpoint": ([("reported", 2)], [(0, 2)]),
    "between two": ([("reported", 8)], [(6, 8)]),
    "before a checkpoint is begun": ([("reached", 9)], [(6, 9)]),
    "behind a checkpoint": ([("reported", 9)], [(9, 9)]),
    "twice": ([("reported", 4), ("reported", 11)], [(3, 4), (9, 11)]),
    "twice at one step": ([("reached", 6), ("reached", 6)], [(3, 6), (3, 6)]),
    "in the first checkpoint": ([("publishing", "step-00000003/state/optimizer.safetensors")], [(0, 3)]),
    "between its files": ([("publishing", "step-00000009/model.safetensors")], [(6, 9)]),
    "before its commit": ([("publishing", f"step-00000009/{COMMIT}")], [(6, 9)]),
    "removing an old one": ([("removing", "step-00000003")], [(6, 9)]),
    "writing the output": ([("publishing", "killed/state/rng.safetensors")], [(12, 14)]),
    "before the manifest": ([("publishing", "killed/manifest.json")], [(12, 14)]),
    "behind the manifest": ([("removing", "/.partial")], []),  # nothing is left to go on from: trained anew
}


def test_a_killed_run_ends_as_an_uncut_one(shards: Path, uncut: Checkpoint, tmp_path: Path) -> None:
    options = {"source": str(shards), **OPTIONS}
    runs = []
    for name, (moments, _) in KILLS.items():
        output = str(tmp_path / name / "killed")
        runs += [{"output": output, "options": options, "kill": kill} for kill in [*moments, None]]
    program = [sys.executable, str(Path(__file__).with_name("killed_runs.py"))]
    done = subprocess.run(program, input=json.dumps(runs), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == [0 if run["kill"] is None else -signal.SIGKILL for run in runs], done.stderr
    for name, (_, expected) in KILLS.items():
        checkpoint = Checkpoint.open(tmp_path / name / "killed")
        assert resumptions(checkpoint) == expected, name
        assert all(item.repeated <= EVERY for item in checkpoint.manifest.resumptions), name
        assert_equal(checkpoint, uncut)


# --- cut off in other ways --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float64", "accumulation": 2, "schedule": "cosine", "clip_norm": 0.0},
        {"steps": None, "epochs": 1.4, "dtype": "bfloat16", "validate_every": None},
        {"start": "start"},
    ],
)
def test_whatever_the_options(shards: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    if "start" in options:
        model = Llama(
            ModelConfig(
                vocab_size=61, dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=24, eos_id=0, tie_embeddings=True
            )
        )
        save_checkpoint(tmp_path / "start", model, shards)
        options = {"start": tmp_path / "start"}
    whole = biollm.train(shards, output=tmp_path / "whole", **{**OPTIONS, **options})
    cut_at(7, shards, tmp_path / "out", **options)
    assert_equal(biollm.train(shards, output=tmp_path / "out", **{**OPTIONS, **options}), whole)


def test_the_stage_goes_on_and_says_so(
    shards: Path, uncut: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "stage"
    reports: list[tuple[int, int | None]] = []
    log = logging.getLogger("biollm.run")
    inputs = (StageInput(shards, "shards", "tokenize", uncut.manifest.inputs[0]),)
    with pytest.raises(Cut), caplog.at_level(logging.DEBUG, "biollm"):
        STAGE.run(StageContext(folder, inputs, at(8, Cut()), log), TrainOptions(**OPTIONS))
    assert [record.biollm_event for record in caplog.records] == ["checkpoint"] * 2  # type: ignore[attr-defined]
    assert caplog.records[0].levelno == logging.DEBUG
    caplog.clear()
    with caplog.at_level(logging.INFO, "biollm"):
        result = STAGE.run(
            StageContext(folder, inputs, lambda *report: reports.append(report), log), TrainOptions(**OPTIONS)
        )
    assert [record.getMessage() for record in caplog.records] == ["goes on from step 6 of 14; 2 steps are repeated"]
    assert reports == [(step, STEPS) for step in range(6, STEPS + 1)]
    assert_equal(result, uncut)


def test_ctrl_c_between_steps_repeats_nothing(shards: Path, uncut: Checkpoint, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for step in (2, 5):  # the second at a step with a validation
        with pytest.raises(KeyboardInterrupt):
            biollm.train(shards, output=output, progress=at(step, KeyboardInterrupt()), **OPTIONS)
    assert kept(output) == ["step-00000003", "step-00000005"]
    checkpoint = biollm.train(shards, output=output, **OPTIONS)
    assert resumptions(checkpoint) == [(2, 2), (5, 5)]
    assert_equal(checkpoint, uncut)


@pytest.mark.parametrize(
    ("module", "function", "expected"),
    [(engines, "summed_loss", 7), (engines, "clip_gradients", 6), (loop, "validate", 10)],
)
def test_ctrl_c_within_a_step_keeps_what_is_whole(
    shards: Path,
    uncut: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    function: str,
    expected: int,
) -> None:
    """While the gradient is computed the weights are those of the step before; while they change they are of none."""
    whole, calls = getattr(module, function), 0
    fatal = 2 if function == "validate" else 8  # the second validation is that of step 10

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(module, function, interrupted)
    options = {**OPTIONS, "validate_every": 5 if function == "validate" else STEPS}
    with pytest.raises(KeyboardInterrupt):
        biollm.train(shards, output=tmp_path / "out", **options)
    monkeypatch.undo()
    assert kept(tmp_path / "out")[-1] == f"step-{expected:08}"
    checkpoint = biollm.train(shards, output=tmp_path / "out", **options)
    assert checkpoint.manifest.outputs["model.safetensors"] == uncut.manifest.outputs["model.safetensors"]
    assert [step for step, _ in zip(*_validation(checkpoint), strict=True)] == ([5, 10, 14] if fatal == 2 else [14])


def _validation(checkpoint: Checkpoint) -> tuple[Any, Any]:
    (series,) = [series for series in checkpoint.summary().series if series.name == "validation"]
    return series.x, series.y


# --- what is there is not trusted -------------------------------------------------------------------------------------


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (["step-00000006/model.safetensors"], 3),
        (["step-00000006/state/history.safetensors"], 3),
        (["step-00000006/tokenizer_config.json"], 3),
        ([f"step-00000006/{COMMIT}"], 3),
        (["step-00000003/config.json"], 6),
        (["step-00000006/state/rng.safetensors", "step-00000003/state/optimizer.safetensors"], 0),
    ],
)
def test_a_damaged_checkpoint_is_not_used(
    shards: Path,
    uncut: Checkpoint,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damaged: list[str],
    expected: int,
) -> None:
    cut_at(8, shards, tmp_path / "out")
    assert kept(tmp_path / "out") == ["step-00000003", "step-00000006"]
    for name in damaged:
        damage(tmp_path / "out" / ".partial" / name)
    checkpoint = biollm.train(shards, output=tmp_path / "out", **OPTIONS)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(damaged)
    assert all(Path(name).parts[0] in warning for name, warning in zip(sorted(damaged), warnings, strict=True))
    assert resumptions(checkpoint) == [(expected, 8)]
    assert_equal(checkpoint, uncut)


def test_other_options_or_shards_start_anew(  # type: ignore[no-untyped-def]
    shards: Path, make_shards, documents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_shards(documents[1:70], documents[70:], name="other")
    output = tmp_path / "out"
    for source, changed in ((shards, {"seed": 1}), (shards, {"steps": STEPS + 1}), (other, {})):
        cut_at(4, shards, output)
        assert kept(output) == ["step-00000003"]
        checkpoint = biollm.train(source, output=output, **{**OPTIONS, **changed})
        assert checkpoint.manifest.resumptions == ()
        (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "its checkpoints are removed" in warning
        caplog.clear()
        assert not (output / ".partial").exists()


def test_what_does_not_change_the_output_does_not_matter(
    shards: Path, uncut: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut_at(4, shards, tmp_path / "out")
    checkpoint = biollm.train(shards, output=tmp_path / "out", **{**OPTIONS, "checkpoint_every": None})
    assert resumptions(checkpoint) == [(3, 4)]
    assert_equal(checkpoint, uncut)
    cut_at(4, shards, tmp_path / "out")
    checkpoint = biollm.train(shards, output=tmp_path / "out", **{**OPTIONS, "threads": 2})
    assert resumptions(checkpoint) == [(3, 4)]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "threads 1 and goes on with" in warning
    assert "threads 2: its weights" in warning


def test_the_key_is_of_all_that_the_bytes_depend_on(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(options: dict[str, Any], folders: list[Path], dtype: str = "float32") -> str | None:
        return sources.work_key_of(TrainOptions(**options), folders, resolve("cpu", dtype))

    base = key(OPTIONS, [shards])
    assert base == key({**OPTIONS, "threads": 7, "checkpoint_every": 9}, [shards])
    keys = [base, key({**OPTIONS, "deterministic": False}, [shards]), key(OPTIONS, [shards], "bfloat16")]
    save_checkpoint(
        tmp_path / "start", Llama(ModelConfig(vocab_size=61, dim=8, n_layers=1, n_heads=1, n_kv_heads=1, ffn_dim=8))
    )
    keys.append(key(OPTIONS, [shards, tmp_path / "start"]))
    time.sleep(0.01)  # a tick of the file system's clock
    damage(tmp_path / "start" / "model.safetensors")
    keys.append(key(OPTIONS, [shards, tmp_path / "start"]))
    monkeypatch.setattr(torch, "__version__", "1.0")
    keys.append(key(OPTIONS, [shards]))
    assert None not in keys
    assert len(set(keys)) == len(keys)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "state/optimizer.safetensors", COMMIT])
def test_a_full_disk_costs_only_the_checkpoint_at_hand(
    shards: Path, uncut: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    publish = atomic._native.publish

    def full(path: Any, target: Any) -> str:
        if str(target).endswith(f"step-00000009/{file}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return publish(path, target)

    monkeypatch.setattr(atomic._native, "publish", full)
    with pytest.raises(FileError) as caught:
        biollm.train(shards, output=tmp_path / "out", **OPTIONS)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.path == str(tmp_path / "out" / ".partial" / "step-00000009" / file)
    assert kept(tmp_path / "out") == ["step-00000006"]
    monkeypatch.undo()
    checkpoint = biollm.train(shards, output=tmp_path / "out", **OPTIONS)
    assert resumptions(checkpoint) == [(6, 9)]
    assert_equal(checkpoint, uncut)


@pytest.mark.parametrize(("step", "good"), [(8, "step-00000006"), (6, "step-00000003"), (3, None)])
def test_divergence_names_a_checkpoint_that_is_good(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, good: str | None
) -> None:
    """Of the weights that a step's loss is not finite with, no checkpoint is good."""
    accumulate, calls = loop.accumulate_gradients, 0

    def diverging(*arguments: Any, **named: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return accumulate(*arguments, **named) * (torch.nan if calls == step + 1 else 1.0)

    monkeypatch.setattr(loop, "accumulate_gradients", diverging)
    with pytest.raises(ConfigError, match=f"at step {step} the loss is nan .* lower lr") as caught:
        biollm.train(shards, output=tmp_path / "out", **OPTIONS)
    monkeypatch.undo()
    if good is None:
        assert "checkpoint" not in str(caught.value)
        return
    folder = tmp_path / "out" / ".partial" / good
    assert f"start={str(folder)!r}" in str(caught.value)
    assert biollm.LLM(folder).generate([[5, 6]], max_tokens=2)
    onward = biollm.train(shards, start=folder, output=tmp_path / "onward", **{**OPTIONS, "steps": 1})
    assert onward.summary().facts["steps"] == 1


def test_a_finished_checkpoint_is_emptied_and_the_work_in_progress_is_not(
    shards: Path, uncut: Checkpoint, tmp_path: Path
) -> None:
    uncut.write(tmp_path / "out")
    cut_at(4, shards, tmp_path / "out")
    assert kept(tmp_path / "out") == ["step-00000003"]
    checkpoint = biollm.train(shards, output=tmp_path / "out", **OPTIONS)
    assert resumptions(checkpoint) == [(3, 4)]
    assert_equal(checkpoint, uncut)


# --- the parts --------------------------------------------------------------------------------------------------------


def test_history_is_kept_exactly(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    empty, full = History(), History(train_tokens=2**53 + 1, train_s=0.1)
    full.train_loss, full.learning_rate, full.gradient_norm = [0.1, 1e-310], [1 / 3, 3e-3], [1e300, 2.0]
    full.validation = [(1, 2.5), (2, 1 / 7)]
    for history in (empty, full):
        write_history(tmp_path, history)
        assert asdict(read_history(tmp_path)) == asdict(history)
    write_history(tmp_path, History(validation=[(1, torch.nan)]))  # of validation documents of one token
    assert str(read_history(tmp_path).validation) == "[(1, nan)]"


def test_by_time_saving_is_rare_and_never_too_rare(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps of 4 s; a checkpoint takes 0, then 1, then 100 s: the next is due after 15, 50 and 600 s."""
    now = 0.0
    costs = iter([1.0, 100.0, 0.0])
    write = resume.Trainee.write

    def slow(self: resume.Trainee, folder: Path, steps: int, **options: Any) -> dict[str, str]:
        nonlocal now
        now += next(costs, 0.0)
        return write(self, folder, steps, **options)

    def tick(done: int, total: int | None) -> None:
        nonlocal now
        now += 4.0

    monkeypatch.setattr(resume.time, "monotonic", lambda: now)
    monkeypatch.setattr(resume.Trainee, "write", slow)
    options = {**OPTIONS, "checkpoint_every": None, "steps": 175, "batch_size": 1, "seq_len": 4, "validate_every": 175}
    with caplog.at_level(logging.DEBUG, "biollm"):
        biollm.train(shards, output=tmp_path / "out", progress=tick, **options)
    steps = [record.biollm_fields["step"] for record in caplog.records]  # type: ignore[attr-defined]
    assert steps == [5, 18, 168, 172]


def test_deterministic_algorithms_are_used_on_the_cpu_and_put_back(shards: Path, tmp_path: Path) -> None:
    seen = []

    def look(*_: object) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    for deterministic in (None, True, False):
        biollm.train(
            shards,
            output=tmp_path / "out",
            progress=look,
            **{**OPTIONS, "steps": 1, "deterministic": deterministic},
        )
        assert not torch.are_deterministic_algorithms_enabled()
    assert seen == [True, True, False]
    with pytest.raises(TypeError, match="deterministic"):
        TrainOptions(deterministic="yes")  # type: ignore[arg-type]


def test_weights_are_loaded_into_the_tensors_that_are_there(shards: Path, tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=61, dim=8, n_layers=1, n_heads=1, n_kv_heads=1, ffn_dim=8)
    model, other = Llama(config), Llama(config)
    save_checkpoint(tmp_path, model)
    places = [parameter.data_ptr() for parameter in other.parameters()]
    load_weights(tmp_path, other)
    assert [parameter.data_ptr() for parameter in other.parameters()] == places
    assert all(parameter.requires_grad for parameter in other.parameters())
    stored = load_checkpoint(tmp_path).state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in other.state_dict().items())
    wider = Llama(ModelConfig(vocab_size=61, dim=16, n_layers=1, n_heads=1, n_kv_heads=1, ffn_dim=8))
    with pytest.raises(FormatError, match="has shape"):
        load_weights(tmp_path, wider)
