"""What a model is made of, and its translation to and from a Hugging Face `config.json`.

`ModelConfig` describes the dense Llama family: pre-norm blocks of grouped-query attention with rotary positions and a
SwiGLU feed-forward. Mistral, Yi, Qwen2 and Qwen3 are members that switch a few options on. `from_hf` takes a
`config.json` only if every option in it that would change the result is one `models/llama.py` computes; any other is
refused by its name, because a model that loads and computes something else is worse than one that does not load.

This module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from biollm.errors import ConfigError

__all__ = ["ARCHITECTURES", "SIZES", "ModelConfig", "RopeScaling", "model_config", "special_ids"]

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
class ModelConfig:
    """The shape and options of one model. Frozen: `dataclasses.replace` makes a variant.

    Lengths are in tokens, sizes in elements. `head_dim=None` becomes `dim // n_heads`.

    Raises `ConfigError` naming the field for any size out of bounds or options that do not fit together.
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
                if token_id is not None and not (_is_int(token_id) and 0 <= token_id < self.vocab_size):
                    raise ConfigError(
                        f"{field} {token_id!r} is not an id of a vocabulary of {self.vocab_size}",
                        field=field,
                        value=token_id,
                    )
        self._check_model_type()

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
        hf: dict[str, Any] = {
            "architectures": [ARCHITECTURES[self.model_type]],
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.dim,
            "intermediate_size": self.ffn_dim,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_seq_len,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": _rope_scaling_to_hf(self.rope_scaling),
            "tie_word_embeddings": self.tie_embeddings,
            "attention_dropout": 0.0,
            "use_cache": True,
            "bos_token_id": self.bos_id,
            "eos_token_id": list(self.eos_id) if isinstance(self.eos_id, tuple) else self.eos_id,
            "pad_token_id": self.pad_id,
        }
        if self.init_std is not None:
            hf["initializer_range"] = self.init_std
        if self.model_type in ("llama", "qwen3"):
            hf["attention_bias"] = self.qkv_bias
        if self.model_type == "llama":
            hf["mlp_bias"] = self.mlp_bias
        if self.model_type != "llama":
            hf["sliding_window"] = None
        if self.model_type in ("qwen2", "qwen3"):
            hf["use_sliding_window"] = False
        return hf

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any]) -> ModelConfig:
        """Read a `config.json` (as a dict) of a Llama, Yi, Mistral, Qwen2 or Qwen3 model.

        An absent key has the default of the `transformers` class of that `model_type`. Keys that class does not read
        are ignored here as there.

        Raises `ConfigError` naming the option: another architecture, mixture of experts, a sliding window shorter than
        the context, a rope scaling other than linear and llama3, another activation, quantized weights, dropout,
        partial rotary, a size missing or out of bounds.
        """
        model_type = hf.get("model_type")
        if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
            raise ConfigError(
                f"model_type {model_type!r} is not supported (supported: {', '.join(ARCHITECTURES)})",
                field="model_type",
                value=model_type,
            )
        architectures = hf.get("architectures")
        if architectures and ARCHITECTURES[model_type] not in architectures:
            raise ConfigError(
                f"architectures {architectures!r} is not supported for model_type {model_type!r} "
                f"(supported: {ARCHITECTURES[model_type]})",
                field="architectures",
                value=architectures,
            )
        _refuse_options(hf)
        options = {**_HF_DEFAULTS[model_type], **hf}
        max_seq_len = _integer(options, "max_position_embeddings")
        _refuse_sliding_window(options, model_type, max_seq_len)
        n_heads = _integer(options, "num_attention_heads")
        theta, scaling = _rope_from_hf(options, max_seq_len)
        attention_bias = model_type == "qwen2" or (
            model_type in ("llama", "qwen3") and _boolean(options, "attention_bias")
        )
        return cls(
            vocab_size=_integer(options, "vocab_size"),
            dim=_integer(options, "hidden_size"),
            n_layers=_integer(options, "num_hidden_layers"),
            n_heads=n_heads,
            n_kv_heads=n_heads if options["num_key_value_heads"] is None else _integer(options, "num_key_value_heads"),
            ffn_dim=_integer(options, "intermediate_size"),
            max_seq_len=max_seq_len,
            head_dim=None if options.get("head_dim") is None else _integer(options, "head_dim"),
            rope_theta=theta,
            rope_scaling=scaling,
            norm_eps=_number(options, "rms_norm_eps"),
            tie_embeddings=_boolean(options, "tie_word_embeddings"),
            qkv_bias=attention_bias,
            out_bias=attention_bias and model_type != "qwen2",
            mlp_bias=model_type == "llama" and _boolean(options, "mlp_bias"),
            qk_norm=model_type == "qwen3",
            init_std=None if options.get("initializer_range") is None else _number(options, "initializer_range"),
            model_type=model_type,
            **special_ids(options, _integer(options, "vocab_size")),
        )


