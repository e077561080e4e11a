"""Low-rank adaptation: nothing at first, merged the same as beside, and only what should be trained is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import biollm
from base_models import CONTEXT, base_model, documents, pairs
from biollm.errors import ConfigError
from biollm.models import Llama, LlamaClassifier, load_checkpoint
from biollm.training import TrainOptions, lora

peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'biollm[lora]'")

FAST: dict[str, Any] = {"objective": "instruct", "seq_len": CONTEXT, "batch_size": 2, "steps": 8, "threads": 1}
OPTIONS = TrainOptions(objective="instruct", lora_rank=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(1))


def adapted(base: Path, *, filled: bool, dtype: torch.dtype = torch.float32) -> Llama:
    model = load_checkpoint(base, dtype=dtype)
    lora.add_adapters(model, OPTIONS)
    for name, parameter in model.named_parameters():
        if filled and "lora_B" in name:
            parameter.data.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    return model


@torch.no_grad()
def test_the_first_logits_are_those_of_the_base(base: Path, tokens: torch.Tensor) -> None:
    assert torch.equal(adapted(base, filled=False)(tokens), load_checkpoint(base)(tokens))


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_merged_equals_unmerged(base: Path, tokens: torch.Tensor, dtype: torch.dtype, atol: float) -> None:
    model = adapted(base, filled=True, dtype=dtype)
    plain = Llama(model.config).to(dtype)
    plain.load_state_dict(lora.merged_state(model.state_dict(), OPTIONS))
    before = model(tokens)
    torch.testing.assert_close(plain(tokens), before, rtol=0, atol=atol)
    assert (before - load_checkpoint(base, dtype=dtype)(tokens)).abs().max() > 0.1
    assert torch.equal(model(tokens), before)  # it was not changed by merging


def test_only_the_factors_and_a_head_are_trained(base: Path) -> None:
    model = LlamaClassifier(load_checkpoint(base).config, ["a", "b"])
    lora.add_adapters(model, OPTIONS)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if ".lora_" not in name} == {"score.weight"}
    assert len(trained) == 1 + 2 * 7 * model.config.n_layers


def test_the_base_stays_and_the_checkpoint_is_a_plain_one(base: Path, tmp_path: Path) -> None:
    targets = ["q_proj", "v_proj"]
    options = FAST | {"lora_rank": 2, "lora_targets": targets, "lora_dropout": 0.1, "lr": 1e-2}
    checkpoint = biollm.train(pairs(40), start=base, output=tmp_path / "out", save_adapter=True, **options)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, checkpoint.path))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{i}.self_attn.{name}.weight" for i in (0, 1) for name in targets}
    facts = checkpoint.summary().facts
    assert facts["parameters"] == load_checkpoint(base).config.num_parameters
    assert facts["parameters_trained"] == 2 * 2 * ((32 + 32) + (32 + 16))
    assert facts["nats_below_start"] > 0.0
    moments = load_file(checkpoint.path / "state/optimizer.safetensors")
    assert all(".lora_" in name for name in moments)
    config = json.loads((checkpoint.path / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 4.0, targets)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's call of transformers
def test_peft_reads_the_adapter_into_the_transformers_model(base: Path, tmp_path: Path, tokens: torch.Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    options = FAST | {"lora_rank": 4, "lr": 1e-2}
    checkpoint = biollm.train(pairs(40), start=base, output=tmp_path / "out", save_adapter=True, **options)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(theirs, checkpoint.path / "adapter").eval()
    with torch.no_grad():
        ours = load_checkpoint(checkpoint.path)(tokens)
        torch.testing.assert_close(theirs(tokens).logits, ours, rtol=0, atol=1e-5)


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    class Cut(Exception):  # noqa: N818
        pass

    def cut(done: int, total: int | None) -> None:
        if done == 5:
            raise Cut

    options = FAST | {"lora_rank": 2, "lora_dropout": 0.2, "checkpoint_every": 3, "save_adapter": True}
    uncut = biollm.train(pairs(40), start=base, output=tmp_path / "uncut", **options)
    with pytest.raises(Cut):
        biollm.train(pairs(40), start=base, output=tmp_path / "cut", progress=cut, **options)
    checkpoint = biollm.train(pairs(40), start=base, output=tmp_path / "cut", **options)
    assert [(item.kept, item.done) for item in checkpoint.manifest.resumptions] == [(3, 5)]
    assert checkpoint.manifest.outputs == uncut.manifest.outputs


def test_lora_of_a_classifier(base: Path, tmp_path: Path) -> None:
    options = FAST | {"objective": "classify", "lora_rank": 4, "lr": 1e-2, "steps": 30, "validation_fraction": 0.3}
    checkpoint = biollm.train(documents(60), start=base, output=tmp_path / "out", **options)
    facts = checkpoint.summary().facts
    assert facts["accuracy"] > facts["majority_accuracy"] + 0.3
    before, after = (load_file(folder / "model.safetensors") for folder in (base, checkpoint.path))
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_what_cannot_be_adapted(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lora_targets is 'x_proj'"):
        TrainOptions(lora_rank=2, lora_targets=("x_proj",))
    with pytest.raises(ConfigError, match="save_adapter needs lora_rank"):
        TrainOptions(save_adapter=True)
    with pytest.raises(ConfigError, match="head would be missing"):
        TrainOptions(objective="classify", lora_rank=2, save_adapter=True)
    with pytest.raises(ConfigError, match="lora_rank needs start"):
        biollm.train("shards", output=tmp_path / "out", lora_rank=2)
    with pytest.raises(TypeError, match="list of names"):
        biollm.train(pairs(4), start=base, output=tmp_path / "out", objective="instruct", lora_targets="q_proj")
