"""Counts over documents as they pass: how many, how long, from where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from biollm.readers.source import PassLog
from biollm.results import Sample, Series, Summary, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Tally"]

_SAMPLES: Final = 3
_SAMPLE_CHARACTERS: Final = 600
_TABLE_ROWS: Final = 30


class Tally:
    """What `read` says of the documents it has seen.

    Attributes:
        documents: their number.
        text_bytes: the UTF-8 bytes of their texts.
        columns: the columns of the stream.
    """

    def __init__(self, columns: list[str]) -> None:
        self.documents = 0
        self.text_bytes = 0
        self.columns = columns
        self._lengths: Counter[int] = Counter()
        self._samples: list[tuple[str, str]] = []

    def counted(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, counted as they pass."""
        for batch in batches:
            self.add(batch)
            yield batch

    def state(self) -> dict[str, Any]:
        """What was counted so far, as plain JSON values."""
        lengths = list(self._lengths.items())
        return {
            "documents": self.documents,
            "text_bytes": self.text_bytes,
            "lengths": lengths,
            "samples": self._samples,
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Goes on from the `state` of another tally."""
        self.documents, self.text_bytes = state["documents"], state["text_bytes"]
        self._lengths = Counter(dict(state["lengths"]))
        self._samples = [(name, text) for name, text in state["samples"]]

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the documents of `batch`."""
        import numpy as np
        import pyarrow.compute as pc

        texts = batch.column("text")
        lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False)
        self.documents += len(batch)
        self.text_bytes += int(lengths.sum())
        # The smallest power of two that is not below the length; exact, since frexp splits off the exponent.
        exponents = np.frexp(np.maximum(lengths.astype(np.float64) - 1, 0))[1]
        values, counts = np.unique(exponents, return_counts=True)
        self._lengths.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        for row in range(min(len(batch), _SAMPLES - len(self._samples))):
            text = texts[row].as_py()
            cut = text[:_SAMPLE_CHARACTERS] + ("…" if len(text) > _SAMPLE_CHARACTERS else "")
            self._samples.append((batch.column("id")[row].as_py(), cut))

    def summary(self, log: PassLog) -> Summary:
        """The counts as tables and series."""
        tables = []
        if log.files:
            rows = [(file, documents, skipped) for file, (documents, skipped) in log.files.items()]
            tables.append(_cut("Files", ("file", "documents", "skipped"), rows, "files"))
        if log.rejected:
            reasons = Counter(record.reason for record in log.rejected).most_common()
            tables.append(_cut("Why records were skipped", ("reason", "records"), reasons, "reasons"))
        exponents = range(min(self._lengths), max(self._lengths) + 1) if self._lengths else range(0)
        lengths = Series(
            title="Text lengths",
            x_label="bytes, at most",
            y_label="documents",
            x=tuple(1 << exponent for exponent in exponents),
            y=tuple(float(self._lengths[exponent]) for exponent in exponents),
            kind="bar",
        )
        facts = {
            "documents": self.documents,
            "records skipped": len(log.rejected),
            **{f"records {why}": count for why, count in log.left_out.items()},
            "bytes of text": self.text_bytes,
            "mean bytes a document": self.text_bytes / self.documents if self.documents else None,
            "columns": ", ".join(self.columns),
        }
        samples = tuple(Sample(f"Document {name}", text) for name, text in self._samples)
        return Summary("Documents read", facts, tuple(tables), (lengths,) if self.documents else (), samples)


def _cut(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str | int, ...]], what: str) -> Table:
    """A table of at most `_TABLE_ROWS` rows, which says how many it leaves out."""
    if len(rows) > _TABLE_ROWS:
        title = f"{title} (the first {_TABLE_ROWS} of {len(rows):,} {what})"
    return Table(title, columns, tuple(rows[:_TABLE_ROWS]))
