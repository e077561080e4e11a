from __future__ import annotations

import pyarrow as pa
import pytest

from biollm.columns import large_string, string_array, text_array, text_chunks
from biollm.documents import Documents
from biollm.errors import InputError


def table() -> pa.Table:
    return pa.table({"id": pa.array(["a", "b"], pa.large_string()), "text": pa.array(["x", "y"], pa.large_string())})


def test_opens_again_and_again() -> None:
    documents = Documents.from_table(table())
    assert documents.to_table() == documents.to_table() == table()
    assert pa.table(documents) == table()


def test_one_shot_says_how_to_read_twice() -> None:
    documents = Documents(table().to_reader, table().schema, one_shot=True, description="a reader")
    assert documents.materialize().to_table() == table()
    with pytest.raises(InputError, match=r"a reader can be read only once: call \.materialize\(\)"):
        documents.to_table()


def test_columns_are_required() -> None:
    with pytest.raises(InputError, match="no column 'id'"):
        Documents.from_table(pa.table({"text": ["x"]}))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_any_text_column_becomes_large_string(kind: pa.DataType) -> None:
    column = pa.array(["a", "é", "a"]).cast(kind)
    assert large_string(column).to_pylist() == ["a", "é", "a"]


def test_text_chunks_of_slices_share_memory() -> None:
    column = pa.array(["aa", "b", "", "ccc"], pa.large_string())
    chunks = text_chunks(pa.chunked_array([column.slice(1, 2), column.slice(0, 0), column.slice(3)]))
    assert [rows for _, _, rows in chunks] == [2, 1]
    offsets, data, _ = chunks[0]
    assert list(memoryview(offsets).cast("B").cast("q")) == [2, 3, 3]
    assert data.address == column.buffers()[2].address


def test_bad_columns_are_named() -> None:
    with pytest.raises(InputError, match="column 'text' is int64, not text"):
        large_string(pa.array([1, 2]))
    with pytest.raises(InputError, match="null in row 1") as caught:
        large_string(pa.array(["a", None]))
    assert caught.value.row == 1


def test_lists_of_str() -> None:
    assert text_array(["a", "\U0001f9ec"]).to_pylist() == ["a", "\U0001f9ec"]
    with pytest.raises(TypeError, match=r"text\[1\] is int"):
        text_array(["a", 1])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"text\[1\] is not valid Unicode") as caught:
        text_array(["a", "b\ud800"])
    assert caught.value.row == 1


def test_string_array_from_buffers() -> None:
    offsets = pa.array([0, 1, 3], pa.int64()).buffers()[1]
    assert string_array(offsets, pa.py_buffer(b"abc")).to_pylist() == ["a", "bc"]
