"""What a tokenizer's files say beside the vocabulary: which pattern, which special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from biollm.errors import ConfigError, FileError, FormatError

__all__ = ["ENDOFTEXT", "PAD", "PATTERNS", "named_tokens", "read_bytes", "tiktoken_pattern", "tiktoken_special_tokens"]

ENDOFTEXT: Final = "<|endoftext|>"
PAD: Final = "<|pad|>"
#: Split patterns known by name.
PATTERNS: Final = ("gpt2", "cl100k", "llama3", "o200k")
#: Part of a `.tiktoken` file's name → its pattern.
_TIKTOKEN_NAMES: Final = (
    ("cl100k", "cl100k"),
    ("o200k", "o200k"),
    ("gpt2", "gpt2"),
    ("r50k", "gpt2"),
    ("p50k", "gpt2"),
)
#: (pattern, ranks in the file) → the special tokens that tiktoken gives the vocabulary beside.
_TIKTOKEN_SPECIAL: Final[Mapping[tuple[str, int], tuple[tuple[str, int], ...]]] = {
    ("gpt2", 50_256): ((ENDOFTEXT, 50_256),),
    ("cl100k", 100_256): (
        (ENDOFTEXT, 100_257),
        ("<|fim_prefix|>", 100_258),
        ("<|fim_middle|>", 100_259),
        ("<|fim_suffix|>", 100_260),
        ("<|endofprompt|>", 100_276),
    ),
    ("o200k", 199_998): ((ENDOFTEXT, 199_999), ("<|endofprompt|>", 200_018)),
}


def read_bytes(file: Path) -> bytes:
    """The whole file.

    Raises:
        FileError: the system refused.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileError.from_os_error(error, file) from error


def named_tokens(config: Path) -> dict[str, str]:
    """`eos_token` and `pad_token` of a `tokenizer_config.json`, where it is there and names them."""
    if not config.is_file():
        return {}
    try:
        data = json.loads(read_bytes(config))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", path=config) from error
    named: dict[str, str] = {}
    for name in ("eos_token", "pad_token"):
        token = data.get(name) if isinstance(data, dict) else None
        if isinstance(token, dict):  # an AddedToken written out
            token = token.get("content")
        if isinstance(token, str):
            named[name] = token
    return named


def tiktoken_pattern(file: Path, pattern: str | None) -> str:
    """The split pattern of a `.tiktoken` file: the one given, else the one its name names.

    Raises:
        ConfigError: neither is known.
    """
    named = next((known for part, known in _TIKTOKEN_NAMES if part in file.name.lower()), None)
    if (split := pattern or named) is None:
        message = f"the pattern of {file.name} is not known by its name: give pattern= one of {', '.join(PATTERNS)}"
        raise ConfigError(message, path=file, field="pattern")
    if split not in PATTERNS:
        message = f"pattern {split!r} is not one of {', '.join(PATTERNS)}"
        raise ConfigError(message, path=file, field="pattern", value=split)
    return split


def tiktoken_special_tokens(data: bytes, pattern: str) -> tuple[tuple[str, int], ...]:
    """The special tokens that tiktoken gives a vocabulary of this pattern and size; none where it has no such one."""
    ranks = sum(1 for line in data.splitlines() if line)
    return _TIKTOKEN_SPECIAL.get((pattern, ranks), ())
