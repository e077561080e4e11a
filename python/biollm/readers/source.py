"""What a source of documents is inside this package, and the log of one pass over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from biollm.documents import Documents
from biollm.errors import LimitError

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.manifest import InputRecord
    from biollm.results import Progress

__all__ = ["MAX_REJECTED", "PassLog", "Rejected", "Source"]

MAX_REJECTED = 1_000_000
"""Most records that one pass may skip: beyond it, the file is hardly what it was taken for."""


@dataclass(frozen=True)
class Rejected:
    """A record that was skipped.

    Attributes:
        file: path or URL; of data in memory, what it is.
        line: of a text file, counted from 1.
        row: of a table or Parquet file, counted from 0.
        reason: why.
    """

    file: str
    reason: str
    line: int | None = None
    row: int | None = None


@dataclass
class PassLog:
    """What one pass over a source met.

    Attributes:
        progress: called with the bytes read and the bytes in all, where the source is files.
        rejected: every record that was skipped, in order.
        files: file → [documents, records skipped], in order; empty for data in memory.
        left_out: of XML files, how many records are "replaced" by a later one or "deleted"; else empty.
        passed_files: files, from the first on, that an earlier pass has seen to: they are not read.
        passed_rows: documents of the file behind them that it has seen to as well: they are not given.
    """

    progress: Progress | None = None
    rejected: list[Rejected] = field(default_factory=list)
    files: dict[str, list[int]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    passed_files: int = 0
    passed_rows: int = 0

    def state(self, documents: int) -> dict[str, Any]:
        """What is known of the files that gave the first `documents`, all but the last of these; as plain JSON values.

        At least one document more must have come, so that each of these files was read to its end.
        """
        files, passed = {}, 0
        for file, (count, skipped) in self.files.items():
            if passed + count > documents:
                break
            files[file] = [count, skipped]
            passed += count
        rejected = [asdict(record) for record in self.rejected if record.file in files]
        return {"files": files, "rows": documents - passed, "rejected": rejected}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Passes by what the `state` of an earlier pass tells of."""
        self.files.update({file: list(counts) for file, counts in state["files"].items()})
        self.rejected.extend(Rejected(**record) for record in state["rejected"])
        self.passed_files, self.passed_rows = len(self.files), state["rows"]

    def reject(self, record: Rejected) -> None:
        """Notes a record that was skipped.

        Raises:
            LimitError: there are too many.
        """
        if len(self.rejected) >= MAX_REJECTED:
            message = f"over {MAX_REJECTED:,} records were skipped: is this the right format, and text the right field?"
            raise LimitError(message, path=record.file, value=MAX_REJECTED + 1, limit=MAX_REJECTED)
        self.rejected.append(record)
        if record.file in self.files:
            self.files[record.file][1] += 1

    def begin(self, file: str) -> None:
        """Notes that a file is begun."""
        self.files.setdefault(file, [0, 0])

    def count(self, file: str, documents: int) -> None:
        """Notes documents of a file."""
        self.files[file][0] += documents


@dataclass(frozen=True)
class Source:
    """Documents before anyone reads them.

    Attributes:
        schema: of every batch: id and text (large_string) first.
        batches: a fresh pass; may be called once only if `one_shot`.
        inputs: the records for the manifest; complete at no extra cost after a pass.
        description: what to call it in messages.
    """

    schema: pa.Schema
    batches: Callable[[PassLog], Iterator[pa.RecordBatch]]
    inputs: Callable[[], tuple[InputRecord, ...]]
    description: str
    one_shot: bool = False

    def documents(self) -> Documents:
        """The source as the stream that verbs read."""
        import pyarrow as pa

        def reader() -> pa.RecordBatchReader:
            return pa.RecordBatchReader.from_batches(self.schema, self.batches(PassLog()))

        return Documents(reader, self.schema, one_shot=self.one_shot, inputs=self.inputs, description=self.description)
