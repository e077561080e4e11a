"""`select`: measures documents block by block and applies the rules."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from biollm.document_files import begin_folder, blocks, document_writer, finish_folder
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.partial import open_partial, work_key
from biollm.selection.measuring import Measurer, scores_table
from biollm.selection.options import ALGORITHM_VERSION, DEFAULT_RULES, SelectOptions
from biollm.selection.result import DroppedText, Selection
from biollm.selection.rules import Rule, Threshold, failed_rules, resolve

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from biollm.documents import Documents
    from biollm.results import Progress

__all__ = ["select", "select_source"]

LOG: Final = logging.getLogger("biollm.select")
#: Dropped documents shown for each rule, and characters of each.
SHOWN_A_RULE: Final = 2
SHOWN_CHARACTERS: Final = 800


def select(
    source: Any,
    *,
    rules: Sequence[str] = DEFAULT_RULES,
    thresholds: Mapping[str, Threshold] | None = None,
    text: str | Sequence[str] = "text",
    id: str | None = None,  # noqa: A002
    max_document_bytes: int | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Drop documents by heuristic rules; every score and every reason is kept.

    The rules are Gopher's (arXiv 2112.11446, section A1.1 and table A1) as datatrove runs them, on the words of Unicode
    Standard Annex 29; `biollm.selection.statistics` states the definitions and differences, `biollm.selection.PRESETS`
    the thresholds. A document goes if it fails any rule; exactly on a threshold it fails none. The thresholds were made
    for web pages: of abstracts dense in figures `min_alphabetic_fraction` drops many sound ones (29 % of 1,912; 25 % in
    datatrove), so it is worth lowering there.

    Documents are measured in one pass. Memory: a block of texts (about 32 MiB, or one document), up to some 30 bytes a
    word of the document each thread is at, and the scores (8 bytes each).

    Args:
        source: documents as any verb takes them: list of str, Arrow, polars, pandas, `Documents`, paths, globs, URLs.
        rules: presets by name, `"gopher_quality"` and `"gopher_repetition"`.
        thresholds: threshold by rule name (`{"min_words": 20}`) in place of the preset's; `None` or `"off"` takes the
            rule out.
        text: column of the text, or several joined by a blank line.
        id: column of the ids; without one a row is known by its file and row number.
        max_document_bytes: longest document, UTF-8; `None` is 256 MiB.
        output: a folder for the kept documents, `decisions.parquet`, `summary.json` and `manifest.json`. Where a run
            with these arguments was cut off there, and the source is of files, this one goes on from it.
        threads: worker threads; `None` is the cores this process may use. The result does not depend on it.
        progress: called with the documents done.

    Returns:
        The decision on each document, in source order: `keep_mask`, `scores`, `reason`, `why(row_or_id)`, `filter()`.

    Raises:
        ConfigError: unknown rules or thresholds; the message names the nearest known one.
        InputError: the source cannot be used. LimitError: a document is too long (`row`).
        FileError: a file cannot be read or written.
    """
    columns = text if isinstance(text, str) else tuple(text)
    options = SelectOptions(
        rules=rules if isinstance(rules, str) else tuple(rules),  # type: ignore[arg-type]  # a str is refused inside
        thresholds=thresholds,
        text=columns,
        id=id,
        max_document_bytes=max_document_bytes,
        threads=threads,
    )
    return select_source(source, options, output=output, progress=progress)


