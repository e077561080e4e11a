"""`tokenize` goes on from a run that was killed: what was counted, trained and written is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import biollm
import interrupted
from biollm import _native
from biollm.errors import InputError
from biollm.manifest import Manifest
from biollm.tokenization import Shards, Tokenizer, tokenize, train

LIMITS = {
    "biollm.document_files.BLOCK_ROWS": 100,
    "biollm.tokenization.side_vocabulary.GROUP_BYTES": 20_000,
    "biollm.tokenization.side_vocabulary._BYTES_A_BYTE": 0,
    "biollm.tokenization.summary.SLICE_TOKENS": 500,
}
OPTIONS: dict[str, Any] = {"vocab_size": 320, "validation_fraction": 0.2, "shard_tokens": 4000}
ROWS = 1000
TEXTS = [f"Patient {i} had fever and cough for {i % 7} days; the treatment was changed." * (i % 3) for i in range(ROWS)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"d{i}", "text": t, "source": "ab"[i % 2]}) + "\n" for i, t in enumerate(TEXTS))
    )
    return path


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Documents counted and encoded, vocabularies trained."""
    interrupted.set_limits(monkeypatch, LIMITS)
    done = {"counted": 0, "trained": 0, "encoded": 0}
    count, learn, encode = _native.count_words, _native.train_tokenizer, Tokenizer.encode_batch

    def counted(texts: list[tuple[Any, Any, int]], **options: Any) -> Any:
        done["counted"] += sum(n for _, _, n in texts)
        return count(texts, **options)

    def trained(*arguments: Any, **options: Any) -> Any:
        done["trained"] += 1
        return learn(*arguments, **options)

    def encoded(self: Tokenizer, texts: Any, **options: Any) -> Any:
        done["encoded"] += len(texts)
        return encode(self, texts, **options)

    monkeypatch.setattr(_native, "count_words", counted)
    monkeypatch.setattr(_native, "train_tokenizer", trained)
    monkeypatch.setattr(Tokenizer, "encode_batch", encoded)
    return done


def test_a_killed_run_is_gone_on_with(tmp_path: Path, source: Path, work: dict[str, int]) -> None:
    tokenize(source, output=tmp_path / "whole", **OPTIONS)
    expected = interrupted.outputs(tmp_path / "whole")
    counted = work["counted"]
    assert work == {"counted": counted, "trained": 1, "encoded": ROWS}
    assert len(expected) == 3 * 7 + 4
    out = tmp_path / "out"
    # In the pass that counts, and twice in the one that encodes.
    for kept in (("counts.piece", 1), ("train-*.piece", 1), ("train-*.piece", 3)):
        interrupted.kill("tokenize", source, out, OPTIONS, LIMITS, kept)
    work.update(counted=0, trained=0, encoded=0)
    shards = tokenize(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == expected
    first, second, third = shards.manifest.resumptions
    assert 0 < first.kept <= first.done < ROWS < second.kept <= second.done < third.kept <= third.done < 2 * ROWS
    assert work == {"counted": 0, "trained": 0, "encoded": 2 * ROWS - third.kept}
    assert Shards.open(out).num_documents == ROWS
    again = tokenize(source, output=out, **OPTIONS)
    assert again.manifest.resumptions == ()
    assert interrupted.outputs(out) == expected


def test_counts_are_taken_up(tmp_path: Path, source: Path, work: dict[str, int]) -> None:
    tokenize(source, output=tmp_path / "whole", **OPTIONS)
    counted = work["counted"]
    interrupted.kill("tokenize", source, tmp_path / "out", OPTIONS, LIMITS, ("counts.piece", 1))
    work.update(counted=0)
    shards = tokenize(source, output=tmp_path / "out", **OPTIONS)
    assert interrupted.outputs(tmp_path / "out") == interrupted.outputs(tmp_path / "whole")
    assert 0 < work["counted"] < counted
    (resumption,) = shards.manifest.resumptions
    assert resumption.repeated <= 300


def test_what_is_damaged_is_done_again(tmp_path: Path, source: Path, work: dict[str, int]) -> None:
    made = train(TEXTS, vocab_size=310)
    made.save(tmp_path / "t.json")
    options = {"tokenizer": str(tmp_path / "t.json"), "validation_fraction": 0.2, "shard_tokens": 4000}
    tokenize(source, output=tmp_path / "whole", **options)
    expected = interrupted.outputs(tmp_path / "whole")
    # The second is the first shard of its side: what is kept of the work is the other side's.
    for name, damaged, kept in (
        ("a", "train-00001.documents.parquet", ("train-*.piece", 3)),
        ("b", "train-00000.piece", ("validation-*.piece", 1)),
    ):
        out = tmp_path / name
        interrupted.kill("tokenize", source, out, options, LIMITS, kept)
        assert len(list((out / ".partial").glob("train-*.tokens"))) > 2
        interrupted.damage(out / ".partial" / damaged)
        work.update(encoded=0)
        (resumption,) = tokenize(source, output=out, **options).manifest.resumptions
        assert interrupted.outputs(out) == expected
        assert resumption.kept == ROWS - work["encoded"]
        assert 0 < resumption.kept < resumption.done
    (tmp_path / "out").mkdir()
    interrupted.kill("tokenize", source, tmp_path / "out", options, LIMITS, ("train-*.piece", 1))
    work.update(encoded=0)
    other = tokenize(source, output=tmp_path / "out", **{**options, "shard_tokens": 5000})
    assert other.manifest.resumptions == ()
    assert work["encoded"] == ROWS


def test_a_damaged_tokenizer_is_trained_again(tmp_path: Path, source: Path, work: dict[str, int]) -> None:
    tokenize(source, output=tmp_path / "whole", **OPTIONS)
    out = tmp_path / "out"
    interrupted.kill("tokenize", source, out, OPTIONS, LIMITS, ("train-*.piece", 1))
    interrupted.damage(out / ".partial" / "tokenizer.piece")
    work.update(trained=0)
    tokenize(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    assert work["trained"] == 1


def test_a_cut_between_the_files_and_the_manifest_loses_nothing(
    tmp_path: Path, source: Path, work: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenize(source, output=tmp_path / "whole", **OPTIONS)
    out = tmp_path / "out"
    for name in ("biollm.tokenization.sharding.write_json", "biollm.manifest.Manifest.write"):
        with monkeypatch.context() as patched:

            def fail(*_: Any) -> None:
                raise KeyboardInterrupt

            patched.setattr(name, fail)
            with pytest.raises(KeyboardInterrupt):
                tokenize(source, output=out, **OPTIONS)
        assert (out / "tokenizer.json").exists()
        assert not (out / "manifest.json").exists()
    work.update(counted=0, encoded=0)
    resumptions = tokenize(source, output=out, **OPTIONS).manifest.resumptions
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    assert len(resumptions) == 2
    assert work["counted"] == 0
    assert work["encoded"] < ROWS / 2


def test_a_tokenizer_beside_no_shards_is_somebodys_own(tmp_path: Path, source: Path) -> None:
    (tmp_path / "mine").mkdir()
    train(TEXTS, vocab_size=310).save(tmp_path / "mine")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        tokenize(source, vocab_size=320, output=tmp_path / "mine")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        tokenize(source, vocab_size=320, output=tmp_path / "mine")
    biollm.select(["one"], output=tmp_path / "other")
    assert Manifest.read(tmp_path / "other").resumptions == ()
