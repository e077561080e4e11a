"""The walk through the blocks: which inputs each layer is fitted to, and what becomes of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from biollm.errors import ConfigError  # noqa: E402
from biollm.models import Llama, load_checkpoint  # noqa: E402
from biollm.models.config import Quantization  # noqa: E402
from biollm.models.quantized import Int4Linear, quantized_linears  # noqa: E402
from biollm.quantization import convert, converting  # noqa: E402
from biollm.quantization.rounding import column_scales, nearest, plain_scales  # noqa: E402

INT4 = Quantization(4, 64)


@pytest.fixture
def trained(model: Path) -> Llama:
    return load_checkpoint(model).requires_grad_(False).eval()


@pytest.fixture
def documents() -> list[Any]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 300, length) for length in (5, 30, 1, 17, 30)]


def test_each_layer_is_fitted_to_the_inputs_that_the_quantized_model_gives_it(
    trained: Llama, documents: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hessians = []
    fit = converting.gptq

    def spy(weight: Any, hessian: Any, scales: Any, *, bits: int) -> Any:
        hessians.append(hessian.clone())
        return fit(weight, hessian, scales, bits=bits)

    monkeypatch.setattr(converting, "gptq", spy)
    errors = convert(trained, documents, INT4, method="gptq")
    seen: dict[str, list[Any]] = {}

    def keep(name: str) -> Any:
        return lambda _, inputs: seen.setdefault(name, []).append(inputs[0][0])

    for name, layer in quantized_linears(trained).items():
        layer.register_forward_pre_hook(keep(name))
    for ids in documents:  # one by one: no padding
        trained(torch.from_numpy(ids)[None])
    assert [error.name for error in errors] == list(quantized_linears(trained))
    for error, hessian in zip(errors, hessians, strict=True):
        inputs = torch.cat(seen[error.name]).double()
        torch.testing.assert_close(hessian, inputs.T @ inputs / len(inputs), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["gptq", "rtn"])
def test_batching_changes_nothing(
    trained: Llama, documents: list[Any], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.double()
    alone = copy.deepcopy(trained)
    convert(trained, documents, INT4, method=method)
    monkeypatch.setattr(converting, "BATCH_TOKENS", 1)
    convert(alone, documents, INT4, method=method)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, alone.state_dict()[name]), name


def test_to_the_nearest(trained: Llama, documents: list[Any]) -> None:
    weight = trained.model.layers[1].mlp.down_proj.weight.clone()
    others = {name: p.clone() for name, p in trained.named_parameters() if "proj" not in name}
    done: list[tuple[int, int]] = []
    errors = convert(trained, documents, INT4, method="rtn", report=lambda *step: done.append(step))
    layer = trained.model.layers[1].mlp.down_proj
    assert isinstance(layer, Int4Linear)
    by_column = column_scales(plain_scales(weight, INT4), 384)
    assert torch.equal(layer.dequantize(), nearest(weight, by_column, 4) * by_column)
    assert dict(trained.named_parameters()).keys() == others.keys()
    assert all(torch.equal(parameter, others[name]) for name, parameter in trained.named_parameters())
    assert trained.config.quantization == INT4
    assert done == [(n, 28) for n in range(1, 29)]
    assert all(0 < error.relative_error < 0.3 for error in errors)
    assert errors[0].shape == (128, 128)
    assert errors[0].weight_bytes == layer_bytes(trained.model.layers[0].self_attn.q_proj)


def layer_bytes(layer: Any) -> int:
    return int(layer.qweight.nbytes + layer.scales.bfloat16().nbytes)


def test_gptq_is_nearer_than_the_nearest(trained: Llama, documents: list[Any]) -> None:
    plain = convert(copy.deepcopy(trained), documents, INT4, method="rtn")
    fitted = convert(trained, documents, INT4, method="gptq")
    assert sum(e.relative_error for e in fitted) < 0.8 * sum(e.relative_error for e in plain)


def test_groups_that_divide_no_layer_change_nothing(trained: Llama, documents: list[Any]) -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        convert(trained, documents, Quantization(4, 96), method="rtn")
    assert not quantized_linears(trained)


def test_biases_stay(tmp_path: Path) -> None:
    from random_models import random_hf_folder

    pytest.importorskip("transformers")
    random_hf_folder(tmp_path, "qwen2", num_hidden_layers=1)
    model = load_checkpoint(tmp_path).requires_grad_(False)
    before = model.model.layers[0].self_attn.q_proj.bias.clone()
    convert(model, [np.arange(100)], Quantization(4, 32), method="gptq")
    assert torch.equal(model.model.layers[0].self_attn.q_proj.bias, before)
    assert model.model.layers[0].mlp.up_proj.bias is None
