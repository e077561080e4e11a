"""What a model is made of.

`ModelConfig` describes the dense Llama family: pre-norm blocks of grouped-query attention with rotary positions and a
SwiGLU feed-forward. Mistral, Yi, Qwen2 and Qwen3 are members that switch a few options on.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from biollm.errors import ConfigError

__all__ = ["ARCHITECTURES", "ModelConfig", "Quantization", "RopeScaling", "is_int"]

# Bounds on what a config.json may ask for, checked before anything is built from it. The largest dense models
# published so far (405B: dim 16,384, 126 layers, 128 heads) lie well inside.
MAX_DIM: Final = 1 << 17
MAX_LAYERS: Final = 1024
MAX_HEADS: Final = 4096
MAX_VOCAB_SIZE: Final = 1 << 24
MAX_SEQ_LEN: Final = 1 << 27

ARCHITECTURES: Final[Mapping[str, str]] = {
    "llama": "LlamaForCausalLM",  # also Yi
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


@dataclass(frozen=True)
class RopeScaling:
    """Stretching of the rotary frequencies for contexts longer than the model was first trained on.

    `kind="linear"` divides every frequency by `factor` (position interpolation, Chen et al. 2023, arXiv 2306.15595).
    `kind="llama3"` divides only wavelengths over `original_max_seq_len / low_freq_factor` tokens, keeps those under
    `original_max_seq_len / high_freq_factor`, and blends in between (Llama 3.1).
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_seq_len: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "llama3"):
            raise ConfigError(
                f"rope scaling {self.kind!r} is not supported (supported: linear, llama3)",
                field="rope_scaling",
                value=self.kind,
            )
        _positive_float("rope_scaling.factor", self.factor)
        if self.kind == "llama3":
            _positive_float("rope_scaling.low_freq_factor", self.low_freq_factor)
            _positive_float("rope_scaling.high_freq_factor", self.high_freq_factor)
            _bounded("rope_scaling.original_max_position_embeddings", self.original_max_seq_len, MAX_SEQ_LEN)
            if self.high_freq_factor <= self.low_freq_factor:
                raise ConfigError(
                    "rope_scaling.high_freq_factor must be larger than low_freq_factor",
                    field="rope_scaling.high_freq_factor",
                    value=self.high_freq_factor,
                )


@dataclass(frozen=True)
class Quantization:
    """How the linear layers of the blocks are stored: symmetric whole numbers and scales (`models/quantized.py`).

    Attributes:
        bits: 8 (one scale an output channel) or 4 (one a group of inputs of each output channel).
        group_size: inputs that share a scale, even, for 4 bits; `None` for 8.

    Raises:
        ConfigError: other bits, or a group size that does not go with them; `field` names it.
    """

    bits: int
    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or not is_int(self.bits):
            raise ConfigError(f"bits is {self.bits!r}: use 8 or 4", field="bits", value=self.bits)
        if self.bits == 8:
            if self.group_size is not None:
                message = (
                    f"group_size is {self.group_size!r}, but at 8 bits each output channel has a scale: leave it out"
                )
                raise ConfigError(message, field="group_size", value=self.group_size)
        elif not is_int(self.group_size) or not 2 <= self.group_size <= MAX_DIM or self.group_size % 2:
            message = f"group_size is {self.group_size!r}: use an even number from 2 to {MAX_DIM}, as 64"
            raise ConfigError(message, field="group_size", value=self.group_size)

    @property
    def name(self) -> str:
        """As it is called in tables: "int8", "int4-g64"."""
        return "int8" if self.bits == 8 else f"int4-g{self.group_size}"


