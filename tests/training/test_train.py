"""The verb from shards to folder."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import biollm
from biollm.errors import BiollmError, ConfigError, FileError, FormatError, InputError, LimitError
from biollm.manifest import InputRecord, Manifest
from biollm.models import Llama, ModelConfig, load_checkpoint, save_checkpoint
from biollm.stages import StageContext, StageInput
from biollm.tokenization.shard_writer import ShardWriter
from biollm.tokenization.shards import Shards
from biollm.training import Checkpoint, TrainOptions, load_state, resume
from biollm.training.optimizer import make_optimizer
from biollm.training.stage import STAGE
from shared_data import shared_records

FAST = {"size": "tiny", "seq_len": 32, "batch_size": 4, "threads": 1}


@pytest.fixture
def shards(make_shards, documents) -> Path:  # type: ignore[no-untyped-def]
    return make_shards(documents[:70], documents[70:])


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.path / "model.safetensors")


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_folder_is_complete_and_says_what_happened(shards: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int | None]] = []
    checkpoint = biollm.train(
        shards, output=tmp_path / "out", epochs=2, progress=lambda *report: reports.append(report), **FAST
    )
    files = {str(path.relative_to(checkpoint.path)) for path in checkpoint.path.rglob("*") if path.is_file()}
    hf = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    state = {"state/optimizer.safetensors", "state/rng.safetensors", "state/state.json"}
    assert files == hf | state | {"summary.json", "manifest.json"}
    assert set(checkpoint.manifest.outputs) == hf | state

    total = Shards.open(shards).splits["train"][0].num_tokens
    steps = math.ceil(2 * total / (4 * 32))
    facts = checkpoint.summary().facts
    assert facts["steps"] == steps
    assert facts["tokens_trained_on"] == 2 * total
    assert facts["epochs"] == 2.0
    assert facts["parameters"] == load_checkpoint(checkpoint.path).config.num_parameters
    assert facts["nats_below_unigram"] == facts["unigram_entropy_nats"] - facts["validation_loss_nats"]
    # The fixture's documents have 4 bytes a token.
    assert facts["validation_bits_per_byte"] == pytest.approx(facts["validation_loss_nats"] / math.log(2) / 4)
    assert reports == [(step, steps) for step in range(1, steps + 1)]
    curves = {series.name or series.title: series for series in checkpoint.summary().series}
    assert set(curves) == {"train", "validation", "unigram entropy", "interpolated bigram", "Learning rate"}
    assert curves["validation"].y[-1] == facts["validation_loss_nats"]
    assert curves["train"].x[-1] == curves["validation"].x[-1] == steps

    config = json.loads((checkpoint.path / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"], config["max_position_embeddings"]) == (0, 1, 32)
    manifest = Manifest.read(checkpoint.path)
    assert (manifest.verb, manifest.kind) == ("train", "checkpoint")
    assert "threads" not in manifest.options
    assert manifest.options["epochs"] == 2
    assert Checkpoint.open(checkpoint.path) == checkpoint


def test_transformers_loads_the_folder_with_equal_logits(shards: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = biollm.train(shards, output=tmp_path / "out", steps=5, **FAST)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.path).eval()
    ours = load_checkpoint(checkpoint.path)
    tokens = torch.randint(0, 61, (3, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)


def test_one_seed_gives_the_same_bytes_and_another_gives_others(shards: Path, tmp_path: Path) -> None:
    runs = [
        biollm.train(shards, output=tmp_path / str(i), steps=6, seed=seed, **FAST) for i, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest() for run in runs)
    assert first == again
    assert first != other
    assert runs[0].manifest.hash == runs[1].manifest.hash
    assert runs[0].manifest.outputs == runs[1].manifest.outputs


def test_the_callers_random_numbers_and_threads_are_left_alone(shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    biollm.train(shards, output=tmp_path / "out", steps=1, **{**FAST, "threads": 2})
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1


def test_accumulation_changes_nothing_in_float64(make_shards, documents, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(3)
    masks = [(generator.random(len(document)) < 0.6).astype(np.uint8) for document in documents]
    folder = make_shards(documents, masks=masks, shard_tokens=700)
    assert len(Shards.open(folder).splits["train"]) > 1
    runs = [
        biollm.train(folder, output=tmp_path / str(n), steps=8, accumulation=n, dtype="float64", **FAST) for n in (1, 4)
    ]
    for name, tensor in weights(runs[0]).items():
        assert tensor.dtype is torch.float64
        torch.testing.assert_close(tensor, weights(runs[1])[name], rtol=0, atol=1e-12)
    assert runs[0].summary().facts["train_loss_nats"] == pytest.approx(
        runs[1].summary().facts["train_loss_nats"], abs=1e-12
    )


def test_without_validation_tokens_nothing_is_claimed(make_shards, documents, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    summary = biollm.train(make_shards(documents), output=tmp_path / "out", steps=2, **FAST).summary()
    assert "validation_loss_nats" not in summary.facts
    assert {series.name or series.title for series in summary.series} == {"train", "Learning rate"}


def test_several_folders_are_trained_on_together(make_shards, documents, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    parts = [make_shards(documents[:30], documents[60:], name="a"), make_shards(documents[30:60], name="b")]
    checkpoint = biollm.train([parts[0], Shards.open(parts[1])], output=tmp_path / "out", epochs=1, **FAST)
    total = sum(len(document) for document in documents[:60])
    assert checkpoint.summary().facts["tokens_trained_on"] == total
    assert [Path(record.name).parent.name for record in checkpoint.manifest.inputs] == ["a", "b"]


# --- going on ---------------------------------------------------------------------------------------------------------


def test_training_goes_on_from_a_checkpoint(shards: Path, tmp_path: Path) -> None:
    first = biollm.train(shards, output=tmp_path / "first", steps=20, **FAST)
    second = biollm.train(shards, start=first.path, output=tmp_path / "second", steps=10, **FAST)
    assert second.summary().facts["validation_loss_nats"] < first.summary().facts["validation_loss_nats"]
    # A tenth of the rate of a new model, where none is given.
    assert second.summary().facts["learning_rate_peak"] == pytest.approx(3e-4)
    assert [record.kind for record in second.manifest.inputs] == ["file", "stage"]
    assert second.manifest.inputs[1].xxh3_128 == first.manifest.hash


def test_the_state_loads_and_the_next_step_is_the_same(shards: Path, tmp_path: Path) -> None:
    """Loading weights and state, then a step, equals that step taken at once from the objects in memory."""
    checkpoint = biollm.train(shards, output=tmp_path / "out", steps=4, **FAST)
    results = []
    state = None
    for _ in range(2):
        model = load_checkpoint(checkpoint.path)
        optimizer = make_optimizer(model, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
        state = load_state(checkpoint.path, model, optimizer)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.01)
        optimizer.step()
        results.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert state is not None
    assert (state.step, state.position) == (4, 4 * 4 * 32)
    assert TrainOptions(**state.options).steps == 4
    torch.set_rng_state(state.rng["cpu"])
    moments = load_file(checkpoint.path / "state" / "optimizer.safetensors")
    name = "model.norm.weight"
    before = weights(checkpoint)[name]
    # AdamW's fifth step on this vector, by hand.
    mean = 0.9 * moments[f"{name}.exp_avg"] + 0.1 * 0.01
    square = 0.95 * moments[f"{name}.exp_avg_sq"] + 0.05 * 0.01**2
    update = mean / (1 - 0.9**5) / ((square / (1 - 0.95**5)).sqrt() + 1e-8)
    torch.testing.assert_close(results[0][name], before - 1e-3 * update)
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_a_state_that_does_not_fit_is_refused(shards: Path, tmp_path: Path) -> None:
    checkpoint = biollm.train(shards, output=tmp_path / "out", steps=1, **FAST)
    other = Llama(ModelConfig(vocab_size=61, dim=16, n_layers=4, n_heads=2, n_kv_heads=2, ffn_dim=24))
    optimizer = make_optimizer(other, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    with pytest.raises(FormatError, match="has shape"):
        load_state(checkpoint.path, other, optimizer)
    shallow = Llama(ModelConfig(vocab_size=61, dim=128, n_layers=1, n_heads=4, n_kv_heads=2, ffn_dim=384))
    with pytest.raises(FormatError, match="of no parameter"):
        load_state(checkpoint.path, shallow, make_optimizer(shallow, lr=1, weight_decay=0, betas=(0, 0), eps=1))
    model = load_checkpoint(checkpoint.path)
    file = checkpoint.path / "state" / "state.json"
    for broken in (b"{", b"[]", b'{"format": "biollm-training-state", "version": 2}'):
        file.write_bytes(broken)
        with pytest.raises(FormatError):
            load_state(checkpoint.path, model, optimizer)
    file.unlink()
    with pytest.raises(FileError, match="no training state"):
        load_state(checkpoint.path, model, optimizer)


def test_a_checkpoint_is_copied_whole(shards: Path, tmp_path: Path) -> None:
    checkpoint = biollm.train(shards, output=tmp_path / "out", steps=1, **FAST)
    checkpoint.write(tmp_path / "copy")
    copy = Checkpoint.open(tmp_path / "copy")
    assert copy.manifest == checkpoint.manifest
    assert copy.summary() == checkpoint.summary()
    for name in checkpoint.manifest.outputs:
        assert (copy.path / name).read_bytes() == (checkpoint.path / name).read_bytes()
    checkpoint.write(checkpoint.path)
    with pytest.raises(FormatError, match="not a checkpoint"):
        Manifest(verb="x", kind="shards", algorithm_version=1).write(tmp_path)
        Checkpoint.open(tmp_path)


# --- a stage ----------------------------------------------------------------------------------------------------------


def test_the_stage_writes_what_the_function_writes(shards: Path, tmp_path: Path) -> None:
    options = TrainOptions(steps=3, **FAST)
    record = InputRecord("tokenize", "stage", "0" * 32)
    folder = tmp_path / "stage"
    folder.mkdir()
    context = StageContext(folder, (StageInput(shards, "shards", "tokenize", record),), None, logging.getLogger())
    result = STAGE.run(context, options)
    assert result.manifest.inputs == (record,)
    assert (STAGE.verb, STAGE.gives, STAGE.options) == ("train", "checkpoint", TrainOptions)
    called = biollm.train(shards, output=tmp_path / "called", steps=3, **FAST)
    assert called.manifest.outputs == result.manifest.outputs
    assert called.manifest.options == result.manifest.options


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_interrupt_leaves_no_folder_that_looks_complete(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def interrupt(done: int, total: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        biollm.train(shards, output=output, steps=5, progress=interrupt, **FAST)
    assert [path.name for path in output.iterdir()] == [".partial"]
    biollm.train(shards, output=output, steps=2, **FAST)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(resume, "save_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        biollm.train(shards, output=output, steps=2, **FAST)
    with pytest.raises(FileError):
        Checkpoint.open(output)
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]
    load_file(output / "model.safetensors")
    monkeypatch.undo()
    biollm.train(shards, output=output, steps=2, **FAST)  # what was left does not stand in the way
    assert Checkpoint.open(output).summary().facts["steps"] == 2


def test_a_folder_of_something_else_is_not_written_into(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        biollm.train(shards, output=tmp_path / "notes", steps=1, **FAST)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        biollm.train(shards, output=tmp_path / "file", steps=1, **FAST)
    checkpoint = biollm.train(shards, output=tmp_path / "out", steps=1, **FAST)
    with pytest.raises(InputError, match=r"thesis\.tex"):
        checkpoint.write(tmp_path / "notes")


def test_a_full_disk_is_a_file_error_and_leaves_no_torn_file(shards: Path, tmp_path: Path) -> None:
    code = f"""
