"""The verb `read`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from biollm.atomic import write_bytes, write_json
from biollm.document_files import begin_folder, document_writer
from biollm.documents import Documents
from biollm.manifest import Manifest, StageTimer
from biollm.partial import Partial, open_partial, work_key
from biollm.readers.coercion import as_documents, open_source
from biollm.readers.identities import source_identities
from biollm.readers.options import ALGORITHM_VERSION, ReadOptions
from biollm.readers.source import PassLog, Rejected, Source
from biollm.readers.tally import Tally

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress, Summary

__all__ = ["ReadResult", "read", "read_source"]

LOG: Final = logging.getLogger("biollm.read")
#: Rows, and bytes, from which a row group of a written file is full.
GROUP_ROWS: Final = 1 << 16
GROUP_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class ReadResult:
    """Documents that were read once, whole, and what was met.

    Attributes:
        documents: to be read as often as wanted: of the folder that was written, of the source, or (where that yields
            once) of a table in memory.
        rejected: the records that were skipped, in order.
        manifest: options, inputs with their checksums, counts, seconds.
    """

    documents: Documents
    rejected: tuple[Rejected, ...]
    manifest: Manifest
    _summary: Summary

    def summary(self) -> Summary:
        """Counts, lengths, files, reasons of skipping, and the first documents."""
        return self._summary

    def __len__(self) -> int:
        return int(self.manifest.counts["documents"])

    def write(self, path: str | os.PathLike[str], /) -> None:
        """Writes the folder `path`, of kind "documents": Parquet files, rejected.jsonl, summary.json, manifest.json.

        Raises:
            InputError: the folder holds other files. FileError: the system refused.
        """
        folder = begin_folder(path, verb="read")
        with document_writer(folder, self.documents.schema) as writer:
            for table in _gathered(self.documents.reader()):
                writer.write(table)
        _finish(folder, writer.outputs, self.rejected, self._summary, self.manifest)


def read(
    data: Any,
    /,
    *,
    text: str | tuple[str, ...] | list[str] = "text",
    id: str | None = None,  # noqa: A002
    source: str | None = None,
    lines: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    max_document_bytes: int | None = None,
    output: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ReadResult:
    """Reads documents whole, so that whatever is wrong with them is found now, and counts them.

    Args:
        data: paths, globs, URLs, texts, Arrow, frames: as `biollm.readers.as_documents`.
        text: the field or column of the text, or several joined by a blank line; of PubMed and JATS "title",
            "abstract", "body", or "text" for all three.
        id: that of the ids; by default "id", else `file:row`; of PubMed and JATS "pmid", "pmc" or "doi".
        source: that of where a document comes from; by default "source"; of PubMed and JATS also "journal".
        lines: whether each line of a .txt file is a document.
        on_error: "raise" at the first bad record, or "skip" it: it is then in `rejected`, and in rejected.jsonl.
        max_document_bytes: longest document, line of a file, or XML record, in bytes; by default 256 MiB.
        output: a folder to write them to, of kind "documents". Where a run with these arguments was cut off there, and
            the source is of files, this one goes on behind the last full part (a million documents). Without it
            nothing is kept but the counts: `documents` reads the source again.
        progress: called with the bytes read and, where it is known, those of all files (XML files count twice, for
            they are passed over once for their PMIDs); what it raises ends the reading and comes out.

    Returns:
        The documents, counted and to be read as often as wanted, what was skipped, and the manifest. Its counts say
        how many PubMed records a later one replaced, and how many a `DeleteCitation` deleted.

    Raises:
        BiollmError: as `biollm.readers.as_documents`; a bad record as FormatError or LimitError with `path`, `line`
            and `field`, or of a table with `row`.
        InputError: the output folder holds other files, or the source.
    """
    names = tuple(text) if isinstance(text, list) else text
    options = ReadOptions(
        text=names, id=id, source=source, lines=lines, on_error=on_error, max_document_bytes=max_document_bytes
    )
    return read_source(data, options, output=output, progress=progress)


def read_source(
    data: Any,
    options: ReadOptions,
    *,
    output: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    logger: logging.Logger = LOG,
) -> ReadResult:
    """`read` with its options in one piece; `logger` is told of an interrupted run that this one goes on from."""
    timer = StageTimer()
    log = PassLog(progress)
    opened = open_source(data, options)
    tally = Tally(opened.schema.names)
    outputs: dict[str, str] = {}
    if output is None:
        documents = _counted(opened, log, tally)
    else:
        folder = begin_folder(output, data, verb="read")
        unfinished = open_partial(folder, _work_key(data, options))
        outputs = _written(folder, opened, log, tally, unfinished, logger)
    manifest = Manifest(
        verb="read",
        kind="documents",
        algorithm_version=ALGORITHM_VERSION,
        options=options.matched(),
        inputs=opened.inputs(),
        counts={
            "documents": tally.documents,
            "rejected": len(log.rejected),
            **log.left_out,
            "text_bytes": tally.text_bytes,
        },
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
    )
    summary, rejected = tally.summary(log), tuple(log.rejected)
    if output is not None:
        manifest = _finish(folder, outputs, rejected, summary, manifest, unfinished)
        documents = as_documents(folder)
    return ReadResult(documents, rejected, manifest, summary)


def _work_key(data: Any, options: ReadOptions) -> str | None:
    """The key of unfinished work; `None` where a file comes twice, for its counts would stand for both."""
    identities = source_identities(data)
    if identities is None or len({tuple(identity) for identity in identities}) < len(identities):
        return None
    return work_key("read", ALGORITHM_VERSION, options.matched(), identities)


def _written(
    folder: Path, opened: Source, log: PassLog, tally: Tally, unfinished: Partial | None, logger: logging.Logger
) -> dict[str, str]:
    """Writes the documents of a source; gives the files' names and checksums. Full parts are not read again."""

    def state(rows: int) -> dict[str, Any]:
        return {"log": log.state(rows), "tally": tally.state()}

    with document_writer(folder, opened.schema, unfinished, state) as writer:
        if unfinished is not None and unfinished.resumed:
            if (kept := writer.take_up()) is not None:
                log.take_up(kept["log"])
                tally.take_up(kept["tally"])
            unfinished.resume(writer.rows, "documents", logger)
        for table in _gathered(opened.batches(log)):
            # Only what is written is counted: with a full part, the tally is of its rows and those before.
            writer.write(table)
            for batch in table.to_batches():
                tally.add(batch)
            if unfinished is not None:
                unfinished.reached(tally.documents)
    return writer.outputs


