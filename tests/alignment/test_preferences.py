"""Preference pairs in all layouts, and rows that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import biollm
from biollm.alignment import Preference, Turn, read_preferences
from biollm.errors import FileError, FormatError, InputError
from shared_data import shared_file, shared_records

PAIR = {"prompt": "What helps?", "chosen": "Rest.", "rejected": "A fight.", "category": "violence"}
EXPECTED = Preference((Turn("user", "What helps?"),), "Rest.", "A fight.", "violence")


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {
            "prompt": [message("user", "What helps?")],
            "chosen": [message("assistant", "Rest.")],
            "rejected": [message("assistant", "A fight.")],
            "category": "violence",
        },
        {
            "chosen": [message("user", "What helps?"), message("assistant", "Rest.")],
            "rejected": [message("user", "What helps?"), message("assistant", "A fight.")],
            "category": "violence",
        },
        {
            "chosen": "\n\nHuman: What helps?\n\nAssistant: Rest.",
            "rejected": "\n\nHuman: What helps?\n\nAssistant: A fight.",
            "category": "violence",
        },
    ],
)
def test_all_layouts_give_the_same_pair(row: dict[str, Any], tmp_path: Path) -> None:
    assert read_preferences([row]).pairs == (EXPECTED,)
    for name in ("pairs.jsonl", "pairs.jsonl.gz"):
        read = read_preferences(write(tmp_path / name, [row]))
        assert read.pairs == (EXPECTED,)
        assert [record.name for record in read.inputs] == [str(tmp_path / name)]


def test_earlier_turns_and_a_system_text_are_kept() -> None:
    system, first, answer, second = (
        message("system", "Be brief."),
        message("user", "Hello."),
        message("assistant", "Yes?"),
        message("user", "What helps?"),
    )
    chat = [system, first, answer, second]
    row = {
        "chosen": [*chat, message("assistant", "Rest.")],
        "rejected": [*chat, message("assistant", "A fight.")],
    }
    (pair,) = read_preferences([row]).pairs
    assert [turn.role for turn in pair.prompt] == ["system", "user", "assistant", "user"]
    assert pair.chosen == "Rest."


@pytest.mark.parametrize(
    ("row", "field", "words"),
    [
        ({**PAIR, "rejected": " Rest. "}, "rejected", "equal"),
        ({**PAIR, "chosen": "  "}, "chosen", "chosen is empty"),
        ({**PAIR, "rejected": ""}, "rejected", "rejected is empty"),
        ({**PAIR, "prompt": ""}, "prompt", "a turn of prompt is empty"),
        ({**PAIR, "chosen": 3}, "chosen", "must be a text or a list"),
        ({"prompt": "What helps?", "chosen": "Rest."}, "rejected", "no 'rejected'"),
        ({"chosen": "Rest.", "rejected": "A fight."}, "chosen", "no dialogue"),
        (
            {**PAIR, "prompt": [message("bot", "What helps?")]},
            "prompt",
            "prompt: message 0 of the chat has the role 'bot'",
        ),
        ({**PAIR, "prompt": [{"role": "user"}]}, "prompt", "content that is NoneType"),
        ({**PAIR, "prompt": [message("user", "a"), message("user", "b")]}, "prompt", "user, assistant, …, user"),
        ({**PAIR, "prompt": [message("assistant", "a")]}, "prompt", "not assistant"),
        ({**PAIR, "prompt": []}, "prompt", "the chat has no messages"),
        ({**PAIR, "chosen": [message("user", "Rest.")]}, "chosen", "one message of the assistant"),
        (
            {
                "chosen": "\n\nHuman: A?\n\nAssistant: Rest.",
                "rejected": "\n\nHuman: B?\n\nAssistant: A fight.",
            },
            "rejected",
            "differ before their last answer",
        ),
        (
            {"chosen": "\n\nHuman: A?", "rejected": "\n\nHuman: A?\n\nAssistant: No."},
            "chosen",
            "ends with the assistant's answer",
        ),
        (
            {"chosen": "\n\nHuman: A?\n\nAssistant: ", "rejected": "\n\nHuman: A?\n\nAssistant: No."},
            "chosen",
            "chosen is empty",
        ),
    ],
)
def test_a_row_that_is_no_pair_is_named_or_skipped_and_counted(
    row: dict[str, Any], field: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "pairs.jsonl", [PAIR, row, PAIR])
    with pytest.raises(InputError, match=words) as caught:
        read_preferences(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 2, field)
    assert "on_error='skip'" in str(caught.value)
    read = read_preferences(path, on_error="skip")
    assert read.pairs == (EXPECTED, EXPECTED)
    (skipped,) = read.skipped
    assert (skipped.file, skipped.line) == (str(path), 2)
    assert words in skipped.reason
    with pytest.raises(InputError) as in_memory:
        read_preferences([PAIR, row])
    assert in_memory.value.row == 1


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are no rows"):
        read_preferences([])
    with pytest.raises(InputError, match="none of 2 rows"):
        read_preferences([{**PAIR, "rejected": "Rest."}] * 2, on_error="skip")
    with pytest.raises(FileError):
        read_preferences(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("line", ["{", "[1]", '"text"', "\xff"])
def test_a_line_that_is_no_object_is_named_or_skipped(line: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\n" + json.dumps(PAIR).encode() + b"\n" + line.encode("latin-1") + b"\n")
    with pytest.raises((InputError, FormatError)) as caught:
        read_preferences(path)
    assert (caught.value.path, caught.value.line) == (str(path), 3)
    read = read_preferences(path, on_error="skip")
    assert read.pairs == (EXPECTED,)
    assert [(row.file, row.line) for row in read.skipped] == [(str(path), 3)]


def test_a_damaged_gzip_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl.gz", [PAIR] * 100)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(FormatError, match="gzip"):
        read_preferences(path)


def test_documents_that_read_left_are_taken(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [PAIR, {**PAIR, "rejected": "A kick."}])
    biollm.read(source, text="chosen", output=tmp_path / "documents")
    read = read_preferences(tmp_path / "documents")
    assert [pair.rejected for pair in read.pairs] == ["A fight.", "A kick."]
    assert read.pairs[0] == EXPECTED
    assert [record.kind for record in read.inputs] == ["stage"]


def test_columns_of_a_table_are_taken(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([PAIR])
    assert read_preferences(table).pairs == (EXPECTED,)
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert read_preferences(tmp_path / "pairs.parquet").pairs == (EXPECTED,)


def test_real_pairs_are_read_whole() -> None:
    """hh-rlhf: every row is a pair, or is skipped for a reason that is true of it."""
    rows = shared_records("safety/hh_harmless_pairs.jsonl.gz")
    read = read_preferences(shared_file("safety/hh_harmless_pairs.jsonl.gz"), on_error="skip")
    assert len(read.pairs) + len(read.skipped) == len(rows)
    assert len(read.pairs) > 0.95 * len(rows)
    for pair in read.pairs:
        assert pair.prompt[-1].role == "user"
        assert pair.chosen != pair.rejected
    for skipped in read.skipped:
        assert skipped.row is not None
        row = rows[skipped.row]
        if "equal" in skipped.reason:
            assert row["chosen"].strip() == row["rejected"].strip()
