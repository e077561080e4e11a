"""A keep mask over every kind of source gives back what came in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from biollm.documents import Documents
from biollm.errors import InputError
from biollm.filtering import filter_rows, yields_once

TEXTS = ["a", "b", "c", "d", "e"]
MASK = np.array([True, False, True, False, True])
KEPT = ["a", "c", "e"]


def table() -> pa.Table:
    ids = pa.array([str(i) for i in range(5)], pa.large_string())
    return pa.table({"id": ids, "text": pa.array(TEXTS, pa.large_string())})


def no_paths(source: Any) -> Documents:
    raise AssertionError(f"opened {source!r}")


def filtered(source: Any) -> Any:
    return filter_rows(source, MASK, open_documents=no_paths)


def test_lists_and_arrow_in_memory() -> None:
    assert filtered(TEXTS) == KEPT
    assert filtered(tuple(TEXTS)) == tuple(KEPT)
    assert filtered(table()).equals(table().take([0, 2, 4]))
    (batch,) = table().to_batches()
    assert isinstance(filtered(batch), pa.RecordBatch)
    assert filtered(batch).column("text").to_pylist() == KEPT
    assert filtered(pa.array(TEXTS)).to_pylist() == KEPT
    assert filtered(pa.chunked_array([TEXTS[:2], TEXTS[2:]])).to_pylist() == KEPT


def test_frames() -> None:
    kept = filtered(pl.DataFrame({"text": TEXTS}))
    assert isinstance(kept, pl.DataFrame)
    assert kept["text"].to_list() == KEPT
    frame = pd.DataFrame({"text": TEXTS}, index=list("vwxyz"))
    kept = filtered(frame)
    assert isinstance(kept, pd.DataFrame)
    assert kept.index.tolist() == ["v", "x", "z"]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_streams(chunk: int) -> None:
    kept = filtered(table().to_reader(max_chunksize=chunk))
    assert isinstance(kept, pa.RecordBatchReader)
    assert kept.read_all().column("text").to_pylist() == KEPT
    documents = filtered(Documents.from_table(table()))
    assert isinstance(documents, Documents)
    for _ in range(2):
        assert documents.to_table().column("text").to_pylist() == KEPT
    once = filtered(Documents(table().to_reader, table().schema, one_shot=True))
    assert once.one_shot
    assert once.to_table().num_rows == 3
    with pytest.raises(InputError, match="only once"):
        once.reader()


def test_paths_are_opened_as_documents() -> None:
    for source in ("in.jsonl", Path("in.jsonl"), [Path("a"), Path("b")]):
        opened: list[Any] = []

        def open_documents(given: Any, opened: list[Any] = opened) -> Documents:
            opened.append(given)
            return Documents.from_table(table())

        kept = filter_rows(source, MASK, open_documents=open_documents)
        assert kept.to_table().column("text").to_pylist() == KEPT
        assert opened == [source]


@pytest.mark.parametrize("rows", [4, 6])
def test_another_number_of_rows_is_refused(rows: int) -> None:
    texts = (TEXTS * 2)[:rows]
    other = pa.table({"id": texts, "text": texts})
    for source in (texts, other, pl.DataFrame({"text": texts}), pd.DataFrame({"text": texts})):
        with pytest.raises(InputError, match=f"{rows} rows"):
            filtered(source)
    for stream in (other.to_reader(max_chunksize=1), Documents.from_table(other)):
        reader = filtered(stream) if isinstance(stream, pa.RecordBatchReader) else filtered(stream).reader()
        with pytest.raises(InputError, match="rows, but the result was made of 5"):
            reader.read_all()


def test_what_yields_once() -> None:
    assert not any(map(yields_once, [TEXTS, table(), "path", Path("path"), pl.DataFrame(), pd.DataFrame()]))
    assert yields_once(table().to_reader())
    assert yields_once(Documents(table().to_reader, table().schema, one_shot=True))
    assert not yields_once(Documents.from_table(table()))
