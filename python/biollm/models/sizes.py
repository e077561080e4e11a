"""Named model sizes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from biollm.errors import ConfigError
from biollm.models.config import ModelConfig

__all__ = ["SIZES", "model_config"]


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
"""Name → fields of `ModelConfig`; the vocabulary comes from the shards."""
# fmt: on


def model_config(size: str, vocab_size: int, **overrides: Any) -> ModelConfig:
    """The config of a named size.

    Args:
        size: a key of `SIZES`.
        vocab_size: ids in all.
        **overrides: any field of `ModelConfig`, by name.

    Raises:
        ConfigError: an unknown size or field, or values that do not fit.
    """
    if size not in SIZES:
        raise ConfigError(f"unknown model size {size!r} (known: {', '.join(SIZES)})", field="size", value=size)
    unknown = sorted(set(overrides) - set(ModelConfig.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"unknown model option {unknown[0]!r}", field=unknown[0], value=overrides[unknown[0]])
    return ModelConfig(**{"vocab_size": vocab_size, **SIZES[size], **overrides})