import resource, signal, biollm
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    biollm.train({str(shards)!r}, output={str(tmp_path / "out")!r}, steps=1, **{FAST!r})
except biollm.FileError as error:
    print(error.errno, error.path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EFBIG), str(tmp_path / "out" / "model.safetensors")]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".partial"]
    assert not list((tmp_path / "out" / ".partial").glob("step-*"))


@pytest.fixture
def bad_inputs(make_shards, documents, tmp_path: Path) -> dict[str, object]:  # type: ignore[no-untyped-def]
    good = make_shards(documents[:20], documents[20:24], name="good")
    model = Llama(
        ModelConfig(vocab_size=61, dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=24, eos_id=0, max_seq_len=16)
    )
    save_checkpoint(tmp_path / "short", model, good)
    narrow = Llama(ModelConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, n_kv_heads=2, ffn_dim=24, eos_id=0))
    save_checkpoint(tmp_path / "narrow", narrow, good)
    return {
        "good": good,
        "empty": make_shards([], documents[:3], name="empty"),
        "lone": make_shards([[3], [4]], name="lone"),
        "masked": make_shards(documents[:3], masks=[[0] * len(d) for d in documents[:3]], name="masked"),
        "words": make_shards(documents[:20], words="x", name="words"),
        "short": tmp_path / "short",
        "narrow": tmp_path / "narrow",
    }


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("empty", {}, InputError, "hold no tokens"),
        ("lone", {}, InputError, "nothing to predict"),
        ("masked", {}, InputError, "no train token in the loss"),
        ("missing", {}, FileError, "shards.json"),
        ("good", {"size": "8B", "dtype": "float64", "seq_len": 2**20}, LimitError, r"needs at least .* smaller size"),
        ("good", {"start": "short"}, ConfigError, r"seq_len 32 .* 16 tokens"),
        ("good", {"start": "narrow"}, InputError, "60 token ids, the shards 61"),
        ("words", {"start": "short"}, InputError, "another tokenizer"),
        ("good", {"start": "missing"}, FileError, "nor a checkpoint"),
        ("good", {"output": "good"}, InputError, "holds the source"),
        ("good", {"size": "huge"}, ConfigError, "use one of tiny, small"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    bad_inputs: dict[str, object],
    tmp_path: Path,
    source: str,
    options: dict[str, object],
    error: type[BiollmError],
    message: str,
) -> None:
    paths = {**bad_inputs, "missing": tmp_path / "missing"}
    named = {key: paths.get(str(value), value) for key, value in options.items()}
    output = named.pop("output", tmp_path / "out")
    with pytest.raises(error, match=message):
        biollm.train(paths[source], output=output, steps=1, **{**FAST, **named})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    assert not (Path(str(output)) / "model.safetensors").exists()


