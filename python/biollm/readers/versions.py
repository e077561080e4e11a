"""Which records of PubMed files count, where files of one source follow each other as PubMed publishes them.

Of a baseline and its daily updates, a later record with the same PMID replaces the earlier ones, and a
`DeleteCitation` removes them. Later is told from the files' base names (`pubmed26n0001.xml.gz` …), whatever order they
are given in; inside a file, from the place. So all files are passed over once, PMIDs only, before any is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from biollm import _native
from biollm.errors import FileError
from biollm.manifest import InputRecord
from biollm.readers.files import SourceFile, file_record
from biollm.readers.options import ReadOptions
from biollm.readers.source import PassLog
from biollm.readers.xml import XmlReader, local_copy

if TYPE_CHECKING:
    from biollm.results import Progress

__all__ = ["XmlFiles"]


#: What the native pass tells of a file: records, a bit a record, how many are replaced, how many deleted.
_Scanned = tuple[int, "_native.Buffer", int, int]


@dataclass
class XmlFiles:
    """The XML files of one source.

    Attributes:
        files: by their place among all files of the source.
        options: how they are read.
    """

    files: Mapping[int, SourceFile]
    options: ReadOptions
    _known: tuple[list[InputRecord], list[_Scanned]] | None = field(default=None, init=False)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the files; `None` where one does not say its size."""
        sizes = [file.size_bytes for file in self.files.values()]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @contextmanager
    def opened(self, log: PassLog, progress: Progress | None) -> Iterator[dict[int, XmlReader]]:
        """A reader of each file, by its place. How many records they leave out, and why, goes to `log.left_out`.

        Args:
            log: of the pass.
            progress: called with the bytes that the pass over all files has read, and `size_bytes`.

        Raises:
            FileError: a file cannot be read, or there is no room for a copy of a URL or pipe.
            FormatError: a PubMed file is damaged, or not well-formed (`line`).
        """
        if not self.files:
            yield {}
            return
        with ExitStack() as stack:
            paths = self._local_paths(stack, progress)
            before, scanned = self._scanned(paths, progress)
            readers = {}
            for i, path, record, (_, left_out, replaced, deleted) in zip(
                self.files, paths, before, scanned, strict=True
            ):
                log.left_out["replaced"] = log.left_out.get("replaced", 0) + replaced
                log.left_out["deleted"] = log.left_out.get("deleted", 0) + deleted
                readers[i] = XmlReader(
                    self.files[i], path, self.options, left_out if replaced or deleted else None, record
                )
            yield readers

    def _local_paths(self, stack: ExitStack, progress: Progress | None) -> list[str]:
        """Where each file can be read twice: copies of URLs and pipes are removed with the stack."""
        paths = []
        for i, file in self.files.items():
            if file.remote is None and file.regular:
                paths.append(file.path)
                continue
            try:
                folder = Path(stack.enter_context(TemporaryDirectory(prefix=f"biollm-{i}-")))
            except OSError as error:
                raise FileError.from_os_error(error) from error
            paths.append(local_copy(file, folder, progress))
        return paths

    def _scanned(self, paths: list[str], progress: Progress | None) -> tuple[list[InputRecord], list[_Scanned]]:
        """The files as they were, and what the pass over them found: made once for files that stay as they are."""
        before = [file_record(path) for path in paths]
        if self._known is None or self._known[0] != before:
            files: list[tuple[str | os.PathLike[str], str, bool, str | None]] = [
                (path, file.compression, file.tar, file.path)
                for path, file in zip(paths, self.files.values(), strict=True)
            ]
            scanned = _native.scan_pubmed(
                files, max_document_bytes=self.options.limit_bytes, skip=self.options.skip, progress=progress
            )
            self._known = (before, scanned)
        return self._known
