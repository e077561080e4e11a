"""The loop against a training run written out by hand: no packing, no mask, no torch optimizer, no autocast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from biollm.errors import ConfigError
from biollm.models import Llama, ModelConfig
from biollm.training.batches import Batch, DocumentTokens, PackedStream
from biollm.training.engines import Engine, summed_loss
from biollm.training.loop import History, run, validate
from biollm.training.optimizer import make_optimizer
from biollm.training.placement import resolve
from biollm.training.schedule import Schedule, make_schedule

CONFIG = ModelConfig(vocab_size=61, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=24, max_seq_len=64, eos_id=0)
PLACE = resolve("cpu", "float64")
STEPS, ROWS, SEQ = 20, 4, 24
LR, DECAY, BETAS, EPS, CLIP = 3e-3, 0.1, (0.9, 0.95), 1e-8, 0.5


def new_model() -> Llama:
    with torch.random.fork_rng([]):
        torch.manual_seed(11)
        return Llama(CONFIG).double()


def packed(
    documents: list[list[int]], *, masked: bool = False, ends: bool = False, seed: int | None = 5
) -> PackedStream:
    count = sum(map(len, documents))
    mask = (np.random.default_rng(2).random(count) < 0.7).astype(np.uint8) if masked else None
    tokens = np.array([t for document in documents for t in document], np.uint16)
    offsets = np.cumsum([0, *map(len, documents)]).astype(np.uint64)
    corpus = DocumentTokens([SimpleNamespace(tokens=tokens, offsets=offsets, mask=mask)])
    return PackedStream(corpus, seq_len=SEQ, vocab_size=61, seed=seed, num_tokens=count if ends else None)


def plan(shape: str = "wsd") -> Schedule:
    return make_schedule(
        shape, peak=LR, total_steps=STEPS, warmup_fraction=0.2, decay_fraction=0.3, final_fraction=0.05
    )


def engine_of(model: Llama) -> Engine:
    return Engine(model, make_optimizer(model, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS))


def train(model: Llama, stream: PackedStream, *, accumulation: int = 1, shape: str = "wsd") -> History:
    return run(
        engine_of(model),
        plan(shape),
        stream,
        None,
        batch_size=ROWS,
        accumulation=accumulation,
        clip_norm=CLIP,
        validate_every=STEPS,
        placement=PLACE,
    )


# --- the reference ----------------------------------------------------------------------------------------------------


def reference_logits(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits (seq, vocab) of one piece of one document, (seq,) ids: attention by explicit softmax, head by head."""
    seq, head = len(tokens), CONFIG.head_size

    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + CONFIG.norm_eps) * gain

    def turned(x: Tensor) -> Tensor:  # (seq, head): complex numbers turned by their angle
        angle = torch.arange(seq).double()[:, None] * CONFIG.rope_theta ** (-torch.arange(0, head, 2).double() / head)
        turn = torch.complex(x[:, : head // 2], x[:, head // 2 :]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([turn.real, turn.imag], -1)

    later = torch.ones(seq, seq).triu(1).bool()
    x = weights["model.embed_tokens.weight"][tokens]
    for i in range(CONFIG.n_layers):
        w = {name.removeprefix(f"model.layers.{i}."): t for name, t in weights.items() if f"layers.{i}." in name}
        h = norm(x, w["input_layernorm.weight"])
        q, k, v = (h @ w[f"self_attn.{name}_proj.weight"].T for name in "qkv")
        heads = []
        for n in range(CONFIG.n_heads):
            g = n // (CONFIG.n_heads // CONFIG.n_kv_heads)
            mine, shared = slice(n * head, (n + 1) * head), slice(g * head, (g + 1) * head)
            scores = (turned(q[:, mine]) @ turned(k[:, shared]).T / math.sqrt(head)).exp().masked_fill(later, 0.0)
            heads.append(scores / scores.sum(-1, keepdim=True) @ v[:, shared])
        x = x + torch.cat(heads, -1) @ w["self_attn.o_proj.weight"].T
        h = norm(x, w["post_attention_layernorm.weight"])
        gate = h @ w["mlp.gate_proj.weight"].T
        x = x + (gate * torch.sigmoid(gate) * (h @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
    return norm(x, weights["model.norm.weight"]) @ weights["lm_head.weight"].T


@dataclass
class Moments:
    mean: Tensor
    square: Tensor


def reference_step(
    weights: dict[str, Tensor], moments: dict[str, Moments], batch: Batch, step: int, lr: float
) -> float:
    """One step of AdamW (Loshchilov & Hutter 2019, algorithm 2), each piece of a document by itself."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in range(len(batch.tokens)):
        for document in np.unique(batch.document_ids[row]):
            at = np.flatnonzero(batch.document_ids[row] == document)
            targets = batch.targets[row, at]
            logits = reference_logits(leaves, torch.from_numpy(batch.tokens[row, at]))
            for i in np.flatnonzero(targets != -100):
                total = total - (logits[i, targets[i]] - torch.logsumexp(logits[i], -1))
                count += 1
    loss = total / count
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    norm = math.sqrt(sum(float((g * g).sum()) for g in gradients.values() if g is not None))
    factor = min(1.0, CLIP / (norm + 1e-6))
    for name, tensor in weights.items():
        gradient, moment = gradients[name], moments[name]
        assert gradient is not None
        gradient = gradient * factor
        moment.mean = BETAS[0] * moment.mean + (1 - BETAS[0]) * gradient
        moment.square = BETAS[1] * moment.square + (1 - BETAS[1]) * gradient * gradient
        update = moment.mean / (1 - BETAS[0] ** step) / ((moment.square / (1 - BETAS[1] ** step)).sqrt() + EPS)
        decay = DECAY if tensor.ndim == 2 else 0.0
        weights[name] = tensor - lr * decay * tensor - lr * update
    return float(loss.detach())


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_twenty_steps_equal_the_reference(documents: list[list[int]], masked: bool) -> None:
    model, stream = new_model(), packed(documents, masked=masked)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moments = {name: Moments(torch.zeros_like(t), torch.zeros_like(t)) for name, t in weights.items()}
    history = train(model, stream)
    for step in range(STEPS):
        loss = reference_step(weights, moments, stream.batch(step * ROWS * SEQ, ROWS), step + 1, plan()(step))
        assert history.train_loss[step] == pytest.approx(loss, abs=1e-12)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-12)
    assert history.train_loss[-1] < history.train_loss[0]


def test_accumulation_changes_nothing(documents: list[list[int]]) -> None:
    stream = packed(documents, masked=True)
    parts = stream.batch(0, ROWS).split(4)
    assert len({part.loss_tokens for part in parts}) > 1  # equal counts would hide a mean of means
    whole, split = new_model(), new_model()
    a, b = train(whole, stream), train(split, stream, accumulation=4)
    assert a.train_loss == pytest.approx(b.train_loss, abs=1e-12)
    assert a.gradient_norm == pytest.approx(b.gradient_norm, abs=1e-12)
    for name, tensor in split.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=1e-12)


def test_a_document_never_feels_its_neighbours() -> None:
    """Logits of document B, and the gradient they give, are the same whatever stands before and behind it."""
    generator = np.random.default_rng(0)
    document = [*generator.integers(2, 61, 9).tolist(), 0]

    def logits(before: list[int], behind: list[int]) -> Tensor:
        batch = packed([before, document, behind], seed=None, ends=True).batch(0, 1)
        out = model(
            torch.from_numpy(batch.tokens),
            positions=torch.from_numpy(batch.positions),
            document_ids=torch.from_numpy(batch.document_ids),
        )
        return out[0, len(before) : len(before) + len(document)]

    model = new_model()
    first = logits([3, 4, 5, 6, 7, 0], [8, 9, 0])
    other = logits([40, 30, 20, 10, 50, 0], [60, 2, 0])
    moved = logits([33, 0], [])
    torch.testing.assert_close(first, other, rtol=0, atol=0)
    torch.testing.assert_close(first, moved, rtol=0, atol=1e-12)
    before = model.model.embed_tokens.weight
    (gradient,) = torch.autograd.grad(first.square().sum(), before)
    touched = set(gradient.abs().sum(-1).nonzero().flatten().tolist())
    assert touched == set(document)


def test_padding_is_in_no_loss(documents: list[list[int]]) -> None:
    model = new_model()
    stream = packed(documents[:3], ends=True, seed=None)
    (batch,) = list(stream.batches(50))
    padded = stream.batch(0, len(batch.tokens) + 3)
    assert padded.loss_tokens == batch.loss_tokens
    losses = [float(summed_loss(model, item, PLACE).detach()) for item in (batch, padded)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-11)


def test_validation_is_the_mean_over_all_tokens_whatever_the_batch(documents: list[list[int]]) -> None:
    model, stream = new_model(), packed(documents, ends=True, seed=None)
    engine = engine_of(model)
    losses = [validate(engine, stream, rows=rows, placement=PLACE) for rows in (1, 3, 64)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    assert losses[0] == pytest.approx(losses[2], abs=1e-12)
    assert losses[0] == pytest.approx(math.log(61), abs=1.0)
    assert math.isnan(validate(engine, packed([[3], [4]], ends=True), rows=1, placement=PLACE))


def test_validation_comes_at_its_steps_and_at_the_end(documents: list[list[int]]) -> None:
    model = new_model()
    reports: list[tuple[int, int]] = []
    history = run(
        engine_of(model),
        plan("cosine"),
        packed(documents),
        packed(documents[:9], ends=True),
        batch_size=ROWS,
        accumulation=2,
        clip_norm=0.0,
        validate_every=8,
        placement=PLACE,
        report=lambda done, total: reports.append((done, total)),
    )
    assert [step for step, _ in history.validation] == [8, 16, 20]
    assert reports == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert history.learning_rate == [plan("cosine")(step) for step in range(STEPS)]
    assert history.train_tokens == STEPS * ROWS * SEQ
    assert history.tokens_per_s > 0


def test_only_matrices_decay_and_ties_count_once() -> None:
    tied = Llama(ModelConfig(**{**CONFIG.__dict__, "tie_embeddings": True}))
    for model in (new_model(), tied):
        decaying, plain = make_optimizer(model, lr=LR, weight_decay=DECAY, betas=BETAS, eps=EPS).param_groups
        assert decaying["weight_decay"] == DECAY
        assert plain["weight_decay"] == 0.0
        assert {p.ndim for p in decaying["params"]} == {2}
        assert {p.ndim for p in plain["params"]} == {1}
        assert len(decaying["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_divergence_names_step_rate_and_remedy(documents: list[list[int]]) -> None:
    model = new_model().float()
    wild = make_schedule("wsd", peak=10.0, total_steps=200, warmup_fraction=0.0, decay_fraction=0.0, final_fraction=0.0)
    options = {"batch_size": ROWS, "accumulation": 1, "validate_every": 200, "placement": resolve("cpu", "float32")}
    optimizer = make_optimizer(model, lr=10.0, weight_decay=10.0, betas=BETAS, eps=EPS)
    with pytest.raises(ConfigError, match=r"at step \d+ .* with lr 10; lower lr, set clip_norm to 1.0") as caught:
        run(Engine(model, optimizer), wild, packed(documents), None, clip_norm=0.0, **options)  # type: ignore[arg-type]
    assert caught.value.field == "lr"
    assert caught.value.value == 10.0


def test_weights_that_are_not_finite_are_named_at_the_first_step(documents: list[list[int]]) -> None:
    model = new_model()
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(ConfigError, match=r"at step 0 the loss is nan .* look for NaN"):
        train(model, packed(documents))


def test_placement() -> None:
    assert resolve("cpu", "auto").weights is torch.float32
    assert resolve("cpu", "auto").autocast is None
    assert resolve("cpu", "bfloat16").autocast is torch.bfloat16
    assert resolve("cpu", "float64").weights is torch.float64
    if not torch.cuda.is_available():
        assert resolve("auto", "auto").device.type == "cpu"
        with pytest.raises(ConfigError, match="use 'cpu' or 'auto'"):
            resolve("cuda", "auto")


def test_bfloat16_autocast_is_near_float32(documents: list[list[int]]) -> None:
    model = new_model().float()
    batch = packed(documents).batch(0, ROWS)
    exact = float(summed_loss(model, batch, resolve("cpu", "float32")).detach())
    rough = summed_loss(model, batch, resolve("cpu", "bfloat16"))
    assert rough.dtype is torch.float32
    assert float(rough.detach()) == pytest.approx(exact, rel=0.02)
    assert float(rough.detach()) != exact
