"""`Tokenizer`: a byte-level BPE tokenizer, immutable; every option is an argument of the call."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from biollm import _native
from biollm.atomic import write_bytes
from biollm.columns import text_array, text_chunks, values
from biollm.errors import BiollmError, ConfigError, FormatError, InputError
from biollm.tokenization.encoding import BatchEncoding, Encoding
from biollm.tokenization.tokenizer_files import (
    ENDOFTEXT,
    PAD,
    named_tokens,
    read_bytes,
    tiktoken_pattern,
    tiktoken_special_tokens,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

    from biollm.results import Progress

__all__ = ["AllowSpecial", "Tokenizer"]

#: Special tokens that are looked for in a text: none of them, all, or these.
AllowSpecial = Literal["none", "all"] | Sequence[str]


@final
class Tokenizer:
    """A byte-level BPE tokenizer. Frozen, picklable, safe under threads, fork and spawn.

    Every text has ids, and decoding them gives the text back. Special tokens are never read out of plain text unless
    the call allows it: `"<|end|>"` in a document is seven characters like any others.

    Made by `Tokenizer.from_file`, `Tokenizer.from_json` or `biollm.tokenization.train`; the constructor takes the
    `native` tokenizer and the `eos` and `pad` tokens of these.
    """

    def __init__(self, native: _native.Tokenizer, *, eos: str | None = None, pad: str | None = None) -> None:
        special = {content for _, content, special in native.added_tokens if special}
        for name, token in (("eos", eos), ("pad", pad)):
            if token is not None and native.token_to_id(token.encode()) is None:
                raise FormatError(f"the {name} token {token!r} is not in the vocabulary", field=f"{name}_token")
        self._native = native
        self._eos = eos if eos is not None else ENDOFTEXT if ENDOFTEXT in special else None
        self._pad = pad if pad is not None else PAD if PAD in special else None

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> Tokenizer:
        """Loads a tokenizer.

        Args:
            path: a `tokenizer.json` of byte-level BPE (GPT-2, Llama 3, our own, …) or a folder that holds one, or a
                `.tiktoken` file. A `tokenizer_config.json` beside a `tokenizer.json` names the EOS and pad tokens;
                without it they are `<|endoftext|>` and `<|pad|>`, where the vocabulary has these.
            pattern: split pattern of a `.tiktoken` file: "gpt2", "cl100k", "llama3" or "o200k"; without it, the one
                that the file's name names (gpt2, r50k, p50k, cl100k, o200k).
            special_tokens: of a `.tiktoken` file, content → id; without it, those of tiktoken's encoding of that
                pattern and size.

        Returns:
            The tokenizer.

        Raises:
            FileError: the file cannot be read.
            FormatError: the file is broken, or has something that cannot be honoured exactly; `field` names it.
            ConfigError: a `.tiktoken` file of unknown pattern, or an option that the kind of file does not have.
            LimitError: over 256 MiB, or over 2,097,152 ids.
        """
        file = Path(path)
        if file.is_dir():
            file /= "tokenizer.json"
        data = read_bytes(file)
        if file.suffix == ".json":
            if pattern is not None or special_tokens is not None:
                message = f"{file.name} has its own pattern and special tokens: give neither"
                raise ConfigError(message, path=file, field="pattern")
            names = named_tokens(file.with_name("tokenizer_config.json"))
            return cls._load(file, data, eos=names.get("eos_token"), pad=names.get("pad_token"))
        if file.suffix != ".tiktoken":
            message = f"{file.name} is neither a .json nor a .tiktoken file"
            raise ConfigError(message, path=file, field="path")
        split = tiktoken_pattern(file, pattern)
        given = special_tokens.items() if special_tokens is not None else tiktoken_special_tokens(data, split)
        return cls._load(file, data, split, list(given))

    @classmethod
    def from_json(cls, data: bytes | str, *, eos: str | None = None, pad: str | None = None) -> Tokenizer:
        """A tokenizer from `data`, the content of a `tokenizer.json`; `eos`, `pad`: tokens, else as in `from_file`.

        Raises:
            FormatError: as `from_file`. InputError: a str with lone surrogates.
        """
        if isinstance(data, str):
            try:
                data = data.encode()
            except UnicodeEncodeError as error:
                raise InputError(f"the JSON is not valid Unicode: {error}", field="data") from None
        return cls(_native.Tokenizer(data), eos=eos, pad=pad)

    @classmethod
    def _load(
        cls,
        file: Path,
        data: bytes,
        pattern: str | None = None,
        special: Sequence[tuple[str, int]] = (),
        *,
        eos: str | None = None,
        pad: str | None = None,
    ) -> Tokenizer:
        try:
            return cls(_native.Tokenizer(data, pattern, list(special)), eos=eos, pad=pad)
        except BiollmError as error:
            if error.path is not None:
                raise
            raise type(error)(error.message, **{**error._attributes(), "path": file}) from None

    # --- text to ids -------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special: bool = True, allow_special: AllowSpecial = "none") -> Encoding:
        """The ids of a text.

        Args:
            text: any str without lone surrogates.
            add_special: puts the tokens of the file's template around it (Llama 3: `<|begin_of_text|>`); files without
                one, our own among them, add nothing.
            allow_special: special tokens that are looked for in the text: "none", "all", or a list of them. Added
                tokens that a file does not call special are always looked for, as `tokenizers` does.

        Raises:
            InputError: the text has a lone surrogate, or `allow_special` names what is no special token.
        """
        buffer = self._native.encode(text, add_special=add_special, allow_special=_allowed(allow_special))
        return Encoding(values(buffer, np.uint32))

    def encode_batch(
        self,
        texts: Sequence[str] | pa.Array | pa.ChunkedArray,
        *,
        add_special: bool = True,
        allow_special: AllowSpecial = "none",
        append_eos: bool = False,
        max_document_bytes: int | None = None,
        threads: int | None = None,
        out: Literal["flat"] = "flat",
        progress: Progress | None = None,
    ) -> BatchEncoding:
        """The ids of many texts; the same for any number of threads.

        Args:
            texts: a list of str, or an Arrow column of text.
            add_special: as in `encode`.
            allow_special: as in `encode`.
            append_eos: puts the EOS id at the end of each text.
            max_document_bytes: longest text, UTF-8; `None` is 256 MiB.
            threads: worker threads; `None` is the cores this process may use.
            out: "flat": ids end to end and offsets.
            progress: called with texts done and texts in all.

        Raises:
            InputError: a text has a lone surrogate or is null (`row`); an unknown special token; no EOS token.
            LimitError: a text is too long (`row`). ConfigError: an unknown `out`.
        """
        import pyarrow as pa

        if out != "flat":
            raise ConfigError(f"out is {out!r}: only 'flat' is supported", field="out", value=out)
        if append_eos and self.eos_id is None:
            raise InputError("the tokenizer has no EOS token to append: pass append_eos=False", field="append_eos")
        column = texts if isinstance(texts, (pa.Array, pa.ChunkedArray)) else text_array(list(texts))
        ids, offsets = self._native.encode_batch(
            text_chunks(column),
            add_special=add_special,
            allow_special=_allowed(allow_special),
            append=self.eos_id if append_eos else None,
            max_document_bytes=max_document_bytes,
            threads=threads,
            progress=progress,
        )
        return BatchEncoding(values(ids, np.uint32), values(offsets, np.uint64))

    # --- ids to text -------------------------------------------------------------------------------------------------

    def decode(
        self, ids: ArrayLike, *, skip_special: bool = False, errors: Literal["replace", "strict"] = "replace"
    ) -> str:
        """The text of a list of ids.

        Args:
            ids: integers, shape (tokens,).
            skip_special: leaves special tokens out.
            errors: what to do where the bytes are not UTF-8 (ids that were cut inside a character): "replace" puts
                U+FFFD, one for each maximal invalid part, as `bytes.decode` does; "strict" raises InputError.

        Raises:
            InputError: an id that no token has (`row`), or one that is no integer.
        """
        return _text(self._native.decode(_id_array(ids), skip_special=skip_special), errors)

    def decode_bytes(self, ids: ArrayLike, *, skip_special: bool = False) -> bytes:
        """The bytes that `ids` stand for, UTF-8 or not; `skip_special` and otherwise as `decode`."""
        return self._native.decode(_id_array(ids), skip_special=skip_special)

    def decode_batch(
        self,
        batch: BatchEncoding | Sequence[ArrayLike],
        *,
        skip_special: bool = False,
        errors: Literal["replace", "strict"] = "replace",
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """The texts of many lists of ids.

        Args:
            batch: what `encode_batch` gave, or a list of lists of ids.
            skip_special: leave special tokens out.
            errors: what to do about bytes that are not UTF-8, as in `decode`.
            threads: worker threads; `None` is the cores this process may use.
            progress: called with lists done and lists in all.

        Raises:
            InputError: as `decode`.
        """
        if isinstance(batch, BatchEncoding):
            ids, offsets = np.ascontiguousarray(batch.ids), np.ascontiguousarray(batch.offsets)
        else:
            lists = [_id_array(item) for item in batch]
            ids = np.concatenate(lists) if lists else np.zeros(0, np.uint32)
            offsets = np.zeros(len(lists) + 1, np.uint64)
            np.cumsum([len(item) for item in lists], out=offsets[1:])
        data, ends = self._native.decode_batch(
            ids, offsets, skip_special=skip_special, threads=threads, progress=progress
        )
        whole, starts = memoryview(data), values(ends, np.int64).tolist()
        return [_text(bytes(whole[a:b]), errors) for a, b in pairwise(starts)]

    # --- the vocabulary ----------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; ids below it may be unused."""
        return self._native.vocab_size

    @property
    def pattern(self) -> str:
        """Name of the split pattern."""
        return self._native.pattern

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special token → id, in order of ids."""
        return {content: id_ for id_, content, special in self._native.added_tokens if special}

    @property
    def eos_token(self) -> str | None:
        """The token that ends a document."""
        return self._eos

    @property
    def pad_token(self) -> str | None:
        """The token that fills batches."""
        return self._pad

    @property
    def eos_id(self) -> int | None:
        """The id that ends a document."""
        return None if self._eos is None else self.token_to_id(self._eos)

    @property
    def pad_id(self) -> int | None:
        """The id that fills batches."""
        return None if self._pad is None else self.token_to_id(self._pad)

    def token_to_id(self, token: str | bytes) -> int | None:
        """The id of a `token` as it stands in a text (`" cell"`, not `"Ġcell"`) or as bytes; `None`: no such token."""
        try:
            return self._native.token_to_id(token.encode() if isinstance(token, str) else token)
        except UnicodeEncodeError:
            return None

    def id_to_token(self, token_id: int) -> bytes | None:
        """The bytes of a token (part of a character, perhaps); `None` where none has this `token_id`."""
        return self._native.id_to_token(token_id)

    # --- files -------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The content of a `tokenizer.json` that `tokenizers` and `transformers` load with equal ids: that of the file
        it came from, or one made from the `.tiktoken` file's ranks.

        Raises:
            InputError: a cl100k vocabulary of a kind for which no `tokenizer.json` gives equal ids.
        """
        return self._json.decode()

    @property
    def sha256(self) -> str:
        """Of the `tokenizer.json`, hexadecimal: two tokenizers of one sha256 are the same."""
        return hashlib.sha256(self._json).hexdigest()

    def config_json(self) -> str:
        """The content of the `tokenizer_config.json` that goes with `to_json`: names the class and the EOS and pad
        tokens, so that transformers' `AutoTokenizer` loads the folder.
        """
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        if self._eos is not None:
            config["eos_token"] = self._eos
        if self._pad is not None:
            config["pad_token"] = self._pad
        return json.dumps(config, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> dict[str, str]:
        """Writes `tokenizer.json` (to a `path` that ends in .json), or into a folder that and `tokenizer_config.json`.

        Returns:
            File name → xxh3-128.

        Raises:
            FileError: the system refused. InputError: as `to_json`.
        """
        target = Path(path)
        if target.suffix == ".json":
            return {target.name: write_bytes(target, self._json)}
        config = self.config_json().encode()
        return {
            "tokenizer.json": write_bytes(target / "tokenizer.json", self._json),
            "tokenizer_config.json": write_bytes(target / "tokenizer_config.json", config),
        }

    @cached_property
    def _json(self) -> bytes:
        return self._native.to_json()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._native, self._eos, self._pad)

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, pattern={self.pattern!r}, eos={self._eos!r})"


