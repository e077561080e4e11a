"""How much data stands where in a recipe: counted where a manifest says it, else estimated from the sizes of files."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from biollm.errors import BiollmError
from biollm.manifest import Manifest

#: Bytes of a compressed file that are expanded to learn how much it holds.
SAMPLE_BYTES: Final = 1 << 18
#: Files sampled; the others are taken to be like these.
SAMPLED_FILES: Final = 8
_COMPRESSED: Final = (".gz", ".tgz", ".zst")


@dataclass(frozen=True)
class Volume:
    """How much data a stage takes or gives; `None` for what is not known or does not apply.

    Attributes:
        size_bytes: on disk.
        documents: how many.
        text_bytes: of their texts, UTF-8.
        xml_bytes: of XML to be read, decompressed.
        train_tokens, validation_tokens: of token shards.
        vocab_size: of their tokenizer.
        parameters: of a model.
    """

    size_bytes: float | None = None
    documents: float | None = None
    text_bytes: float | None = None
    xml_bytes: float | None = None
    train_tokens: float | None = None
    validation_tokens: float | None = None
    vocab_size: float | None = None
    parameters: float | None = None

    def to_dict(self) -> dict[str, int | None]:
        """The whole numbers by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: round(value) if value is not None else None for name, value in values.items()}


UNKNOWN: Final = Volume()


def total(volumes: Iterable[Volume]) -> Volume:
    """All `volumes` together: amounts added where known, the vocabulary and the model of the last that has one."""
    listed = list(volumes)
    sums: dict[str, float | None] = {}
    for field in fields(Volume):
        values = [getattr(volume, field.name) for volume in listed]
        known = [value for value in values if value is not None]
        if field.name in ("vocab_size", "parameters"):
            sums[field.name] = known[-1] if known else None
        elif field.name == "size_bytes":
            sums[field.name] = sum(known) if len(known) == len(values) and values else None
        else:
            sums[field.name] = sum(known) if known else None
    return Volume(**sums)


def of_files(files: Iterable[Path | str], shares: Mapping[str, float]) -> Volume:
    """The volume of `files` to be read.

    A gzip file is expanded for its first quarter MiB, to learn how much there is of it; of URLs nothing is known.

    Args:
        files: paths and URLs.
        shares: of `rates.toml`, table `files`.
    """
    size = text = xml = 0.0
    sampled = 0
    expansion: dict[str, float] = {}
    for file in files:
        if isinstance(file, str):
            return Volume()
        try:
            here = file.stat().st_size
        except OSError:
            return Volume()
        kind, packing = _kind(file)
        key = kind + packing
        if packing and (key not in expansion or sampled < SAMPLED_FILES):
            sampled += 1
            expansion[key] = _expansion(file, packing) or expansion.get(key) or shares["compressed"]
        plain = here * expansion.get(key, 1.0)
        size += here
        text += plain * shares.get(kind, 1.0)
        xml += plain if kind == "xml" else 0.0
    return Volume(size, text / shares["bytes_per_document"], text, xml)


def of_folder(folder: Path, manifest: Manifest | None = None) -> Volume:
    """The volume of a finished stage's `folder`, by its `manifest` (read where it is not given); or of a model's."""
    if manifest is None:
        try:
            manifest = Manifest.read(folder)
        except BiollmError:
            return Volume(size_bytes=folder_bytes(folder))
    counts = manifest.counts
    if manifest.kind == "shards":
        counts = {**counts, "text_bytes": _sum_of(counts, "train_bytes", "validation_bytes")}
    return Volume(
        size_bytes=folder_bytes(folder),
        documents=_first(counts, "documents_kept", "documents", "documents_in"),
        text_bytes=_first(counts, "text_bytes_kept", "text_bytes"),
        train_tokens=_first(counts, "train_tokens") if manifest.kind == "shards" else None,
        validation_tokens=_first(counts, "validation_tokens") if manifest.kind == "shards" else None,
        vocab_size=_first(counts, "vocab_size") or _vocab_size(folder, manifest),
        parameters=_first(counts, "parameters"),
    )


def _vocab_size(folder: Path, manifest: Manifest) -> float | None:
    """Of a model, by its configuration; `None` of other folders."""
    if manifest.kind != "checkpoint":
        return None
    try:
        return float(json.loads((folder / "config.json").read_bytes())["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def folder_bytes(folder: Path) -> float:
    """Bytes of the files in a `folder`, those of unfinished work left out; 0 where there is none."""
    size = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".partial"]
        for name in names:
            try:
                size += (Path(parent) / name).lstat().st_size
            except OSError:
                continue
    return size


def _first(counts: Mapping[str, Any], *names: str) -> float | None:
    return next((float(counts[name]) for name in names if name in counts), None)


def _sum_of(counts: Mapping[str, Any], *names: str) -> float:
    return sum(float(counts.get(name, 0.0)) for name in names)


def _kind(file: Path) -> tuple[str, str]:
    """A file's kind ("jsonl", "xml", …) and packing (".gz", ".zst" or none), by its suffixes."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in _COMPRESSED else ""
    kind = suffixes[-1].lstrip(".") if suffixes else ""
    if packing == ".tgz" or kind in ("tar", "nxml"):  # of tar files only those of XML are read
        kind = "xml"
    return kind, ".gz" if packing == ".tgz" else packing


def _expansion(file: Path, packing: str) -> float | None:
    """Bytes out for a byte in, of the beginning of a gzip file; `None` where that cannot be learned."""
    if packing != ".gz":
        return None
    try:
        with file.open("rb") as opened:
            data = opened.read(SAMPLE_BYTES)
        decoder = zlib.decompressobj(wbits=31)
        out = len(decoder.decompress(data, 64 * SAMPLE_BYTES))
    except (OSError, zlib.error):
        return None
    used = len(data) - len(decoder.unconsumed_tail) - len(decoder.unused_data)
    return out / used if out and used else None
