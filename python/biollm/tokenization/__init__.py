"""Byte-level BPE: vocabularies trained and applied in Rust, and the token shards that training reads.

`Tokenizer` loads, encodes, decodes and saves; `train` makes a vocabulary; `tokenize` turns documents into `Shards`;
`ChatTemplate` turns chats into text and ids.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.tokenization.chat import CHAT_TEMPLATE, ChatTemplate, EncodedChat
    from biollm.tokenization.encoding import BatchEncoding, Encoding
    from biollm.tokenization.shard_writer import ShardWriter
    from biollm.tokenization.sharding import tokenize
    from biollm.tokenization.shards import Shard, Shards
    from biollm.tokenization.tokenizer import Tokenizer
    from biollm.tokenization.vocabulary import train
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "CHAT_TEMPLATE": "chat",
        "BatchEncoding": "encoding",
        "ChatTemplate": "chat",
        "EncodedChat": "chat",
        "Encoding": "encoding",
        "Shard": "shards",
        "ShardWriter": "shard_writer",
        "Shards": "shards",
        "Tokenizer": "tokenizer",
        "tokenize": "sharding",
        "train": "vocabulary",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)


__all__ = [
    "CHAT_TEMPLATE",
    "BatchEncoding",
    "ChatTemplate",
    "EncodedChat",
    "Encoding",
    "Shard",
    "ShardWriter",
    "Shards",
    "Tokenizer",
    "tokenize",
    "train",
]