def select_source(
    source: Any,
    options: SelectOptions,
    *,
    output: str | os.PathLike[str] | None = None,
    inputs: Sequence[InputRecord] | None = None,
    progress: Progress | None = None,
    log: logging.Logger = LOG,
) -> Selection:
    """`select` with its options in one piece: what the function and the stage share.

    Args:
        source: as in `select`; the result's `filter` reads it again.
        options: checked ones.
        output: as in `select`.
        inputs: what the manifest says of the inputs; without them, what the documents know.
        progress: as in `select`.
        log: told of an interrupted run that this one goes on from.
    """
    from biollm.readers import as_documents
    from biollm.readers.identities import source_identities

    timer = StageTimer()
    open_documents = partial(as_documents, text=options.text, id=options.id)
    documents = open_documents(source)
    folder = begin_folder(output, source, verb="select") if output is not None else None
    unfinished = None
    if folder is not None:
        key = work_key("select", ALGORITHM_VERSION, options.matched(), source_identities(source))
        unfinished = open_partial(folder, key)
    applied = resolve(options.rules, options.thresholds)
    measurer = Measurer(options, unfinished, progress, log)
    measured = _Measured(applied, options.groups())
    with document_writer(folder, documents.schema, unfinished) if folder is not None else nullcontext() as writer:
        for block in blocks(documents.reader()):
            keep = measured.add(block, measurer.scores(block))
            if writer is not None:
                writer.write(block.filter(keep))
    rows, kept = measured.rows, measured.kept
    manifest = Manifest(
        verb="select",
        kind="documents",
        algorithm_version=ALGORITHM_VERSION,
        options=options.matched(),
        inputs=tuple(inputs if inputs is not None else documents.inputs),
        counts={"documents_in": rows, "documents_kept": kept, "documents_dropped": rows - kept},
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
    )
    result = measured.result(manifest, source, open_documents)
    if folder is None or writer is None:
        return result
    return finish_folder(result, folder, writer.outputs, unfinished)


class _Measured:
    """What has been found out so far, block by block."""

    def __init__(self, rules: tuple[Rule, ...], groups: Iterable[str]) -> None:
        self.rules = rules
        self.groups = groups
        self.rows = 0
        self.kept = 0
        self._ids: list[pa.Array] = []
        self._scores: list[pa.Table] = []
        self._failed: list[npt.NDArray[np.uint64]] = []
        self._sources: list[pa.Array] = []
        self._shown = [0] * len(rules)
        self._texts: list[DroppedText] = []

    def add(self, block: pa.Table, scores: pa.Table) -> pa.Array:
        """Takes in a block and its scores; gives its keep mask."""
        import pyarrow as pa

        failed = failed_rules(scores, self.rules)
        self._show(block, failed)
        self.rows += len(block)
        self.kept += int((failed == 0).sum())
        self._ids.extend(block.column("id").chunks)
        self._scores.append(scores)
        self._failed.append(failed)
        if "source" in block.column_names and _is_text(block.schema.field("source").type):
            self._sources.extend(block.column("source").cast(pa.large_string()).chunks)
        return pa.array(failed == 0)

    def _show(self, block: pa.Table, failed: npt.NDArray[np.uint64]) -> None:
        for i in range(len(self.rules)):
            if self._shown[i] >= SHOWN_A_RULE:
                continue
            # A document is shown under the first rule it fails.
            first = ((failed >> i & 1) != 0) & ((failed & ((1 << i) - 1)) == 0)
            for row in first.nonzero()[0][: SHOWN_A_RULE - self._shown[i]].tolist():
                text = block.column("text")[row].as_py()
                shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " […]"
                self._texts.append(DroppedText(self.rows + row, shown))
                self._shown[i] += 1

    def result(self, manifest: Manifest, source: Any, open_documents: Callable[[Any], Documents]) -> Selection:
        """The selection of all that was added."""
        import numpy as np
        import pyarrow as pa

        return Selection(
            ids=pa.chunked_array(self._ids, type=pa.large_string()),
            scores=pa.concat_tables(self._scores) if self._scores else scores_table([], self.groups),
            failed=np.concatenate(self._failed) if self._failed else np.zeros(0, dtype=np.uint64),
            rules=self.rules,
            sources=pa.chunked_array(self._sources, type=pa.large_string()) if self._sources else None,
            dropped_texts=tuple(sorted(self._texts, key=lambda dropped: dropped.row)),
            manifest=manifest,
            _source=source,
            _open_documents=open_documents,
        )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))
