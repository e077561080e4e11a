"""The dense Llama family, readable from top to bottom.

    tokens → embedding → n × [ norm → attention → +   norm → SwiGLU → + ] → norm → output layer → logits

Parameters carry Hugging Face's names (`model.layers.0.self_attn.q_proj.weight`), so safetensors files of that layout
load and save without renaming, and the arithmetic follows `transformers` operation by operation.

Sizes in the shape comments: batch, seq (tokens), dim (residual width), heads (query), kv_heads, head_dim, vocab.
This module knows nothing of files, training or decoding; a key-value cache reaches it as a `Cache` protocol.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biollm.models.config import ModelConfig, RopeScaling
from biollm.models.quantized import replace_linears

__all__ = ["Cache", "Decoder", "Llama", "RMSNorm", "Rotary", "document_mask"]


class Cache(Protocol):
    """Keys and values of earlier tokens, as `Attention` uses them (`inference/kv_cache.py` has the one there is)."""

    def mask(self, positions: Tensor) -> Tensor | None:
        """Which of the keys `update` returns each query sees: bool (batch, 1, seq, keys), or None for plain causal."""

    def update(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store (batch, kv_heads, seq, head_dim) at `positions` (batch, seq); return those to attend to."""


class Llama(nn.Module):
    """A decoder-only language model.

    Built on the current default device and dtype with random weights (`init_weights`); under `torch.device("meta")`
    it allocates nothing. With `config.quantization` the linear layers of the blocks are those of `models/quantized.py`,
    zeros until they are loaded.

    Attributes:
        config: what it is made of.
        model: everything but the output layer (`Decoder`).
        lm_head: the output layer; `None` where the embedding table is it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        if config.quantization is not None:
            replace_linears(self.model.layers, config.quantization)
        # A tied model has no output layer of its own, so no tensor appears twice in its state or its file.
        self.lm_head = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)
        self.init_weights()

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits (batch, seq, vocab) of the token after each of `tokens` (batch, seq), int64.

        Args:
            tokens: ids, (batch, seq), int64.
            positions: (batch, seq) or (1, seq), int64; default 0, 1, 2, … along the row. With packed documents the
                caller chooses whether they restart at each document.
            document_ids: (batch, seq), integers. A token attends to earlier tokens of its own document only (a
                block-diagonal causal mask, built once a call: batch × seq² bytes). None: plain causal attention.
            cache: keys and values of the tokens before these, extended by these. Not together with `document_ids`.
        """
        return self.logits(self.model(tokens, positions=positions, document_ids=document_ids, cache=cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: `hidden` (…, dim) → (…, vocab)."""
        if self.lm_head is None:
            return F.linear(hidden, self.model.embed_tokens.weight)
        logits: Tensor = self.lm_head(hidden)
        return logits

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Normal weights (drawn from `generator`, by default torch's own), zero biases, unit norms.

        With `init_std` every weight has that standard deviation. Without, a matrix has 1/√(its inputs), which keeps the
        variance of what passes through it at any width, and an embedding table that is not tied has 1, the scale of
        the normed input of a layer (torchtitan does the same); a fixed 0.02 is right near dim 2,500 only and learns far
        slower below. The two projections that write into the residual stream are scaled by 1/√(2 n_layers), so that
        its variance does not grow with depth (GPT-2, Radford et al. 2019, section 2.3).
        """
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith(".bias"):
                parameter.zero_()
            else:
                std = self.config.init_std or 1 / math.sqrt(parameter.shape[1])
                if self.config.init_std is None and name.endswith("embed_tokens.weight") and self.lm_head is not None:
                    std = 1.0
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= math.sqrt(2 * self.config.n_layers)
                parameter.normal_(0.0, std, generator=generator)


class Decoder(nn.Module):
    """Everything but the output layer: tokens (batch, seq) → hidden states (batch, seq, dim)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.rotary = Rotary(config)

    def forward(
        self,
        tokens: Tensor,
        *,
        positions: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states after the last norm; arguments as in `Llama.forward`."""
        if document_ids is not None and cache is not None:
            raise ValueError("document_ids and cache cannot be given together")
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        if cache is not None:
            mask = cache.mask(positions)
        else:
            mask = None if document_ids is None else document_mask(document_ids)
        x = self.embed_tokens(tokens)  # (batch, seq, dim)
        rotation = self.rotary(positions, x.dtype)
        for layer in self.layers:
            x = layer(x, positions, rotation, mask, cache)
        hidden: Tensor = self.norm(x)
        return hidden


class Block(nn.Module):
    """Attention, then feed-forward, each normed on the way in and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.dim, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.dim, config.norm_eps)

    def forward(
        self, x: Tensor, positions: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """(batch, seq, dim) → (batch, seq, dim)."""
        x = x + self.self_attn(self.input_layernorm(x), positions, rotation, mask, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_size
        q_dim, kv_dim = config.n_heads * self.head_dim, config.n_kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.dim, q_dim, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.dim, kv_dim, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.dim, kv_dim, bias=config.qkv_bias)
        self.o_proj = nn.Linear(q_dim, config.dim, bias=config.out_bias)
        self.q_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self, x: Tensor, positions: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """(batch, seq, dim) → (batch, seq, dim)."""
        batch, seq, _ = x.shape
        q = self.q_proj(x).view(batch, seq, -1, self.head_dim)  # (batch, seq, heads, head_dim)
        k = self.k_proj(x).view(batch, seq, -1, self.head_dim)  # (batch, seq, kv_heads, head_dim)
        v = self.v_proj(x).view(batch, seq, -1, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (batch, heads, seq, head_dim)
        q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            k, v = cache.update(self.layer, positions, k, v)
        y = attend(q, k, v, mask)  # (batch, heads, seq, head_dim)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(batch, seq, -1))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √head_dim) v for every head: q (batch, heads, seq, head_dim) → the same shape.

    k, v: (batch, kv_heads, keys, head_dim). mask: bool (batch, 1, seq, keys), True where a query sees a key; None is
    causal over keys == seq.
    """
    batch, heads, seq, head_dim = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    group = heads // kv_heads
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=group > 1)
    if group == 1:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if seq == 1:
        # One new token: the query heads that share a key head become its queries, and the cache is read once, uncopied.
        q = q.view(batch, kv_heads, group, head_dim)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(batch, 1, group, keys))
        return y.reshape(batch, heads, 1, head_dim)
    # On CUDA no fused kernel takes a mask and grouped heads together, so the key heads are repeated.
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def document_mask(document_ids: Tensor) -> Tensor:
    """(batch, seq) document ids → bool (batch, 1, seq, seq): same document, and not later."""
    seq = document_ids.shape[1]
    same = document_ids[:, None, :, None] == document_ids[:, None, None, :]
    return same & torch.ones(seq, seq, dtype=torch.bool, device=document_ids.device).tril()


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202): (silu(x gate) ⊙ x up) down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.dim, config.ffn_dim, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.ffn_dim, config.dim, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) → (batch, seq, dim)."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class RMSNorm(nn.Module):
    """x / rms(x) × weight over the last axis (Zhang and Sennrich 2019, arXiv 1910.07467).

    The root mean square is computed in fp32, for fp64 input in fp64: a cast to fp32 there would hold every "fp64" run
    to fp32's accuracy.
    """

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) → (…, dim), of the same dtype."""
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in Hugging Face's "rotate half" layout.

    The frequencies are no parameters and are not saved. They stay fp32 when the model is cast to bf16 or fp16, whose
    few bits would blur distant positions, and become fp64 with an fp64 model.
    """

    inv_freq: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
        self.register_buffer("inv_freq", inverse_frequencies(config, dtype), persistent=False)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine of every angle: positions (batch, seq) → two tensors (batch, 1, seq, head_dim)."""
        angles = positions[:, None, :, None].to(self.inv_freq.dtype) * self.inv_freq  # (batch, 1, seq, head_dim / 2)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """`.to(...)`: follow the device; recompute rather than round."""
        module = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        dtype = torch.float64 if self.inv_freq.dtype == torch.float64 else torch.float32
        with torch.device(self.inv_freq.device):
            self.inv_freq = inverse_frequencies(self.config, dtype)
        return module


def inverse_frequencies(config: ModelConfig, dtype: torch.dtype) -> Tensor:
    """Radians a token of each rotated pair, (head_dim / 2,): theta^(-2i / head_dim), scaled as `rope_scaling` says."""
    exponents = torch.arange(0, config.head_size, 2).to(dtype) / config.head_size
    inv_freq = 1.0 / (config.rope_theta**exponents)
    if config.rope_scaling is None:
        return inv_freq
    if config.rope_scaling.kind == "linear":
        return inv_freq / config.rope_scaling.factor
    return _llama3_frequencies(inv_freq, config.rope_scaling)


def _llama3_frequencies(inv_freq: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1: keep short wavelengths, divide long ones by `factor`, blend between."""
    wavelength = 2 * math.pi / inv_freq  # tokens
    low, high, context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_seq_len
    share_kept = ((context / wavelength - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - share_kept) * inv_freq / scaling.factor + share_kept * inv_freq


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim / 2]) by its position's angle: (batch, heads, seq, head_dim) → the same."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    # Under autocast q and k are narrower than the embedding that gave cos and sin their dtype.
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)
