"""`evaluate`: a small model on questions, documents and shards, as a call and as the folder of a stage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import pyarrow.parquet as pq  # noqa: E402

import biollm  # noqa: E402
from biollm.errors import InputError  # noqa: E402
from biollm.evaluation import EvaluateOptions, ModelScorer, Task, answer_task, ask, read_tasks, text_losses  # noqa: E402
from biollm.inference import LLM  # noqa: E402
from biollm.manifest import Manifest  # noqa: E402
from biollm.recipe import run  # noqa: E402
from biollm.results import Result, Summary  # noqa: E402
from biollm.tokenization import Shards, tokenize  # noqa: E402
from random_models import random_hf_folder  # noqa: E402

VOCAB = 360
CONTEXT = 128
WORDS = "asthma in adults is treated with a placebo; gout, sepsis and angina are not: yes no maybe liver spleen kidney"
TEXTS = [f"Trial {i}: {' '.join(WORDS.split()[i % 7 :])} {i * i}." for i in range(60)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of a real tokenizer, documents, shards and questions."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows = [{"id": f"d{i}", "text": text, "source": ("trials", "notes")[i % 2]} for i, text in enumerate(TEXTS)]
    write(folder / "documents.jsonl", rows)
    write(folder / "more.jsonl", [{"text": text} for text in TEXTS[:5]])
    tokenize([folder / "documents.jsonl"], vocab_size=VOCAB, validation_fraction=0.3, output=folder / "shards")
    theirs = random_hf_folder(folder / "model", vocab_size=VOCAB, max_position_embeddings=CONTEXT)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_bytes((folder / "shards" / name).read_bytes())
    assert theirs.config.vocab_size == VOCAB
    write(
        folder / "organs.jsonl",
        [
            {
                "id": f"q{i}",
                "question": f"Which organ is {i}?",
                "options": {"A": "the liver", "B": "spleen", "C": "a kidney"},
                "answer_idx": "ABC"[i % 3],
                "subject": ("one", "two")[i % 2],
                "explanation": f"It is {i}.",
            }
            for i in range(24)
        ],
    )
    write(
        folder / "pubmedqa.jsonl",
        [
            {
                "pmid": str(i),
                "question": "Is asthma treated?",
                "contexts": [TEXTS[i]],
                "long_answer": "It is.",
                "final_decision": ("yes", "no", "maybe")[i % 3],
            }
            for i in range(9)
        ],
    )
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def llm(place: Path) -> LLM:
    return LLM(place / "model", dtype="float32", compile=False)


def test_option_log_likelihoods_equal_a_naive_transformers_loop(place: Path, llm: LLM) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "model")
    (task,) = read_tasks(place / "organs.jsonl")
    (result,) = answer_task(ModelScorer(llm), task)
    assert len(result.answers) == 24
    for answer in result.answers[:6]:
        expected = []
        for option in answer.item.options:
            prompt = tokenizer(f"Question: {answer.item.question}\nAnswer:").input_ids
            ids = tokenizer(f" {option}").input_ids
            with torch.no_grad():
                logprobs = torch.log_softmax(theirs(torch.tensor([prompt + ids])).logits[0], -1)
            expected.append(sum(float(logprobs[len(prompt) - 1 + i, t]) for i, t in enumerate(ids)))
        assert list(answer.scores.log_likelihoods) == pytest.approx(expected, rel=1e-5)
        by_length = [value / len(text) for value, text in zip(expected, answer.item.options, strict=True)]
        assert answer.predicted == by_length.index(max(by_length))
        assert answer.predicted_unnormalized == expected.index(max(expected))


def test_a_batch_answers_as_one_question_by_itself(place: Path, llm: LLM) -> None:
    (task,) = read_tasks(place / "organs.jsonl")
    questions = [ask(item, examples=task.items[:4], shots=item.answer, seed=1) for item in task.items[4:]]
    together = ModelScorer(llm).score(questions)
    for question, found in zip(questions, together, strict=True):
        (alone,) = ModelScorer(llm, batch_tokens=1).score([question])
        assert found.log_likelihoods == pytest.approx(alone.log_likelihoods, rel=1e-5)


def test_a_prompt_that_is_too_long_loses_the_left_of_its_context_alone(llm: LLM) -> None:
    (item,) = (q for q in [ask_item("asthma in adults " * 60)])
    question = ask(item)
    (found,) = ModelScorer(llm).score([question])
    tokenizer = llm.tokenizer
    whole = tokenizer.encode(question.context + question.prompt).ids.tolist()
    longest = max(len(tokenizer.encode(text).ids) for text in question.continuations)
    kept = CONTEXT - (longest - 1)
    assert found.cut_tokens == len(whole) - kept > 0
    assert tokenizer.decode(whole[-kept:]).endswith("\nQuestion: Is it?\nAnswer:")
    ids = [tokenizer.encode(text).ids.tolist() for text in question.continuations]
    (expected,) = llm.score([whole[-kept:]], [ids])
    assert found.log_likelihoods == pytest.approx([one.logprob for one in expected], rel=1e-6)
    (result,) = answer_task(ModelScorer(llm), Task("t", (item,)))
    assert result.cut == 1


def test_a_question_that_does_not_fit_is_an_error_or_counted(llm: LLM) -> None:
    task = Task("t", (ask_item("", question="sepsis " * 300, name="long"), ask_item("", name="short")))
    with pytest.raises(InputError, match=r"t, item long: question and answer or rationale are \d+ tokens"):
        answer_task(ModelScorer(llm), task)
    for thought in (False, True):
        options = EvaluateOptions(on_error="skip", chain_of_thought=thought, rationale_tokens=4)
        results = answer_task(ModelScorer(llm, rationale_tokens=4), task, options)
        assert [[answer.item.id for answer in result.answers] for result in results] == [["short"]] * len(results)
        assert all(len(result.unscored) == 1 for result in results)


def test_a_question_without_room_for_a_rationale_is_not_answered_without_one(llm: LLM) -> None:
    longer = ask_item("", question="sepsis " * 70, name="longer")
    prompt = f"Question: {longer.question}\nAnswer:"
    assert len(llm.tokenizer.encode(prompt).ids) < CONTEXT - 30
    assert len(llm.tokenizer.encode(f"{prompt} Let's think step by step.").ids) > CONTEXT - 30
    task = Task("t", (longer, ask_item("", name="short")))
    options = EvaluateOptions(on_error="skip", chain_of_thought=True)
    direct, thought = answer_task(ModelScorer(llm, rationale_tokens=30), task, options)
    assert len(direct.answers) == 2
    assert [answer.item.id for answer in thought.answers] == ["short"]


def ask_item(context: str, *, question: str = "Is it?", name: str = "q") -> Any:
    from biollm.evaluation import Item

    return Item(name, question, ("yes", "no", "a long maybe"), 0, context=context)


def test_a_rationale_is_generated_and_stands_before_the_answer(place: Path, llm: LLM) -> None:
    (task,) = read_tasks(place / "organs.jsonl")
    options = EvaluateOptions(chain_of_thought=True, rationale_tokens=6)
    direct, thought = answer_task(ModelScorer(llm, rationale_tokens=6), task, options)
    assert [direct.chain_of_thought, thought.chain_of_thought] == [False, True]
    assert not any(answer.scores.rationale for answer in direct.answers)
    answer = next(answer for answer in thought.answers if answer.scores.rationale)
    prompt = f"Question: {answer.item.question}\nAnswer: Let's think step by step."
    (written,) = llm.generate([prompt], max_tokens=6, stop=("\n\n", "\nQuestion:"))
    assert written.text is not None
    assert answer.scores.rationale == written.text.strip()
    full = f"{prompt} {answer.scores.rationale}\nTherefore, the answer is"
    (expected,) = llm.score([full], [[f" {option}" for option in answer.item.options]])
    assert answer.scores.log_likelihoods == pytest.approx([one.logprob for one in expected], rel=1e-5)


def test_evaluate_measures_documents_shards_and_questions(place: Path, llm: LLM) -> None:
    sources = [place / name for name in ("documents.jsonl", "more.jsonl", "shards", "pubmedqa.jsonl", "organs.jsonl")]
    seen: list[int] = []
    found = biollm.evaluate(
        place / "model", sources, shots=(0, 2), example_share=0.25, resamples=200, output=place / "out",
        progress=lambda done, total: seen.append(done),
    )  # fmt: skip
    assert isinstance(found, Result)
    assert seen
    domains = {(domain.domain, domain.documents) for domain in found.domains}
    assert {("trials", 30), ("notes", 30), ("more", 5)} <= domains
    shards = Shards.open(place / "shards")
    assert sum(d.documents for d in found.domains) == 65 + sum(s.num_documents for s in shards.splits["validation"])
    losses = text_losses(llm.model, llm.tokenizer, TEXTS[0::2])
    trials = found.domains[0]
    assert trials.perplexity.estimate == pytest.approx(losses.perplexity, rel=1e-6)
    assert trials.bits_per_byte.estimate == pytest.approx(losses.bits_per_byte, rel=1e-6)
    assert trials.perplexity.low < trials.perplexity.estimate < trials.perplexity.high
    assert trials.num_bytes == losses.num_bytes.sum()
    names = [(task.name, task.shots, len(task.answers)) for task in found.tasks]
    assert names == [
        ("pubmedqa, reasoning-required", 0, 7), ("pubmedqa, reasoning-required", 2, 7),
        ("pubmedqa, reasoning-free", 0, 7), ("pubmedqa, reasoning-free", 2, 7),
        ("organs", 0, 18), ("organs", 2, 18),
    ]  # fmt: skip

    manifest = Manifest.read(place / "out")
    assert manifest.outputs == found.manifest.outputs
    assert (manifest.verb, manifest.kind, len(manifest.inputs)) == ("evaluate", "evaluation", 6)
    assert set(manifest.outputs) == {"evaluation.json", "items.parquet", "documents.parquet", "summary.json"}
    data = json.loads((place / "out" / "evaluation.json").read_bytes())
    assert (data["format"], data["version"]) == ("biollm-evaluation", 1)
    assert data["tasks"][0]["accuracy"]["estimate"] == found.tasks[0].accuracy.estimate
    items = pq.read_table(place / "out" / "items.parquet").to_pylist()
    assert len(items) == 4 * 7 + 2 * 18
    assert [row["correct"] for row in items if row["task"] == "organs" and row["shots"] == 2] == [
        answer.correct for answer in found.tasks[-1].answers
    ]
    documents = pq.read_table(place / "out" / "documents.parquet").to_pydict()
    assert math.fsum(documents["nats"][0:60:2]) == pytest.approx(float(losses.nats.sum()), rel=1e-6)
    summary = Summary.from_dict(json.loads((place / "out" / "summary.json").read_bytes()))
    assert [table.title for table in summary.tables] == ["Perplexity by domain", "Questions", "Accuracy by subject"]
    again = biollm.evaluate(place / "model", sources, shots=(0, 2), example_share=0.25, resamples=200)
    assert again.to_dict() == found.to_dict()


def test_documents_in_memory_are_left_out_beyond_the_most_asked_for(place: Path) -> None:
    found = biollm.evaluate(place / "model", TEXTS, max_documents=10)
    assert [(domain.domain, domain.documents) for domain in found.domains] == [("documents", 10)]
    assert found.manifest.counts["documents_left_out"] == 50
    assert found.tasks == ()


def test_a_column_names_the_domains_and_a_glob_its_files(place: Path, tmp_path: Path) -> None:
    for part in ("a", "b"):
        write(tmp_path / f"{part}.jsonl", [{"text": TEXTS[i], "year": str(2000 + i % 2)} for i in range(6)])
    by_file = biollm.evaluate(place / "model", str(tmp_path / "*.jsonl"))
    assert [(domain.domain, domain.documents) for domain in by_file.domains] == [("a", 6), ("b", 6)]
    by_year = biollm.evaluate(place / "model", [tmp_path / "a.jsonl"], domain="year", max_documents=2)
    assert [(domain.domain, domain.documents) for domain in by_year.domains] == [("2000", 2), ("2001", 2)]
    assert by_year.manifest.counts["documents_left_out"] == 2
    one_by_one = biollm.evaluate(place / "model", iter(TEXTS[:6]))
    assert one_by_one.domains[0].perplexity.estimate == pytest.approx(by_file.domains[0].perplexity.estimate, rel=1e-6)


def test_a_column_that_names_no_domain_is_told(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.jsonl", [{"text": TEXTS[i]} for i in range(3)])
    found = biollm.evaluate(place / "model", [tmp_path / "a.jsonl"], domain="yaer")
    assert [domain.domain for domain in found.domains] == ["a"]
    assert "no document names its domain in 'yaer'" in caplog.text


def test_documents_longer_than_the_context_are_counted(place: Path, llm: LLM) -> None:
    long = " ".join(TEXTS[:12])
    found = biollm.evaluate(place / "model", [long, TEXTS[0]], stride=20)
    assert found.domains[0].windowed == 1
    assert found.summary().facts["documents longer than the context"] == 1
    losses = text_losses(llm.model, llm.tokenizer, [long, TEXTS[0]], stride=20)
    assert found.domains[0].perplexity.estimate == pytest.approx(losses.perplexity, rel=1e-6)


def test_malformed_rows_are_skipped_and_counted(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"text": "asthma in adults"}) + "\n" + json.dumps({"text": 5}) + "\n")
    questions = tmp_path / "q.jsonl"
    rows = (place / "organs.jsonl").read_text().splitlines()
    questions.write_text("\n".join([*rows, json.dumps({**json.loads(rows[0]), "id": "x", "answer_idx": ""})]))
    with pytest.raises(InputError, match="the item has no answer") as caught:
        biollm.evaluate(place / "model", questions)
    assert caught.value.line == 25
    with caplog.at_level("WARNING", logger="biollm.evaluate"):
        found = biollm.evaluate(place / "model", [bad, questions], on_error="skip")
    assert [record.getMessage() for record in caplog.records] == [
        "q: 1 malformed items were skipped",
        "1 malformed documents were skipped",
    ]
    assert found.manifest.counts["documents_malformed"] == 1
    assert found.manifest.counts["items_malformed"] == 1
    facts = found.summary().facts
    assert (facts["malformed documents skipped"], facts["malformed items skipped"]) == (1, 1)


def test_what_cannot_be_evaluated_is_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to evaluate on"):
        biollm.evaluate(place / "model", [])
    with pytest.raises(InputError, match="matches no file"):
        biollm.evaluate(place / "model", tmp_path / "*.jsonl")
    write(tmp_path / "d.jsonl", [{"text": "gout " * 3 + str(i)} for i in range(30)])
    other = tokenize([tmp_path / "d.jsonl"], vocab_size=280, validation_fraction=0.3, output=tmp_path / "other")
    with pytest.raises(InputError, match="another tokenizer than the checkpoint's"):
        biollm.evaluate(place / "model", other.folder)
    bare = tmp_path / "bare"
    random_hf_folder(bare)
    with pytest.raises(InputError, match="and it has none we can use"):
        biollm.evaluate(bare, place / "more.jsonl")


def test_a_stage_of_a_recipe_is_not_run_again_and_is_shown(place: Path) -> None:
    recipe = place / "r.toml"
    recipe.write_text(
        '[[stage]]\nname = "scores"\nverb = "evaluate"\ninputs = ["model", "shards", "organs.jsonl", "more.jsonl"]\n'
        "resamples = 100\nmax_items = 6\n"
    )
    first = run(recipe, output=place / "RUN")
    assert [stage.status for stage in first.stages] == ["complete"]
    again = run(recipe, output=place / "RUN")
    assert [stage.status for stage in again.stages] == ["matched"]
    report = (place / "RUN" / "report.html").read_text()
    for shown in ("Perplexity by domain", "Questions", "organs", "percentile bootstrap"):
        assert shown in report
    assert "cannot be shown" not in report
