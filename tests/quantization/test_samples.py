"""Which documents calibrate and which judge: never the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import biollm
from biollm.errors import InputError
from biollm.models.checkpoints import read_config
from biollm.quantization import QuantizeOptions
from biollm.quantization.samples import Samples, draw_samples
from biollm.tokenization import Shards
from biollm.tokenization.shard_writer import ShardWriter


def draw(source: Any, model: Path, **options: Any) -> Samples:
    return draw_samples(source, model, read_config(model), QuantizeOptions(**options))


def keys(documents: tuple[Any, ...]) -> set[bytes]:
    return {np.asarray(ids, np.int64).tobytes() for ids in documents}


def write_shards(folder: Path, model: Path, splits: dict[str, list[list[int]]], masked: bool = False) -> Path:
    """Shards of the model's tokenizer with these documents."""
    tokenizer = biollm.Tokenizer.from_file(model / "tokenizer.json")
    folder.mkdir()
    tokenizer.save(folder)
    settings = {"vocab_size": tokenizer.vocab_size, "eos_id": 0, "append_eos": True, "masked": masked}
    with ShardWriter(folder, tokenizer_sha256=tokenizer.sha256, shard_tokens=1 << 20, **settings) as writer:
        for split, documents in splits.items():
            ids, ends = np.concatenate(documents), np.cumsum([0, *map(len, documents)])
            names, sizes = [f"{split}-{i}" for i in range(len(documents))], [len(d) for d in documents]
            mask = (ids % 2).astype(np.uint8) if masked else None
            writer.add(split, ids, ends, ids=names, num_bytes=sizes, mask=mask)
    return folder


def test_shards_calibrate_by_their_train_side_and_judge_by_the_other(shards: Path, model: Path) -> None:
    opened = Shards.open(shards)
    count = {split: sum(s.num_documents for s in parts) for split, parts in opened.splits.items()}
    samples = draw(shards, model)
    assert (len(samples.calibration), len(samples.held_out)) == (count["train"], count["validation"])
    assert not keys(samples.calibration) & keys(samples.held_out)
    assert samples.dropped == 0
    assert samples.inputs[0].kind == "stage"
    fewer = draw(opened, model, calibration_documents=3, evaluation_documents=2)
    assert (len(fewer.calibration), len(fewer.held_out)) == (3, 2)
    assert keys(fewer.calibration) < keys(samples.calibration)
    again, other = (draw(shards, model, calibration_documents=3, seed=seed) for seed in (0, 1))
    assert keys(again.calibration) == keys(fewer.calibration) != keys(other.calibration)


def test_a_document_on_both_sides_does_not_calibrate(model: Path, tmp_path: Path) -> None:
    both = [[5, 6, 7, 0], [8, 9, 10, 11, 0]]
    train = [[20 + i, 30, 40, 0] for i in range(6)]
    folder = write_shards(tmp_path / "s", model, {"train": [*train, *both, both[0]], "validation": [*both, [50, 0]]})
    samples = draw(folder, model)
    assert samples.dropped == 3
    assert keys(samples.calibration) == keys(tuple(map(np.array, train)))
    assert len(samples.held_out) == 3
    assert samples.held_out_masks is None
    with pytest.raises(InputError, match="no documents to calibrate with"):
        draw(write_shards(tmp_path / "t", model, {"train": both, "validation": both}), model)


def test_shards_without_a_validation_side_are_divided(model: Path, tmp_path: Path) -> None:
    documents = [[10 + i, 11 + i, 0] for i in range(9)]
    folder = write_shards(tmp_path / "s", model, {"train": [*documents, *documents]})
    samples = draw(folder, model)
    assert (len(samples.calibration), len(samples.held_out)) == (6, 3)
    assert not keys(samples.calibration) & keys(samples.held_out)
    two = draw([folder, Shards.open(folder)], model)
    assert len(two.inputs) == 2
    assert keys(two.calibration) | keys(two.held_out) == keys(samples.calibration) | keys(samples.held_out)


def test_loss_masks_of_held_out_documents_are_heeded(model: Path, tmp_path: Path) -> None:
    splits = {"train": [[3, 4, 0], [5, 6, 0]], "validation": [[7, 8, 9, 0]]}
    samples = draw(write_shards(tmp_path / "s", model, splits, masked=True), model)
    assert samples.held_out_masks is not None
    assert samples.held_out_masks[0].tolist() == [1, 0, 1, 0]


def test_texts_are_drawn_encoded_and_divided(texts: list[str], model: Path) -> None:
    samples = draw(texts, model, calibration_documents=20, evaluation_documents=10)
    assert (len(samples.calibration), len(samples.held_out)) == (20, 10)
    assert not keys(samples.calibration) & keys(samples.held_out)
    tokenizer = biollm.Tokenizer.from_file(model / "tokenizer.json")
    known = {tokenizer.encode(text).ids.astype(np.int64).tobytes() for text in texts}
    assert {ids[ids != tokenizer.eos_id].astype(np.int64).tobytes() for ids in samples.held_out} <= known
    assert all(ids[-1] == tokenizer.eos_id for ids in samples.held_out)
    # Each text has its chance, the last one too.
    drawn = set()
    for seed in range(90):
        few = draw(texts[:12], model, calibration_documents=2, evaluation_documents=1, seed=seed)
        drawn |= keys(few.held_out)
    assert len(drawn) == 12


def test_long_documents_are_cut_for_calibration_only(model: Path, tmp_path: Path) -> None:
    context = read_config(model).max_seq_len
    long = [list(range(context + 9)) for _ in range(3)]
    for place, ids in enumerate(long):
        ids[1] = place
    samples = draw(write_shards(tmp_path / "s", model, {"train": long}), model)
    assert {ids.size for ids in samples.calibration} == {context}
    assert {ids.size for ids in samples.held_out} == {context + 9}


@pytest.mark.parametrize("source", [[], [""], ["one text"], ["same", "same", "same"]])
def test_too_few_texts(source: list[str], model: Path) -> None:
    with pytest.raises(InputError) as caught:
        draw(source, model)
    assert caught.value.field == "calibration"


def test_shards_of_another_tokenizer(model: Path, tmp_path: Path) -> None:
    biollm.tokenize(["other words than those"] * 9, vocab_size=290, validation_fraction=0, output=tmp_path / "other")
    with pytest.raises(InputError, match="another tokenizer"):
        draw(tmp_path / "other", model)


def test_texts_need_the_checkpoint_s_tokenizer(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    with pytest.raises(InputError, match="give token shards instead"):
        draw(["a text", "another", "third"], tmp_path)
