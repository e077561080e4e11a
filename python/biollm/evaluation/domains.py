"""Perplexity and bits a byte by domain: of documents by a column or their input, of token shards by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from biollm.errors import InputError
from biollm.evaluation.losses import DocumentLosses, document_losses, shard_losses, token_bytes
from biollm.evaluation.options import EvaluateOptions
from biollm.evaluation.resampling import Interval, bits_per_byte, bootstrap, perplexity

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.inference import LLM
    from biollm.results import Progress
    from biollm.tokenization import Shards

__all__ = ["DomainLosses", "DomainResult", "document_domains", "domain_results", "shard_domains"]

BATCH_DOCUMENTS: Final = 256
"""Documents encoded and scored at once: bounds memory."""


@dataclass(frozen=True)
class DomainLosses:
    """Losses by document, and which documents they are.

    Attributes:
        ids: of the documents.
        domains: of the documents.
        losses: theirs, in the same order.
        left_out: documents beyond `max_documents` of their domain.
    """

    ids: tuple[str, ...]
    domains: tuple[str, ...]
    losses: DocumentLosses
    left_out: int = 0


@dataclass(frozen=True)
class DomainResult:
    """How well one domain is predicted.

    Attributes:
        domain: its name.
        documents: with a scored token or without.
        tokens: scored: all but the first of each document.
        num_bytes: of the text that these stand for.
        nats_per_token: mean over the tokens; NaN where there are none.
        perplexity: its exponential, with the interval over documents; of models with one tokenizer comparable.
        bits_per_byte: comparable between tokenizers, with its interval.
        windowed: documents longer than the context, read in several windows.
    """

    domain: str
    documents: int
    tokens: int
    num_bytes: int
    nats_per_token: float
    perplexity: Interval
    bits_per_byte: Interval
    windowed: int


def document_domains(
    llm: LLM,
    batches: Iterable[pa.RecordBatch],
    name: str,
    options: EvaluateOptions,
    *,
    progress: Progress | None = None,
) -> DomainLosses:
    """The losses of documents, read once and in bounded pieces.

    Args:
        llm: the model, with its tokenizer.
        batches: of documents, with `id`, `text` and maybe `source`.
        name: of the domain of documents that name none.
        options: of the evaluation.
        progress: called with documents done.

    Returns:
        The losses, in the order of the documents.

    Raises:
        InputError: the checkpoint has no tokenizer; as `document_losses`.
    """
    tokenizer = _tokenizer(llm)
    table = token_bytes(tokenizer, llm.config.vocab_size)
    ids: list[str] = []
    domains: list[str] = []
    parts: list[DocumentLosses] = []
    seen: Counter[str] = Counter()
    left_out = 0
    for batch in batches:
        columns = {column: batch.column(column).to_pylist() for column in ("id", "text")}
        given = batch.column("source").to_pylist() if "source" in batch.schema.names else [None] * len(batch)
        named = [str(domain) if domain else name for domain in given]
        rows = []
        for row, domain in enumerate(named):
            seen[domain] += 1
            if options.max_documents is None or seen[domain] <= options.max_documents:
                rows.append(row)
            else:
                left_out += 1
        for begin in range(0, len(rows), BATCH_DOCUMENTS):
            chosen = rows[begin : begin + BATCH_DOCUMENTS]
            parts.append(
                document_losses(
                    llm.model,
                    list(tokenizer.encode_batch([columns["text"][row] for row in chosen])),
                    token_bytes=table,
                    stride=options.stride,
                    batch_tokens=options.batch_tokens,
                )
            )
            ids.extend(str(columns["id"][row]) for row in chosen)
            domains.extend(named[row] for row in chosen)
            if progress is not None:
                progress(len(ids), None)
    if not ids:
        raise InputError(f"{name}: there are no documents to evaluate on", field="sources")
    return DomainLosses(tuple(ids), tuple(domains), joined(parts), left_out)


def shard_domains(
    llm: LLM, shards: Shards, name: str, options: EvaluateOptions, *, progress: Progress | None = None
) -> DomainLosses:
    """The losses of a split of token shards, by the sources of its documents.

    Args:
        llm: the model; its tokenizer must be that of the shards.
        shards: of `tokenize`.
        name: of the domain of documents that name no source.
        options: of the evaluation: the split among them.
        progress: called with windows done and in all.

    Returns:
        The losses, in the order of the documents.

    Raises:
        InputError: the tokenizers differ, or the split is not there or empty; as `shard_losses`.
    """
    if _tokenizer(llm).sha256 != shards.tokenizer_sha256:
        message = "the shards were made by another tokenizer than the checkpoint's: evaluate on their documents"
        raise InputError(message, path=shards.folder, field="tokenizer_sha256")
    losses = shard_losses(
        llm.model,
        shards,
        split=options.split,
        max_documents=options.max_documents,
        stride=options.stride,
        batch_tokens=options.batch_tokens,
        progress=progress,
    )
    ids: list[str] = []
    domains: list[str] = []
    for shard in shards.splits[options.split]:
        table = shard.documents()
        ids.extend(str(value) for value in table.column("id").to_pylist())
        domains.extend(str(value) if value else name for value in table.column("source").to_pylist())
    if not ids:
        raise InputError(f"the split {options.split!r} has no documents", path=shards.folder, field="split")
    kept = len(losses)
    return DomainLosses(tuple(ids[:kept]), tuple(domains[:kept]), losses, len(ids) - kept)


def domain_results(found: DomainLosses, options: EvaluateOptions) -> list[DomainResult]:
    """The results of each domain, in the order of their first documents.

    Args:
        found: losses of documents.
        options: of the intervals.

    Returns:
        One result a domain.
    """
    names = np.array(found.domains)
    return [_result(name, found.losses.take(names == name), options) for name in dict.fromkeys(found.domains)]


def joined(parts: list[DocumentLosses]) -> DocumentLosses:
    """The losses of several parts, one behind the other."""
    return DocumentLosses(
        np.concatenate([part.nats for part in parts]),
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.num_bytes for part in parts]),
        np.concatenate([part.windows for part in parts]),
    )


def _result(name: str, losses: DocumentLosses, options: EvaluateOptions) -> DomainResult:
    of_interval: dict[str, Any] = {
        "resamples": options.resamples,
        "confidence": options.confidence,
        "seed": options.seed,
    }
    return DomainResult(
        domain=name,
        documents=len(losses),
        tokens=int(losses.tokens.sum()),
        num_bytes=int(losses.num_bytes.sum()),
        nats_per_token=losses.nats_per_token,
        perplexity=bootstrap(losses.totals, perplexity, **of_interval),
        bits_per_byte=bootstrap(losses.totals, bits_per_byte, **of_interval),
        windowed=int((losses.windows > 1).sum()),
    )


def _tokenizer(llm: LLM) -> Any:
    if llm.tokenizer is None:
        raise InputError("texts need the checkpoint's tokenizer, and it has none we can use", path=llm.path)
    return llm.tokenizer


def domain_name(path: Path | str) -> str:
    """A file's or folder's name without its endings, as the domain of what lies in it."""
    name = Path(path).name
    return name.split(".")[0] or name
