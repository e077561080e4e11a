"""The documents of a quantization: some to fit the rounding to, others, none of them among the first, to judge it by.

Token shards give calibration documents from their train side and held-out ones from their validation side, or, without
one, both from what there is. Documents with text are drawn in one pass and encoded by the checkpoint's tokenizer. A
document whose tokens are those of a held-out one never calibrates: it is left out and counted.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biollm.errors import FileError, InputError
from biollm.manifest import InputRecord
from biollm.models.config import ModelConfig
from biollm.quantization.options import QuantizeOptions
from biollm.tokenization.shards import INDEX_NAME, Shards

__all__ = ["Samples", "draw_samples", "opened_shards"]

MAX_CALIBRATION_TOKENS: Final = 2048
"""Tokens read of one calibration document; held-out ones are read whole."""
HELD_OUT_SHARE: Final = 3
"""Of too few documents for both, one in so many is held out."""

Ids = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Documents as token ids.

    Attributes:
        calibration: to fit to; each of 1 to `MAX_CALIBRATION_TOKENS` tokens, and no longer than the context.
        held_out: to judge by; each of at least 2 tokens.
        held_out_masks: of each of these, 1 where a token is in the loss; `None`: all are.
        dropped: calibration documents left out because they equal a held-out one.
        inputs: what the manifest says of where they come from.
    """

    calibration: tuple[Ids, ...]
    held_out: tuple[Ids, ...]
    held_out_masks: tuple[NDArray[np.uint8], ...] | None
    dropped: int
    inputs: tuple[InputRecord, ...]


def opened_shards(source: Any) -> list[Shards] | None:
    """The shards that a source is: a folder of them, opened ones, or a list of these; `None` where it is documents.

    Raises:
        FileError, FormatError: as `Shards.open`.
    """
    items = list(source) if isinstance(source, list | tuple) else [source]
    if not items or not all(_is_shards(item) for item in items):
        return None
    return [item if isinstance(item, Shards) else Shards.open(item) for item in items]


def draw_samples(source: Any, checkpoint: Path, config: ModelConfig, options: QuantizeOptions) -> Samples:
    """Calibration and held-out documents of a source.

    Args:
        source: token shards, or documents as any verb takes them.
        checkpoint: whose tokenizer it must be, or is.
        config: of its model.
        options: how many, and the seed.

    Raises:
        InputError: shards of another tokenizer; no tokenizer to encode texts with; too few documents.
        FileError, FormatError: something cannot be read.
    """
    shards = opened_shards(source)
    context = min(config.max_seq_len, MAX_CALIBRATION_TOKENS)
    if shards is not None:
        for item in shards:
            _check_tokenizer(item, checkpoint, config)
        records = tuple(_record(item) for item in shards)
        return _from_shards(shards, context, options, records)
    return _from_documents(source, checkpoint, context, options)


@dataclass(frozen=True)
class _Document:
    ids: Ids
    mask: NDArray[np.uint8] | None = None

    @property
    def key(self) -> bytes:
        """What it is known by: its tokens."""
        return hashlib.blake2b(np.ascontiguousarray(self.ids, "<u4").tobytes(), digest_size=16).digest()


def _from_shards(
    shards: Sequence[Shards], context: int, options: QuantizeOptions, records: tuple[InputRecord, ...]
) -> Samples:
    train = list(_documents_of(shards, "train"))
    held_out = [document for document in _documents_of(shards, "validation") if document.ids.size > 1]
    draw = random.Random(options.seed)
    draw.shuffle(train)
    if held_out:
        draw.shuffle(held_out)
        return _disjoint(train, held_out, context, options, records, shards[0].folder)
    return _disjoint(*_split(train, options), context, options, records, shards[0].folder)


