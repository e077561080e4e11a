"""`dedup`: holds the texts in memory, finds the clusters in one native call, and decides what stays."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from biollm.deduplication.clustering import FuzzyClusterer
from biollm.deduplication.clusters import Clusterer, Clusters
from biollm.deduplication.copies import ExactClusterer, UrlClusterer
from biollm.deduplication.folder import write_documents
from biollm.deduplication.options import ALGORITHM_VERSION, PIECE_METHODS, DedupOptions, Keep, Method
from biollm.deduplication.repeats import PieceFinder
from biollm.deduplication.result import DedupResult
from biollm.deduplication.summary import show_removed
from biollm.document_files import begin_folder, blocks, finish_folder
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.partial import Partial, open_partial, work_key

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["dedup", "dedup_source"]

LOG: Final = logging.getLogger("biollm.dedup")


def dedup(
    source: Any,
    *,
    method: Method = "fuzzy",
    threshold: float = 0.8,
    shingle: str = "word:5",
    num_perm: int = 256,
    bands: int = 32,
    normalize: str = "none",
    min_length: int = 32,
    url: str = "url",
    keep: Keep = "first",
    text: str | Sequence[str] = "text",
    id: str | None = None,  # noqa: A002
    seed: int = 0,
    max_document_bytes: int | None = None,
    output: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> DedupResult:
    """Find duplicate documents, and keep one of each cluster; or cut what earlier documents have already.

    `method="fuzzy"`: near-duplicates. Documents are compared as sets of shingles: n-grams of their words, lower-cased
    (`str.lower`) and otherwise as they are, so case, punctuation and spacing do not count. A document of fewer words
    than a shingle is compared by all its words, one without any word (empty, or only punctuation) by its whole text.

    Candidates are the pairs that share all minima of a band (MinHash LSH: Broder 1997; Leskovec, Rajaraman, Ullman,
    Mining of Massive Datasets, section 3.4). Each is verified by the exact Jaccard similarity of the two sets (of
    64-bit hashes); those at or above the threshold are joined, and a cluster is a connected component, so two of its
    documents need not be alike themselves. A pair of similarity s is found with a probability of 1 - (1 - s^r)^b for b
    bands of r permutations: by default 0.997 at 0.8 and 0.9999 at 0.85.

    `method="exact"`: documents whose texts are equal, as they are or after `normalize`. They are brought together by
    xxh3-128 and then compared byte for byte: nothing goes for a hash alone.

    `method="url"`: documents whose URLs are equal in a normal form; one without a URL stays. Made equal is what RFC
    3986, section 6.2, calls equivalent (case of scheme and host, percent-encoded unreserved characters, dot segments,
    default port) and what the normalisers of crawlers take for one page (normalize-url, say): `http` and `https`, a
    leading `www.`, the fragment (unless it begins with `#!` or `#/`), slashes at the end of the path, empty and
    tracking parameters (`utm_*`, `gclid`, `fbclid`, `msclkid` and their like: the reference lists them). The case of
    the path and the order of the parameters count. What has a scheme but no `//` (`doi:`, `urn:`) is compared as it is.

    `method="line"`, `"paragraph"` or `"sentence"`: pieces of documents. One that an earlier document has is to be cut,
    so that only the first document, in source order, has it (there as often as it was). A line ends with a line feed;
    a paragraph with a blank line; a sentence as in Unicode Standard Annex 29 (one of over 4,096 bytes comes in parts).
    White space at the ends of a piece does not count. Pieces too are compared byte for byte. What is cut is the piece
    with the white space that separates it from the next one. `filter()` and `output` cut the texts; a document of which
    only white space is left goes. This is line and paragraph deduplication as in CCNet (Wenzek et al. 2020) and Dolma
    (Soldaini et al. 2024), with exact keys in place of hashes or a Bloom filter.

    The result is the same for any number of threads. Beside the texts `fuzzy` takes 8 bytes a band and some 100 bytes a
    document, and shingle sets of up to 32 MiB and as much a thread (or two sets of any size, 8 bytes a word); the
    others take some 40 bytes a document, or 60 a piece.

    Args:
        source: documents as any verb takes them: list of str, Arrow, polars, pandas, `Documents`, paths, globs, URLs.
        method: what makes two documents duplicates. An option of another method must be left out.
        threshold: (fuzzy) least Jaccard similarity of duplicates, in (0, 1].
        shingle: (fuzzy) `"word:N"`, N words of Unicode Standard Annex 29 that hold a letter or number; or `"alnum:N"`,
            N runs of letters, numbers and `_`. N is 1 to 64.
        num_perm: (fuzzy) permutations, 1 to 4096.
        bands: (fuzzy) a divisor of `num_perm`.
        normalize: (exact, pieces) `"none"`, or some of these with commas between, done in this order: `"nfc"`,
            canonical composition (Unicode Standard Annex 15); `"case"`, lower case (`str.lower`); `"space"`, runs of
            white space (`str.isspace`) as one space, and none at the ends.
        min_length: (pieces) fewest characters (code points) of a piece, without white space at its ends; shorter ones
            stay.
        url: (url) column of the URLs; where there is none, the field of that name in the column `meta`, which readers
            of JSON Lines fill. Null and empty ones are no URL.
        keep: which document of a cluster stays: `"first"` in source order, or the `"longest"` or `"shortest"` in bytes
            of UTF-8 (among equals the first, so of texts equal without `normalize` always the first).
            Pieces stay in the first document.
        text: column of the text, or several joined by a blank line (pieces are cut from one).
        id: column of the ids; without one a row is known by its file and row number.
        seed: (fuzzy) draws the permutations.
        max_document_bytes: longest document, UTF-8; `None` is 256 MiB.
        output: a folder for the kept documents (with a column `cluster_id`), `decisions.parquet`, `summary.json` and
            `manifest.json`. Where a run with these arguments was cut off there, and the source is of files, this one
            goes on from it.
        threads: worker threads; `None` is the cores this process may use.
        progress: called with documents done and documents in all; a document counts half when it is signed and half
            when its candidates are verified.

    Returns:
        The decision on each document, in source order: `keep_mask`, `cluster_id`, `why(row_or_id)`, `filter()`.

    Raises:
        ConfigError: an option makes no sense. LimitError: an option or a document (`row`) is too large.
        InputError: the source cannot be used. FileError: a file cannot be read or written.
    """
    columns = text if isinstance(text, str) else tuple(text)
    options = DedupOptions(
        method=method,
        threshold=threshold,
        shingle=shingle,
        num_perm=num_perm,
        bands=bands,
        normalize=normalize,
        min_length=min_length,
        url=url,
        keep=keep,
        text=columns,
        id=id,
        seed=seed,
        max_document_bytes=max_document_bytes,
        threads=threads,
    )
    return dedup_source(source, options, output=output, progress=progress)


def dedup_source(
    source: Any,
    options: DedupOptions,
    *,
    output: str | os.PathLike[str] | None = None,
    inputs: Sequence[InputRecord] | None = None,
    progress: Progress | None = None,
    log: logging.Logger = LOG,
) -> DedupResult:
    """`dedup` with its options in one piece: what the function and the stage share.

    Args:
        source: as in `dedup`; the result's `filter` reads it again.
        options: checked ones.
        output: as in `dedup`.
        inputs: what the manifest says of the inputs; without them, what the documents know.
        progress: as in `dedup`.
        log: told of an interrupted run that this one goes on from.
    """
    import pyarrow as pa

    from biollm.readers import as_documents
    from biollm.readers.identities import source_identities

    timer = StageTimer()
    open_documents = partial(as_documents, text=options.text, id=options.id)
    documents = open_documents(source)
    folder = begin_folder(output, source, verb="dedup") if output is not None else None
    unfinished = None
    if folder is not None:
        key = work_key("dedup", ALGORITHM_VERSION, options.matched(), source_identities(source))
        unfinished = open_partial(folder, key)
    # Without an output only these columns are needed, and the others are let go.
    wanted = [name for name in documents.schema.names if folder is not None or name in ("id", "text", "source")]
    schema = pa.schema([documents.schema.field(name) for name in wanted])
    clusterer = _clusterer(options, unfinished, progress, log)
    held = []
    for block in blocks(documents.reader()):
        clusterer.add(block)
        held.append(block.select(wanted))
    table = pa.concat_tables(held) if held else schema.empty_table()
    found = clusterer.clusters(table.column("text"))
    result = DedupResult(
        ids=table.column("id"),
        cluster_id=found.cluster_id,
        representative=found.representative,
        sources=_text_column(table, "source"),
        histogram=found.histogram,
        removed=(),
        manifest=Manifest(
            verb="dedup",
            kind="documents",
            algorithm_version=ALGORITHM_VERSION,
            options=options.matched(),
            inputs=tuple(inputs if inputs is not None else documents.inputs),
        ),
        _pairs=found.pairs,
        _spans=found.spans,
        _source=source,
        _open_documents=open_documents,
    )
    documents_written = write_documents(result, folder, schema, held, unfinished) if folder is not None else {}
    counts = _counts(result, table.column("text"), found)
    manifest = replace(result.manifest, counts=counts, wall_s=timer.wall_s, cpu_s=timer.cpu_s)
    result = replace(result, removed=show_removed(result, table.column("text")), manifest=manifest)
    return finish_folder(result, folder, documents_written, unfinished) if folder is not None else result


def _clusterer(
    options: DedupOptions, unfinished: Partial | None, progress: Progress | None, log: logging.Logger
) -> Clusterer:
    if options.method == "exact":
        return ExactClusterer(options, progress)
    if options.method == "url":
        return UrlClusterer(options, progress)
    if options.method in PIECE_METHODS:
        return PieceFinder(options, progress)
    return FuzzyClusterer(options, unfinished, progress, log)


def _counts(result: DedupResult, texts: pa.ChunkedArray, found: Clusters) -> dict[str, int]:
    import numpy as np
    import pyarrow.compute as pc

    keep = result.keep_mask
    rows, kept = len(keep), int(keep.sum())
    text_bytes = pc.binary_length(texts).to_numpy()
    of_method = {
        "clusters": int((np.bincount(result.cluster_id, minlength=rows) > 1).sum()),
        "copies": found.copies,
        "pairs": found.pairs.num_rows,
    }
    cut_bytes = np.zeros(rows, np.int64)
    if found.spans is not None:
        np.add.at(cut_bytes, found.spans.row, found.spans.end - found.spans.start)
        of_method = {
            "documents_cut": len(np.unique(found.spans.row)),
            "pieces": found.pieces,
            "pieces_cut": len(found.spans),
        }
    elif result.method == "fuzzy":
        of_method["candidates_compared"] = sum(result.histogram)
    return {
        "documents_in": rows,
        "documents_kept": kept,
        "documents_dropped": rows - kept,
        **of_method,
        "text_bytes_in": int(text_bytes.sum()),
        "text_bytes_kept": int((text_bytes - cut_bytes)[keep].sum()),
    }


def _text_column(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column of text, or `None` where there is none."""
    import pyarrow as pa

    if name not in table.column_names:
        return None
    kind = table.schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return table.column(name).cast(pa.large_string()) if textual else None
