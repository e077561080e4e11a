"""Instruction tuning: from rows to a checkpoint that answers."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import biollm
from base_models import CONTEXT, base_model, pairs
from biollm import recipe
from biollm.errors import BiollmError, ConfigError, InputError
from biollm.manifest import Manifest
from biollm.models import load_checkpoint
from biollm.readers.rows import open_rows
from biollm.stages import StageContext, StageInput
from biollm.tokenization import Tokenizer
from biollm.tokenization.chat import CHAT_TEMPLATE, TEMPLATE_FILE, ChatTemplate
from biollm.training import TrainOptions
from biollm.training.examples import conversations
from biollm.training.stage import STAGE
from shared_data import shared_records

FAST: dict[str, Any] = {"objective": "instruct", "seq_len": CONTEXT, "batch_size": 4, "threads": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_model(tmp_path_factory.mktemp("base"))


def chats(count: int) -> list[dict[str, Any]]:
    roles = {"question": "user", "answer": "assistant"}
    return [{"messages": [{"role": roles[k], "content": row[k]} for k in roles]} for row in pairs(count)]


def write_lines(path: Path, rows: list[Any]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_folder_the_facts_and_an_answer(base: Path, tmp_path: Path) -> None:
    checkpoint = biollm.train(
        pairs(90), start=base, output=tmp_path / "out", epochs=12, lr=1e-2, validation_fraction=0.2, **FAST
    )
    files = {str(path.relative_to(checkpoint.path)) for path in checkpoint.path.rglob("*") if path.is_file()}
    hf = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    state = {"state/optimizer.safetensors", "state/rng.safetensors", "state/state.json"}
    assert set(checkpoint.manifest.outputs) == hf | state | {TEMPLATE_FILE}
    assert files == set(checkpoint.manifest.outputs) | {"summary.json", "manifest.json"}
    assert (checkpoint.path / TEMPLATE_FILE).read_text() == CHAT_TEMPLATE
    tokenizer = Tokenizer.from_file(checkpoint.path)
    ends = [tokenizer.eos_id, tokenizer.special_tokens["<|end|>"]]
    for name in ("config.json", "generation_config.json"):
        assert json.loads((checkpoint.path / name).read_text())["eos_token_id"] == ends

    facts = checkpoint.summary().facts
    counts = checkpoint.manifest.counts
    assert facts["objective"] == "instruct"
    assert counts["train_conversations"] + counts["validation_conversations"] == 90
    assert counts["rows_skipped"] == 0
    assert facts["nats_below_start"] == facts["validation_loss_before_nats"] - facts["validation_loss_nats"] > 2.0
    (curve,) = [series for series in checkpoint.summary().series if series.name == "validation"]
    assert curve.x[0] == 0
    assert curve.y[0] == facts["validation_loss_before_nats"]

    llm = biollm.LLM(checkpoint.path)
    row = pairs(90)[4]
    (answer,) = llm.generate([{"role": "user", "content": row["question"]}], max_tokens=40)
    assert answer.text.split(" and ")[0] == row["answer"].split(" and ")[0]
    assert answer.finish_reason == "stop"
    assert answer.prompt == f"<|user|>{row['question']}<|end|><|assistant|>"


def test_only_the_answers_are_in_the_loss(base: Path, tmp_path: Path) -> None:
    """The loss before the first step is that of the answers' tokens, conversation by conversation."""
    rows = pairs(30)
    checkpoint = biollm.train(rows, start=base, output=tmp_path / "out", steps=1, validation_fraction=0.5, **FAST)
    tokenizer, model = Tokenizer.from_file(base), load_checkpoint(base)
    from biollm.tokenization.sides import held_out

    out = held_out([row["id"] for row in rows], fraction=0.5, seed=0)
    nats, count = 0.0, 0
    for row, validation in zip(rows, out, strict=True):
        if not validation:
            continue
        chat = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        (encoded,) = ChatTemplate(CHAT_TEMPLATE).training_ids([chat], tokenizer)
        tokens = torch.from_numpy(encoded.ids)[None]
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:], reduction="none")
        nats += float(losses[torch.from_numpy(encoded.in_loss[1:])].sum())
        count += int(encoded.in_loss.sum())
    assert checkpoint.summary().facts["validation_loss_before_nats"] == pytest.approx(nats / count, rel=1e-5)
    assert checkpoint.manifest.counts["validation_answer_tokens"] == count


