"""Translation between `ModelConfig` and the `config.json` of Hugging Face.

Every option of a file that would change the result must be one that `models/llama.py` computes; any other is refused
by its name, because a model that loads and computes something else is worse than one that does not load. What the
`transformers` class of that `model_type` does not read is ignored here as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from biollm.errors import ConfigError
from biollm.models.config import ARCHITECTURES, ModelConfig, Quantization, RopeScaling, is_int

__all__ = ["QUANT_METHOD", "from_hf", "special_ids", "to_hf"]

QUANT_METHOD: Final = "biollm"
"""What `quantization_config` calls the layers of `models/quantized.py`."""
QUANTIZED_PREFIX: Final = "biollm_"
"""Stands before the `model_type` of a quantized model. `transformers` goes by that name: not knowing the method of a
`quantization_config` it would go on, with a warning, and fill the layers with random weights."""


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """See `ModelConfig.to_hf`."""
    hf: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.model_type]],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling_to_hf(config.rope_scaling),
        "tie_word_embeddings": config.tie_embeddings,
        "attention_dropout": 0.0,
        "use_cache": True,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_id) if isinstance(config.eos_id, tuple) else config.eos_id,
        "pad_token_id": config.pad_id,
    }
    if config.init_std is not None:
        hf["initializer_range"] = config.init_std
    if config.model_type in ("llama", "qwen3"):
        hf["attention_bias"] = config.qkv_bias
    if config.model_type == "llama":
        hf["mlp_bias"] = config.mlp_bias
    if config.model_type != "llama":
        hf["sliding_window"] = None
    if config.model_type in ("qwen2", "qwen3"):
        hf["use_sliding_window"] = False
    if (quantization := config.quantization) is not None:
        group_size = {} if quantization.group_size is None else {"group_size": quantization.group_size}
        hf["model_type"] = QUANTIZED_PREFIX + config.model_type
        hf["quantization_config"] = {"quant_method": QUANT_METHOD, "bits": quantization.bits, **group_size}
    return hf


def from_hf(hf: Mapping[str, Any]) -> ModelConfig:
    """See `ModelConfig.from_hf`."""
    model_type = hf.get("model_type")
    if isinstance(model_type, str) and hf.get("quantization_config") is not None:
        model_type = model_type.removeprefix(QUANTIZED_PREFIX)
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
    attention_bias = model_type == "qwen2" or (model_type in ("llama", "qwen3") and _boolean(options, "attention_bias"))
    return ModelConfig(
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
        quantization=_quantization_from_hf(hf.get("quantization_config")),
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


def _quantization_from_hf(found: Any) -> Quantization | None:
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, Mapping) else None
    if method != QUANT_METHOD:
        raise ConfigError(
            f"option quantization_config={found!r} is not supported (supported: quant_method {QUANT_METHOD!r})",
            field="quantization_config",
            value=found,
        )
    return Quantization(found.get("bits"), found.get("group_size"))


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
        ids = tuple(i for i in (value if isinstance(value, list) else [value]) if is_int(i) and 0 <= i < vocab_size)
        if ids:
            found[field] = ids if isinstance(value, list) else ids[0]
    return found