@dataclass(frozen=True)
class ModelConfig:
    """The shape and options of one model. Frozen: `dataclasses.replace` makes a variant.

    Lengths are in tokens, sizes in elements.

    Attributes:
        vocab_size: ids in all.
        dim: width of the residual stream.
        n_layers: blocks.
        n_heads, n_kv_heads: query heads, and the key and value heads that groups of them share.
        ffn_dim: width inside the feed-forward.
        max_seq_len: the context.
        head_dim: width of a head; `None` becomes `dim // n_heads`.
        rope_theta: base of the rotary frequencies.
        rope_scaling: how they are stretched for a longer context; `None`: not.
        norm_eps: added to the mean square in RMSNorm.
        tie_embeddings: whether the output layer is the embedding table.
        qkv_bias, out_bias, mlp_bias: whether these projections have a bias.
        qk_norm: whether queries and keys are normed by head (Qwen3).
        init_std: standard deviation of new weights; `None`: by the width, as `Llama.init_weights` says.
        bos_id, eos_id, pad_id: special ids; several may end a text.
        model_type: of `config.json`: llama, mistral, qwen2 or qwen3.
        quantization: how the blocks' linear layers are stored; `None`: as they are trained.

    Raises:
        ConfigError: a size out of bounds, or options that do not fit together; `field` names it.
    """

    vocab_size: int
    dim: int  # width of the residual stream (HF: hidden_size)
    n_layers: int
    n_heads: int  # query heads
    n_kv_heads: int  # key and value heads; each serves n_heads / n_kv_heads query heads
    ffn_dim: int  # width inside the SwiGLU (HF: intermediate_size)
    max_seq_len: int = 2048
    head_dim: int | None = None
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tie_embeddings: bool = False  # the output layer is the embedding table
    qkv_bias: bool = False  # biases on q_proj, k_proj, v_proj
    out_bias: bool = False  # bias on o_proj
    mlp_bias: bool = False
    qk_norm: bool = False  # RMSNorm over each query and key head (Qwen3)
    init_std: float | None = None  # of new weights (HF: initializer_range); None: by width, see Llama.init_weights
    bos_id: int | None = None
    eos_id: int | tuple[int, ...] | None = None  # generation stops at any of these
    pad_id: int | None = None
    model_type: str = "llama"  # the HF class that computes this; a key of ARCHITECTURES
    quantization: Quantization | None = None  # HF: quantization_config of the method "biollm"

    def __post_init__(self) -> None:
        _bounded("vocab_size", self.vocab_size, MAX_VOCAB_SIZE)
        _bounded("dim", self.dim, MAX_DIM)
        _bounded("n_layers", self.n_layers, MAX_LAYERS)
        _bounded("n_heads", self.n_heads, MAX_HEADS)
        _bounded("n_kv_heads", self.n_kv_heads, MAX_HEADS)
        _bounded("ffn_dim", self.ffn_dim, 8 * MAX_DIM)
        _bounded("max_seq_len", self.max_seq_len, MAX_SEQ_LEN)
        if self.head_dim is None:
            if self.dim % self.n_heads:
                raise ConfigError(
                    f"dim ({self.dim}) must be a multiple of n_heads ({self.n_heads}) where head_dim is not given",
                    field="dim",
                    value=self.dim,
                )
            object.__setattr__(self, "head_dim", self.dim // self.n_heads)
        _bounded("head_dim", self.head_dim, MAX_DIM)
        if self.head_size % 2:
            raise ConfigError(
                f"head_dim must be even for rotary positions, not {self.head_dim}",
                field="head_dim",
                value=self.head_dim,
            )
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(
                f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})",
                field="n_kv_heads",
                value=self.n_kv_heads,
            )
        _positive_float("rope_theta", self.rope_theta)
        _positive_float("norm_eps", self.norm_eps)
        if self.init_std is not None:
            _positive_float("init_std", self.init_std)
        for field, ids in (("bos_id", self.bos_id), ("eos_id", self.eos_id), ("pad_id", self.pad_id)):
            for token_id in ids if isinstance(ids, tuple) else (ids,):
                if token_id is not None and not (is_int(token_id) and 0 <= token_id < self.vocab_size):
                    raise ConfigError(
                        f"{field} {token_id!r} is not an id of a vocabulary of {self.vocab_size}",
                        field=field,
                        value=token_id,
                    )
        self._check_model_type()
        self._check_groups()

    def _check_groups(self) -> None:
        """Whether the groups of a quantized model divide the inputs of each of its linear layers."""
        if self.quantization is None or self.quantization.group_size is None:
            return
        widths = {"dim": self.dim, "n_heads * head_dim": self.n_heads * self.head_size, "ffn_dim": self.ffn_dim}
        for name, width in widths.items():
            if width % self.quantization.group_size:
                raise ConfigError(
                    f"group_size {self.quantization.group_size} does not divide {name} ({width}), the inputs of a "
                    f"linear layer: use a divisor of {math.gcd(*widths.values())}",
                    field="group_size",
                    value=self.quantization.group_size,
                )

    def _check_model_type(self) -> None:
        if self.model_type not in ARCHITECTURES:
            raise ConfigError(
                f"unknown model_type {self.model_type!r} (known: {', '.join(ARCHITECTURES)})",
                field="model_type",
                value=self.model_type,
            )
        biases = (self.qkv_bias, self.out_bias)
        fits = {
            "llama": biases in ((False, False), (True, True)) and not self.qk_norm,
            "mistral": biases == (False, False) and not self.mlp_bias and not self.qk_norm,
            "qwen2": biases == (True, False) and not self.mlp_bias and not self.qk_norm,
            "qwen3": biases in ((False, False), (True, True)) and not self.mlp_bias and self.qk_norm,
        }
        if not fits[self.model_type]:
            raise ConfigError(
                f"model_type {self.model_type!r} has no such mix of qkv_bias={self.qkv_bias}, "
                f"out_bias={self.out_bias}, mlp_bias={self.mlp_bias}, qk_norm={self.qk_norm}",
                field="model_type",
                value=self.model_type,
            )

    @property
    def head_size(self) -> int:
        """`head_dim` as an int (it is filled in on construction)."""
        assert self.head_dim is not None
        return self.head_dim

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All ids that end a text; empty where none is known."""
        if self.eos_id is None:
            return ()
        return self.eos_id if isinstance(self.eos_id, tuple) else (self.eos_id,)

    @property
    def num_parameters(self) -> int:
        """Parameters of the model, a tied embedding counted once."""
        q, kv = self.n_heads * self.head_size, self.n_kv_heads * self.head_size
        attention = self.dim * (2 * q + 2 * kv)
        attention += (q + 2 * kv) * self.qkv_bias + self.dim * self.out_bias + 2 * self.head_size * self.qk_norm
        mlp = 3 * self.dim * self.ffn_dim + (2 * self.ffn_dim + self.dim) * self.mlp_bias
        embeddings = self.vocab_size * self.dim * (1 if self.tie_embeddings else 2)
        return embeddings + self.n_layers * (attention + mlp + 2 * self.dim) + self.dim

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` of this model, as `transformers` 4.40 and later read it."""
        from biollm.models.hugging_face import to_hf

        return to_hf(self)

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> ModelConfig:
        """The configuration that `hf`, a `config.json` as a dict, has of a Llama, Yi, Mistral, Qwen2 or Qwen3 model.

        An absent key has the default of the `transformers` class of that `model_type`. Keys that class does not read
        are ignored here as there.

        Raises `ConfigError` naming the option: another architecture, mixture of experts, a sliding window shorter than
        the context, a rope scaling other than linear and llama3, another activation, quantized weights, dropout,
        partial rotary, a size missing or out of bounds.
        """
        from biollm.models.hugging_face import from_hf

        return from_hf(hf)


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _bounded(field: str, value: object, largest: int) -> None:
    if not is_int(value) or not 1 <= value <= largest:
        raise ConfigError(f"{field} must be an integer from 1 to {largest}, not {value!r}", field=field, value=value)


def _positive_float(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{field} must be a positive number, not {value!r}", field=field, value=value)