def test_accumulation_over_rows_of_unequal_answers_changes_nothing_in_float64(base: Path, tmp_path: Path) -> None:
    rows = pairs(40)
    rows[3]["answer"] = "yes"
    runs = [
        biollm.train(rows, start=base, output=tmp_path / str(n), steps=8, accumulation=n, dtype="float64", **FAST)
        for n in (1, 4)
    ]
    states = [load_file(run.path / "model.safetensors") for run in runs]
    for name, tensor in states[0].items():
        assert tensor.dtype is torch.float64
        torch.testing.assert_close(tensor, states[1][name], rtol=0, atol=1e-12)
    losses = [run.summary().facts["train_loss_nats"] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)


def test_transformers_loads_the_folder_and_its_template(base: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = biollm.train(pairs(20), start=base, output=tmp_path / "out", steps=2, **FAST)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.path)
    chat = [{"role": "user", "content": "what of the heart 1 ?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    (ours,) = biollm.LLM(checkpoint.path).generate(chat, max_tokens=8)
    given = theirs.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :].tolist()
    assert tuple(given) == ours.token_ids


def test_it_goes_on_from_its_own_checkpoint(base: Path, tmp_path: Path) -> None:
    first = biollm.train(pairs(20), start=base, output=tmp_path / "first", steps=2, **FAST)
    second = biollm.train(pairs(20), start=first.path, output=tmp_path / "second", steps=2, **FAST)
    for name in (TEMPLATE_FILE, "generation_config.json"):
        assert (second.path / name).read_bytes() == (first.path / name).read_bytes()


# --- where rows come from ---------------------------------------------------------------------------------------------


def test_rows_of_every_kind_give_the_same_weights(base: Path, tmp_path: Path) -> None:
    rows = pairs(30)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "rows.parquet")
    lines = write_lines(tmp_path / "rows.jsonl.gz", [*rows[:10], "\n", *rows[10:]])
    pq.write_table(
        pa.Table.from_pylist([{**chat, "id": row["id"]} for chat, row in zip(chats(30), rows, strict=True)]),
        tmp_path / "chats.parquet",
    )
    biollm.read(lines, text="answer", output=tmp_path / "read")
    sources: list[tuple[Any, dict[str, str]]] = [
        (rows, {}),
        (table, {}),
        (tmp_path / "rows.parquet", {}),
        (str(lines), {}),
        ([tmp_path / "chats.parquet"], {}),
        (tmp_path / "read", {"answer": "text"}),
        (
            [{"id": r["id"], "prompt": r["question"], "completion": r["answer"]} for r in rows],
            {"question": "prompt", "answer": "completion"},
        ),
    ]
    hashes = [
        biollm.train(source, start=base, output=tmp_path / f"out{i}", steps=2, **FAST, **names).manifest.outputs[
            "model.safetensors"
        ]
        for i, (source, names) in enumerate(sources)
    ]
    assert len(set(hashes)) == 1


def test_a_group_is_on_one_side(base: Path, tmp_path: Path) -> None:
    rows = [{**row, "doc": f"d{i // 5}"} for i, row in enumerate(pairs(100))]
    checkpoint = biollm.train(
        rows, start=base, output=tmp_path / "out", steps=1, group="doc", validation_fraction=0.4, **FAST
    )
    counts = checkpoint.manifest.counts
    assert counts["validation_conversations"] % 5 == 0
    assert 0 < counts["validation_conversations"] < 100


def test_the_split_does_not_depend_on_where_the_rows_lie(base: Path, tmp_path: Path) -> None:
    rows = [{name: row[name] for name in ("question", "answer")} for row in pairs(40)]
    tokenizer, template = Tokenizer.from_file(base), ChatTemplate.default(Tokenizer.from_file(base))
    options = TrainOptions(objective="instruct", validation_fraction=0.4, seq_len=CONTEXT)
    sides = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        file = write_lines(tmp_path / place / f"{place}.jsonl.gz", rows + rows[:5])
        sides.append(conversations(open_rows(file), template, tokenizer, options))
    assert sides[0].train.tokens.tolist() == sides[1].train.tokens.tolist()
    assert 0 < len(sides[0].validation) < 45
    # A row that occurs twice is on one side.
    held_out = {tuple(item) for item in np.split(sides[0].validation.tokens, sides[0].validation.offsets[1:-1])}
    trained = {tuple(item) for item in np.split(sides[0].train.tokens, sides[0].train.offsets[1:-1])}
    assert not held_out & trained


