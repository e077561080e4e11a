"""The vocabulary of the train side: a pass over the documents, whose counts and end are kept in work in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from biollm.partial import Partial
from biollm.tokenization.options import TokenizeOptions
from biollm.tokenization.sides import Sides
from biollm.tokenization.tokenizer import Tokenizer
from biollm.tokenization.vocabulary import WordCounter

if TYPE_CHECKING:
    from biollm.documents import Documents
    from biollm.results import Progress

__all__ = ["GROUP_BYTES", "SideVocabulary"]

#: Arrow bytes of the documents that are counted between two times that the counts are kept: what a killed run counts
#: again, at most, where the counts themselves are not large.
GROUP_BYTES: Final = 128 << 20
#: Bytes of documents that are counted for each byte of counts that is kept.
_BYTES_A_BYTE: Final = 8
_COUNTS: Final = "counts"
_TOKENIZER: Final = "tokenizer"


class SideVocabulary:
    """Trains a tokenizer on the train side.

    Args:
        options: checked ones, with `vocab_size`.
        partial: work in progress.
        progress: called with the documents counted, then with the ids learned.

    Attributes:
        documents: of both sides, that the pass has gone over.
        tokenizer: once it is trained, maybe by an earlier run.
    """

    def __init__(self, options: TokenizeOptions, partial: Partial | None, progress: Progress | None) -> None:
        self.documents = 0
        self.tokenizer: Tokenizer | None = None
        self._options = options
        self._partial = partial
        self._progress = progress
        self._counter = WordCounter(
            options.pattern,
            max_document_bytes=options.max_document_bytes,
            threads=options.threads,
            progress=None if partial is None and progress is None else self._report,
        )
        if partial is not None and partial.resumed:
            self._take_up(partial)

    def train(self, documents: Documents, sides: Sides) -> Tokenizer:
        """The tokenizer of the train side of `documents`, which `sides` tells apart.

        Raises:
            InputError: the train side has no text, or allows fewer ids than are wanted.
        """
        if self.tokenizer is None:
            self._count(documents, sides)
            assert self._options.vocab_size is not None
            self.tokenizer = self._counter.train(
                self._options.vocab_size,
                min_frequency=self._options.min_frequency,
                source=f"the train side of {documents.description}",
            )
            if self._partial is not None:
                facts = {"documents": self.documents, "eos": self.tokenizer.eos_token, "pad": self.tokenizer.pad_token}
                self._partial.keep(_TOKENIZER, [self.tokenizer.to_json().encode()], **facts)
                self._partial.drop(_COUNTS)
        return self.tokenizer

    def _count(self, documents: Documents, sides: Sides) -> None:
        kept, came = self.documents, 0
        counted_bytes = 0
        for block, held_out in sides.blocks(documents):
            passed = min(len(block), max(0, kept - came))
            came += len(block)
            if passed == len(block):
                continue
            block, held_out = block.slice(passed), held_out[passed:]
            self._counter.add(block.column("text").filter(~held_out))
            self.documents += len(block)
            counted_bytes += block.nbytes
            if self._partial is None:
                continue
            self._partial.reached(self.documents)
            if counted_bytes >= GROUP_BYTES and counted_bytes >= _BYTES_A_BYTE * self._counter.state_bytes:
                counted = self._counter.documents
                self._partial.keep(_COUNTS, self._counter.state(), documents=self.documents, counted=counted)
                counted_bytes = 0

    def _report(self, done: int, total: int | None) -> None:
        """Progress of the counter: documents of the train side; then, with a total, ids."""
        if self._partial is not None and total is None:
            self._partial.reached(self.documents + done - self._counter.documents)
        if self._progress is not None:
            self._progress(done, total)

    def _take_up(self, partial: Partial) -> None:
        """What an earlier run has counted, or trained."""
        if (piece := partial.kept(_TOKENIZER)) is not None:
            data, facts = bytes(piece.parts[0]), piece.facts
            self.tokenizer = Tokenizer.from_json(data, eos=facts["eos"], pad=facts["pad"])
        elif (piece := partial.kept(_COUNTS)) is not None:
            self._counter.restore(piece.parts, piece.facts["counted"])
        if piece is not None:
            self.documents = piece.facts["documents"]
