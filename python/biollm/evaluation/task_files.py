"""Readers of question files: PubMedQA, MedQA, MedMCQA and MMLU, as they are released or with one set of fields.

| task | fields of an item |
|---|---|
| PubMedQA | `question`, `contexts`, `long_answer`, `final_decision`; as released, one JSON object by PMID |
| MedQA | `question`, `options` (letter → text), `answer_idx` (a letter); maybe `subject`, `explanation` |
| MedMCQA | the same, or as released `opa` … `opd`, `cop` (1 to 4), `subject_name`, `exp` |
| MMLU | the same; or `choices` (a list), `answer` (its place, from 0); or as released, CSV without a header: |
| | question, A, B, C, D, letter; the file's name is the subject |

JSON Lines are split at line feeds alone: other Unicode line ends stand inside texts. Files may end in .gz or .zst.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from biollm.errors import FormatError, InputError, LimitError
from biollm.evaluation.items import Item, Rejection, Task
from biollm.evaluation.options import SETTINGS
from biollm.readers.lines import bounded_lines

__all__ = ["is_task_file", "read_tasks"]

MAX_FILE_BYTES: Final = 1 << 30
"""Bytes of a question file, decompressed."""
DECISIONS: Final = ("yes", "no", "maybe")
_ENDINGS: Final = re.compile(r"(\.(jsonl|ndjson|json|csv))?(\.(gz|zst))?$", re.IGNORECASE)
_RELEASED_OPTIONS: Final = ("opa", "opb", "opc", "opd")
_LETTERS: Final = "ABCDEFGHIJ"


def is_task_file(path: str | Path) -> bool:
    """Whether a file holds questions: CSV, JSON, or JSON Lines whose first record has a question with its options.

    Args:
        path: of a file of this machine.

    Returns:
        False for documents, and for what is no JSON at all; the reader of documents then says what is wrong.
    """
    path = Path(path)
    kind = _kind(path)
    if kind in ("csv", "json"):  # documents have no such files
        return path.is_file()
    if kind not in ("jsonl", "ndjson") or not path.is_file():
        return False
    try:
        _, record = next(_records(path), (0, None))
    except FormatError:
        return False
    return isinstance(record, dict) and _is_question({key.lower(): value for key, value in record.items()})


def read_tasks(
    path: str | Path, *, settings: tuple[str, ...] = SETTINGS, on_error: Literal["raise", "skip"] = "raise"
) -> list[Task]:
    """The tasks of a question file: of PubMedQA one a setting, of others one.

    Args:
        path: of a file, see this module.
        settings: of PubMedQA, which.
        on_error: "raise" at a malformed item, or "skip" and keep it among `rejected`.

    Returns:
        The tasks, each with the same items.

    Raises:
        FileError: it cannot be read. FormatError: it is no JSON, or no CSV of six columns. LimitError: over 1 GiB, or a
            line over 64 MiB.
        InputError: an item without an answer or otherwise malformed (`line`, `field`), an id that occurs twice, or no
            item at all.
    """
    path = Path(path)
    name = _ENDINGS.sub("", path.name)
    found: dict[str, list[Item]] = {}
    rejected: list[Rejection] = []
    seen: dict[str, int] = {}
    for line, record in _records(path):
        try:
            reader = _Reader(path, line, record)
            items = reader.items(settings)
            if items[0][1].id in seen:
                first = seen[items[0][1].id]
                raise reader.error("id", f"the id {items[0][1].id!r} was there before, in line {first}")
        except InputError as error:
            if on_error == "raise":
                raise
            rejected.append(Rejection(str(path), line, error.message))
            continue
        seen[items[0][1].id] = line
        for setting, item in items:
            found.setdefault(setting, []).append(item)
    if not found:
        why = f"all {len(rejected)} items were skipped, the first one: {rejected[0].reason}" if rejected else "no items"
        raise InputError(why, path=path, line=rejected[0].line if rejected else None, field="question")
    tasks = []
    for setting, of_setting in found.items():
        same = {item.options for item in of_setting}
        labels = of_setting[0].options if setting and len(same) == 1 else ()
        tasks.append(Task(name, tuple(of_setting), setting, labels, tuple(rejected)))
    return tasks


class _Reader:
    """One record as items; every complaint names file, line and field."""

    def __init__(self, path: Path, line: int, record: Any) -> None:
        self.path, self.line = path, line
        if not isinstance(record, dict):
            raise self.error("question", "the item is no JSON object")
        # The released PubMedQA writes its fields in capitals.
        self.record: Mapping[str, Any] = {str(key).lower(): value for key, value in record.items()}

    def items(self, settings: tuple[str, ...]) -> list[tuple[str, Item]]:
        """(setting, item) of each setting; a multiple-choice item has one, called ""."""
        if {"final_decision", "contexts", "context"} & set(self.record):
            return self.pubmedqa(settings)
        return [("", self.choice())]

    def pubmedqa(self, settings: tuple[str, ...]) -> list[tuple[str, Item]]:
        decision = self.text("final_decision", "the item has no answer: final_decision (yes, no or maybe) is missing")
        if decision not in DECISIONS:
            raise self.error("final_decision", f"final_decision is {decision!r}, not yes, no or maybe")
        stored = {key: value for key, value in self.record.items() if key.endswith("_pred") and isinstance(value, str)}
        items = []
        for setting in settings:
            required = setting == "reasoning-required"
            conclusion = self.record.get("long_answer")
            item = Item(
                id=self.id("pmid", "pubid"),
                question=self.text("question"),
                options=DECISIONS,
                answer=DECISIONS.index(decision),
                context="\n".join(self.contexts()) if required else self.text("long_answer"),
                context_name="Abstract" if required else "Conclusion",
                # Where the conclusion is what is read, it is no reasoning towards the answer.
                rationale=conclusion if required and isinstance(conclusion, str) else "",
                stored=stored,
            )
            items.append((setting, item))
        return items

    def choice(self) -> Item:
        options = self.options()
        return Item(
            id=self.id("id"),
            question=self.text("question"),
            options=tuple(options.values()),
            answer=self.answer(list(options)),
            group=self.optional("subject", "subject_name"),
            rationale=self.optional("explanation", "exp"),
        )

    def options(self) -> dict[str, str]:
        options = self.record.get("options", self.record.get("choices"))
        if options is None and all(key in self.record for key in _RELEASED_OPTIONS):
            options = {letter: self.record[key] for letter, key in zip(_LETTERS, _RELEASED_OPTIONS, strict=False)}
        if isinstance(options, list):
            options = dict(zip(_LETTERS, options, strict=False))
        if not isinstance(options, dict) or not 2 <= len(options) <= len(_LETTERS):
            raise self.error("options", "options is no table of two to ten texts by letter")
        for letter, text in options.items():
            if not isinstance(text, str) or not text.strip():
                raise self.error("options", f"option {letter} is no text")
        return {str(letter): text.strip() for letter, text in options.items()}

    def answer(self, letters: list[str]) -> int:
        if "answer_idx" not in self.record and "cop" in self.record:
            given = self.record["cop"]
            if given == 0:
                # Of the whole file: what is counted from 0 would be one off in every other item.
                message = "cop counts the options from 0, not from 1 as in the released files: give answer_idx instead"
                raise FormatError(message, path=self.path, line=self.line, field="cop")
            if not isinstance(given, int) or not 1 <= given <= len(letters):
                message = f"cop is {given!r}, not 1 to {len(letters)} as in the released files: give answer_idx instead"
                raise self.error("cop", message)
            return given - 1
        place = self.record.get("answer")
        if "choices" in self.record and "answer_idx" not in self.record and isinstance(place, int):
            if not 0 <= place < len(letters):
                raise self.error("answer", f"answer is {place}, not 0 to {len(letters) - 1}")
            return place
        missing = "the item has no answer: answer_idx (a letter of its options) is missing"
        letter = self.text("answer_idx", missing)
        if letter not in letters:
            raise self.error("answer_idx", f"answer_idx is {letter!r}, not one of {', '.join(letters)}")
        return letters.index(letter)

    def contexts(self) -> list[str]:
        nested = self.record.get("context")
        if "contexts" not in self.record and isinstance(nested, dict):
            self.record = {**self.record, "contexts": nested.get("contexts")}
        return self.texts("contexts")

    def id(self, *fields: str) -> str:
        values = [self.record.get(field) for field in fields]
        given = next((str(value) for value in values if isinstance(value, str | int)), "")
        return given or f"{self.path.name}:{self.line}"

    def text(self, field: str, missing: str = "") -> str:
        value = self.record.get(field)
        if not isinstance(value, str) or not value.strip():
            raise self.error(field, missing if missing and not value else f"{field} is no text")
        return value.strip()

    def texts(self, field: str) -> list[str]:
        value = self.record.get(field)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.error(field, f"{field} is no list of texts")
        return value

    def optional(self, *fields: str) -> str:
        values = [self.record.get(field) for field in fields]
        return next((value.strip() for value in values if isinstance(value, str)), "")

    def error(self, field: str, message: str) -> InputError:
        return InputError(message, path=self.path, line=self.line, field=field)


def _is_question(record: Mapping[str, Any]) -> bool:
    return "question" in record and bool({"options", "choices", "final_decision", "contexts", "opa"} & set(record))


def _kind(path: Path) -> str:
    ending = _ENDINGS.search(path.name)
    return (ending[2] or "").lower() if ending else ""


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, record) of a file; of a JSON object by id or a JSON list, the number of the record."""
    kind = _kind(path)
    if kind == "csv":
        yield from _csv_records(path)
        return
    if kind == "json":
        data = b"".join(line for _, line in _lines(path))
        try:
            whole = json.loads(data)
        except (ValueError, RecursionError):
            pass  # MedMCQA's files are lines, whatever they are called
        else:
            # One line of JSON Lines is a whole as well: an item, not a table of them.
            if isinstance(whole, dict) and not _is_question({str(key).lower(): value for key, value in whole.items()}):
                whole = [{"pmid": key, **value} if isinstance(value, dict) else value for key, value in whole.items()]
            yield from enumerate(whole if isinstance(whole, list) else [whole], start=1)
            return
    for number, line in _lines(path):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FormatError(f"not JSON: {error}", path=path, line=number) from None


def _csv_records(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = b"".join(line for _, line in _lines(path)).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8: {error}", path=path) from None
    subject = re.sub(r"_(test|dev|val)$", "", _ENDINGS.sub("", path.name))
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in rows:
            if len(row) != 6:
                message = f"{len(row)} columns, not question, A, B, C, D, answer (no header)"
                raise FormatError(message, path=path, line=rows.line_num)
            question, *options, letter = row
            record = {"question": question, "options": options, "answer_idx": letter, "subject": subject}
            yield rows.line_num, record
    except csv.Error as error:
        raise FormatError(f"not CSV: {error}", path=path, line=rows.line_num) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """`bounded_lines` of a file that is no larger than `MAX_FILE_BYTES`."""
    size = 0
    for number, line in bounded_lines(path):
        size += len(line)
        if size > MAX_FILE_BYTES:
            raise LimitError(f"over {MAX_FILE_BYTES:,} bytes of questions", path=path, line=number)
        yield number, line