def test_as_a_stage_and_what_the_manifest_says(base: Path, tmp_path: Path) -> None:
    import logging

    lines = write_lines(tmp_path / "rows.jsonl.gz", pairs(20))
    inputs = (StageInput(lines, "files", "rows"), StageInput(base, "checkpoint", "base"))
    options = TrainOptions(steps=2, **FAST)
    checkpoint = STAGE.run(StageContext(tmp_path / "out", inputs, None, logging.getLogger("biollm.train")), options)
    manifest = Manifest.read(tmp_path / "out")
    assert [Path(record.name).name for record in manifest.inputs] == ["rows.jsonl.gz", "model.safetensors"]
    assert manifest.options == options.matched()
    assert {"messages", "question", "group"} <= set(manifest.options)
    assert not {"label", "lora_alpha", "threads"} & set(manifest.options)
    assert checkpoint.path == tmp_path / "out"
    shards = (StageInput(lines, "shards", "tokens"), StageInput(base, "checkpoint", "base"))
    for given, objective, wrong in ((shards, "instruct", "tokens"), (inputs, "pretrain", "rows")):
        with pytest.raises(ConfigError, match=rf"'{wrong}' is of kind .*, but the objective {objective} takes"):
            context = StageContext(tmp_path / "no", given, None, logging.getLogger("biollm.train"))
            STAGE.run(context, TrainOptions(objective=objective))


def test_a_killed_run_ends_as_an_uncut_one(base: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "rows.jsonl.gz", pairs(60))
    options = {"steps": 14, "checkpoint_every": 3, "validate_every": 5, "validation_fraction": 0.2, **FAST}
    run = {"output": str(tmp_path / "cut"), "options": {"source": str(lines), "start": str(base), **options}}
    runs = [{**run, "kill": ["reported", 8]}, {**run, "kill": ["publishing", "model.safetensors"]}]
    program = [sys.executable, str(Path(__file__).with_name("killed_runs.py"))]
    done = subprocess.run(program, input=json.dumps(runs), capture_output=True, text=True, timeout=300, check=False)
    assert json.loads(done.stdout) == [-signal.SIGKILL] * 2, done.stderr
    uncut = biollm.train(lines, start=base, output=tmp_path / "uncut", **options)
    # The same rows from elsewhere are the same work.
    checkpoint = biollm.train(pairs(60), start=base, output=tmp_path / "cut", **options)
    assert [(item.kept, item.done) for item in checkpoint.manifest.resumptions] == [(6, 8), (6, 9)]
    assert checkpoint.manifest.outputs == uncut.manifest.outputs
    assert [s.y for s in checkpoint.summary().series] == [s.y for s in uncut.summary().series]


RECIPE = """
[[stage]]
name = "answers"
verb = "read"
inputs = ["*.jsonl.gz"]
text = "answer"

[[stage]]
name = "unique"
verb = "dedup"
inputs = ["answers"]

[[stage]]
name = "tuned"
verb = "train"
inputs = ["base", "unique"]
objective = "instruct"
answer = "text"
on_error = "skip"
seq_len = 128
steps = 2
lora_rank = 2
lora_targets = ["q_proj"]

[[stage]]
name = "again"
verb = "train"
inputs = ["b.jsonl.gz", "tuned", "a.jsonl.gz"]
objective = "instruct"
seq_len = 128
steps = 1

[[stage]]
name = "answer"
verb = "generate"
inputs = ["again"]
prompts = ["what of the heart ?"]
max_tokens = 4
chat = true
"""


def test_in_a_recipe_and_a_second_run_runs_nothing(tmp_path: Path) -> None:
    base_model(tmp_path / "base")
    write_lines(tmp_path / "a.jsonl.gz", pairs(20))
    write_lines(tmp_path / "b.jsonl.gz", [row | {"id": f"b{row['id']}"} for row in pairs(12)])
    (tmp_path / "r.toml").write_text(RECIPE)
    first = recipe.run(tmp_path / "r.toml", output=tmp_path / "RUN")
    assert [stage.status for stage in first.stages] == ["complete"] * 5
    counts = Manifest.read(tmp_path / "RUN" / "tuned").counts
    assert counts["train_conversations"] + counts["validation_conversations"] < 32  # those that dedup kept
    second = recipe.run(tmp_path / "r.toml", output=tmp_path / "RUN")
    assert [stage.status for stage in second.stages] == ["matched"] * 5, [stage.reason for stage in second.stages]
    completion = json.loads((tmp_path / "RUN/answer/completions.jsonl").read_text())
    assert completion["prompt"] == "<|user|>what of the heart ?<|end|><|assistant|>"


# --- bad input --------------------------------------------------------------------------------------------------------

