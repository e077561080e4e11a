"""Folders of documents: `documents/part-00000.parquet` and so on, each file whole or absent, `manifest.json` last.

With work in progress (`biollm.partial`) the parts lie there until all are written; a full one is not written again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

from biollm import _native
from biollm.atomic import atomic_path, make_folder, write_json
from biollm.errors import BiollmError, FileError, InputError
from biollm.manifest import Manifest
from biollm.partial import Partial, is_partial, open_partial

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from biollm.results import Summary

__all__ = ["DocumentWriter", "at_row", "begin_folder", "blocks", "document_writer", "finish_folder", "write_parquet"]

#: Rows a file.
ROWS_PER_FILE: Final = 1_000_000
#: Arrow bytes and rows of a block: a row group of a file, or the input of one native call.
BLOCK_BYTES: Final = 32 << 20
BLOCK_ROWS: Final = 1 << 16

_MANIFEST: Final = "manifest.json"
# What an interrupted run of a verb may have left.
_OURS: Final = re.compile(
    r"(documents/)?\..*\.tmp|documents/part-\d+\.parquet|decisions\.parquet|rejected\.jsonl|summary\.json"
)


class Decisions(Protocol):
    """A frozen dataclass that keeps or drops each document: `DedupResult`, `Selection`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def manifest(self) -> Manifest:
        """What it was made of, and by what."""

    def decisions(self) -> pa.Table:
        """One row a document that came in: id, keep, and why."""

    def summary(self) -> Summary:
        """What it says of itself."""


DecisionsT = TypeVar("DecisionsT", bound=Decisions)


def begin_folder(
    path: str | os.PathLike[str],
    sources: Any = (),
    *,
    verb: str | None = None,
    leftovers: re.Pattern[str] = _OURS,
) -> Path:
    """Makes a folder ready for a verb's output: there, and without what an earlier run left (its manifest goes first).

    Work in progress (`biollm.partial`) stays: whether it is of use is found out by its key.

    Args:
        path: the folder.
        sources: what the verb reads; a path or a list of paths is held against the folder.
        verb: that writes; a finished folder of another verb is then refused, for it may be the source of this one.
        leftovers: names, relative to the folder, of what an interrupted run of the verb may have left.

    Returns:
        The folder.

    Raises:
        InputError: the folder holds files that no verb wrote, or those of another verb, or a source lies in it.
        FileError: the system refused.
    """
    folder = make_folder(path)
    whole = folder.resolve()
    for source in _paths(sources):
        if whole in (source.resolve(), *source.resolve().parents):
            raise InputError("the output folder holds the source: choose another folder", path=folder, field="output")
    try:
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
        found = [name for name in names if not is_partial(name)]
        manifest = Manifest.read(folder) if _MANIFEST in found else None
        if manifest is not None and verb is not None and manifest.verb != verb:
            message = f"the output folder was written by {manifest.verb}: choose another for {verb}, or remove it"
            raise InputError(message, path=folder, field="output")
        listed = {*manifest.outputs, _MANIFEST} if manifest is not None else set()
        foreign = [name for name in found if name not in listed and not leftovers.fullmatch(name)]
        if foreign:
            message = f"the output folder holds other files ({', '.join(foreign[:3])}): choose an empty one"
            raise InputError(message, path=folder, field="output")
        for name in sorted(found, key=lambda name: name != _MANIFEST):
            (folder / name).unlink()
    except OSError as error:
        if isinstance(error, BiollmError):
            raise
        raise FileError.from_os_error(error, folder) from error
    return folder


def _paths(sources: Any) -> list[Path]:
    """The paths among a verb's sources; in a list a str is a text."""
    if isinstance(sources, (str, os.PathLike)):
        return [Path(sources)]
    items = sources if isinstance(sources, (list, tuple)) else ()
    return [Path(item) for item in items if isinstance(item, os.PathLike)]


