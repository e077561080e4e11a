"""What people and files get wrong: each an error of ours that says what and where, and nothing is lost by it."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from commands import Commands
from small_run import RECIPE

Arguments = list[str | Path]


@dataclass(frozen=True)
class Bad:
    """A command that must fail.

    Attributes:
        error: the type of the error.
        words: what its message says, of what is wrong and where; `{place}` is the folder of the test.
        arguments: of the command; paths start from that folder. `-o out` is added.
        prepare: makes what is wrong there. A finished run, `RUN`, and `documents.jsonl` are there already.
    """

    error: str
    words: list[str]
    arguments: list[str]
    prepare: Callable[[Path], object] = field(default=lambda place: None)


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(data)


def recipe(old: str, new: str) -> Callable[[Path], object]:
    assert old in RECIPE
    return lambda place: (place / "bad.toml").write_text(RECIPE.replace(old, new, 1))


def parquet(place: Path, damage: Callable[[bytes], bytes]) -> None:
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(1000)]}), place / "a.parquet")
    (place / "a.parquet").write_bytes(damage((place / "a.parquet").read_bytes()))


def nan_weights(place: Path) -> None:
    """The trained model, one of whose weights is no number."""
    path = place / "RUN" / "train" / "model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    tensors[first] = np.full_like(tensors[first], np.nan)
    save_file(tensors, path, metadata={"format": "pt"})


def other_tokenizer(place: Path) -> None:
    """A checkpoint one of whose special tokens is written otherwise than in its shards' tokenizer."""
    path = place / "RUN" / "train" / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"<|user|>", b"<|nurse|>"))


ROW = b'{"text": "asthma"}\n'
TRAIN = ["--size", "tiny", "--steps", "2", "--seq-len", "32", "--batch-size", "2", "--threads", "1"]
BOTH = {"gz": gzip.compress(ROW * 1000, mtime=0), "zst": bytes(pa.compress(ROW * 1000, "zstd", asbytes=True))}
QUESTION = b'{"id": 1, "question": "Which?", "options": {"A": "gout", "B": "sepsis"}, "answer_idx": "%s"}\n'
LONG_LINE = gzip.compress(b'{"question": "' + b"x" * (100 << 20), mtime=0)
VERB_OPTIONS = {
    "read": [],
    "dedup": [],
    "select": ["--rules", "gopher_repetition"],
    "tokenize": ["--vocab-size", "300"],
}

