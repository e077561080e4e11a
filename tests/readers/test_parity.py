"""The native reader gives what Python's gzip and json give: on every shared file, and on what hypothesis makes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biollm import _native
from biollm.columns import string_array
from biollm.errors import FormatError
from biollm.readers import as_documents
from shared_data import SHARED, shared_records

FILES = sorted(str(path.relative_to(SHARED)) for path in SHARED.rglob("*.jsonl.gz"))


def expected(record: dict[str, Any], field: str, made_up: str) -> tuple[str, str, str | None, dict[str, Any]]:
    """(id, text, source, the other fields) of a record."""
    rest = {key: value for key, value in record.items() if key != field}
    name, source = made_up, None
    if isinstance(rest.get("id"), str | int | float):
        value = rest.pop("id")
        name = value if isinstance(value, str) else json.dumps(value)
    if isinstance(rest.get("source"), str):
        source = rest.pop("source")
    return name, record[field], source, rest


def test_there_are_files_to_compare() -> None:
    if not SHARED.exists():
        pytest.skip("../shared/data is not here")
    assert len(FILES) >= 20


@pytest.mark.parametrize("name", FILES)
def test_every_record_of_the_shared_files(name: str) -> None:
    records = shared_records(name)
    always = set.intersection(*({k for k, v in record.items() if isinstance(v, str)} for record in records))
    field = "text" if "text" in always else sorted(always - {"id", "source"})[0]
    table = as_documents(SHARED / name, text=field).to_table()
    assert len(table) == len(records)
    rows = zip(*(table.column(c).to_pylist() for c in ("id", "text", "source", "meta")), strict=True)
    for i, (record, (*ours, meta)) in enumerate(zip(records, rows, strict=True)):
        want = expected(record, field, f"{Path(name).name}:{i}")
        assert (*ours, json.loads(meta)) == want, f"record {i}"


def read_line(line: bytes) -> tuple[str, dict[str, Any]]:
    """Text and the other fields of one line, through the native reader."""
    reader = _native.DocumentReader(None, text=["text"], id="id")
    reader.push(line)
    reader.finish()
    batch = reader.next_batch()
    assert batch is not None
    rows, ids, texts, _, metas, rejected = batch
    assert (rows, rejected) == (1, [])
    assert string_array(*ids).to_pylist() == ["7"]
    return string_array(*texts)[0].as_py(), json.loads(string_array(*metas)[0].as_py())


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=250, deadline=None)
@given(
    TEXTS,
    st.dictionaries(TEXTS, VALUES, max_size=4),
    st.booleans(),
    st.sampled_from([None, (",", ":"), (" , ", "\t:\r")]),
)
@example("\u2028\u0085\x1c\x7f\ufeff", {"source": 5}, False, None)
def test_valid_json_gives_what_python_gives(
    text: str, rest: dict[str, Any], ascii_only: bool, separators: tuple[str, str] | None
) -> None:
    rest = {
        key: value
        for key, value in rest.items()
        if key not in ("id", "text") and not (key == "source" and isinstance(value, str))
    }
    record = {"id": 7, **rest, "text": text}
    line = json.dumps(record, ensure_ascii=ascii_only, separators=separators).encode()
    assert read_line(line) == (text, rest)


# Pieces of JSON put together at random: most are broken in one place.
PIECES = st.sampled_from(
    [
        *("{", "}", "[", "]", ",", ":", "{}", "[]", '{"a":1}', " ", "\t", "\r", "\x0b", "\u2028", "\u00e9", "/**/"),
        *('"a"', '"text"', '"x"', '"\\u00e9"', '"\\ud83e\\uddec"', '"\\u12"', '"\\x"', '"', "'", '"\x1f"', '"\x7f"'),
        *("1", "-0", "0.5", "1e9", "01", "1.", "-", "true", "fals", "null"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=8))
@example(["[", "[", "]", "]"])
@example(["1", ",", '"a"', ":", "1"])
@example(["1", ",", '"text"', ":", '"x"'])
def test_what_python_refuses_is_refused_and_nothing_else(pieces: list[str]) -> None:
    line = '{"id": 7, "text": "t", "b": ' + "".join(pieces) + "}"
    try:
        record = json.loads(line)
    except ValueError:
        with pytest.raises(FormatError, match="not valid JSON"):
            read_line(line.encode())
        return
    if not isinstance(record.get("text"), str) or not isinstance(record["id"], int) or _holds_nan(record):
        return
    text = record.pop("text")
    record.pop("id")
    assert read_line(line.encode()) == (text, record)


def _holds_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, list):
        return any(map(_holds_nan, value))
    return isinstance(value, float) and not math.isfinite(value)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_nan_is_not_json(word: str) -> None:
    with pytest.raises(FormatError, match="not valid JSON"):
        read_line(f'{{"text": "t", "id": 7, "n": {word}}}'.encode())


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud800x", "\\udc00\\ud800"])
def test_half_a_surrogate_pair_in_a_text_names_the_field(escape: str) -> None:
    line = f'{{"text": "{escape}", "id": 7}}'
    assert isinstance(json.loads(line)["text"], str)
    with pytest.raises(FormatError, match="surrogate") as caught:
        read_line(line.encode())
    assert (caught.value.field, caught.value.line) == ("text", 1)
    # In a field that is only carried through it does no harm: the escape is kept.
    assert read_line(f'{{"text": "t", "id": 7, "other": "{escape}"}}'.encode())[1] == {
        "other": json.loads(f'"{escape}"')
    }