def _counted(opened: Source, log: PassLog, tally: Tally) -> Documents:
    """Passes over the source once; keeps the documents only if they could not be read again."""
    import pyarrow as pa

    kept = []
    for batch in tally.counted(opened.batches(log)):
        if opened.one_shot:
            kept.append(batch)
    if not opened.one_shot:
        return opened.documents()
    table = pa.Table.from_batches(kept, opened.schema)
    return Documents.from_table(table, inputs=opened.inputs(), description=opened.description)


def _finish(
    folder: Path,
    outputs: dict[str, str],
    rejected: Iterable[Rejected],
    summary: Summary,
    manifest: Manifest,
    unfinished: Partial | None = None,
) -> Manifest:
    """Writes what stands beside the documents, the manifest last; gives it."""
    if unfinished is None:
        open_partial(folder, None)
    outputs = dict(outputs)
    lines = [json.dumps({k: v for k, v in asdict(record).items() if v is not None}) + "\n" for record in rejected]
    outputs["rejected.jsonl"] = write_bytes(folder / "rejected.jsonl", "".join(lines).encode())
    outputs["summary.json"] = write_json(folder / "summary.json", summary.to_dict())
    resumptions = unfinished.resumptions if unfinished is not None else ()
    manifest = replace(manifest, outputs=outputs, resumptions=resumptions)
    manifest.write(folder)
    if unfinished is not None:
        unfinished.discard()
    return manifest


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Small batches (a file each, where a file is a document) put together: each table becomes a row group."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    rows = size_bytes = 0
    for batch in batches:
        waiting.append(batch)
        rows, size_bytes = rows + len(batch), size_bytes + batch.nbytes
        if rows >= GROUP_ROWS or size_bytes >= GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, rows, size_bytes = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)
