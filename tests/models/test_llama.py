"""The model against `transformers`, and its own promises: document masks, precision, initialisation."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from biollm.models import Llama, ModelConfig, load_checkpoint, model_config  # noqa: E402
from biollm.models.llama import RMSNorm, document_mask  # noqa: E402
from random_models import FAMILY, random_hf_folder  # noqa: E402


def tiny(**changes: object) -> ModelConfig:
    options = {"vocab_size": 97, "dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 64, **changes}
    return ModelConfig(**options)


@pytest.mark.parametrize("member", FAMILY)
def test_logits_equal_those_of_transformers(member: str, tmp_path) -> None:
    theirs = random_hf_folder(tmp_path, member)
    ours = load_checkpoint(tmp_path)
    tokens = torch.randint(0, 300, (2, 400), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = (ours(tokens) - theirs(tokens).logits).abs().max()
    assert difference <= 1e-5


def test_gradients_equal_those_of_transformers(tmp_path) -> None:
    theirs = random_hf_folder(tmp_path)
    ours = load_checkpoint(tmp_path)
    tokens = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(1))
    for model in (lambda t: ours(t), lambda t: theirs(t).logits):
        model(tokens).log_softmax(-1)[..., 0].mean().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-6)


def test_packed_documents_equal_each_document_alone() -> None:
    torch.manual_seed(0)
    model = Llama(tiny(init_std=0.2)).double()
    lengths = [5, 1, 9, 7]
    documents = [torch.randint(0, 97, (1, n)) for n in lengths]
    packed = torch.cat(documents, dim=1)
    ids = torch.tensor([[i for i, n in enumerate(lengths) for _ in range(n)]])
    restart = torch.cat([torch.arange(n) for n in lengths])[None]

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(loss, list(model.parameters())))

    together = model(packed, document_ids=ids, positions=restart)
    alone = torch.cat([model(document) for document in documents], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(together.logsumexp(-1).sum()), gradients(alone.logsumexp(-1).sum()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    # Rotary positions are relative: without a restart each document computes the same.
    torch.testing.assert_close(model(packed, document_ids=ids), alone, rtol=0, atol=1e-9)
    # And without the mask it does not.
    assert (model(packed, positions=restart) - alone).abs().max() > 1e-2


def test_document_mask_is_block_diagonal_and_causal() -> None:
    mask = document_mask(torch.tensor([[4, 4, 7, 4]]))[0, 0]
    assert mask.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 1]]


def test_a_token_sees_no_later_token() -> None:
    torch.manual_seed(0)
    model = Llama(tiny(init_std=0.2)).double()
    tokens = torch.randint(0, 97, (1, 12))
    changed = tokens.clone()
    changed[0, 8:] = (changed[0, 8:] + 1) % 97
    before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:8], after[:8], rtol=0, atol=1e-12)
    assert (before[8:] - after[8:]).abs().max() > 1e-2


def test_an_fp64_model_computes_in_fp64() -> None:
    """Against the same model with its weights perturbed by 1e-12: an fp32 step anywhere would drown the difference."""
    torch.manual_seed(0)
    model = Llama(tiny(init_std=0.2)).double()
    tokens = torch.randint(0, 97, (1, 50))
    logits = model(tokens)
    assert logits.dtype == torch.float64
    assert model.model.rotary.inv_freq.dtype == torch.float64
    weight = model.model.layers[0].self_attn.q_proj.weight
    direction = torch.randn_like(weight)
    with torch.no_grad():
        weight += 1e-6 * direction
        coarse = (model(tokens) - logits) / 1e-6
        weight -= (1e-6 - 1e-10) * direction
        fine = (model(tokens) - logits) / 1e-10
    # The directional derivative comes out alike from steps of 1e-6 and 1e-10; fp32 rounding is 1e-7.
    assert (coarse - fine).abs().max() / coarse.abs().max() < 1e-3


def test_rms_norm_is_computed_wider_than_half_precision() -> None:
    x = torch.full((1, 4096), 200.0)  # 200² × 4096 overflows fp16
    norm = RMSNorm(4096, 1e-5)
    assert norm.half()(x.half()).isfinite().all()
    torch.testing.assert_close(norm.half()(x.half()), torch.ones(1, 4096).half())
    x64 = torch.randn(3, 64, dtype=torch.float64)
    expected = x64 / (x64.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(RMSNorm(64, 1e-5).double()(x64), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rotary_frequencies_stay_fp32_in_half_precision(dtype: torch.dtype) -> None:
    model = Llama(tiny())
    exact = model.model.rotary.inv_freq.clone()
    assert torch.equal(model.to(dtype).model.rotary.inv_freq, exact)
    assert model(torch.randint(0, 97, (1, 9))).dtype == dtype


@pytest.mark.parametrize("tied", [False, True])
def test_initial_weights_follow_the_width(tied: bool) -> None:
    torch.manual_seed(0)
    config = model_config("tiny", 2048, tie_embeddings=tied)
    model = Llama(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters
    block = model.model.layers[1]
    into_residual = 1 / math.sqrt(2 * config.n_layers)
    assert block.mlp.up_proj.weight.std().item() == pytest.approx(128**-0.5, rel=0.02)
    assert block.mlp.down_proj.weight.std().item() == pytest.approx(384**-0.5 * into_residual, rel=0.02)
    assert block.self_attn.o_proj.weight.std().item() == pytest.approx(128**-0.5 * into_residual, rel=0.02)
    assert block.input_layernorm.weight.eq(1).all()
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(128**-0.5 if tied else 1.0, rel=0.02)
    tokens = torch.randint(0, 2048, (4, 64))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        # A fresh model knows nothing: ln 2048, and half a nat for logits of variance 1.
        assert loss.item() == pytest.approx(math.log(2048) + 0.5, abs=0.2)
        torch.manual_seed(0)
        assert torch.equal(Llama(config)(tokens), model(tokens))


def test_initial_weights_of_a_given_deviation() -> None:
    torch.manual_seed(0)
    model = Llama(model_config("tiny", 2048, init_std=0.02))
    assert model.model.layers[0].self_attn.q_proj.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_a_model_on_the_meta_device_takes_no_memory() -> None:
    with torch.device("meta"):
        model = Llama(model_config("8B", 128256))
    assert sum(parameter.numel() for parameter in model.parameters()) == model.config.num_parameters


def test_autocast_keeps_attention_in_one_dtype() -> None:
    model = Llama(tiny())
    tokens = torch.randint(0, 97, (2, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = model(tokens, document_ids=torch.zeros_like(tokens))
    assert (narrow.float() - model(tokens)).abs().max() < 0.05


def test_documents_and_cache_exclude_each_other() -> None:
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="together"):
        Llama(tiny())(tokens, document_ids=tokens, cache=object())
