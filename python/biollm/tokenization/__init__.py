"""Byte-level BPE: vocabularies trained and applied in Rust, and the token shards that training reads.

`Tokenizer` loads, encodes, decodes and saves; `train` makes a vocabulary; `tokenize` turns documents into `Shards`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.tokenization.encoding import BatchEncoding, Encoding
    from biollm.tokenization.shard_writer import ShardWriter
    from biollm.tokenization.sharding import tokenize
    from biollm.tokenization.shards import Shard, Shards
    from biollm.tokenization.tokenizer import Tokenizer
    from biollm.tokenization.vocabulary import train
else:
    _HOMES = {
        "BatchEncoding": "encoding",
        "Encoding": "encoding",
        "Shard": "shards",
        "ShardWriter": "shard_writer",
        "Shards": "shards",
        "Tokenizer": "tokenizer",
        "tokenize": "sharding",
        "train": "vocabulary",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'biollm.tokenization' has no attribute {name!r}")
        value = getattr(import_module(f"biollm.tokenization.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = ["BatchEncoding", "Encoding", "Shard", "ShardWriter", "Shards", "Tokenizer", "tokenize", "train"]