# Defaults of transformers' config classes (read in version 5.23); sizes every file states are left out on purpose.
_COMMON: Final[Mapping[str, Any]] = {
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    "use_sliding_window": False,
}
_HF_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": {**_COMMON, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2},
    "mistral": {
        **_COMMON,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "qwen2": {**_COMMON, "max_position_embeddings": 32768, "num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {
        **_COMMON,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "sliding_window": 4096,
    },
}

# Options that would change the result, each with the values under which it changes nothing.
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "hidden_act": ("silu", "swish"),
    "attention_dropout": (None, 0, 0.0),
    "partial_rotary_factor": (None, 1, 1.0),
    "pretraining_tp": (None, 1),
    "quantization_config": (None,),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
}


def _refuse_options(hf: Mapping[str, Any]) -> None:
    for option, neutral in _NEUTRAL.items():
        if option in hf and hf[option] not in neutral:
            raise ConfigError(f"option {option}={hf[option]!r} is not supported", field=option, value=hf[option])


def _refuse_sliding_window(options: Mapping[str, Any], model_type: str, max_seq_len: int) -> None:
    layer_types = options.get("layer_types")
    if layer_types and any(kind != "full_attention" for kind in layer_types):
        raise ConfigError("option layer_types with sliding attention is not supported", field="layer_types")
    used = model_type == "mistral" or (
        model_type in ("qwen2", "qwen3") and _boolean(options, "use_sliding_window") and not layer_types
    )
    window = options["sliding_window"]
    if used and window is not None and _integer(options, "sliding_window") < max_seq_len:
        raise ConfigError(
            f"option sliding_window={window} is not supported: it is shorter than the context of {max_seq_len} tokens",
            field="sliding_window",
            value=window,
        )


def _rope_from_hf(options: Mapping[str, Any], max_seq_len: int) -> tuple[float, RopeScaling | None]:
    """Base and scaling from `rope_theta` + `rope_scaling` (transformers 4) or `rope_parameters` (5)."""
    rope = options.get("rope_scaling") or options.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError("option rope_scaling must be an object", field="rope_scaling", value=rope)
    theta = rope.get("rope_theta", options.get("rope_theta", 10000.0))
    theta = _number({"rope_theta": theta}, "rope_theta")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise ConfigError(
            f"option partial_rotary_factor={rope['partial_rotary_factor']!r} is not supported",
            field="partial_rotary_factor",
            value=rope["partial_rotary_factor"],
        )
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", _number(rope, "factor"))
    if kind == "llama3":
        return theta, RopeScaling(
            "llama3",
            _number(rope, "factor"),
            _number(rope, "low_freq_factor"),
            _number(rope, "high_freq_factor"),
            _integer({"original_max_position_embeddings": max_seq_len, **rope}, "original_max_position_embeddings"),
        )
    raise ConfigError(
        f"rope_scaling of type {kind!r} is not supported (supported: linear, llama3)", field="rope_scaling", value=kind
    )


