"""The verb `tokenize`: documents in, shards out."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
from biollm.errors import ConfigError, FileError, InputError, LimitError
from biollm.manifest import Manifest
from biollm.results import Summary
from biollm.stages import StageContext, StageInput
from biollm.tokenization import Shards, Tokenizer, tokenize, train
from biollm.tokenization.options import TokenizeOptions
from biollm.tokenization.stage import STAGE
from shared_data import shared_file, shared_records

TEXTS = [f"Patient {i} had fever and cough for {i % 7} days; the patient's treatment was changed." for i in range(400)]


def documents_of(shards: Shards, split: str, tokenizer: Tokenizer) -> dict[str, str]:
    """Document id → decoded text."""
    found = {}
    for shard in shards.splits[split]:
        ids = shard.documents().column("id").to_pylist()
        for i, name in enumerate(ids):
            tokens = shard.tokens[int(shard.offsets[i]) : int(shard.offsets[i + 1])]
            assert tokens[-1] == tokenizer.eos_id
            found[name] = tokenizer.decode(tokens[:-1])
    return found


def test_documents_come_back_from_both_sides(tmp_path: Path) -> None:
    shards = tokenize(TEXTS, vocab_size=340, validation_fraction=0.1, output=tmp_path / "out")
    tokenizer = Tokenizer.from_file(tmp_path / "out")
    sides = [documents_of(shards, split, tokenizer) for split in ("train", "validation")]
    assert sides[0] | sides[1] == {str(i): text for i, text in enumerate(TEXTS)}
    assert 15 < len(sides[1]) < 70
    assert shards.vocab_size == tokenizer.vocab_size == 340
    assert shards.tokenizer_sha256 == tokenizer.sha256
    assert Shards.open(tmp_path / "out") == shards


def test_the_vocabulary_is_trained_on_the_train_side_alone(tmp_path: Path) -> None:
    shards = tokenize(TEXTS, vocab_size=340, validation_fraction=0.3, output=tmp_path)
    names = {name for s in shards.splits["train"] for name in s.documents().column("id").to_pylist()}
    expected = train([text for i, text in enumerate(TEXTS) if str(i) in names], vocab_size=340)
    assert shards.tokenizer_sha256 == expected.sha256


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS, "cluster_id": [i // 4 for i in range(400)], "site": ["x", None] * 200})
    shards = tokenize(table, vocab_size=300, validation_fraction=0.2, output=tmp_path / "a")
    held = {int(n) for s in shards.splits["validation"] for n in s.documents().column("id").to_pylist()}
    assert 0 < len(held) < 400
    assert {i // 4 * 4 + k for i in held for k in range(4)} == held
    by_site = tokenize(table, vocab_size=300, validation_fraction=0.5, group="site", seed=3, output=tmp_path / "b")
    sides = [
        {int(n) for s in by_site.splits[split] for n in s.documents().column("id").to_pylist()}
        for split in ("train", "validation")
    ]
    assert any(set(range(0, 400, 2)) <= side for side in sides)  # "x" is one group, nulls are their own
    assert all(any(i % 2 for i in side) for side in sides)
    with pytest.raises(ConfigError, match="nope"):
        tokenize(table, vocab_size=300, group="nope", output=tmp_path / "c")


def test_the_split_depends_on_seed_and_id_only(tmp_path: Path) -> None:
    def held(name: str, **options: Any) -> set[str]:
        shards = tokenize(output=tmp_path / name, vocab_size=300, validation_fraction=0.1, **options)
        return {n for s in shards.splits["validation"] for n in s.documents().column("id").to_pylist()}

    table = pa.table({"text": TEXTS, "id": [f"doc{i}" for i in range(400)]})
    a = held("a", source=table)
    assert held("b", source=table.slice(0, 200)) == {n for n in a if int(n[3:]) < 200}
    assert held("c", source=table, threads=1) == a != held("d", source=table, seed=1)
    assert held("e", source=table.take(list(range(399, -1, -1)))) == a


def test_the_same_bytes_on_every_run(tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 3)):
        tokenize(TEXTS, vocab_size=350, threads=threads, shard_tokens=2000, output=tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        if file.name != "manifest.json":
            assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    assert Manifest.read(tmp_path / "a").hash == Manifest.read(tmp_path / "b").hash


def test_shards_are_closed_when_full(tmp_path: Path) -> None:
    shards = tokenize(TEXTS, vocab_size=300, shard_tokens=3000, output=tmp_path)
    counts = [s.num_tokens for s in shards.splits["train"]]
    assert len(counts) > 3
    assert all(3000 <= n < 3200 for n in counts[:-1])


def test_with_a_tokenizer(tmp_path: Path) -> None:
    made = train(TEXTS, vocab_size=320)
    made.save(tmp_path / "t.json")
    (tmp_path / "folder").mkdir()
    made.save(tmp_path / "folder")
    hashes = set()
    for i, given in enumerate((made, tmp_path / "t.json", str(tmp_path / "folder"))):
        shards = tokenize(iter(TEXTS), tokenizer=given, output=tmp_path / str(i))  # read once is enough
        hashes.add((shards.tokenizer_sha256, shards.splits["train"][0].checksums["tokens"]))
    assert len(hashes) == 1
    with pytest.raises(InputError, match="materialize"):
        tokenize(iter(TEXTS), vocab_size=300, output=tmp_path / "x")
    plain = tokenize(TEXTS, tokenizer=made, append_eos=False, output=tmp_path / "plain")
    assert plain.num_tokens == shards.num_tokens - 400
    assert not plain.append_eos


def test_a_tiktoken_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"
    path.write_bytes(gzip.decompress(shared_file("tokenizers/gpt2.tiktoken.gz").read_bytes()))
    shards = tokenize(TEXTS, tokenizer=path, output=tmp_path / "out")
    assert (shards.vocab_size, shards.eos_id, shards.dtype.str) == (50_257, 50_256, "<u2")
    assert documents_of(shards, "train", Tokenizer.from_file(tmp_path / "out"))["0"] == TEXTS[0]


def test_special_strings_in_documents_stay_text(tmp_path: Path) -> None:
    shards = tokenize(["say <|endoftext|> now"] * 9, vocab_size=285, validation_fraction=0, output=tmp_path)
    tokens = shards.splits["train"][0].tokens
    assert (tokens == shards.eos_id).sum() == 9
    assert shards.splits["validation"] == ()


def test_the_folder_and_what_it_says(tmp_path: Path) -> None:
    calls: list[int] = []
    out = tmp_path / "out"
    shards = tokenize(TEXTS, vocab_size=340, output=out, progress=lambda done, total: calls.append(done))
    assert calls[-1] == 400
    manifest = shards.manifest
    assert (manifest.verb, manifest.kind, manifest.options["vocab_size"]) == ("tokenize", "shards", 340)
    assert set(manifest.outputs) == {f.name for f in out.iterdir()} - {"manifest.json"}
    assert manifest.counts["documents_in"] == 400
    assert manifest.counts["train_tokens"] + manifest.counts["validation_tokens"] == shards.num_tokens
    summary = shards.summary()
    assert summary == Summary.from_dict(json.loads((out / "summary.json").read_bytes()))
    assert summary.facts["bytes per token"] > 2
    token_lengths = next(s for s in summary.series if s.title == "Token lengths")
    assert sum(token_lengths.y) == shards.num_tokens
    document_lengths = [s for s in summary.series if s.title == "Document lengths"]
    assert sum(sum(s.y) for s in document_lengths) == 400
    assert {t.title for t in summary.tables} == {"Splits", "Longest tokens", "Most frequent tokens"}
    assert json.loads((out / "tokenizer_config.json").read_bytes())["pad_token"] == "<|pad|>"


def test_a_second_run_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tokenize(TEXTS, vocab_size=300, shard_tokens=2000, output=out)
    for name in ("manifest.json", "shards.json", "tokenizer.json", "tokenizer_config.json"):
        (out / name).unlink()  # as if the run had been cut off
    shards = tokenize(TEXTS[:50], vocab_size=280, output=out)
    assert not (out / "train-00001.tokens").exists()
    assert Shards.open(out) == shards
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        tokenize(TEXTS, vocab_size=300, output=out)
    assert (out / "notes.txt").exists()


def test_what_makes_no_sense(tmp_path: Path) -> None:
    made = train(TEXTS, vocab_size=300)
    for options, field in (
        ({}, "vocab_size"),
        ({"tokenizer": made, "vocab_size": 300}, "vocab_size"),
        ({"vocab_size": 300, "validation_fraction": 1.0}, "validation_fraction"),
        ({"vocab_size": 300, "validation_fraction": -0.1}, "validation_fraction"),
        ({"vocab_size": 300, "seed": -1}, "seed"),
        ({"vocab_size": 300, "pattern": "cl100k"}, "pattern"),
        ({"vocab_size": 300, "shard_tokens": 0}, "shard_tokens"),
        ({"vocab_size": 300, "threads": 0}, "threads"),
    ):
        with pytest.raises(ConfigError) as caught:
            tokenize(TEXTS, output=tmp_path / "out", **options)  # type: ignore[arg-type]
        assert caught.value.field == field
    with pytest.raises(ConfigError, match="EOS"):
        tokenize(TEXTS, tokenizer=Tokenizer.from_json(train(TEXTS, vocab_size=300, special_tokens=["<|x|>"]).to_json()),
                 output=tmp_path / "out")  # fmt: skip
    with pytest.raises(FileError):
        tokenize(TEXTS, tokenizer=tmp_path / "absent.json", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_text_is_a_clear_error_that_leaves_nothing(tmp_path: Path) -> None:
    made = train(TEXTS, vocab_size=300)
    for source, options, message in (
        ([], {"vocab_size": 300}, "no text"),
        (["", ""], {"vocab_size": 300}, "no text"),
        (["the cell"], {"vocab_size": 5000}, "at most"),
        ([], {"tokenizer": made}, "no token is left"),
        ([""], {"tokenizer": made, "append_eos": False}, "no token is left"),
    ):
        with pytest.raises(InputError, match=message):
            tokenize(source, output=tmp_path / "out", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "out" / "shards.json").exists()
        assert not list((tmp_path / "out").glob("*.tokens"))
    with pytest.raises(LimitError, match="'1'"):
        tokenize(["a", "b" * 100], tokenizer=made, max_document_bytes=50, output=tmp_path / "out")


def test_as_a_stage_it_leaves_the_same_folder(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(400)], "text": TEXTS}), source)
    (tmp_path / "stage").mkdir()
    context = StageContext(
        tmp_path / "stage", (StageInput(source, "files", "in.parquet"),), None, logging.getLogger("biollm.test")
    )
    result = STAGE.run(context, TokenizeOptions(vocab_size=300))
    assert isinstance(result, Shards)
    direct = biollm.tokenize(source, vocab_size=300, output=tmp_path / "direct")
    assert result.manifest.hash == direct.manifest.hash
    assert result.manifest.inputs[0].xxh3_128 is not None
    assert {f.name for f in (tmp_path / "stage").iterdir()} == {f.name for f in (tmp_path / "direct").iterdir()}


def test_real_abstracts(tmp_path: Path) -> None:
    path = shared_file("text_bio/medical_abstracts.jsonl.gz")
    shards = tokenize(path, vocab_size=4096, output=tmp_path / "out")
    tokenizer = Tokenizer.from_file(tmp_path / "out")
    texts = {r["id"]: r["text"] for r in shared_records("text_bio/medical_abstracts.jsonl.gz")}
    found = documents_of(shards, "train", tokenizer) | documents_of(shards, "validation", tokenizer)
    assert found == texts
    per_token = shards.summary().facts["bytes per token"]
    assert isinstance(per_token, float)
    assert per_token > 3.8