def test_shards_of_different_tokenizers_are_not_mixed(bad_inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different tokenizers"):
        biollm.train([bad_inputs["good"], bad_inputs["words"]], output=tmp_path / "out", steps=1, **FAST)
    with pytest.raises(InputError, match="no shards"):
        biollm.train([], output=tmp_path / "out", steps=1, **FAST)
    with pytest.raises(TypeError, match="folder of shards"):
        biollm.train(3, output=tmp_path / "out", steps=1, **FAST)  # type: ignore[arg-type]


def test_changed_shards_are_refused(bad_inputs: dict[str, Path], tmp_path: Path) -> None:
    file = bad_inputs["good"] / "train-00000.tokens"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        biollm.train(bad_inputs["good"], output=tmp_path / "out", steps=1, **FAST)


# --- real text --------------------------------------------------------------------------------------------------------


def test_real_abstracts_end_a_nat_below_the_unigram_entropy(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    texts = [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    random.Random(0).shuffle(texts)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[40:600], trainer)
    folder = tmp_path / "shards"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    sha256 = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    with ShardWriter(folder, vocab_size=1024, eos_id=0, append_eos=True, tokenizer_sha256=sha256) as writer:
        for split, part in (("train", texts[40:600]), ("validation", texts[:20])):
            ids = [[*encoding.ids, 0] for encoding in tokenizer.encode_batch(part)]
            writer.add(
                split,
                np.concatenate([np.asarray(i) for i in ids]),
                np.cumsum([0, *map(len, ids)]),
                ids=[str(i) for i in range(len(part))],
                num_bytes=[len(text.encode()) for text in part],
            )
    checkpoint = biollm.train(
        folder, output=tmp_path / "out", size="tiny", seq_len=128, batch_size=4, steps=130, threads=1
    )
    facts = checkpoint.summary().facts
    assert facts["nats_below_unigram"] >= 1.0
    assert facts["bigram_entropy_nats"] < facts["unigram_entropy_nats"]
    assert 1.0 < facts["validation_bits_per_byte"] < facts["unigram_bits_per_byte"] < 8.0
