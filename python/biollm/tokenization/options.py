"""The options of `tokenize`: what a recipe's stage, the command and the call share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from biollm import _native
from biollm.errors import ConfigError

__all__ = [
    "ALGORITHM_VERSION",
    "DEFAULT_PATTERN",
    "DEFAULT_SHARD_TOKENS",
    "TRAINED_PATTERNS",
    "UNMATCHED_OPTIONS",
    "TokenizeOptions",
]

ALGORITHM_VERSION: Final = 1
"""Raised when the same options and documents give other shards."""
UNMATCHED_OPTIONS: Final = frozenset({"max_document_bytes", "threads"})
"""Options that do not change the output."""
DEFAULT_SHARD_TOKENS: Final = 1 << 27
"""256 MiB of uint16."""
TRAINED_PATTERNS: Final = ("llama3", "gpt2", "o200k")
"""Split patterns that a `tokenizer.json` can declare."""
DEFAULT_PATTERN: Final = "llama3"


@dataclass(frozen=True, kw_only=True)
class TokenizeOptions:
    """Options of a tokenization. Raises ConfigError, naming the field and a way out, where a value makes no sense.

    Attributes:
        tokenizer: a tokenizer.json, a folder that holds one, or a .tiktoken file; or train one by vocab_size.
        vocab_size: train a vocabulary of this many ids, special tokens and the 256 bytes among them, on the train side.
        min_frequency: with vocab_size, the least count of a pair that is merged.
        pattern: with vocab_size, the split pattern of the vocabulary: llama3, gpt2 or o200k.
        validation_fraction: share of the groups that go to the validation split, in [0, 1).
        group: column whose documents stay on one side of the split; by default cluster_id where there is one, else id.
        append_eos: end each document with the EOS id.
        seed: draws the split.
        shard_tokens: a shard is closed by the document that reaches this many tokens.
        text: column of the text, or several joined by a blank line.
        id: column of the ids; without one a document is known by its file and row number.
        max_document_bytes: longest document in bytes of UTF-8; a longer one is an error.
        threads: worker threads; without a number, the cores this process may use.
    """

    tokenizer: str | None = field(default=None, metadata={"path": True})
    vocab_size: int | None = None
    min_frequency: int = 2
    pattern: str = DEFAULT_PATTERN
    validation_fraction: float = 0.02
    group: str | None = None
    append_eos: bool = True
    seed: int = 0
    shard_tokens: int = DEFAULT_SHARD_TOKENS
    text: str | tuple[str, ...] = "text"
    id: str | None = None
    max_document_bytes: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if (self.tokenizer is None) == (self.vocab_size is None):
            given = "both are given" if self.tokenizer is not None else "neither is given"
            message = f"exactly one of tokenizer (a file to load) and vocab_size (to train one) is needed: {given}"
            raise ConfigError(message, field="vocab_size")
        if not 0 <= self.validation_fraction < 1:
            message = f"validation_fraction is {self.validation_fraction}, not in [0, 1)"
            raise ConfigError(message, field="validation_fraction", value=self.validation_fraction)
        if self.pattern not in TRAINED_PATTERNS:
            message = f"pattern {self.pattern!r} is not one of {', '.join(TRAINED_PATTERNS)}"
            raise ConfigError(message, field="pattern", value=self.pattern)
        for name in ("vocab_size", "min_frequency", "shard_tokens", "max_document_bytes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: give 1 or more", field=name, value=value)
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError(f"seed is {self.seed}, not in [0, 2**64)", field="seed", value=self.seed)

    def matched(self) -> dict[str, Any]:
        """The options that change the output, as plain JSON values; the tokenizer by the content of its files.

        Raises:
            FileError: the tokenizer cannot be read.
        """
        options = {name: value for name, value in asdict(self).items() if name not in UNMATCHED_OPTIONS}
        options["text"] = list(self.text) if isinstance(self.text, tuple) else self.text
        # In place of a path, a tokenizer in memory is named by its checksum.
        if self.tokenizer is not None and not self.tokenizer.startswith("sha256:"):
            options["tokenizer"] = _contents(Path(self.tokenizer))
        return options


def _contents(tokenizer: Path) -> dict[str, str]:
    """File name → xxh3-128 of what `Tokenizer.from_file` reads."""
    file = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    config = file.with_name("tokenizer_config.json")
    read = [file, *([config] if file.suffix == ".json" and config.is_file() else [])]
    return {path.name: _native.hash_file(path) for path in read}