BAD: dict[str, Bad] = {
    **{
        f"{verb}: a missing file": Bad("InputError", ["no such file", "absent.jsonl"], [verb, "absent.jsonl", *options])
        for verb, options in VERB_OPTIONS.items()
    },
    "train: a missing folder": Bad("InputError", ["no such file", "absent"], ["train", "absent", *TRAIN]),
    "generate: a missing folder": Bad(
        "InputError", ["no such file", "absent"], ["generate", "absent", "--prompts", "a"]
    ),
    "run: a missing recipe": Bad("FileError", ["absent.toml"], ["run", "absent.toml"]),
    "run: a missing file": Bad(
        "ConfigError",
        ["bad.toml", "stage 'read'", "documents.jsonl'?"],
        ["run", "bad.toml"],
        recipe('"documents.jsonl"', '"document.jsonl"'),
    ),
    "tokenize: an empty corpus": Bad(
        "InputError",
        ["no text to train a vocabulary on", "empty.jsonl", "no documents, or only empty ones"],
        ["tokenize", "empty.jsonl", "--vocab-size", "300"],
        write("empty.jsonl", b""),
    ),
    "tokenize: an empty corpus and a tokenizer": Bad(
        "InputError",
        ["no token is left for training", "empty.jsonl", "no documents, or only empty ones"],
        ["tokenize", "empty.jsonl", "--tokenizer", "RUN/tokenize"],
        write("empty.jsonl", b""),
    ),
    "generate: no prompts": Bad("ConfigError", ["prompts"], ["generate", "RUN/train"]),
    "run: an unknown key": Bad(
        "ConfigError",
        ["bad.toml", "stage 'tokenize'", "vocab_sise", "vocab_size"],
        ["run", "bad.toml"],
        recipe("vocab_size", "vocab_sise"),
    ),
    "run: an unknown verb": Bad(
        "ConfigError",
        ["bad.toml", "stage 'dedup'", "'dedpu'", "'dedup'"],
        ["run", "bad.toml"],
        recipe('verb = "dedup"', 'verb = "dedpu"'),
    ),
    "run: a cycle of two": Bad(
        "ConfigError",
        ["bad.toml", "stage 'dedup'", "'select'", "below it"],
        ["run", "bad.toml"],
        recipe('inputs = ["read"]', 'inputs = ["select"]'),
    ),
    "run: a stage of itself": Bad(
        "ConfigError",
        ["bad.toml", "stage 'dedup'", "itself"],
        ["run", "bad.toml"],
        recipe('inputs = ["read"]', 'inputs = ["dedup"]'),
    ),
    "run: no TOML": Bad(
        "ConfigError", ["bad.toml", "not TOML", "]]"], ["run", "bad.toml"], write("bad.toml", b"[[stage")
    ),
    "run: no text": Bad(
        "ConfigError", ["bad.toml", "not UTF-8"], ["run", "bad.toml"], write("bad.toml", b"\xff\xfe\0")
    ),
    "run: a number of a million digits": Bad(
        "ConfigError", ["bad.toml", "not TOML"], ["run", "bad.toml"], recipe("steps = 3", "steps = " + "9" * 900_000)
    ),
    "tokenize: a vocabulary larger than the data allows": Bad(
        "InputError", ["vocab_size"], ["tokenize", "documents.jsonl", "--vocab-size", "30000"]
    ),
    "tokenize: a vocabulary smaller than bytes": Bad(
        "InputError", ["vocab_size", "256 bytes"], ["tokenize", "documents.jsonl", "--vocab-size", "200"]
    ),
    "generate: a prompt longer than the context": Bad(
        "InputError", ["context"], ["generate", "RUN/train", "--prompts", "asthma " * 200, "--compile", "false"]
    ),
    "generate: more tokens than the context": Bad(
        "InputError",
        ["max_tokens", "context"],
        ["generate", "RUN/train", "--prompts", "asthma", "--max-tokens", "500", "--compile", "false"],
    ),
    "train: rows longer than the context": Bad(
        "ConfigError",
        ["seq_len", "64", "context", "RUN/train", "32"],
        ["train", "RUN/tokenize", "RUN/train", "--steps", "1", "--seq-len", "64", "--batch-size", "2"],
    ),
    "train: a rate at which it diverges": Bad(
        "ConfigError",
        ["diverged", "step", "lower lr"],
        ["train", "RUN/tokenize", *TRAIN, "--steps", "20", "--lr", "10", "--clip-norm", "0", "--warmup-fraction", "0"],
    ),
    "train: weights that are no numbers": Bad(
        "ConfigError",
        ["diverged", "step 0", "weights"],
        ["train", "RUN/tokenize", "RUN/train", *TRAIN[2:]],
        nan_weights,
    ),
    "evaluate: a missing file": Bad(
        "InputError", ["no such file", "absent.jsonl"], ["evaluate", "RUN/train", "absent.jsonl"]
    ),
    "evaluate: nothing to evaluate on": Bad("InputError", ["nothing to evaluate on"], ["evaluate", "RUN/train"]),
    "evaluate: questions without answers": Bad(
        "InputError",
        ["q.jsonl:2", "the item has no answer", "answer_idx"],
        ["evaluate", "RUN/train", "q.jsonl"],
        write("q.jsonl", QUESTION % b"B" + QUESTION.replace(b"1", b"2") % b""),
    ),
    "evaluate: a hidden test set, skipping": Bad(
        "InputError",
        ["q.jsonl:1", "all 1 items were skipped", "the item has no answer"],
        ["evaluate", "RUN/train", "q.jsonl", "--on-error", "skip"],
        write("q.jsonl", QUESTION % b""),
    ),
    "evaluate: a question longer than the context": Bad(
        "InputError",
        ["q, item 1", "tokens, the model's context has 32", "skip"],
        ["evaluate", "RUN/train", "q.jsonl"],
        write("q.jsonl", QUESTION.replace(b"Which?", b"asthma " * 60) % b"A"),
    ),
    "evaluate: shards of another tokenizer": Bad(
        "InputError",
        ["RUN/tokenize", "another tokenizer"],
        ["evaluate", "RUN/train", "RUN/tokenize"],
        other_tokenizer,
    ),
    "evaluate: weights that are no numbers": Bad(
        "InputError", ["no finite likelihood"], ["evaluate", "RUN/train", "documents.jsonl"], nan_weights
    ),
    "generate: a checkpoint that is text": Bad(
        "FormatError",
        ["RUN/train/model.safetensors"],
        ["generate", "RUN/train", "--prompts", "a"],
        write("RUN/train/model.safetensors", b"pickle?" * 10),
    ),
    "generate: a pickle named safetensors": Bad(
        "FormatError",
        ["RUN/train/model.safetensors"],
        ["generate", "RUN/train", "--prompts", "a"],
        write("RUN/train/model.safetensors", b"\x80\x04\x95" + b"\0" * 60),
    ),
    "read: text named gz": Bad("FormatError", ["a.jsonl.gz", "gzip"], ["read", "a.jsonl.gz"], write("a.jsonl.gz", ROW)),
    "read: gz named zst": Bad(
        "FormatError", ["a.jsonl.zst", "zstd"], ["read", "a.jsonl.zst"], write("a.jsonl.zst", BOTH["gz"])
    ),
    "read: text named parquet": Bad("FormatError", ["a.parquet"], ["read", "a.parquet"], write("a.parquet", ROW)),
    "read: a pickle named jsonl": Bad(
        "FormatError",
        ["a.jsonl", "1"],
        ["read", "a.jsonl"],
        write("a.jsonl", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0]\x94.\n"),
    ),
    **{
        f"read: {suffix} cut off": Bad(
            "FormatError",
            [f"a.jsonl.{suffix}", "cut off"],
            ["read", f"a.jsonl.{suffix}"],
            write(f"a.jsonl.{suffix}", data[:-5]),
        )
        for suffix, data in BOTH.items()
    },
    "read: parquet cut off": Bad(
        "FormatError", ["a.parquet"], ["read", "a.parquet"], lambda place: parquet(place, lambda data: data[:-9])
    ),
    "read: parquet with a hole": Bad(
        "FormatError",
        ["a.parquet"],
        ["read", "a.parquet"],
        lambda place: parquet(place, lambda data: data[:50] + bytes(500) + data[550:]),
    ),
    "read: invalid UTF-8": Bad(
        "FormatError", ["a.jsonl:2", "UTF-8"], ["read", "a.jsonl"], write("a.jsonl", ROW + b'{"text": "\xff\xfe"}\n')
    ),
    "read: UTF-16": Bad(
        "FormatError", ["a.jsonl:1"], ["read", "a.jsonl"], write("a.jsonl", ROW.decode().encode("utf-16"))
    ),
    "read: a lone surrogate": Bad(
        "FormatError", ["a.jsonl:2", "surrogate"], ["read", "a.jsonl"], write("a.jsonl", ROW + b'{"text": "\\ud800"}\n')
    ),
    "read: a text that is a huge number": Bad(
        "FormatError", ["a.jsonl:1", "text"], ["read", "a.jsonl"], write("a.jsonl", b'{"text": 1e400}\n')
    ),
    "read: no such field": Bad(
        "FormatError", ["documents.jsonl:1", "body"], ["read", "documents.jsonl", "--text", "body"]
    ),
    "read: a huge limit": Bad(
        "ConfigError", ["max_document_bytes"], ["read", "documents.jsonl", "--max-document-bytes", "9" * 18]
    ),
    "dedup: bands that do not divide": Bad(
        "ConfigError", ["bands", "divi"], ["dedup", "documents.jsonl", "--bands", "33"]
    ),
    "dedup: a threshold that is no number": Bad(
        "ConfigError", ["threshold"], ["dedup", "documents.jsonl", "--threshold", "nan"]
    ),
    "select: an unknown rule": Bad(
        "ConfigError", ["gopher_qualty", "gopher_quality"], ["select", "documents.jsonl", "--rules", "gopher_qualty"]
    ),
    "train: documents instead of shards": Bad("ConfigError", ["documents", "shards"], ["train", "RUN/select", *TRAIN]),
    "evaluate: resamples without end": Bad(
        "ConfigError", ["resamples"], ["evaluate", "RUN/train", "documents.jsonl", "--resamples", "9" * 12]
    ),
    "evaluate: a line of a hundred MiB": Bad(
        "LimitError",
        ["questions.jsonl.gz:1", "a line is over"],
        ["evaluate", "RUN/train", "questions.jsonl.gz"],
        write("questions.jsonl.gz", LONG_LINE),
    ),
    "align: a broken line of a hundred MiB": Bad(
        "InputError",
        ["pairs.jsonl.gz", "row 0", "not JSON"],
        ["align", "RUN/train", "pairs.jsonl.gz", "--method", "ppo", "--max-tokens", "8"],
        write("pairs.jsonl.gz", LONG_LINE),
    ),
    "a folder of others' files": Bad(
        "InputError", ["taken", "holds files"], ["dedup", "documents.jsonl", "-o", "taken"]
    ),
}


