"""What `select` gives: scores, the keep mask, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from biollm.filtering import RowDecisions, filter_rows
from biollm.selection.rules import Rule, Threshold, failed_rules, resolve

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from biollm.documents import Documents
    from biollm.manifest import Manifest
    from biollm.results import Summary

__all__ = ["Decision", "DroppedText", "Failure", "Selection"]


@dataclass(frozen=True)
class Failure:
    """A rule that a document fails: `str()` gives "min_words: words 12 < 50".

    Attributes:
        rule: its name.
        statistic: that it looks at.
        value: the document's.
        drop_if: "<" or ">".
        threshold: in the unit of the statistic.
    """

    rule: str
    statistic: str
    value: float
    drop_if: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.rule}: {self.statistic} {self.value:.4g} {self.drop_if} {self.threshold:.6g}"


@dataclass(frozen=True)
class Decision:
    """Why one document stays or goes.

    Attributes:
        row, id: of the document.
        keep: whether it stays.
        failures: every rule it fails, in the order of the rules.
        scores: statistic → value.
    """

    row: int
    id: str
    keep: bool
    failures: tuple[Failure, ...]
    scores: Mapping[str, float]

    def __str__(self) -> str:
        verdict = "kept: fails no rule" if self.keep else "; ".join(map(str, self.failures))
        return f"row {self.row}, id {self.id}: {verdict}"


@dataclass(frozen=True)
class DroppedText:
    """The beginning of a dropped document, kept to be shown."""

    row: int
    text: str


@dataclass(frozen=True, eq=False, repr=False)
class Selection(RowDecisions):
    """The decisions on n documents, in source order.

    Attributes:
        ids: large_string, (n,).
        scores: one column a statistic, (n,) each; the columns' metadata tell variant and definition.
        failed: uint64, (n,); bit i is set where `rules[i]` is failed.
        rules: as they were applied.
        sources: the documents' `source` column where they have one, (n,).
        dropped_texts: the first few dropped documents of each rule.
        manifest: of the run.
    """

    ids: pa.ChunkedArray
    scores: pa.Table
    failed: npt.NDArray[np.uint64]
    rules: tuple[Rule, ...]
    sources: pa.ChunkedArray | None
    dropped_texts: tuple[DroppedText, ...]
    manifest: Manifest
    _source: Any = field(default=None)
    _open_documents: Callable[[Any], Documents] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.failed)

    def __repr__(self) -> str:
        return f"Selection({int(self.keep_mask.sum()):,} of {len(self):,} documents kept, {len(self.rules)} rules)"

    @cached_property
    def keep_mask(self) -> npt.NDArray[np.bool_]:
        """Whether each document stays; bool, (n,)."""
        mask: npt.NDArray[np.bool_] = self.failed == 0
        return mask

    @cached_property
    def reason(self) -> pa.LargeStringArray:
        """The rules each document fails, with value and threshold, "; " between; null where it stays; shape (n,)."""
        import pyarrow as pa

        reasons: list[str | None] = [None] * len(self)
        for row in (~self.keep_mask).nonzero()[0].tolist():
            reasons[row] = "; ".join(map(str, self._failures(row)))
        return pa.array(reasons, type=pa.large_string())

    def why(self, row_or_id: int | str) -> Decision:
        """Why one document stays or goes.

        Args:
            row_or_id: an int is a row, counted from 0; a str is an id.

        Returns:
            The decision; `str()` of it says it in words.

        Raises:
            InputError: there is no such row or id, or several documents have the id.
        """
        row = self._row(row_or_id)
        scores = {name: self.scores.column(name)[row].as_py() for name in self.scores.column_names}
        return Decision(row, self.ids[row].as_py(), bool(self.keep_mask[row]), self._failures(row), scores)

    def choose(
        self, *, rules: Sequence[str] | None = None, thresholds: Mapping[str, Threshold] | None = None
    ) -> Selection:
        """Other decisions from the same scores: nothing is measured again, and no text is kept to be shown.

        Args:
            rules: presets by name; without them those of this result.
            thresholds: threshold by rule name, in place of the presets' (not of this result's).

        Raises:
            ConfigError: as `select`, or a rule looks at a statistic that was not measured.
        """
        from dataclasses import replace

        names = tuple(rules) if rules is not None else tuple(self.manifest.options["rules"])
        chosen = resolve(names, thresholds)
        failed = failed_rules(self.scores, chosen)
        options = {
            **self.manifest.options,
            "rules": list(names),
            "thresholds": dict(thresholds) if thresholds else None,
        }
        kept = int((failed == 0).sum())
        counts = {**self.manifest.counts, "documents_kept": kept, "documents_dropped": len(self) - kept}
        manifest = replace(self.manifest, options=options, counts=counts)
        return replace(self, failed=failed, rules=chosen, dropped_texts=(), manifest=manifest)

    def decisions(self) -> pa.Table:
        """One row a document: `id`, `keep`, the scores, `reason`."""
        import pyarrow as pa

        table = pa.table({"id": self.ids, "keep": pa.array(self.keep_mask)})
        for name in self.scores.column_names:
            table = table.append_column(self.scores.schema.field(name), self.scores.column(name))
        return table.append_column("reason", self.reason)

    def summary(self) -> Summary:
        """Counts, what each rule dropped, each source's share, histograms of scores, examples of dropped texts."""
        from biollm.selection.summary import summarize

        return summarize(self)

    def write(self, path: str | os.PathLike[str], /, source: Any = None) -> None:
        """Writes the folder `select(..., output=path)` leaves: kept documents, `decisions.parquet`, `summary.json`,
        and `manifest.json` last.

        Args:
            path: a folder; made where it is missing, and emptied where a verb wrote it.
            source: as in `filter`.

        Raises:
            InputError: as `filter`, or the folder holds other files. FileError: the system refused.
        """
        from biollm.document_files import begin_folder, blocks, document_writer, finish_folder

        source = self._source_again(source)
        documents = self._documents(source)
        folder = begin_folder(path, source, verb="select")
        kept = filter_rows(documents, self.keep_mask, open_documents=self._documents)
        with document_writer(folder, kept.schema) as writer:
            for block in blocks(kept.reader()):
                writer.write(block)
        finish_folder(self, folder, writer.outputs)

    def _failures(self, row: int) -> tuple[Failure, ...]:
        bits = int(self.failed[row])
        return tuple(
            Failure(r.name, r.statistic, self._column(r.statistic)[row].item(), r.drop_if, r.threshold)
            for i, r in enumerate(self.rules)
            if bits >> i & 1
        )

    def _column(self, statistic: str) -> npt.NDArray[Any]:
        """A column of scores as numpy; kept, for chunked columns are joined on the way."""
        if statistic not in self._columns:
            self._columns[statistic] = self.scores.column(statistic).to_numpy()
        return self._columns[statistic]

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {}
