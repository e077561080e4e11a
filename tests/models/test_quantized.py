"""Layers of whole numbers: packing, products, files, and who takes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from biollm.errors import ConfigError, FormatError, InputError  # noqa: E402
from biollm.models import Llama, load_checkpoint, model_config, quantized, save_checkpoint  # noqa: E402
from biollm.models.checkpoints import read_config, refuse_quantized  # noqa: E402
from biollm.models.config import ModelConfig, Quantization  # noqa: E402
from biollm.models.quantized import (  # noqa: E402
    Int4Linear,
    Int8Linear,
    pack_nibbles,
    prepare_kernels,
    quantized_linears,
    unpack_nibbles,
)

TOKENS = torch.arange(120).reshape(2, 60)
KINDS = {"int8": Quantization(8), "int4-g64": Quantization(4, 64)}


def filled(layer: Any, seed: int = 0) -> Any:
    """Random whole numbers and storable scales in place of zeros."""
    draw = torch.Generator().manual_seed(seed)
    if isinstance(layer, Int4Linear):
        whole = torch.randint(-8, 8, (layer.out_features, layer.in_features), generator=draw, dtype=torch.int8)
        layer.qweight = pack_nibbles(whole)
    else:
        layer.qweight = torch.randint(-128, 128, layer.qweight.shape, generator=draw, dtype=torch.int8)
    scales = torch.randn(layer.scales.shape, generator=draw) * (0.02 if isinstance(layer, Int4Linear) else 0.001)
    layer.scales = scales.to(quantized.SCALE_DTYPE).to(layer.scales.dtype)
    if layer.bias is not None:
        layer.bias = torch.randn(layer.bias.shape, generator=draw).bfloat16().to(layer.bias.dtype)
    return layer


def random_model(quantization: Quantization, **changes: Any) -> Llama:
    torch.manual_seed(0)
    config = model_config("tiny", 300, n_layers=2, eos_id=0, quantization=quantization, **changes)
    model = Llama(config)
    for number, layer in enumerate(quantized_linears(model).values()):
        filled(layer, number)
    return model.requires_grad_(False).eval()


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=40), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_packing_is_undone_by_unpacking(numbers: list[int], rows: int) -> None:
    whole = torch.tensor([numbers * 2] * rows, dtype=torch.int8)
    packed = pack_nibbles(whole)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, len(numbers))
    assert torch.equal(unpack_nibbles(packed), whole)


def test_the_place_of_each_nibble() -> None:
    assert pack_nibbles(torch.tensor([[-8, 7, 0, -1]], dtype=torch.int8)).tolist() == [[0xF0, 0x78]]


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (2, 70)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "layer",
    [Int8Linear(64, 10), Int4Linear(64, 32, group_size=32), Int4Linear(24, 10, group_size=6)],
    ids=["int8", "int4", "int4 of odd sizes"],
)
def test_a_product_is_that_of_the_restored_weights(layer: Any, bias: bool, shape: tuple[int, ...]) -> None:
    sizes = {"group_size": layer.group_size} if isinstance(layer, Int4Linear) else {}
    layer = filled(type(layer)(layer.in_features, layer.out_features, bias=bias, **sizes))
    x = torch.randn(*shape, layer.in_features, generator=torch.Generator().manual_seed(1))
    exact = torch.nn.functional.linear(
        x.double(), layer.dequantize().double(), None if layer.bias is None else layer.bias.double()
    )
    scale = exact.abs().max()
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        layer.to(dtype)
        prepare_kernels(layer)
        y = layer(x.to(dtype))
        assert y.dtype == dtype
        assert y.shape == exact.shape
        assert (y.double() - exact).abs().max() <= tolerance * scale


def test_the_restored_weights_are_the_whole_numbers_times_their_scales() -> None:
    layer = filled(Int4Linear(8, 3, group_size=4))
    whole = unpack_nibbles(layer.qweight)
    for out in range(3):
        for column in range(8):
            assert layer.dequantize()[out, column] == whole[out, column] * layer.scales[out, column // 4]
    layer = filled(Int8Linear(8, 3))
    assert torch.equal(layer.dequantize(), layer.qweight * layer.scales[:, None])


@pytest.mark.parametrize("rows", [1, 64])
def test_packed_kernels_are_used_in_bfloat16_on_the_cpu(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    int4, int8 = filled(Int4Linear(64, 32, group_size=32)).bfloat16(), filled(Int8Linear(64, 32)).bfloat16()
    x = torch.randn(rows, 64).bfloat16()
    prepare_kernels(torch.nn.Sequential(int4))
    for layer in (int4, int8):
        monkeypatch.setattr(type(layer), "dequantize", lambda self: pytest.fail("restored"))
    assert int4(x).shape == int8(x).shape == (rows, 32)
    assert "_tiles" not in int4.state_dict()


@pytest.mark.parametrize("layer", [Int8Linear(64, 10, bias=True), Int4Linear(64, 10, group_size=16)])
def test_the_loop_of_a_compiled_step_gives_the_same(layer: Any) -> None:
    layer = filled(layer).double()
    x = torch.randn(1, 1, 64, dtype=torch.float64)
    compiled = torch.compile(layer.forward, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=0, atol=1e-12)
    torch._dynamo.reset()


@pytest.mark.parametrize("changes", [{"tie_embeddings": True}, {}, {"model_type": "qwen2", "qkv_bias": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_linear_layers_of_blocks_are_quantized(kind: str, changes: dict[str, Any]) -> None:
    model = random_model(KINDS[kind], **changes)
    assert len(quantized_linears(model)) == 2 * 7
    left = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear | torch.nn.Embedding)]
    assert left == ["model.embed_tokens"] if changes.get("tie_embeddings") else ["model.embed_tokens", "lm_head"]
    assert {name.rpartition(".")[2] for name, _ in model.named_parameters()} == {"weight"}
    assert model.model.layers[0].self_attn.q_proj.bias is None or changes.get("qkv_bias")


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"model_type": "qwen2", "qkv_bias": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_loads_as_it_was(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = random_model(KINDS[kind], **changes)
    save_checkpoint(tmp_path / "saved", model)
    again = load_checkpoint(tmp_path / "saved")
    assert again.config == model.config
    assert torch.equal(again(TOKENS), model(TOKENS))
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert {tensor.dtype for name, tensor in stored.items() if name.endswith(".scales")} == {torch.bfloat16}
    assert ("lm_head.weight" in stored) != bool(changes.get("tie_embeddings"))
    wide = load_checkpoint(tmp_path / "saved", dtype=torch.float64)
    torch.testing.assert_close(wide(TOKENS).float(), model(TOKENS), rtol=1e-4, atol=1e-4)
    narrow = load_checkpoint(tmp_path / "saved", dtype=torch.bfloat16)
    assert narrow.model.layers[0].mlp.up_proj.qweight.dtype in (torch.int8, torch.uint8)
    likeness = torch.nn.functional.cosine_similarity(narrow(TOKENS[:, :20]).float(), model(TOKENS[:, :20]), dim=-1)
    assert likeness.min() > 0.99
    # What was loaded narrow is written as it was read.
    save_checkpoint(tmp_path / "again", narrow)
    for name, tensor in load_file(tmp_path / "again" / "model.safetensors").items():
        assert torch.equal(tensor, stored[name].to(tensor.dtype))


def test_a_file_of_other_tensors_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, random_model(KINDS["int4-g64"]))
    file, name = tmp_path / "model.safetensors", "model.layers.0.mlp.up_proj.qweight"
    stored = load_file(file)
    save_file({**stored, name: stored[name].to(torch.int8)}, file)
    with pytest.raises(FormatError, match=f"{name}.*type I8 .supported: U8"):
        load_checkpoint(tmp_path)
    save_file({**stored, name: stored[name][:, 1:].contiguous()}, file)
    with pytest.raises(FormatError, match=f"{name}.*shape"):
        load_checkpoint(tmp_path)
    save_file({key: tensor for key, tensor in stored.items() if key != name}, file)
    with pytest.raises(FormatError, match=f"{name}.*missing"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_refuses_the_folder(kind: str, tmp_path: Path) -> None:
    """It must not go on with random weights, as it does where it knows the model and not the quantization."""
    transformers = pytest.importorskip("transformers")
    save_checkpoint(tmp_path, random_model(KINDS[kind]))
    with pytest.raises(ValueError, match="biollm_llama"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


def test_the_configuration_goes_both_ways() -> None:
    config = model_config("tiny", 300, quantization=Quantization(4, 32))
    hf = json.loads(json.dumps(config.to_hf()))
    assert hf["quantization_config"] == {"quant_method": "biollm", "bits": 4, "group_size": 32}
    assert ModelConfig.from_hf(hf) == config
    eight = replace(config, quantization=Quantization(8))
    assert eight.to_hf()["quantization_config"] == {"quant_method": "biollm", "bits": 8}
    assert ModelConfig.from_hf(eight.to_hf()) == eight
    assert eight.quantization is not None
    assert (eight.quantization.name, config.quantization and config.quantization.name) == ("int8", "int4-g32")
    # The name alone, without the layers it stands for, is none that is known.
    with pytest.raises(ConfigError, match="biollm_llama"):
        ModelConfig.from_hf({key: value for key, value in hf.items() if key != "quantization_config"})


@pytest.mark.parametrize(
    ("found", "field"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quantization_config"),
        ("biollm", "quantization_config"),
        ({"quant_method": "biollm"}, "bits"),
        ({"quant_method": "biollm", "bits": 3, "group_size": 64}, "bits"),
        ({"quant_method": "biollm", "bits": True}, "bits"),
        ({"quant_method": "biollm", "bits": 4}, "group_size"),
        ({"quant_method": "biollm", "bits": 4, "group_size": 7}, "group_size"),
        ({"quant_method": "biollm", "bits": 4, "group_size": 0}, "group_size"),
        ({"quant_method": "biollm", "bits": 8, "group_size": 64}, "group_size"),
        ({"quant_method": "biollm", "bits": 4, "group_size": 96}, "group_size"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(found: Any, field: str) -> None:
    hf = {**model_config("tiny", 300).to_hf(), "quantization_config": found}
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_hf(hf)
    assert caught.value.field == field


def test_groups_must_divide_a_layer() -> None:
    with pytest.raises(ConfigError, match="does not divide") as caught:
        Int4Linear(100, 8, group_size=64)
    assert caught.value.field == "group_size"


def test_who_needs_whole_weights_says_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, random_model(KINDS["int8"]))
    with pytest.raises(InputError, match=r"quantized \(int8\), and training needs") as caught:
        refuse_quantized(tmp_path, read_config(tmp_path), "training", field="start")
    assert caught.value.field == "start"
    assert caught.value.path == str(tmp_path)
    refuse_quantized(tmp_path, model_config("tiny", 300), "training", field="start")
