"""A tokenizer of single bytes, for the tests of texts: ids 0–255 are bytes, 256–299 stand for `<id>`, others none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Encoding:
    ids: list[int]


class ByteTokenizer:
    def encode(self, text: str) -> Encoding:
        return Encoding(list(text.encode()))

    def decode(self, ids: Sequence[int], /) -> str:
        return b"".join(bytes([i]) if i < 256 else f"<{i}>".encode() for i in ids).decode(errors="replace")

    def id_to_token(self, token_id: int, /) -> bytes | None:
        return self.decode([token_id]).encode() if token_id < 300 else None