@pytest.fixture
def place(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "place"
    shutil.copytree(sound, folder, copy_function=shutil.copy2)
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").write_text("mine")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, place: Path, commands: Commands) -> None:
    bad = BAD[name]
    bad.prepare(place)
    before = contents(place)
    output: Arguments = [] if "-o" in bad.arguments else ["-o", "out"]
    done = commands(*bad.arguments, *output, "--json", cwd=place)
    assert done.code == 1, done.stderr
    assert len(done.errors) == 1, done.stderr
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert error["type"] == bad.error, done.stderr
    for word in bad.words:
        assert word in done.errors[0], done.stderr
    after = contents(place)
    made = {path for path in after if path.startswith("out/")}
    assert {path: data for path, data in after.items() if path not in made} == before
    assert not [path for path in made if path.endswith("manifest.json")], made


@pytest.mark.parametrize("verb", ["read", "dedup", "select"])
def test_an_empty_corpus_gives_an_empty_folder(verb: str, place: Path, commands: Commands) -> None:
    (place / "empty.jsonl").write_bytes(b"")
    done = commands(verb, "empty.jsonl", *VERB_OPTIONS[verb], "-o", "out", "--json", cwd=place)
    assert done.code == 0, done.stderr
    parts = sorted((place / "out" / "documents").glob("*.parquet"))
    assert sum(pq.read_metadata(path).num_rows for path in parts) == 0
    # It is a source like any other.
    done = commands("dedup", "out", "-o", "next", cwd=place)
    assert done.code == 0, done.stderr