def _rope_scaling_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "type": "linear", "factor": scaling.factor}
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_seq_len,
    }


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _bounded(field: str, value: object, largest: int) -> None:
    if not _is_int(value) or not 1 <= value <= largest:
        raise ConfigError(f"{field} must be an integer from 1 to {largest}, not {value!r}", field=field, value=value)


def _positive_float(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{field} must be a positive number, not {value!r}", field=field, value=value)


def _integer(options: Mapping[str, Any], key: str) -> int:
    value = options.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"option {key} must be an integer, not {value!r}", field=key, value=value)
    return value


def _number(options: Mapping[str, Any], key: str) -> float:
    value = options.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"option {key} must be a number, not {value!r}", field=key, value=value)
    return float(value)


def _boolean(options: Mapping[str, Any], key: str) -> bool:
    value = options.get(key)
    if not isinstance(value, bool):
        raise ConfigError(f"option {key} must be true or false, not {value!r}", field=key, value=value)
    return value


def special_ids(options: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """`bos_id`, `eos_id` and `pad_id` where a `config.json` or `generation_config.json` has them.

    -1 and other ids outside the vocabulary, which some published files carry, mean none.
    """
    found: dict[str, Any] = {}
    for field, key in (("bos_id", "bos_token_id"), ("eos_id", "eos_token_id"), ("pad_id", "pad_token_id")):
        value = options.get(key)
        ids = tuple(i for i in (value if isinstance(value, list) else [value]) if _is_int(i) and 0 <= i < vocab_size)
        if ids:
            found[field] = ids if isinstance(value, list) else ids[0]
    return found


def _size(
    dim: int, layers: int, heads: int, kv_heads: int, ffn: int, context: int, theta: float, tied: bool
) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "dim": dim,
            "n_layers": layers,
            "n_heads": heads,
            "n_kv_heads": kv_heads,
            "ffn_dim": ffn,
            "max_seq_len": context,
            "rope_theta": theta,
            "tie_embeddings": tied,
        }
    )


# fmt: off
# Named sizes. The vocabulary comes from the shards; the parameters stand beside each for the vocabulary in brackets.
SIZES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        #               dim  layers heads  kv    ffn context     theta   tied
        "tiny":  _size( 128,     4,    4,   2,   384,    512,    10000.0, False),  # 1.3M (2,048)
        "small": _size( 256,     4,    4,   2,   704,   1024,    10000.0, False),  # 5.0M (4,096)
        "15M":   _size( 384,     6,    6,   2,  1024,   1024,    10000.0, True),   # 15M (16,384)
        "60M":   _size( 640,     8,   10,   2,  1728,   2048,    10000.0, True),   # 55M (32,768)
        "125M":  _size( 768,    12,   12,   4,  2048,   2048,    10000.0, True),   # 101M (32,768)
        "350M":  _size(1024,    24,   16,   4,  2816,   4096,    10000.0, True),   # 304M (32,768)
        "1B":    _size(2048,    16,   32,   8,  8192,   8192,   500000.0, True),   # 1.2B (128,256): Llama 3.2 1B
        "3B":    _size(3072,    28,   24,   8,  8192,   8192,   500000.0, True),   # 3.2B (128,256): Llama 3.2 3B
        "8B":    _size(4096,    32,   32,   8, 14336,   8192,   500000.0, False),  # 8.0B (128,256): Llama 3 8B
    }
)
# fmt: on


def model_config(size: str, vocab_size: int, **overrides: Any) -> ModelConfig:
    """The config of a named size (a key of `SIZES`) with a vocabulary, and any field overridden by name.

    Raises `ConfigError` for an unknown size or field, or values that do not fit.
    """
    if size not in SIZES:
        raise ConfigError(f"unknown model size {size!r} (known: {', '.join(SIZES)})", field="size", value=size)
    unknown = sorted(set(overrides) - set(ModelConfig.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"unknown model option {unknown[0]!r}", field=unknown[0], value=overrides[unknown[0]])
    return ModelConfig(**{"vocab_size": vocab_size, **SIZES[size], **overrides})