def _from_documents(source: Any, checkpoint: Path, context: int, options: QuantizeOptions) -> Samples:
    from biollm.readers import as_documents
    from biollm.tokenization import Tokenizer

    path = checkpoint / "tokenizer.json"
    if not path.is_file():
        message = "texts are encoded by the checkpoint's tokenizer, and there is none: give token shards instead"
        raise InputError(message, path=path, field="calibration")
    tokenizer = Tokenizer.from_file(path)
    documents = as_documents(source, text=options.text)
    wanted = options.calibration_documents + options.evaluation_documents
    texts = _reservoir(
        (text for batch in documents.reader() for text in batch.column("text").to_pylist()), wanted, options
    )
    if not texts:
        raise InputError(f"{documents.description} holds no documents to calibrate with", field="calibration")
    encoded = tokenizer.encode_batch(texts, append_eos=tokenizer.eos_id is not None)
    drawn = [_Document(np.asarray(ids)) for ids in encoded]
    return _disjoint(*_split(drawn, options), context, options, tuple(documents.inputs), None)


def _reservoir(texts: Iterator[str], count: int, options: QuantizeOptions) -> list[str]:
    """`count` of the texts, drawn in one pass with equal chances (Vitter 1985, algorithm R), in a random order."""
    draw = random.Random(options.seed)
    kept: list[str] = []
    for number, text in enumerate(texts):
        if len(kept) < count:
            kept.append(text)
        elif (place := draw.randrange(number + 1)) < count:
            kept[place] = text
    draw.shuffle(kept)
    return kept


def _split(drawn: list[_Document], options: QuantizeOptions) -> tuple[list[_Document], list[_Document]]:
    """Documents in a random order as (for calibration, held out); equal ones count once, on the held-out side."""
    different = list({document.key: document for document in drawn if document.ids.size > 1}.values())
    spare = len(different) - options.calibration_documents
    wanted = min(options.evaluation_documents, max(spare, len(different) // HELD_OUT_SHARE))
    held_out = different[:wanted]
    return different[wanted:], held_out


def _disjoint(
    calibration: list[_Document],
    held_out: list[_Document],
    context: int,
    options: QuantizeOptions,
    records: tuple[InputRecord, ...],
    folder: Path | None,
) -> Samples:
    judged = held_out[: options.evaluation_documents]
    keys = {document.key for document in judged}
    kept: list[_Document] = []
    dropped = 0
    for document in calibration:
        if len(kept) == options.calibration_documents:
            break
        if document.key in keys:
            dropped += 1
        elif document.ids.size:
            kept.append(document)
    if not kept or not judged:
        which = "calibrate with" if not kept else "measure perplexity on"
        message = f"there are no documents to {which}: give at least three different ones of two tokens or more"
        raise InputError(message, path=folder, field="calibration")
    masks = None
    if any(document.mask is not None for document in judged):
        masks = tuple(np.ones(d.ids.size, np.uint8) if d.mask is None else d.mask for d in judged)
    return Samples(
        tuple(document.ids[:context] for document in kept), tuple(d.ids for d in judged), masks, dropped, records
    )


def _documents_of(shards: Sequence[Shards], split: str) -> Iterator[_Document]:
    for item in shards:
        for shard in item.splits.get(split, ()):
            offsets = shard.offsets.astype(np.int64)
            for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                mask = None if shard.mask is None else shard.mask[begin:end]
                yield _Document(shard.tokens[begin:end], mask)


def _is_shards(item: Any) -> bool:
    if isinstance(item, Shards):
        return True
    return isinstance(item, str | os.PathLike) and os.path.isfile(os.path.join(os.fspath(item), INDEX_NAME))


def _record(shards: Shards) -> InputRecord:
    if (shards.folder / "manifest.json").is_file():
        return InputRecord.of_stage(shards.folder, str(shards.folder))
    return InputRecord.of_file(shards.folder / INDEX_NAME)


def _check_tokenizer(shards: Shards, checkpoint: Path, config: ModelConfig) -> None:
    path = checkpoint / "tokenizer.json"
    if shards.tokenizer_sha256 is not None and path.is_file():
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        if found != shards.tokenizer_sha256:
            raise InputError(
                f"the shards were made by another tokenizer than {path}: give shards of the checkpoint's own, or texts",
                path=shards.folder,
                field="calibration",
            )
    if shards.vocab_size > config.vocab_size:
        message = f"the shards have {shards.vocab_size} token ids, the model {config.vocab_size}"
        raise InputError(message, path=shards.folder, field="calibration")
