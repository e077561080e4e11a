"""Question files: what is read, what is refused with its line; and tasks put to scorers whose figures are known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biollm.errors import ConfigError, FileError, FormatError, InputError
from biollm.evaluation import (
    AnswerScorer,
    EvaluateOptions,
    Item,
    OptionScores,
    Question,
    Scorer,
    Task,
    TaskResult,
    answer_task,
    ask,
    majority,
    oracle,
    random_answers,
    read_tasks,
    stored,
)
from biollm.evaluation.scorers import choose
from biollm.evaluation.task_files import is_task_file
from shared_data import shared_file

ROW: dict[str, Any] = {
    "id": "q1",
    "question": "Which?",
    "options": {"A": "liver", "B": "spleen"},
    "answer_idx": "B",
    "subject": "anatomy",
}
PUBMEDQA: dict[str, Any] = {
    "pmid": "1",
    "question": "Is it?",
    "contexts": ["First.", "Second."],
    "long_answer": "It is.",
    "final_decision": "yes",
    "reasoning_free_pred": "maybe",
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


# --- PubMedQA's known figures, through the code that a model goes through ---------------------------------------------


@pytest.fixture(scope="module")
def pubmedqa() -> dict[str, Task]:
    path = shared_file("eval/pubmedqa_dev500.jsonl.gz")
    assert is_task_file(path)
    return {task.setting: task for task in read_tasks(path)}


def result_of(scorer: Scorer, task: Task, **options: Any) -> TaskResult:
    (result,) = answer_task(scorer, task, EvaluateOptions(**options))
    return result


@pytest.mark.parametrize("setting", ["reasoning-required", "reasoning-free"])
def test_the_dev_half_of_pubmedqa_gives_its_known_figures(pubmedqa: dict[str, Task], setting: str) -> None:
    task = pubmedqa[setting]
    assert len(task) == 500
    frequent = result_of(majority(task.items), task)
    assert frequent.accuracy.estimate == frequent.majority == 0.552
    assert frequent.macro_f1 is not None
    assert frequent.macro_f1.estimate == pytest.approx(2 * 276 / (276 + 500) / 3)
    field, expected = {
        "reasoning-required": ("reasoning_required_pred", 0.782),
        "reasoning-free": ("reasoning_free_pred", 0.928),
    }[setting]
    annotators = result_of(stored(field), task)
    assert annotators.accuracy.estimate == expected
    assert annotators.accuracy.low < expected < annotators.accuracy.high
    perfect = result_of(oracle(), task)
    assert perfect.macro_f1 is not None
    assert perfect.accuracy.estimate == perfect.accuracy.low == perfect.macro_f1.estimate == 1.0
    chance = result_of(random_answers(seed=0), task)
    assert 1 / 3 in chance.accuracy
    assert 0.28 < chance.accuracy.estimate < 0.39


def test_macro_f1_is_scikit_learns(pubmedqa: dict[str, Task]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = pubmedqa["reasoning-required"]
    for scorer in (stored("reasoning_required_pred"), random_answers(3)):
        result = result_of(scorer, task)
        right = [answer.item.answer for answer in result.answers]
        predicted = [answer.predicted for answer in result.answers]
        assert result.macro_f1 is not None
        assert result.macro_f1.estimate == pytest.approx(metrics.f1_score(right, predicted, average="macro"))
        assert result.macro_f1.low < result.macro_f1.estimate < result.macro_f1.high


@pytest.mark.parametrize(
    ("file", "count", "groups", "options"),
    [("medqa_us_4opt", 638, 0, 4), ("medmcqa_dev", 2556, 21, 4), ("mmlu_med", 561, 6, 4)],
)
def test_the_other_task_files_are_read_whole(file: str, count: int, groups: int, options: int) -> None:
    path = shared_file(f"eval/{file}.jsonl.gz")
    assert is_task_file(path)
    (task,) = read_tasks(path)
    assert (task.name, len(task), task.labels) == (file, count, ())
    assert {len(item.options) for item in task.items} == {options}
    perfect = result_of(oracle(), task, resamples=200)
    assert perfect.accuracy.estimate == 1.0
    assert len(perfect.groups) == groups
    chance = result_of(random_answers(seed=5), task, resamples=500)
    assert 1 / options in chance.accuracy


def test_files_of_documents_are_no_tasks(tmp_path: Path) -> None:
    assert not is_task_file(shared_file("text_bio/medquad_qa.jsonl.gz"))
    assert not is_task_file(write(tmp_path / "a.jsonl", {"id": 1, "text": "A text."}))
    assert not is_task_file(write(tmp_path / "b.jsonl", "no JSON"))
    assert not is_task_file(tmp_path / "absent.jsonl")
    assert not is_task_file(tmp_path / "absent.json")
    assert not is_task_file(tmp_path / "a.txt")
    assert is_task_file(write(tmp_path / "torn.json", '{"1": {"QUESTION"'))
    with pytest.raises(FormatError, match="not JSON"):
        read_tasks(tmp_path / "torn.json")


# --- files as they are released ---------------------------------------------------------------------------------------


def test_released_files_are_read(tmp_path: Path) -> None:
    released = {"21645374": {"QUESTION": "Is it?", "CONTEXTS": ["One."], "LONG_ANSWER": "No.", "final_decision": "no"}}
    whole = tmp_path / "ori_pqal.json"
    whole.write_text(json.dumps(released, indent=1))
    assert is_task_file(whole)
    required, free = read_tasks(whole)
    assert (required.items[0].id, required.items[0].context, required.items[0].answer) == ("21645374", "One.", 1)
    assert (free.items[0].context, free.items[0].rationale) == ("No.", "")

    lines = [{"id": i, "question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": i} for i in (1, 4)]
    medmcqa = write(tmp_path / "dev.json", *({**row, "subject_name": "Surgery", "exp": "For."} for row in lines))
    (task,) = read_tasks(medmcqa)
    assert [(item.answer, item.group, item.rationale) for item in task.items] == [
        (0, "Surgery", "For."),
        (3, "Surgery", "For."),
    ]
    (one,) = read_tasks(write(tmp_path / "one.json", ROW))
    assert one.items[0].options == ("liver", "spleen")

    table = write(tmp_path / "college_biology_test.csv", '"A ""quoted"", question",w,x,y,z,C')
    (mmlu,) = read_tasks(table)
    assert mmlu.items[0].question == 'A "quoted", question'
    assert (mmlu.items[0].answer, mmlu.items[0].group) == (2, "college_biology")


def test_files_of_other_hands_are_read(tmp_path: Path) -> None:
    (mmlu,) = read_tasks(
        write(tmp_path / "m.jsonl", {"question": "Q?", "choices": ["a", "b"], "answer": 0, "subject": "anatomy"})
    )
    assert (mmlu.items[0].options, mmlu.items[0].answer, mmlu.items[0].group) == (("a", "b"), 0, "anatomy")
    nested = {"pubid": 7, "question": "Q?", "context": {"contexts": ["One.", "Two."]}, "long_answer": "It is."}
    required, _ = read_tasks(write(tmp_path / "p.jsonl", {**nested, "final_decision": "maybe"}))
    assert (required.items[0].id, required.items[0].context, required.items[0].answer) == ("7", "One.\nTwo.", 2)


def test_options_counted_from_0_are_an_error_of_the_whole_file(tmp_path: Path) -> None:
    row = {"question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d"}
    path = write(tmp_path / "dev.jsonl", {**row, "cop": 1}, {**row, "cop": 0})
    with pytest.raises(FormatError, match="counts the options from 0") as caught:
        read_tasks(path, on_error="skip")
    assert caught.value.line == 2


def test_a_unicode_line_end_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({**ROW, "question": "One\u2028line?"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_tasks(path)[0].items[0].question == "One\u2028line?"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        ({**ROW, "answer_idx": None}, "answer_idx", "the item has no answer"),
        ({key: value for key, value in ROW.items() if key != "answer_idx"}, "answer_idx", "the item has no answer"),
        ({**ROW, "answer_idx": "E"}, "answer_idx", "'E', not one of A, B"),
        ({**ROW, "options": {"A": "one"}}, "options", "two to ten"),
        ({**ROW, "options": {"A": "one", "B": ""}}, "options", "option B is no text"),
        ({**ROW, "question": " "}, "question", "question is no text"),
        ({**ROW, "answer_idx": 1}, "answer_idx", "answer_idx is no text"),
        ({"question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 5}, "cop", "not 1 to 4"),
        ({"question": "Q?", "choices": ["a", "b"], "answer": 2}, "answer", "not 0 to 1"),
        ({**PUBMEDQA, "final_decision": ""}, "final_decision", "the item has no answer"),
        ({**PUBMEDQA, "final_decision": "perhaps"}, "final_decision", "not yes, no or maybe"),
        ({**PUBMEDQA, "contexts": "all"}, "contexts", "no list of texts"),
        ({**PUBMEDQA, "long_answer": None}, "long_answer", "long_answer is no text"),
        (ROW, "id", "was there before, in line 1"),
        (["a list"], "question", "no JSON object"),
    ],
)
def test_a_malformed_item_is_an_error_with_its_line_or_skipped_and_counted(
    tmp_path: Path, row: Any, field: str, words: str
) -> None:
    path = write(tmp_path / "q.jsonl", ROW, "", row, {**ROW, "id": "q3"})
    with pytest.raises(InputError, match=words) as caught:
        read_tasks(path)
    assert (caught.value.line, caught.value.field, caught.value.path) == (3, field, str(path))
    task = read_tasks(path, on_error="skip")[0]
    assert [item.id for item in task.items] == ["q1", "q3"]
    assert [(rejection.line, words in rejection.reason) for rejection in task.rejected] == [(3, True)]
    assert result_of(oracle(), task).malformed == task.rejected


def test_a_file_without_answers_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", *({**ROW, "id": str(i), "answer_idx": ""} for i in range(3)))
    assert is_task_file(path)
    with pytest.raises(InputError, match="all 3 items were skipped, the first one: the item has no answer"):
        read_tasks(path, on_error="skip")


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not JSON") as caught:
        read_tasks(write(tmp_path / "q.jsonl", ROW, '{"question": '))
    assert caught.value.line == 2
    with pytest.raises(FormatError, match="2 columns"):
        read_tasks(write(tmp_path / "q.csv", "a,b"))
    with pytest.raises(FileError) as missing:
        read_tasks(tmp_path / "absent.jsonl")
    assert missing.value.errno == 2
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress((json.dumps(ROW) * 50).encode())[:40])
    with pytest.raises(FormatError, match="damaged or cut off"):
        read_tasks(cut)
    with pytest.raises(InputError, match="no items"):
        read_tasks(write(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shots": ()}, "shots is empty"),
        ({"shots": (1, 1)}, "different numbers"),
        ({"shots": (65,)}, "from 0 to 64"),
        ({"answer": "number"}, "answer 'number'"),
        ({"normalize": "words"}, "normalize 'words'"),
        ({"settings": ("free",)}, "settings 'free'"),
        ({"shots": (1,), "example_share": 0.0}, "shots need examples"),
        ({"example_share": 1.0}, "not in"),
        ({"max_items": 0}, "max_items is 0"),
        ({"confidence": 0.0}, "confidence is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EvaluateOptions(**options)


# --- prompts, shots and choices ---------------------------------------------------------------------------------------


def items(count: int) -> tuple[Item, ...]:
    return tuple(Item(f"i{n}", f"Q{n}?", ("yes", "no"), n % 2, rationale=f"Because {n}.") for n in range(count))


def test_a_prompt_has_context_question_options_and_examples(tmp_path: Path) -> None:
    required, free = read_tasks(write(tmp_path / "p.jsonl", PUBMEDQA))
    asked = ask(required.items[0])
    assert asked.context + asked.prompt == "Abstract: First.\nSecond.\nQuestion: Is it?\nAnswer:"
    assert asked.continuations == (" yes", " no", " maybe")
    assert ask(free.items[0]).context == "Conclusion: It is.\n"
    (choice,) = read_tasks(write(tmp_path / "c.jsonl", ROW))
    assert ask(choice.items[0]).prompt == "Question: Which?\nAnswer:"
    lettered = ask(choice.items[0], answer="letter")
    assert lettered.prompt == "Question: Which?\nA. liver\nB. spleen\nAnswer:"
    assert lettered.continuations == (" A", " B")
    one, two = items(2)
    shot = ask(one, examples=[two], shots=1)
    assert (shot.context, shot.examples) == ("Question: Q1?\nAnswer: no\n\n", ("i1",))
    thought = ask(one, examples=[two], shots=1, chain_of_thought=True)
    assert thought.context == (
        "Question: Q1?\nAnswer: Let's think step by step. Because 1.\nTherefore, the answer is no\n\n"
    )
    assert thought.prompt == "Question: Q0?\nAnswer: Let's think step by step."
    assert thought.conclusion == "Therefore, the answer is"


def test_worked_examples_come_from_a_part_that_is_never_scored() -> None:
    task = Task("t", items(60))
    asked: list[list[Question]] = []

    class Watching:
        def score(self, questions: Any, progress: Any = None) -> list[OptionScores]:
            asked.append(list(questions))
            return oracle().score(questions)

    options = EvaluateOptions(shots=(0, 1, 3), example_share=0.2, chain_of_thought=True, seed=4)
    results = answer_task(Watching(), task, options)
    assert [(result.shots, result.chain_of_thought) for result in results] == [
        (0, False), (0, True), (1, False), (1, True), (3, False), (3, True)
    ]  # fmt: skip
    scored = {tuple(question.item.id for question in questions) for questions in asked}
    assert len(scored) == 1  # every pass asks the same items
    (ids,) = scored
    assert len(ids) == 48
    used = {name for questions in asked for question in questions for name in question.examples}
    assert used
    assert not used & set(ids)
    assert [len(question.examples) for question in asked[4]] == [3] * 48
    assert len({question.examples for question in asked[4]}) > 10  # drawn anew for each item
    again = answer_task(oracle(), task, options)
    assert [a.examples for r in again for a in r.answers] == [a.examples for r in results for a in r.answers]
    other = answer_task(oracle(), task, EvaluateOptions(shots=(1,), example_share=0.2, seed=5))
    assert {answer.item.id for answer in other[0].answers} != set(ids)


def test_too_few_items_for_the_shots_are_an_error() -> None:
    with pytest.raises(InputError, match="5 shots need 5 items kept apart"):
        answer_task(oracle(), Task("t", items(20)), EvaluateOptions(shots=(5,)))


def test_items_are_drawn_by_the_seed() -> None:
    task = Task("t", items(50))
    drawn = [
        [answer.item.id for answer in result_of(oracle(), task, max_items=10, seed=seed).answers] for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0], key=lambda name: int(name[1:]))
    assert len(drawn[0]) == 10


def test_an_option_is_chosen_by_its_log_likelihood_by_length() -> None:
    scores = OptionScores((-6.0, -8.0, -5.0), (1, 4, 1))
    texts = (" abc", " äbcdefg", " x")
    assert choose(scores, texts, "none")[0] == 2
    assert choose(scores, texts, "characters") == (1, (-2.0, -8 / 7, -5.0))
    assert choose(scores, texts, "bytes") == (1, (-2.0, -1.0, -5.0))
    assert choose(scores, texts, "tokens") == (1, (-6.0, -2.0, -5.0))
    assert choose(OptionScores((-1.0, -1.0), (1, 1)), (" a", " b"), "bytes")[0] == 0


def test_what_cannot_be_scored_is_an_error_or_counted() -> None:
    class TooLong:
        def score(self, questions: Any, progress: Any = None) -> list[OptionScores]:
            scores = oracle().score(questions)
            scores[1] = OptionScores((), (), problem="it is too long")
            return scores

    with pytest.raises(InputError, match="t, item i1: it is too long; on_error"):
        answer_task(TooLong(), Task("t", items(4)))
    (result,) = answer_task(TooLong(), Task("t", items(4)), EvaluateOptions(on_error="skip"))
    assert [answer.item.id for answer in result.answers] == ["i0", "i2", "i3"]
    assert [rejection.reason for rejection in result.unscored] == ["item i1: it is too long"]


def test_a_stored_answer_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="item 'i0' has None in reasoning_free_pred"):
        answer_task(stored("reasoning_free_pred"), Task("t", items(2)))


def test_accuracy_by_subject_and_progress() -> None:
    grouped = tuple(Item(f"i{n}", "Q?", ("a", "b"), n % 2, group="xy"[n % 2]) for n in range(10))
    seen: list[tuple[int, int | None]] = []
    (result,) = answer_task(AnswerScorer(lambda item: 0), Task("t", grouped), progress=lambda a, b: seen.append((a, b)))
    assert [(name, interval.estimate, interval.units) for name, interval in result.groups] == [
        ("x", 1.0, 5),
        ("y", 0.0, 5),
    ]
    assert np.isclose(result.accuracy.estimate, 0.5)
