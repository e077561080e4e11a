"""`as_documents`: the one way from what a caller has to the stream that every verb reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from biollm.documents import Documents
from biollm.filtering import yields_once
from biollm.readers.columns import ColumnMapper
from biollm.readers.options import ReadOptions
from biollm.readers.paths import paths_source
from biollm.readers.source import PassLog, Source
from biollm.readers.tables import (
    dataset_source,
    generated_source,
    stream_source,
    table_source,
    texts_source,
    texts_table,
)

__all__ = ["as_documents", "open_source"]


def as_documents(
    data: Any,
    /,
    *,
    text: str | tuple[str, ...] | list[str] = "text",
    id: str | None = None,  # noqa: A002
    source: str | None = None,
    lines: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    max_document_bytes: int | None = None,
) -> Documents:
    """Whatever holds documents as `Documents`: columns `id` and `text` (large_string), then the others.

    Args:
        data: one of

            - a str or Path: a path, a glob or a URL of .jsonl, .ndjson, .txt, PubMed or JATS .xml or .nxml files (all
              also with .gz or .zst), of .tar, .tar.gz or .tgz files of such XML, or of .parquet files; or a folder that
              `read`, `dedup` or `select` left;
            - a list of paths (`Path`; a str among them is a path, glob or URL too);
            - a list of str: **texts**, each one document. An iterator of str: the same, read once;
            - `Documents`, an Arrow table, batch, array or reader, a polars or pandas frame, a `datasets.Dataset`, or
              any other object with `__arrow_c_stream__`. A reader or foreign stream is read once.
        text: the field or column of the text, or several joined by a blank line (empty and null ones left out). Of
            PubMed and JATS, "text" is title, abstract and body, and any of "title", "abstract", "body" may be named.
        id: that of the ids. Without it "id" is taken where there is one and holds a value; else the id is
            `file:row`, or the row's number where there is no file. Of PubMed it is the PMID, of JATS the first of
            PMC id, DOI and PMID; "pmid", "pmc" or "doi" asks for that one.
        source: that of where a document comes from. Without it "source", where it is text. Of PubMed and JATS it is
            "pubmed" or "jats", or the journal where "journal" is named.
        lines: whether each line of a .txt file is a document (blank ones are not); otherwise the file is.
        on_error: "raise" at the first bad record, or "skip" it. A damaged or cut-off file is always an error.
        max_document_bytes: longest document, line of a file, or XML record, in bytes; by default 256 MiB.

    Returns:
        Documents, not read yet: what is wrong with a record is raised when its batch is asked for. The fields of JSON
        Lines that became no column are kept in `meta`, one JSON object a row; other columns are carried through.
        PubMed and JATS give `title`, `year`, `languages`, `publication_types`, `journal`, `pmid`, `pmc`, `doi` and
        `sections` (title, and first and last byte in `text`). Of PubMed records with one PMID the latest counts, by
        the names of the files, and none that a later `DeleteCitation` names. A URL or pipe of XML is copied to a
        temporary file first.

    Raises:
        TypeError: `data` is none of these, or an entry of the list is not a str (the message names it).
        InputError: a text is no valid Unicode (`row`); a glob matches nothing; the format is unknown; a column is
            missing. FileError: a file is missing or cannot be read. FormatError: a Parquet file is damaged.
        ConfigError: an option makes no sense.
    """
    names = tuple(text) if isinstance(text, list) else text
    options = ReadOptions(
        text=names, id=id, source=source, lines=lines, on_error=on_error, max_document_bytes=max_document_bytes
    )
    if isinstance(data, Documents) and (names, id, source) == ("text", None, None):
        return data
    return open_source(data, options).documents()


def open_source(data: Any, options: ReadOptions) -> Source:
    """What `as_documents` reads, with its log not yet bound."""
    import pyarrow as pa

    if isinstance(data, Documents):
        return _documents_source(data, options)
    if isinstance(data, (str, os.PathLike)):
        return paths_source([_path(data)], options)
    if isinstance(data, (list, tuple)):
        if any(isinstance(item, os.PathLike) for item in data):
            return paths_source([_path(item) for item in data], options)
        return texts_source(data, options)
    if isinstance(data, (pa.Array, pa.ChunkedArray)):
        return texts_table(data, options)
    if isinstance(data, pa.Table):
        return table_source(data, options, description="an Arrow table")
    if isinstance(data, pa.RecordBatch):
        return table_source(pa.Table.from_batches([data]), options, description="an Arrow batch")
    if hasattr(data, "__arrow_c_stream__"):
        return stream_source(data, options, one_shot=yields_once(data))
    if type(data).__module__.partition(".")[0] == "datasets" and hasattr(data, "with_format"):
        return dataset_source(data, options)
    if isinstance(data, Iterator):
        return generated_source(data, options)
    kind = type(data).__name__
    raise TypeError(
        f"{kind} holds no documents: pass a path, glob or URL, a list of str (texts) or of Path, an Arrow table or "
        f"stream, a polars or pandas frame, or Documents"
    )


def _path(item: Any) -> str | Path:
    if not isinstance(item, (str, os.PathLike)):
        raise TypeError(f"a list of paths holds {type(item).__name__}: all must be str or Path")
    path = os.fspath(item)
    if not isinstance(path, str):
        raise TypeError("a path of bytes: pass a str or Path")
    return path if isinstance(item, str) else Path(path)


def _documents_source(documents: Documents, options: ReadOptions) -> Source:
    def mapper() -> ColumnMapper:
        return ColumnMapper(documents.schema, options, file=documents.description)

    def batches(log: PassLog) -> Iterator[Any]:
        mapping = mapper()
        for batch in documents.reader():
            yield mapping.map(batch, log)

    inputs = lambda: documents.inputs  # noqa: E731
    return Source(mapper().schema, batches, inputs, documents.description, documents.one_shot)
