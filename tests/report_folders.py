"""Folders of runs and stages as verbs leave them, written by hand; and a page that is checked as it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from biollm import _native
from biollm.atomic import write_json
from biollm.manifest import InputRecord, Manifest, Resumption
from biollm.results import Scalar, Series, Summary

VOID = {"meta", "br", "img", "link", "input"}
NEVER = {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
VERSIONS = {"python": "3.11.7", "numpy": "2.0"}


class Page(HTMLParser):
    """A report: elements nest, nothing is loaded or run, links lead to places in it or to a
    model card beside it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.classes: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == [], f"not closed: {self.open}"
        assert page.startswith("<!DOCTYPE html>")
        assert not NEVER & set(self.tags)
        assert {link[1:] for link in self.links if not link.endswith("/README.md")} <= set(self.ids)
        assert not re.search(r"url\(|@import", page.partition("</style>")[0])

    @classmethod
    def read(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"a handler: {name}"
            assert name not in ("src", "srcset", "data", "action"), f"something is loaded: {value}"
            if name == "id":
                self.ids.append(value or "")
            if name == "class":
                self.classes.extend((value or "").split())
            if name == "href":
                assert (value or "").startswith("#")
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def write_stage(
    folder: Path,
    verb: str,
    kind: str,
    *,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[InputRecord] = (),
    counts: Mapping[str, float] | None = None,
    facts: Mapping[str, Scalar] | None = None,
    series: Sequence[Series] = (),
    files: Mapping[str, str] | None = None,
    wall_s: float = 1.0,
    resumptions: tuple[Resumption, ...] = (),
    versions: Mapping[str, str] = VERSIONS,
) -> Manifest:
    """A finished stage; `files` are names and contents, of which only the hash is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {name: _native.hash_bytes(content.encode()) for name, content in (files or {}).items()}
    outputs["summary.json"] = write_json(
        folder / "summary.json", Summary(verb, facts or {}, series=tuple(series)).to_dict()
    )
    manifest = Manifest(
        verb, kind, 1, options or {}, tuple(inputs), counts or {}, outputs, versions, wall_s, wall_s / 2, resumptions
    )
    manifest.write(folder)
    return manifest


def file_input(name: str, content: str) -> InputRecord:
    return InputRecord(f"/data/{name}", "file", _native.hash_bytes(content.encode()), len(content))


def write_record(folder: Path, stages: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A `run.json` of stages, each with at least a name and a verb."""
    common = {"inputs": [], "options": {}, "status": "complete", "reason": "", "wall_s": 1.0}
    record = {
        "format": "biollm-run",
        "version": 1,
        "status": "complete",
        "error": None,
        "recipe": {"path": "/recipes/r.toml", "text": "a = 1\nb = 2\n", "set": []},
        "started": "2026-11-24T04:30:00+00:00",
        "written": "2026-11-24T04:31:00+00:00",
        "versions": VERSIONS,
        "warnings": [],
        "stages": [{**common, **stage} for stage in stages],
        "unfinished": [],
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record))
    return record


def write_model_run(
    folder: Path,
    *,
    text: str = "input",
    documents: int = 1000,
    vocab_size: int = 512,
    steps: int = 100,
    loss: float = 3.0,
    validation: str = "",
    wall_s: float = 10.0,
    resumptions: tuple[Resumption, ...] = (),
    **more: Any,
) -> None:
    """A run from files to a model; what is given decides which of its files differ from another's."""
    write_stage(
        folder / "read",
        "read",
        "documents",
        options={"text": "text"},
        inputs=[file_input("a.jsonl", text)],
        counts={"documents": documents, "text_bytes": documents * 100},
        facts={"documents": documents, "columns": "id, text"},
        files={"documents/part-00000.parquet": f"{text}{documents}"},
        wall_s=0.5,
    )
    tokenizer, held_out = f"tokenizer {vocab_size}", f"held out {text}{documents}{validation}"
    write_stage(
        folder / "tokenize",
        "tokenize",
        "shards",
        options={"vocab_size": vocab_size},
        inputs=[InputRecord.of_stage(folder / "read")],
        counts={
            "documents_in": documents,
            "vocab_size": vocab_size,
            "validation_documents": 50,
            "validation_bytes": 5000,
        },
        files={
            "tokenizer.json": tokenizer,
            "train-00000.tokens": f"{text}{documents}{tokenizer}",
            "validation-00000.tokens": f"{held_out}{tokenizer}",
            "validation-00000.documents.parquet": held_out,
        },
        wall_s=0.5,
    )
    at = (1, steps)
    bits = {name: value * loss / 3 for name, value in (("validation", 1.2), ("bigram", 1.5), ("unigram", 2.5))}
    write_stage(
        folder / "train",
        "train",
        "checkpoint",
        options={"steps": steps, "seed": 0},
        inputs=[InputRecord.of_stage(folder / "tokenize")],
        counts={"parameters": 1000, "steps": steps, "train_tokens": steps * 10, "validation_tokens": 500},
        facts={
            "validation_loss_nats": loss,
            **{f"{name}_bits_per_byte": value for name, value in bits.items()},
            "tokens_per_s": steps * 10 / wall_s,
        },
        series=[
            Series("Loss", "step", "nats a token", at, (6.0, loss), name="train"),
            Series("Loss", "step", "nats a token", at, (2.8, 2.8), name="interpolated bigram"),
        ],
        files={"model.safetensors": f"{text}{documents}{vocab_size}{steps}{loss}", "tokenizer.json": tokenizer},
        wall_s=wall_s,
        resumptions=resumptions,
    )
    names = ("read", "tokenize", "train")
    inputs = (["a.jsonl"], ["read"], ["tokenize"])
    stages = [{"name": n, "verb": n, "inputs": i} for n, i in zip(names, inputs, strict=True)]
    write_record(folder, stages, **more)
