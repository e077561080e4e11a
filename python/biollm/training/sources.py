"""What ``train`` is given: token shards and maybe a checkpoint, whether they fit, and what they are known by."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from biollm.errors import ConfigError, FileError, FormatError, InputError
from biollm.manifest import InputRecord, Manifest
from biollm.models.checkpoints import read_config, refuse_quantized
from biollm.partial import work_key
from biollm.tokenization.shards import Shards
from biollm.training.options import ALGORITHM_VERSION, TrainOptions, matched_options
from biollm.training.placement import Placement

Source = str | os.PathLike[str] | Shards
RowSource = Any
"""Whatever holds rows: see `readers.rows.open_rows`."""


def listed(source: Source | Sequence[Source] | RowSource) -> Iterable[Source]:
    """One source, or several. Raises TypeError for anything else."""
    if isinstance(source, str | os.PathLike | Shards):
        return [source]
    if not isinstance(source, Sequence):
        raise TypeError(f"source must be a folder of shards, Shards or a list of them, not {type(source).__name__}")
    return source


def check_sources(shards: Sequence[Shards], start: Path | None, options: TrainOptions) -> None:
    """Raises InputError, ConfigError or FileError where what comes in does not go together: one vocabulary for all."""
    if not shards:
        raise InputError("no shards are given", field="source")
    if (first := shards[0]).tokenizer_sha256 is None:
        raise InputError(
            "the shards name no tokenizer, which a checkpoint needs: write them by tokenize", path=first.folder
        )
    for item in shards[1:]:
        if (item.tokenizer_sha256, item.vocab_size) != (first.tokenizer_sha256, first.vocab_size):
            raise InputError(
                f"{item.folder} and {first.folder} have different tokenizers: tokenize one with the other's",
                path=item.folder,
                field="source",
            )
    if start is not None:
        _check_start(first, start, options)


def _check_start(shards: Shards, start: Path, options: TrainOptions) -> None:
    path = start / "tokenizer.json"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
    if found != shards.tokenizer_sha256:
        raise InputError(
            f"the shards were made by another tokenizer than {path} (sha256 {shards.tokenizer_sha256} and {found}): "
            f"tokenize the documents with tokenizer={str(start)!r}",
            path=path,
            field="start",
        )
    config = read_config(start)
    refuse_quantized(start, config, "training", field="start")
    if config.vocab_size < shards.vocab_size:
        raise InputError(
            f"the model has {config.vocab_size} token ids, the shards {shards.vocab_size}", path=start, field="start"
        )
    if config.max_seq_len < options.seq_len:
        raise ConfigError(
            f"seq_len {options.seq_len} is over the context of {start}, {config.max_seq_len} tokens: lower seq_len",
            path=start,
            field="seq_len",
            value=options.seq_len,
        )


def pad_id(shards: Shards) -> int | None:
    """The id of the token that the shards' tokenizer_config.json calls pad_token."""
    try:
        settings = json.loads((shards.folder / "tokenizer_config.json").read_bytes())
        added = json.loads(shards.tokenizer_path.read_bytes())["added_tokens"]
        return next((token["id"] for token in added if token["content"] == settings.get("pad_token")), None)
    except OSError as error:
        raise FileError.from_os_error(error, shards.folder) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"the tokenizer's files are broken: {error!r}", path=shards.folder) from error


def record(folder: Path) -> InputRecord:
    """How the manifest knows an input: by its own manifest, else by the file that stands for its content."""
    if (folder / "manifest.json").is_file():
        return InputRecord.of_stage(folder, str(folder))
    for name in ("shards.json", "model.safetensors", "model.safetensors.index.json", "config.json"):
        if (folder / name).is_file():
            return InputRecord.of_file(folder / name)
    raise FileError("neither token shards nor a checkpoint", path=folder, errno=errno.ENOENT)


def work_key_of(options: TrainOptions, folders: Sequence[Path], placement: Placement) -> str | None:
    """The key of a run's unfinished work (`biollm.partial`): of all that its weights depend on, but for two things.

    Beside the options that change the output and the content of shards and start: torch's version, the device and the
    precision, since with other ones the bytes would be those of no uncut run. The threads and the processor
    (`placement.arithmetic`) change the last bits of a sum too, but who goes on with a long run on another machine wants
    its work more than those: such a run goes on, with a warning, and the same bytes are promised for equal ones alone.
    """
    return work_key(
        "train", ALGORITHM_VERSION, matched_options(options), [software(placement), *map(identity, folders)]
    )


def software(placement: Placement) -> list[Any]:
    """What the bytes of a run depend on beside its options and inputs."""
    return [str(torch.__version__), placement.device.type, str(placement.weights), str(placement.autocast)]


def identity(folder: Path) -> list[Any]:
    """What shards or a checkpoint are known by: their manifest; without one, the files of their contents."""
    if (folder / "manifest.json").is_file():
        return ["stage", Manifest.read(folder).hash]
    try:
        files = sorted(file for suffix in ("json", "safetensors") for file in folder.glob(f"*.{suffix}"))
        status = [(file, file.stat()) for file in files]
    except OSError as error:
        raise FileError.from_os_error(error, folder) from error
    return [[str(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for file, s in status]
