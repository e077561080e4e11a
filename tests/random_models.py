"""Small random models of the Llama family, made by `transformers`: the oracle of the model and generation tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,  # wide enough that attention is sharp and greedy texts do not repeat one token
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama, biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "llama, tied, llama3 rope": ("LlamaConfig", {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE}),
    "llama, linear rope": (
        "LlamaConfig",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "llama, one key head": ("LlamaConfig", {"num_key_value_heads": 1}),
    "llama, all key heads": ("LlamaConfig", {"num_key_value_heads": 4}),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 32}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 32}),
}


def random_hf_model(member: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """A `transformers` model in fp32, biases and norms random too (they are 0 and 1 when fresh)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config_name, options = FAMILY[member]
    config = getattr(transformers, config_name)(**{**SHAPE, "bos_token_id": 1, "eos_token_id": 2, **options, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def random_hf_folder(folder: Path, member: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """The same, saved; gives the model."""
    model = random_hf_model(member, seed=seed, **changes)
    model.save_pretrained(folder)
    return model
