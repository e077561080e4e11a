"""Model cards: what manifests say stands there, what they do not say is said to be missing, nothing is guessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import biollm
from biollm.cli.app import app
from biollm.errors import ConfigError, FileError, FormatError, InputError
from biollm.manifest import InputRecord
from biollm.recipe.folder import prepare_folder
from biollm.report import write_report
from report_folders import file_input, write_model_run, write_record, write_stage


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run from two files to an aligned model of 4 bits, with an evaluation before and after."""
    folder = tmp_path / "RUN"
    write_model_run(folder, documents=1000, steps=100, loss=3.0)
    write_stage(
        folder / "align",
        "align",
        "checkpoint",
        options={"method": "ppo", "steps": 5},
        inputs=[InputRecord.of_stage(folder / "train"), file_input("pairs.jsonl", "pairs")],
        counts={"parameters": 1000, "pairs_in": 60},
        facts={"method": "ppo", "harmful_after": 0.125, "samples": 64, "guards_broken": "distinct_2", "win_rate": 0.75},
        files={"model.safetensors": "aligned"},
        wall_s=3.0,
    )
    write_stage(
        folder / "int4",
        "quantize",
        "checkpoint",
        options={"bits": 4},
        inputs=[InputRecord.of_stage(folder / "align"), InputRecord.of_stage(folder / "tokenize")],
        counts={"parameters": 1000},
        facts={"weights": "int4", "perplexity_increase": 0.01, "perplexity_increase_high": 0.0234},
        files={"model.safetensors": "four bits"},
        wall_s=2.0,
    )
    for name, model, accuracy in (("before", "train", 0.30), ("after", "int4", 0.45)):
        inputs = [InputRecord.of_stage(folder / model), file_input("questions.jsonl", "questions")]
        write_stage(folder / name, "evaluate", "evaluation", inputs=inputs, facts={"questions": 40})
        task = {"task": "questions", "shots": 0, "majority": 0.5, "accuracy": interval(accuracy)}
        (folder / name / "evaluation.json").write_text(json.dumps({"tasks": [task]}))
    names = ("read", "tokenize", "train", "align", "int4", "before", "after")
    write_record(folder, [{"name": name, "verb": name} for name in names], machine={"cpus": 2, "processor": "Z80"})
    return folder


def interval(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.1}


def card_text(folder: Path, **options: Any) -> str:
    return biollm.card(folder, **options).read_text("utf-8")


def test_a_run_gets_the_card_of_its_last_checkpoint(run: Path) -> None:
    path = biollm.card(run)
    assert path == run / "int4" / "README.md"
    text = path.read_text("utf-8")
    assert "# RUN/int4" in text
    assert "read → tokenize → train → align → int4" in text
    for words in ("`a.jsonl`", "`pairs.jsonl`", "`bits = 4`", "documents 1,000", '`method = "ppo"`', "Z80"):
        assert words in text, words
    assert "/data/" not in text, "a path of this machine"
    # CPU seconds of the five stages, of which each test stage took half its wall time: 0.25 + 0.25 + 5 + 1.5 + 1.
    assert "(8.0 CPU-seconds)" in text
    assert "**modelled**: 2.22e-05 kWh, at 10 W a busy core" in text
    assert "**modelled**: 0.0106 g of CO2, at 475 g a kWh" in text


def test_evaluations_of_the_checkpoint_and_of_those_before_it_are_shown(run: Path) -> None:
    text = card_text(run)
    assert "`before` measured `train`" in text
    assert "`after` measured `int4`" in text
    results = json.loads(front_matter(text)["model-index"])[0]["results"]
    assert [result["metrics"][0]["value"] for result in results] == [0.45]  # not that of the pretrained model


def front_matter(text: str) -> dict[str, str]:
    head = text.split("---\n")[1]
    return dict(line.split(": ", 1) for line in head.splitlines())


def test_limitations_are_what_was_measured(run: Path) -> None:
    limits = card_text(run).split("## Limitations")[1].split("\n## ")[0]
    assert "12.5% of 64 sampled answers" in limits
    assert "broke guards of quality: distinct\\_2" in limits
    assert "by up to 2.34%" in limits
    assert "0.450 (0.350 to 0.550) against 0.500" in limits
    assert "not aligned" not in limits
    of_pretrained = card_text(run, stage="train").split("## Limitations")[1]
    assert "It was not aligned" in of_pretrained


def test_licences_are_stated_or_said_to_be_missing(run: Path) -> None:
    text = card_text(run)
    assert "- Model: not stated." in text
    assert "- Data: not stated." in text
    assert "license" not in front_matter(text)
    text = card_text(run, licence="Apache-2.0", data_licence="by agreement")
    assert front_matter(text)["license"] == '"apache-2.0"'
    assert "- Data: by agreement." in text
    assert front_matter(card_text(run, licence="My own terms"))["license_name"] == '"My own terms"'


