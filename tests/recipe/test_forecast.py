"""What a run would do: told without doing it. Estimates are held by how they grow, not by what they are."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biollm.errors import ConfigError, InputError
from biollm.manifest import Manifest, Resumption
from biollm.recipe import DryRun, dry_run, run
from biollm.recipe.estimate import Past, estimate, train_work
from biollm.recipe.rates import Rates, hash_rate, load_table, matmul_rate
from biollm.recipe.volumes import Volume, folder_bytes, of_files, total
from toy_stages import STAGES

RECIPE = """
[[stage]]
name = "one"
verb = "gather"
inputs = ["*.txt"]

[[stage]]
name = "two"
verb = "gather"
inputs = ["one"]

[[stage]]
name = "three"
verb = "fit"
inputs = ["two"]
steps = 8
"""
CONTROLS = {"xxh3_gb_s": 20.0, "matmul_gflops": 100.0}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "r.toml").write_text(RECIPE)
    (tmp_path / "a.txt").write_text("alpha\n")
    return tmp_path


def go(place: Path, *overrides: str, **asked: Any) -> None:
    run(place / "r.toml", output=place / "RUN", set=overrides, stages=STAGES, **asked)


def look(place: Path, *overrides: str, **asked: Any) -> DryRun:
    """A dry run, which must leave everything as it was."""
    before = _state(place)
    found = dry_run(place / "r.toml", output=place / "RUN", set=overrides, stages=STAGES, rates=Rates(), **asked)
    assert _state(place) == before
    return found


def _state(place: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in place.rglob("*")}


def actions(found: DryRun) -> list[str]:
    return [stage.action for stage in found.stages]


def reasons(found: DryRun) -> list[str]:
    return [stage.reason for stage in found.stages]


def test_before_the_first_run(place: Path) -> None:
    found = look(place)
    assert actions(found) == ["runs"] * 3
    assert reasons(found) == [
        "not finished before",
        "its input 'one' is not finished",
        "its input 'two' is not finished",
    ]
    assert found.stages[0].takes.size_bytes == 6
    assert found.wall_s is None  # nothing is known of these verbs
    assert found.disk_suffices is None
    assert found.disk_free_bytes > 0
    assert not (place / "RUN").exists()


def test_what_matches_and_what_would_run(place: Path) -> None:
    go(place)
    found = look(place)
    assert actions(found) == ["matches"] * 3
    assert (found.wall_s, found.disk_bytes, found.memory_bytes) == (0, 0, 0)
    assert found.disk_suffices is True
    found = look(place, "two.prefix=+")
    assert actions(found) == ["matches", "runs", "runs"]
    assert reasons(found)[1:] == ['options changed: prefix "" → "+"', "unless 'two' comes out as it was"]
    walls = [Manifest.read(place / "RUN" / name).wall_s for name in ("two", "three")]
    assert found.wall_s == sum(walls)
    assert found.stages[1].estimate.basis == "the time it took before"
    assert found.stages[1].estimate.gives.size_bytes == folder_bytes(place / "RUN" / "two")


def test_from_and_only(place: Path) -> None:
    go(place)
    assert actions(look(place, from_="two")) == ["matches", "runs", "runs"]
    assert actions(look(place, only="two")) == ["matches", "runs", "skipped"]
    found = look(place, "one.prefix=+", only="two")
    assert actions(found) == ["kept", "runs", "skipped"]
    assert reasons(found) == [
        'no longer matches: options changed: prefix "" → "+"',
        "asked for by --only",
        "--only leaves it out",
    ]
    with pytest.raises(ConfigError, match="no such stage"):
        look(place, only="twoo")


def test_unfinished_work_is_seen(place: Path) -> None:
    with pytest.raises(InputError):
        go(place, "three.fail_at=5")
    found = look(place)
    assert actions(found) == ["matches", "matches", "goes on"]
    assert found.stages[2].reached == 5
    assert found.stages[2].reason == "not finished before; it was cut off"
    assert actions(look(place, "three.mode=slow"))[2] == "runs"
    assert actions(look(place, "two.prefix=+"))[2] == "runs"


def test_files_of_others_are_seen(place: Path) -> None:
    go(place)
    (place / "RUN" / "two" / "notes.txt").write_text("mine")
    found = look(place, "two.prefix=+")
    assert actions(found) == ["matches", "refused", "matches"]
    assert "notes.txt" in reasons(found)[1]


def test_a_plan_is_plain_json(place: Path) -> None:
    go(place)
    value = json.loads(json.dumps(look(place, "three.steps=2").to_dict()))
    assert [stage["action"] for stage in value["stages"]] == ["matches", "matches", "runs"]
    assert value["total"]["disk_suffices"] is True
    assert set(value["stages"][0]) >= {"input", "output", "wall_s", "memory_bytes", "basis", "reason"}


TRAIN = {
    "size": "tiny",
    "steps": 100,
    "epochs": None,
    "seq_len": 256,
    "batch_size": 8,
    "accumulation": 1,
    "validate_every": None,
    "dtype": "auto",
}
SHARDS = Volume(train_tokens=1e7, validation_tokens=1e5, vocab_size=4096)


def guess(verb: str, options: dict[str, Any], came: Volume, past: Past | None = None, **controls: float) -> Any:
    return estimate(verb, options, [came], past, Rates(controls={**CONTROLS, **controls}))


def test_data_verbs_grow_with_their_text() -> None:
    for verb, options in (
        ("read", {}),
        ("dedup", {"num_perm": 256}),
        ("select", {}),
        ("tokenize", {"vocab_size": 4096, "validation_fraction": 0.02}),
    ):
        small, large = (
            guess(verb, options, Volume(size_bytes=text / 3, text_bytes=text, documents=text / 1500))
            for text in (1e9, 1e10)
        )
        assert 8 < large.wall_s / small.wall_s < 10.5, verb
        assert large.gives.size_bytes == pytest.approx(10 * small.gives.size_bytes, rel=0.05), verb
        assert small.memory_bytes < large.memory_bytes < 10 * small.memory_bytes, verb
        fast = guess(verb, options, Volume(text_bytes=1e9, documents=1e6), xxh3_gb_s=40.0)
        slow = guess(verb, options, Volume(text_bytes=1e9, documents=1e6), xxh3_gb_s=10.0)
        assert slow.wall_s == pytest.approx(4 * fast.wall_s)
        assert guess(verb, options, Volume()).wall_s is None


def test_training_grows_with_steps_model_and_batch() -> None:
    base = guess("train", TRAIN, SHARDS)
    longer = guess("train", TRAIN | {"steps": 1000}, SHARDS)
    assert 5 < longer.wall_s / base.wall_s < 10
    assert longer.memory_bytes == base.memory_bytes
    sizes = ("tiny", "small", "15M", "60M", "125M")
    larger = [guess("train", TRAIN | {"size": size}, SHARDS) for size in sizes]
    for quantity in ("wall_s", "memory_bytes"):
        values = [getattr(one, quantity) for one in larger]
        assert values == sorted(values)
    assert larger[-1].gives.parameters == pytest.approx(8e7, rel=0.3)
    assert larger[-1].gives.size_bytes == pytest.approx(12 * larger[-1].gives.parameters, rel=0.05)
    wide = guess("train", TRAIN | {"batch_size": 64}, SHARDS)
    split = guess("train", TRAIN | {"batch_size": 64, "accumulation": 8}, SHARDS)
    assert wide.memory_bytes > 2 * split.memory_bytes > base.memory_bytes
    assert wide.wall_s == pytest.approx(split.wall_s, rel=0.5)
    faster = guess("train", TRAIN, SHARDS, matmul_gflops=200.0)
    assert base.wall_s == pytest.approx(2 * faster.wall_s)
    assert guess("train", TRAIN, Volume()).wall_s is None


def test_rows_are_taken_for_tokens_by_their_bytes() -> None:
    rows = Volume(text_bytes=4e7, documents=1e4, vocab_size=4096, parameters=1_836_160)
    options = TRAIN | {"steps": None, "epochs": 2.0, "objective": "instruct", "validation_fraction": 0.25}
    work = train_work(options, rows)
    assert work is not None
    assert work.steps * work.step_tokens == pytest.approx(2 * 0.75e7, rel=0.01)
    assert guess("train", options, rows).wall_s is not None
    assert guess("train", options, rows).memory_bytes is not None
    assert guess("train", TRAIN, rows).wall_s is None


def test_the_work_of_training_is_counted() -> None:
    work = train_work(TRAIN | {"validate_every": 1000}, replace(SHARDS, validation_tokens=None))
    assert work is not None
    # tiny: 1,836,160 parameters, 524,288 of them the table of embeddings; attention is 12 x 4 layers x 128 x 256.
    token_flops = 6 * (1_836_160 - 4096 * 128) + 12 * 4 * 128 * 256
    assert work.parameters == 1_836_160
    assert work.flops == token_flops * 100 * 8 * 256
    epochs = train_work(TRAIN | {"steps": None, "epochs": 2.0}, SHARDS)
    assert epochs is not None
    assert epochs.steps == -(-2 * 10**7 // 2048)


def test_generation_grows_with_prompts_and_tokens() -> None:
    options = {"max_tokens": 100, "prompts": ["a"]}
    base = guess("generate", options, Volume(parameters=1e8))
    assert guess("generate", options | {"max_tokens": 1000}, Volume(parameters=1e8)).wall_s > 3 * base.wall_s
    many = guess("generate", {"max_tokens": 100}, Volume(parameters=1e8, documents=1000))
    assert base.wall_s < many.wall_s < 1000 * base.wall_s
    assert many.gives.documents == 1000


def test_evaluation_grows_with_text_shots_and_rationales() -> None:
    options: dict[str, Any] = {"shots": [0], "chain_of_thought": False, "rationale_tokens": 100}
    questions = Volume(parameters=1e8, documents=1000, text_bytes=1e6)
    base = guess("evaluate", options, questions)
    few = guess("evaluate", options | {"shots": [0, 5]}, questions)
    assert 4 * base.wall_s < few.wall_s < 8 * base.wall_s
    assert guess("evaluate", options | {"chain_of_thought": True}, questions).wall_s > 2 * base.wall_s
    limited = guess("evaluate", options | {"max_items": 50, "max_documents": 50}, questions)
    assert limited.wall_s < 0.2 * base.wall_s
    # Of shards only the validation split is read, though all their text came in.
    shards = Volume(parameters=1e8, documents=1e5, text_bytes=4e8, train_tokens=1e8, validation_tokens=1e5)
    assert guess("evaluate", options, shards).wall_s < base.wall_s
    assert guess("evaluate", options, Volume(text_bytes=1e6)).wall_s is None


def test_alignment_grows_with_steps_and_samples() -> None:
    dpo = {"method": "dpo", "samples": 256, "max_tokens": 64}
    ppo = {"method": "ppo", "reward": "model", "reward_epochs": 1.0, "epochs": 2, "samples": 256, "max_tokens": 64}
    model = Volume(parameters=1e8, documents=5000, vocab_size=4096)
    for options in (dpo, ppo):
        base = guess("align", options, model)
        assert guess("align", options | {"steps": 1000}, model).wall_s > 5 * base.wall_s
        assert guess("align", options | {"samples": 2560}, model).wall_s > base.wall_s
        assert base.gives.parameters == 1e8
        assert base.memory_bytes > 8 * 4e8
        assert guess("align", options, Volume()).wall_s is None
    assert guess("align", ppo | {"reward": "rule"}, model).wall_s < guess("align", ppo, model).wall_s


def test_an_earlier_run_says_more_than_the_table() -> None:
    counts = {
        "documents_in": 1000,
        "documents_kept": 400,
        "text_bytes_in": 2_000_000,
        "text_bytes_kept": 800_000,
    }
    manifest = Manifest("dedup", "documents", 1, {"num_perm": 256}, (), counts, wall_s=7.0)
    came = Volume(documents=1000, text_bytes=2_000_000)
    found = guess("dedup", {"num_perm": 256}, came, Past(manifest, 200_000))
    assert found.wall_s == pytest.approx(7.0)
    assert found.gives.size_bytes == pytest.approx(200_000)
    assert found.gives.documents == pytest.approx(400)
    assert found.basis == "the time it took before"
    larger = guess("dedup", {"num_perm": 256}, Volume(documents=10_000, text_bytes=2e7), Past(manifest, 200_000))
    assert 7.0 < larger.wall_s < 70.0
    assert larger.gives.documents == pytest.approx(4000)
    cheaper = guess("dedup", {"num_perm": 64}, came, Past(manifest, 200_000, own=False))
    assert cheaper.wall_s < found.wall_s
    assert cheaper.basis == "the time another dedup took here"
    # A run that was cut off knows the time of its last part alone.
    cut = replace(manifest, resumptions=(Resumption("documents", 900, 950),))
    assert "Zen" in guess("dedup", {"num_perm": 256}, came, Past(cut, 200_000)).basis


def test_training_after_training_takes_as_long_again() -> None:
    options = TRAIN | {"validate_every": 50}
    counts = {"parameters": 1_836_160, "steps": 100, "train_tokens": 204_800, "validation_tokens": 100_000}
    manifest = Manifest("train", "checkpoint", 1, options, (), counts, wall_s=30.0)
    assert guess("train", options, SHARDS, Past(manifest, 2e7)).wall_s == pytest.approx(30.0)
    assert 30 < guess("train", options | {"steps": 300}, SHARDS, Past(manifest, 2e7)).wall_s < 90


def test_files_are_measured(tmp_path: Path) -> None:
    shares = load_table()["files"]
    text = b"".join(b'{"text": "%d words of no meaning"}\n' % number for number in range(200_000))
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text, 6))
    (tmp_path / "c.xml.gz").write_bytes(gzip.compress(text, 6))
    plain, packed, xml = (of_files([tmp_path / name], shares) for name in ("a.jsonl", "b.jsonl.gz", "c.xml.gz"))
    assert plain.text_bytes == pytest.approx(0.95 * len(text))
    assert packed.size_bytes is not None
    assert packed.size_bytes < len(text) / 3
    assert packed.text_bytes == pytest.approx(plain.text_bytes, rel=0.1)
    assert xml.xml_bytes == pytest.approx(len(text), rel=0.1)
    (tmp_path / "torn.jsonl.gz").write_bytes(b"no gzip")
    assert of_files([tmp_path / "torn.jsonl.gz"], shares).text_bytes == pytest.approx(7 * 0.95 * shares["compressed"])
    assert of_files(["https://example.org/x.jsonl"], shares) == Volume()
    both = total([plain, packed])
    assert both.size_bytes == plain.size_bytes + packed.size_bytes  # type: ignore[operator]
    assert total([plain, Volume()]).size_bytes is None


def test_the_controls_measure_something() -> None:
    assert hash_rate() > 0.1
    if (rate := matmul_rate()) is not None:
        assert rate > 0.1
    rates = Rates(controls={"xxh3_gb_s": load_table()["machine"]["xxh3_gb_s"], "matmul_gflops": None})
    assert rates.data_factor == 1
    assert rates.training_factor == 1


def test_quantizing_grows_with_model_and_documents_and_shrinks_what_it_leaves() -> None:
    options = {"bits": 4, "calibration_documents": 256, "evaluation_documents": 256}
    came = Volume(size_bytes=4e8, parameters=1e8, vocab_size=4096)
    base = guess("quantize", options, came)
    assert guess("quantize", options | {"calibration_documents": 2560}, came).wall_s > 3 * base.wall_s
    larger = guess("quantize", options, replace(came, parameters=1e9))
    assert larger.wall_s > 5 * base.wall_s
    assert larger.memory_bytes > base.memory_bytes
    eight = guess("quantize", options | {"bits": 8}, came)
    assert base.gives.size_bytes < eight.gives.size_bytes < came.size_bytes
    assert base.gives.parameters == 1e8
    manifest = Manifest("quantize", "checkpoint", 1, options, (), {"parameters": 10**8}, wall_s=12.0)
    assert guess("quantize", options, came, Past(manifest, 2e8)).wall_s == pytest.approx(12.0)
    assert guess("quantize", options, Volume()).wall_s is None