class DocumentWriter:
    """Writes documents into the parts of a folder.

    Made by `document_writer`, which knows the `folder`, the `schema`, the `stack` that closes the open file, the work
    in progress (`partial`), and what gives the `state` to be kept with a full part.

    Attributes:
        outputs: file name in the folder → xxh3-128, of the parts that are finished.
        rows: written so far.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        stack: ExitStack,
        partial: Partial | None = None,
        state: Callable[[int], Any] | None = None,
    ) -> None:
        self.outputs: dict[str, str] = {}
        self.rows = 0
        self._partial = partial
        self._state = state
        self._folder = make_folder((folder if partial is None else partial.path) / "documents")
        self._schema = schema
        self._stack = stack
        self._rows_in_part = 0
        self._parquet: pq.ParquetWriter | None = None
        self._begin_part()

    def write(self, table: pa.Table) -> None:
        """Appends the rows of a `table` of the writer's schema."""
        if self._rows_in_part and self._rows_in_part + len(table) > ROWS_PER_FILE:
            self._finish_part(full=True)
            self._begin_part()
        if len(table) and self._parquet is not None:
            self._parquet.write_table(table)
        self._rows_in_part += len(table)
        self.rows += len(table)

    def take_up(self) -> Any:
        """Takes over all full parts of an earlier run, before any row is written: what is behind them comes next.

        Returns:
            The state that was kept with the last of them; `None` where there is none.
        """
        state = None
        while self._kept is not None and self._partial is not None:
            piece = self._partial.kept(self._name)
            assert piece is not None  # its checksum was there just now
            state, self.rows = piece.facts["state"], piece.facts["rows"]
            self._finish_part(full=True)
            self._begin_part()
        return state

    def _begin_part(self) -> None:
        import pyarrow.parquet as pq

        self._rows_in_part = 0
        self._name = f"part-{len(self.outputs):05}.parquet"
        self._kept = self._kept_checksum()
        if self._kept is not None:
            self._parquet = None  # the rows that it holds go by
            return
        self._file = self._stack.enter_context(atomic_path(self._folder / self._name))
        self._parquet = pq.ParquetWriter(self._file.path, self._schema, compression="zstd")
        self._stack.callback(self._parquet.close)

    def _finish_part(self, *, full: bool) -> None:
        checksum = self._kept
        if checksum is None:
            self._stack.close()
            checksum = self._file.xxh3_128
            if full and self._partial is not None:
                state = self._state(self.rows) if self._state is not None else None
                self._partial.keep(self._name, (), xxh3_128=checksum, rows=self.rows, state=state)
        assert checksum is not None
        self.outputs[f"documents/{self._name}"] = checksum

    def _kept_checksum(self) -> str | None:
        """The checksum of the part that comes now, if an earlier run has written it."""
        piece = self._partial.kept(self._name) if self._partial is not None else None
        if piece is None:
            return None
        try:
            found = _native.hash_file(self._folder / self._name)
        except FileError:
            return None
        return found if found == piece.facts["xxh3_128"] else None


@contextmanager
def document_writer(
    folder: Path, schema: pa.Schema, partial: Partial | None = None, state: Callable[[int], Any] | None = None
) -> Iterator[DocumentWriter]:
    """A writer of documents into `folder/documents`; when the block ends well, every part is published.

    Args:
        folder: a verb's output.
        schema: of the documents.
        partial: the folder's work in progress. The rows must be those of the run that left it, in the same tables.
        state: called with the rows written when a part is full, before the next table is: gives a plain JSON value to
            be kept with the part, for `take_up`.

    Raises:
        FileError: the system refused (a full disk); parts that are not finished are removed.
    """
    with ExitStack() as stack:
        writer = DocumentWriter(folder, schema, stack, partial, state)
        yield writer
        writer._finish_part(full=False)
    if partial is not None:
        partial.place(writer.outputs)


def write_parquet(path: Path, table: pa.Table) -> str:
    """Writes a `table` as one Parquet file `path`, atomically; gives its xxh3-128.

    Raises:
        FileError: as `document_writer`.
    """
    import pyarrow.parquet as pq

    with atomic_path(path) as file:
        pq.write_table(table, file.path, compression="zstd")
    assert file.xxh3_128 is not None
    return file.xxh3_128


def blocks(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The rows of `reader` in tables of up to about `BLOCK_BYTES` and `BLOCK_ROWS`, whatever its batches are."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    size = rows = 0
    for batch in reader:
        # Batches are views: of a large one, only a slice at a time is taken.
        for piece in _slices(batch):
            held.append(piece)
            size += piece.nbytes
            rows += len(piece)
            if size >= BLOCK_BYTES or rows >= BLOCK_ROWS:
                yield pa.Table.from_batches(held)
                held, size, rows = [], 0, 0
    if rows:
        yield pa.Table.from_batches(held)


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    pieces = max(1, -(-batch.nbytes // BLOCK_BYTES), -(-len(batch) // BLOCK_ROWS))
    step = max(1, -(-len(batch) // pieces))
    for start in range(0, len(batch), step):
        yield batch.slice(start, step)


def at_row(error: BiollmError, first_row: int) -> BiollmError:
    """The `error` of a block that begins at `first_row`, with the row of the source in place of that of the block."""
    if error.row is None or first_row == 0:
        return error
    row = error.row + first_row
    message = error.message.replace(f"row {error.row}", f"row {row}")
    attributes = {**error._attributes(), "row": row}
    return type(error)(message, **attributes)


def finish_folder(
    result: DecisionsT, folder: Path, documents: Mapping[str, str], partial: Partial | None = None
) -> DecisionsT:
    """Writes `decisions.parquet`, `summary.json` and `manifest.json` behind the kept documents.

    Args:
        result: of the verb.
        folder: holds the parts of the kept documents.
        documents: their names in the folder → xxh3-128.
        partial: the folder's work in progress, which is then of no more use; without it, what lies there is removed.

    Returns:
        The result with the manifest that was written.

    Raises:
        FileError: the system refused.
    """
    outputs = dict(documents)
    outputs["decisions.parquet"] = write_parquet(folder / "decisions.parquet", result.decisions())
    outputs["summary.json"] = write_json(folder / "summary.json", result.summary().to_dict())
    if partial is None:
        open_partial(folder, None)
    manifest = replace(result.manifest, outputs=outputs, resumptions=partial.resumptions if partial is not None else ())
    manifest.write(folder)
    if partial is not None:
        partial.discard()
    return replace(result, manifest=manifest)
