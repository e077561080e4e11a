"""`ModelConfig` and its translation to and from Hugging Face."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from biollm.errors import ConfigError
from biollm.models import SIZES, ModelConfig, RopeScaling, model_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
SMALL = {"vocab_size": 100, "dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn_dim": 128}


@pytest.mark.parametrize("size", SIZES)
def test_every_named_size_round_trips(size: str) -> None:
    config = model_config(size, 32768, eos_id=0, pad_id=1)
    assert ModelConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("size", "vocab_size", "billions"),
    [("tiny", 2048, 0.001312), ("small", 4096, 0.00505), ("1B", 128256, 1.2358), ("8B", 128256, 8.0303)],
)
def test_sizes_have_the_parameters_they_are_named_for(size: str, vocab_size: int, billions: float) -> None:
    assert model_config(size, vocab_size).num_parameters == pytest.approx(billions * 1e9, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": RopeScaling("linear", 4.0)},
        {"rope_scaling": RopeScaling("llama3", 8.0, 1.0, 4.0, 64)},
        {"head_dim": 32},
        {"eos_id": (3, 4)},
        {"qkv_bias": True, "out_bias": True, "mlp_bias": True},
        {"model_type": "mistral"},
        {"model_type": "qwen2", "qkv_bias": True},
        {"model_type": "qwen3", "qk_norm": True, "head_dim": 128},
        {"tie_embeddings": True, "norm_eps": 1e-6, "init_std": 0.01},
    ],
)
def test_options_round_trip(changes: dict[str, Any]) -> None:
    config = ModelConfig(**SMALL, **changes)
    assert ModelConfig.from_hf(config.to_hf()) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_transformers_4_and_5_spellings_of_rope_mean_the_same() -> None:
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    old = {**LLAMA, "rope_scaling": {"type": "llama3", **llama3}}
    new = {key: value for key, value in LLAMA.items() if key != "rope_theta"}
    new["rope_parameters"] = {"rope_type": "llama3", "rope_theta": 500000.0, **llama3}
    assert ModelConfig.from_hf(old) == ModelConfig.from_hf(new)
    assert ModelConfig.from_hf(new).rope_theta == 500000.0


def test_absent_keys_have_the_defaults_of_the_transformers_class() -> None:
    short = {key: LLAMA[key] for key in LLAMA if key not in ("num_key_value_heads", "rms_norm_eps", "rope_theta")}
    config = ModelConfig.from_hf(short)
    assert (config.n_kv_heads, config.norm_eps, config.rope_theta, config.eos_id) == (4, 1e-6, 10000.0, 2)


def test_special_ids_outside_the_vocabulary_are_none() -> None:
    config = ModelConfig.from_hf({**LLAMA, "pad_token_id": -1, "eos_token_id": [5, 5000]})
    assert config.pad_id is None
    assert config.eos_ids == (5,)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model_type", "gpt2"),
        ("model_type", "mixtral"),
        ("model_type", None),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("hidden_act", "gelu"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_scaling", {"type": "dynamic", "factor": 4.0}),
        ("rope_scaling", {"rope_type": "longrope"}),
        ("rope_scaling", [1]),
        ("partial_rotary_factor", 0.5),
        ("pretraining_tp", 2),
        ("quantization_config", {"quant_method": "gptq"}),
        ("num_local_experts", 8),
        ("attention_dropout", 0.1),
        ("tie_word_embeddings", "yes"),
        ("rms_norm_eps", "1e-5"),
        ("hidden_size", None),
        ("hidden_size", 64.0),
        ("num_hidden_layers", True),
    ],
)
def test_options_we_lack_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option) as caught:
        ModelConfig.from_hf({**LLAMA, option: value})
    assert caught.value.field == option


def test_rope_scaling_without_its_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match="factor"):
        ModelConfig.from_hf({**LLAMA, "rope_scaling": {"rope_type": "llama3"}})


def test_a_sliding_window_is_refused_only_where_it_bites() -> None:
    mistral = {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    with pytest.raises(ConfigError, match="sliding_window"):
        ModelConfig.from_hf({**mistral, "sliding_window": 128})
    with pytest.raises(ConfigError, match="sliding_window"):  # absent: 4,096 in MistralConfig
        ModelConfig.from_hf({**mistral, "max_position_embeddings": 32768})
    assert ModelConfig.from_hf({**mistral, "sliding_window": 256}).max_seq_len == 256
    assert ModelConfig.from_hf({**mistral, "sliding_window": None}).model_type == "mistral"


def test_qwen2_sliding_layers_are_refused() -> None:
    qwen = {**LLAMA, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "sliding_window": 64}
    assert ModelConfig.from_hf(qwen).qkv_bias
    with pytest.raises(ConfigError, match="sliding_window"):
        ModelConfig.from_hf({**qwen, "use_sliding_window": True})
    with pytest.raises(ConfigError, match="layer_types"):
        ModelConfig.from_hf({**qwen, "layer_types": ["full_attention", "sliding_attention"]})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("vocab_size", 1 << 40),
        ("n_layers", 10**9),
        ("dim", -64),
        ("dim", 66),  # no multiple of n_heads
        ("head_dim", 15),
        ("n_kv_heads", 3),
        ("rope_theta", float("nan")),
        ("norm_eps", 0.0),
        ("eos_id", 100),
        ("bos_id", -1),
        ("model_type", "yi"),
        ("model_type", "qwen3"),  # has qk_norm
    ],
)
def test_values_out_of_bounds_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(ModelConfig(**SMALL), head_dim=None, **{field: value}) if field != "head_dim" else replace(
            ModelConfig(**SMALL), head_dim=value
        )
    assert caught.value.field == field


def test_unknown_sizes_and_overrides_are_named() -> None:
    with pytest.raises(ConfigError, match="huge"):
        model_config("huge", 100)
    with pytest.raises(ConfigError, match="depth"):
        model_config("tiny", 100, depth=3)
