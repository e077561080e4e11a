"""A classification head on labelled documents."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import biollm
from base_models import CONTEXT, base_model, documents
from biollm.errors import ConfigError, FormatError, InputError
from biollm.models import load_checkpoint, load_classifier
from biollm.tokenization.sides import held_out
from biollm.training import Checkpoint, TrainOptions
from biollm.training.classification import Scores
from shared_data import shared_records

FAST: dict[str, Any] = {"objective": "classify", "seq_len": CONTEXT, "batch_size": 2, "threads": 1}
ROWS = documents(90)
FRACTION = 0.3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def classifier(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    output = tmp_path_factory.mktemp("classifier")
    return biollm.train(ROWS, start=base, output=output, epochs=3, lr=1e-2, validation_fraction=FRACTION, **FAST)


def held_out_rows() -> list[dict[str, str]]:
    out = held_out([row["id"] for row in ROWS], fraction=FRACTION, seed=0)
    return [row for row, o in zip(ROWS, out, strict=True) if o]


def test_what_the_summary_says_is_what_the_classifier_does(classifier: Checkpoint) -> None:
    rows = held_out_rows()
    given = [item.label for item in biollm.Classifier(classifier).classify([row["text"] for row in rows])]
    wanted = [row["label"] for row in rows]
    facts = classifier.summary().facts
    assert facts["accuracy"] == pytest.approx(sum(a == b for a, b in zip(given, wanted, strict=True)) / len(rows))
    assert facts["accuracy"] > facts["majority_accuracy"] + 0.3
    f1 = []
    for label in set(wanted):
        right = sum(a == b == label for a, b in zip(given, wanted, strict=True))
        f1.append(2 * right / (given.count(label) + wanted.count(label)))
    assert facts["macro_f1"] == pytest.approx(sum(f1) / 3)
    by_label, confusion = classifier.summary().tables
    assert {row[0]: row[1] for row in by_label.rows} == Counter(wanted)
    assert sum(sum(row[1:]) for row in confusion.rows) == len(rows)  # type: ignore[arg-type]
    assert classifier.manifest.counts["labels"] == 3
    assert {series.y_label for series in classifier.summary().series} == {"nats a document", "learning rate"}


def test_transformers_loads_the_folder_with_equal_logits(classifier: Checkpoint) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(classifier.path).eval()
    assert type(theirs).__name__ == "LlamaForSequenceClassification"
    ours = load_classifier(classifier.path)
    assert [theirs.config.id2label[i] for i in range(3)] == list(ours.labels) == ["brain", "gut", "heart"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier.path)
    texts = [row["text"] for row in ROWS[:5]]
    batch = tokenizer([text + tokenizer.eos_token for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    found = biollm.Classifier(classifier).classify(texts)
    for row, item in zip(expected.softmax(-1).tolist(), found, strict=True):
        assert list(item.probabilities.values()) == pytest.approx(row, abs=1e-5)
        assert item.label == ours.labels[int(np.argmax(row))]


def test_a_transformers_classifier_is_read(tmp_path: Path, base: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(base, num_labels=4, id2label={i: f"c{i}" for i in range(4)})
    torch.manual_seed(1)
    theirs = transformers.LlamaForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(2, 300, (2, 30), generator=torch.Generator().manual_seed(2))
    ours = load_classifier(tmp_path)
    assert ours.labels == ("c0", "c1", "c2", "c3")
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens)[:, -1], theirs(tokens).logits, rtol=0, atol=1e-5)


def test_a_batch_gives_what_each_text_gives_alone_and_long_ones_are_cut(classifier: Checkpoint) -> None:
    model = biollm.Classifier(classifier)
    texts = [ROWS[0]["text"], "the liver " * 300, "x", ROWS[7]["text"]]
    together = model.classify(texts)
    for text, item in zip(texts, together, strict=True):
        (alone,) = model.classify(text)
        assert list(alone.probabilities.values()) == pytest.approx(list(item.probabilities.values()), abs=1e-6)
        assert sum(item.probabilities.values()) == pytest.approx(1.0)
    assert [item.truncated for item in together] == [False, True, False, False]
    assert model.classify([]) == []


def test_new_weights_keep_the_shape_alone(base: Path, tmp_path: Path) -> None:
    runs = [
        biollm.train(ROWS, start=base, output=tmp_path / str(new), steps=1, lr=1e-9, seed=7, new_weights=new, **FAST)
        for new in (False, True)
    ]
    before = load_checkpoint(base).model.embed_tokens.weight
    same, other = (load_classifier(run.path).model.embed_tokens.weight for run in runs)
    torch.testing.assert_close(same, before, rtol=0, atol=1e-6)
    assert (other - before).abs().max() > 0.1
    assert load_classifier(runs[1].path).config == load_classifier(runs[0].path).config


def test_labels_along_the_way_and_noise_are_of_training_alone(base: Path, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [{"label_every": 0}, {"label_every": 1, "token_noise": 0.5}]
    losses = []
    for number, own in enumerate(options):
        output = tmp_path / str(number)
        run = biollm.train(ROWS, start=base, output=output, steps=1, lr=1e-9, validation_fraction=0.3, **own, **FAST)
        losses.append([run.summary().facts[f"{side}_loss_nats"] for side in ("train", "validation")])
    (train, held), (changed, same) = losses
    assert changed != pytest.approx(train, abs=1e-5)
    assert same == pytest.approx(held, abs=1e-6)


def test_a_cut_off_run_and_long_documents(base: Path, tmp_path: Path) -> None:
    class Cut(Exception):  # noqa: N818
        pass

    def cut(done: int, total: int | None) -> None:
        if done == 5:
            raise Cut

    rows = [*ROWS, {"id": "long", "text": "the liver makes bile " * 100, "label": "gut"}]
    options = FAST | {"steps": 8, "checkpoint_every": 3}
    uncut = biollm.train(rows, start=base, output=tmp_path / "uncut", **options)
    with pytest.raises(Cut):
        biollm.train(rows, start=base, output=tmp_path / "cut", progress=cut, **options)
    checkpoint = biollm.train(rows, start=base, output=tmp_path / "cut", **options)
    assert [(item.kept, item.done) for item in checkpoint.manifest.resumptions] == [(3, 5)]
    assert checkpoint.manifest.outputs == uncut.manifest.outputs
    assert checkpoint.manifest.counts["documents_truncated"] == 1


def test_scores_by_hand() -> None:
    scores = Scores(("a", "b", "c"), np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]]), majority=1)
    assert scores.accuracy == 5 / 8
    assert scores.f1.tolist() == [2 * 3 / 9, 2 * 2 / 7, 0.0]
    assert scores.facts()["majority_accuracy"] == 0.5
    assert scores.tables()[0].rows[0] == ("a", 4, 3 / 5, 3 / 4, 2 / 3)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"text": "x"}, "'label' holds no label: None"),
        ({"text": "x", "label": ""}, "'label' holds no label"),
        ({"text": "x", "label": ["a"]}, "'label' holds no label"),
        ({"label": "gut"}, "'text' holds no text"),
        ({"text": "  ", "label": "gut"}, "'text' holds no text"),
    ],
)
def test_bad_rows(base: Path, tmp_path: Path, bad: dict[str, Any], complaint: str) -> None:
    rows = [*ROWS[:7], bad, *ROWS[7:]]
    with pytest.raises(InputError, match=complaint) as caught:
        biollm.train(rows, start=base, output=tmp_path / "out", steps=1, **FAST)
    assert caught.value.row == 7
    checkpoint = biollm.train(rows, start=base, output=tmp_path / "out", steps=1, on_error="skip", **FAST)
    assert checkpoint.manifest.counts["rows_skipped"] == 1
    (record,) = (json.loads(line) for line in (checkpoint.path / "rejected.jsonl").read_text().splitlines())
    assert record["row"] == 7


def test_labels_that_cannot_be_learned(base: Path, tmp_path: Path) -> None:
    one = [{**row, "label": "gut"} for row in ROWS]
    with pytest.raises(InputError, match="nothing to tell apart"):
        biollm.train(one, start=base, output=tmp_path / "out", steps=1, **FAST)
    rare = [{**row, "label": "rare"} if row == held_out_rows()[0] else row for row in ROWS]
    with pytest.raises(InputError, match="'rare' is in held-out documents only"):
        biollm.train(rare, start=base, output=tmp_path / "out", steps=1, validation_fraction=FRACTION, **FAST)
    with pytest.raises(ConfigError, match="question is an option of instruct"):
        TrainOptions(objective="classify", question="q")


def test_a_classifier_is_no_language_model_and_the_other_way_round(classifier: Checkpoint, base: Path) -> None:
    with pytest.raises(ConfigError, match="LlamaForSequenceClassification"):
        biollm.LLM(classifier)
    with pytest.raises(ConfigError, match="no classifier: architectures"):
        biollm.Classifier(base)
    with pytest.raises(TypeError, match="text 1 is int"):
        biollm.Classifier(classifier).classify(["a", 5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="text 0 is empty"):
        biollm.Classifier(classifier).classify(" ")


@pytest.mark.parametrize(
    ("labels", "error"),
    [(None, ConfigError), ({}, ConfigError), ({"0": "a", "2": "b"}, FormatError), ({"x": "a"}, FormatError)],
)
def test_broken_names_of_classes(classifier: Checkpoint, tmp_path: Path, labels: Any, error: type[Exception]) -> None:
    classifier.write(tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": labels}))
    with pytest.raises(error, match="id2label"):
        load_classifier(tmp_path / "copy")


def test_real_abstracts(base: Path, tmp_path: Path) -> None:
    rows = shared_records("text_bio/medical_abstracts.jsonl.gz")[:120]
    checkpoint = biollm.train(rows, start=base, output=tmp_path / "out", steps=4, validation_fraction=0.2, **FAST)
    facts = checkpoint.summary().facts
    assert facts["labels"] == 5
    assert facts["majority_label"] == "general pathological conditions"
    assert facts["documents_truncated"] > 0
    assert facts["validation_loss_nats"] < 2.0