LONG = {"question": "what ?", "answer": "the heart pumps blood " * 200}
BAD: list[tuple[Any, str]] = [
    ({"question": "what ?"}, "neither 'messages' nor 'answer'"),
    ({"answer": "this"}, "neither 'messages' nor 'question'"),
    ({"question": "what ?", "answer": " "}, "empty answer"),
    ({"question": 5, "answer": "x"}, "content that is int"),
    ({"messages": "hello"}, "a list of messages, not str"),
    ({"messages": [{"role": "user", "content": "x"}]}, "does not end with an answer"),
    ({"messages": [{"role": "nurse", "content": "x"}]}, "role 'nurse'"),
    (LONG, r"has \d+ tokens, over seq_len 128"),
    ("{broken\n", "not JSON"),
    ("[1, 2]\n", "not an object"),
]


@pytest.mark.parametrize(("bad", "complaint"), BAD)
def test_a_bad_row_is_named(base: Path, tmp_path: Path, bad: Any, complaint: str) -> None:
    lines = write_lines(tmp_path / "rows.jsonl.gz", [*pairs(5), bad, *pairs(3)])
    with pytest.raises(InputError, match=complaint) as caught:
        biollm.train(lines, start=base, output=tmp_path / "out", steps=1, **FAST)
    assert (caught.value.path, caught.value.row) == (str(lines), 5)
    assert not (tmp_path / "out").exists()


def test_bad_rows_are_skipped_and_counted(base: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "rows.jsonl.gz", [*pairs(20), *(bad for bad, _ in BAD), *pairs(3)])
    checkpoint = biollm.train(lines, start=base, output=tmp_path / "out", steps=1, on_error="skip", **FAST)
    rejected = [json.loads(line) for line in (checkpoint.path / "rejected.jsonl").read_text().splitlines()]
    assert sorted(record["row"] for record in rejected) == list(range(20, 20 + len(BAD)))
    assert {record["file"] for record in rejected} == {str(lines)}
    assert checkpoint.summary().facts["rows_skipped"] == checkpoint.manifest.counts["rows_skipped"] == len(BAD)
    assert "rejected.jsonl" in checkpoint.manifest.outputs


@pytest.mark.parametrize(
    ("source", "options", "error", "complaint"),
    [
        ([], {}, InputError, "no row is left"),
        ([LONG], {"on_error": "skip"}, InputError, "1 rows were skipped"),
        (pairs(5), {"start": None}, ConfigError, "needs a checkpoint to start from"),
        (pairs(5), {"seq_len": 512}, ConfigError, "over the context"),
        (pairs(5), {"label": "x"}, ConfigError, "label is an option of classify"),
        (pairs(5), {"validation_fraction": 0.9999999}, InputError, "every row is on the validation side"),
        (pairs(5), {"objective": "reason"}, ConfigError, "one of pretrain, instruct, classify"),
        (pairs(5), {"objective": "pretrain"}, TypeError, "shards|str"),
        (7, {}, TypeError, "int holds no rows"),
    ],
)
def test_what_cannot_be_tuned(
    base: Path, tmp_path: Path, source: Any, options: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        biollm.train(source, **{"start": base, "output": tmp_path / "out", "steps": 1, **FAST, **options})
    assert not (tmp_path / "out").exists()


def test_a_start_without_a_template_and_its_tokens(tmp_path: Path) -> None:
    base = base_model(tmp_path / "base")
    text = (base / "tokenizer.json").read_text().replace("<|user|>", "<|hello|>")
    (base / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match=r"no special token <\|user\|>"):
        biollm.train(pairs(5), start=base, output=tmp_path / "out", steps=1, **FAST)
    (base / TEMPLATE_FILE).write_text("{{ '<|hello|>' ~ messages }}")
    with pytest.raises(BiollmError, match="changes what stands before"):
        biollm.train(pairs(5), start=base, output=tmp_path / "out", steps=1, **FAST)


# --- real data --------------------------------------------------------------------------------------------------------


def test_medquad(base: Path, tmp_path: Path) -> None:
    rows = shared_records("text_bio/medquad_qa.jsonl.gz")
    rows = rows[:50] + [row for row in rows if len(row["answer"]) < 150][:350]
    checkpoint = biollm.train(
        rows,
        start=base,
        output=tmp_path / "out",
        steps=6,
        group="doc",
        on_error="skip",
        lr=1e-2,
        validation_fraction=0.2,
        **FAST,
    )
    counts, facts = checkpoint.manifest.counts, checkpoint.summary().facts
    assert counts["train_conversations"] + counts["validation_conversations"] + counts["rows_skipped"] == len(rows)
    assert counts["rows_skipped"] > 0  # this base has a context of 128 tokens of three letters
    assert facts["nats_below_start"] > 0.3