@pytest.mark.parametrize("column", ["licence", "license", "meta"])
def test_licences_of_documents_are_counted(run: Path, column: str) -> None:
    values = ["CC BY 4.0", "CC BY 4.0", None, "CC0 | 1.0"]
    if column == "meta":
        values = [json.dumps({"year": 1, "license": value}) for value in values]
    (run / "read" / "documents").mkdir()
    table = pa.table({"id": list("abcd"), "text": list("abcd"), "source": ["x", "x", "y", None], column: values})
    pq.write_table(table, run / "read" / "documents" / "part-00000.parquet")
    text = card_text(run)
    assert "by their field: CC BY 4.0 2; not stated 1; CC0 \\| 1.0 1." in text
    assert "Sources of the documents of `read`: x 2; not stated 1; y 1." in text


def test_a_checkpoint_copied_elsewhere_says_what_it_cannot_find(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "model"
    shutil.copytree(run / "int4", alone)
    text = card_text(alone)
    assert "**Not found:** `align`, `tokenize`." in text
    assert "The stages that were not found are not in these figures." in text
    assert "Machine: not stated." in text
    assert "No evaluation was found beside the checkpoint." in text
    assert "not aligned" not in text, "that is not known"


def test_a_stage_made_again_is_not_taken_for_the_one_it_replaced(run: Path) -> None:
    write_stage(run / "align", "align", "checkpoint", options={"method": "dpo"}, files={"model.safetensors": "other"})
    text = card_text(run, stage="int4")
    assert "**Not found:** `align`." in text
    assert "dpo" not in text


def test_folders_that_were_renamed_are_found(run: Path) -> None:
    (run / "run.json").unlink()
    (run / "align").rename(run / "ppo-of-monday")
    assert "ppo-of-monday → int4" in card_text(run / "int4")


def test_what_stands_there_is_replaced_only_where_it_is_a_card(run: Path, tmp_path: Path) -> None:
    biollm.card(run)
    biollm.card(run)
    (run / "int4" / "README.md").write_text("mine")
    with pytest.raises(InputError, match="did not write"):
        biollm.card(run)
    assert (run / "int4" / "README.md").read_text() == "mine"
    biollm.card(run, overwrite=True)
    assert "# RUN/int4" in (run / "int4" / "README.md").read_text()
    assert biollm.card(run, output=tmp_path / "card.md") == tmp_path / "card.md"
    with pytest.raises(InputError, match="a folder"):
        biollm.card(run, output=tmp_path)


def test_folders_without_manifests_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, stage, words in (
        (tmp_path / "empty", None, "neither a checkpoint nor a run"),
        (tmp_path / "missing", None, "not a folder"),
        (run / "before", None, "no checkpoint"),
        (run, "tokenize", "no checkpoint"),
        (run, "elsewhere", "no finished stage"),
        (run, "../RUN/int4", "no finished stage"),
        (run / "int4", "int4", "--stage"),
    ):
        with pytest.raises(InputError, match=words):
            biollm.card(folder, stage=stage)
    (run / "int4" / "manifest.json").write_text("{}")
    with pytest.raises(FormatError, match="manifest"):
        biollm.card(run / "int4")
    with pytest.raises(ConfigError, match="core_watts"):
        biollm.card(run, stage="train", core_watts=-1.0)
    with pytest.raises(FileError):
        biollm.card(run, stage="train", output=tmp_path / "no" / "such" / "folder" / "card.md")


def test_what_documents_and_stages_are_called_does_not_become_markup(run: Path) -> None:
    write_stage(
        run / "x",
        "train",
        "checkpoint",
        options={"note": "a|b `c` <script>"},
        inputs=[file_input("we|ird`<b>.jsonl", "x")],
        facts={"device": "<i>|*"},
    )
    text = card_text(run / "x")
    assert "<b>" not in text.replace("`we¦ird'<b>.jsonl`", "")
    assert "\\<i\\>\\|\\*" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") >= 3 for line in rows)


def test_the_command(run: Path) -> None:
    done = CliRunner().invoke(app, ["card", str(run), "--stage", "align", "--licence", "mit", "--grid-g-per-kwh", "50"])
    assert (done.exit_code, done.output) == (0, f"→ {run / 'align' / 'README.md'}\n")
    text = (run / "align" / "README.md").read_text("utf-8")
    assert front_matter(text)["license"] == '"mit"'
    assert "at 50 g a kWh" in text
    done = CliRunner().invoke(app, ["card", str(run / "read"), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["type"] == "InputError"


def test_a_stage_with_a_card_can_be_made_again(run: Path) -> None:
    biollm.card(run)
    prepare_folder(run / "int4")
    assert list((run / "int4").iterdir()) == []
    (run / "align" / "README.md").write_text("mine")
    with pytest.raises(InputError, match="no stage wrote"):
        prepare_folder(run / "align")


def test_the_report_links_the_card(run: Path) -> None:
    assert "Model card" not in write_report(run).read_text("utf-8")
    biollm.card(run)
    assert 'href="int4/README.md"' in write_report(run).read_text("utf-8")
    assert 'href="README.md"' in write_report(run / "int4").read_text("utf-8")


def test_the_hub_reads_the_front_matter(run: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(biollm.card(run, licence="apache-2.0"))
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["biollm", "ppo"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 0.45, "questions")