def _rebuild(native: _native.Tokenizer, eos: str | None, pad: str | None) -> Tokenizer:
    return Tokenizer(native, eos=eos, pad=pad)


def _allowed(allow_special: AllowSpecial) -> list[str] | None:
    """As the native side takes it: none, all (`None`), or a list."""
    if allow_special == "none":
        return []
    if allow_special == "all":
        return None
    if isinstance(allow_special, str):
        message = f"allow_special is {allow_special!r}: 'none', 'all', or a list of special tokens"
        raise InputError(message, field="allow_special", value=allow_special)
    return list(allow_special)


def _id_array(ids: ArrayLike) -> NDArray[np.uint32]:
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        kind = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"ids are {kind}: a list or one-dimensional array of integers is needed", field="ids")
    if array.dtype != np.uint32:
        wrong = (array < 0) | (array >= 1 << 32) if array.size else np.zeros(0, bool)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(f"ids[{row}] is {array[row]}: no token has this id", row=row, field="ids")
    return np.ascontiguousarray(array, np.uint32)


def _text(data: bytes, errors: str) -> str:
    if errors not in ("replace", "strict"):
        raise ConfigError(f"errors is {errors!r}: 'replace' or 'strict'", field="errors", value=errors)
    try:
        return data.decode(errors=errors)
    except UnicodeDecodeError as error:
        raise InputError(f"the ids are not those of a whole text: {error}", field="ids") from None
