"""`tokenize`: documents in, token shards out. The split is made here; a vocabulary is trained on its train side."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from biollm import _native
from biollm.atomic import write_json
from biollm.document_files import begin_folder
from biollm.errors import BiollmError, ConfigError, InputError
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.partial import FOLDER_NAME, Partial, open_partial, reporting, work_key
from biollm.tokenization.options import ALGORITHM_VERSION, DEFAULT_PATTERN, DEFAULT_SHARD_TOKENS, TokenizeOptions
from biollm.tokenization.shard_writer import ShardWriter
from biollm.tokenization.shards import INDEX_NAME, SUFFIXES, Shards
from biollm.tokenization.side_vocabulary import SideVocabulary
from biollm.tokenization.sides import SPLITS, Sides
from biollm.tokenization.summary import TokenStatistics
from biollm.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

    from biollm.results import Progress

__all__ = ["tokenize", "tokenize_source"]

_LEFTOVERS: Final = re.compile(
    r"\..*\.tmp|(train|validation)-\d+\.(tokens|offsets|documents\.parquet)|shards\.json|summary\.json"
)
_LEFTOVERS_WITH_TOKENIZER: Final = re.compile(rf"{_LEFTOVERS.pattern}|tokenizer(_config)?\.json")
LOG: Final = logging.getLogger("biollm.tokenize")


def tokenize(
    source: Any,
    *,
    tokenizer: Tokenizer | str | os.PathLike[str] | None = None,
    vocab_size: int | None = None,
    min_frequency: int = 2,
    pattern: str = DEFAULT_PATTERN,
    validation_fraction: float = 0.02,
    group: str | None = None,
    append_eos: bool = True,
    seed: int = 0,
    shard_tokens: int = DEFAULT_SHARD_TOKENS,
    text: str | Sequence[str] = "text",
    id: str | None = None,  # noqa: A002
    max_document_bytes: int | None = None,
    output: str | os.PathLike[str],
    threads: int | None = None,
    progress: Progress | None = None,
) -> Shards:
    """Write documents as token shards (format: `biollm.tokenization.shards`), with their tokenizer beside them.

    Exactly one of `tokenizer` and `vocab_size` is given. A document goes to the validation split by the hash of its
    group, so documents of one group are never on both sides; a vocabulary is trained on the train side only, which
    reads the documents twice. The result does not depend on the number of threads.

    Args:
        source: documents as any verb takes them: list of str, Arrow, polars, pandas, `Documents`, paths, globs, URLs.
        tokenizer: a `Tokenizer`, a `tokenizer.json`, a folder that holds one, or a `.tiktoken` file.
        vocab_size: trains a vocabulary of this many ids, special tokens and the 256 bytes among them.
        min_frequency: with `vocab_size`: a pair that occurs less often is not merged.
        pattern: with `vocab_size`: split pattern of the vocabulary, "llama3", "gpt2" or "o200k".
        validation_fraction: share of the groups that go to the validation split, in [0, 1).
        group: column whose documents stay on one side; by default `cluster_id` where there is one, else `id`. A
            document without a group (null) is one by itself.
        append_eos: ends each document with the EOS id.
        seed: draws the split.
        shard_tokens: a shard is closed by the document that reaches this many tokens.
        text: column of the text, or several joined by a blank line.
        id: column of the ids; without one a document is known by its file and row number.
        max_document_bytes: longest document, UTF-8; `None` is 256 MiB.
        output: the folder of the shards. Where a run with these arguments was cut off there, and the source is of
            files, this one goes on from it.
        threads: worker threads; `None` is the cores this process may use.
        progress: called with the documents done in each pass.

    Returns:
        The shards that were written, opened.

    Raises:
        ConfigError: an option makes no sense. InputError: the source cannot be used, is read only once but needed
            twice, has no text for training, or allows fewer ids than `vocab_size`.
        FormatError: the tokenizer cannot be honoured. LimitError: a document is too long (`row`).
        FileError: a file cannot be read or written.
    """
    columns = text if isinstance(text, str) else tuple(text)
    loaded = tokenizer if isinstance(tokenizer, Tokenizer) else None
    named = f"sha256:{loaded.sha256}" if loaded else None if tokenizer is None else os.fspath(tokenizer)  # type: ignore[arg-type]
    options = TokenizeOptions(
        tokenizer=named,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        pattern=pattern,
        validation_fraction=validation_fraction,
        group=group,
        append_eos=append_eos,
        seed=seed,
        shard_tokens=shard_tokens,
        text=columns,
        id=id,
        max_document_bytes=max_document_bytes,
        threads=threads,
    )
    return tokenize_source(source, options, tokenizer=loaded, output=output, progress=progress)


def tokenize_source(
    source: Any,
    options: TokenizeOptions,
    *,
    output: str | os.PathLike[str],
    tokenizer: Tokenizer | None = None,
    inputs: Sequence[InputRecord] | None = None,
    progress: Progress | None = None,
    log: logging.Logger = LOG,
) -> Shards:
    """`tokenize` with its options in one piece: what the function and the stage share.

    Args:
        source: as in `tokenize`.
        options: checked ones.
        output: as in `tokenize`.
        tokenizer: a loaded one, in place of the options'.
        inputs: what the manifest says of the inputs; without them, what the documents know.
        progress: as in `tokenize`.
        log: told of an interrupted run that this one goes on from.
    """
    from biollm.readers import as_documents
    from biollm.readers.identities import source_identities

    timer = StageTimer()
    documents = as_documents(source, text=options.text, id=options.id)
    sides = Sides(documents.schema, options)
    if options.vocab_size is not None and documents.one_shot:
        message = f"{documents.description} can be read only once, and training a vocabulary is a pass of its own"
        raise InputError(f"{message}: call .materialize() first, or give a tokenizer", field="source")
    if tokenizer is None and options.tokenizer is not None:
        tokenizer = Tokenizer.from_file(options.tokenizer)
    if tokenizer is not None:
        # Ids are those of the file that the folder will hold, whatever the tokenizer was read from.
        tokenizer = Tokenizer.from_json(tokenizer.to_json(), eos=tokenizer.eos_token, pad=tokenizer.pad_token)
        _check_eos(tokenizer, options)
    folder = begin_folder(output, source, verb="tokenize", leftovers=_leftovers(output))
    special = None if tokenizer is None else [tokenizer.eos_token, tokenizer.pad_token]
    key = {**options.matched(), "special": special}
    unfinished = open_partial(folder, work_key("tokenize", ALGORITHM_VERSION, key, source_identities(source)))
    earlier = 0  # documents of the pass that trains
    resumed = unfinished is not None and unfinished.resumed
    if tokenizer is None:
        vocabulary = SideVocabulary(options, unfinished, progress)
        if unfinished is not None and resumed and vocabulary.tokenizer is None:
            unfinished.resume(vocabulary.documents, "documents", log)
            resumed = False
        tokenizer = vocabulary.train(documents, sides)
        earlier = vocabulary.documents
    with ShardWriter(
        folder,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        append_eos=options.append_eos,
        tokenizer_sha256=tokenizer.sha256,
        splits=SPLITS,
        shard_tokens=options.shard_tokens,
        partial=unfinished,
    ) as writer:
        encoder = _Encoder(writer, tokenizer, options, unfinished, progress, earlier)
        statistics = encoder.statistics
        if unfinished is not None and resumed:
            unfinished.resume(earlier + statistics.all_documents, "documents", log)
        for block, held_out in sides.blocks(documents):
            for split, rows in zip(SPLITS, (~held_out, held_out), strict=True):
                encoder.add(split, block.filter(rows))
        if statistics.tokens("train") == 0:
            empty = f"{documents.description} holds no documents, or only empty ones, or all are on the validation side"
            message = f"no token is left for training: {empty}"
            raise InputError(message, field="source")
        outputs = tokenizer.save(folder)
    outputs |= writer.outputs
    summary = statistics.summary(trained=options.vocab_size is not None)
    outputs["summary.json"] = write_json(folder / "summary.json", summary.to_dict())
    manifest = Manifest(
        verb="tokenize",
        kind="shards",
        algorithm_version=ALGORITHM_VERSION,
        options=options.matched(),
        inputs=tuple(inputs if inputs is not None else documents.inputs),
        counts={"documents_in": statistics.all_documents, **statistics.counts()},
        outputs={**outputs, INDEX_NAME: _native.hash_file(folder / INDEX_NAME)},
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
        resumptions=unfinished.resumptions if unfinished is not None else (),
    )
    manifest.write(folder)
    if unfinished is not None:
        unfinished.discard()
    return writer.shards


def _leftovers(output: str | os.PathLike[str]) -> re.Pattern[str]:
    """What an interrupted run may have left in the folder: its tokenizer too, but a lone one is somebody's own."""
    folder = Path(output)
    ours = (folder / FOLDER_NAME).is_dir() or any(folder.glob(f"*{SUFFIXES['tokens']}*"))
    return _LEFTOVERS_WITH_TOKENIZER if ours else _LEFTOVERS


def _check_eos(tokenizer: Tokenizer, options: TokenizeOptions) -> None:
    if options.append_eos and tokenizer.eos_id is None:
        message = "the tokenizer has no EOS token: name it in the tokenizer_config.json beside it, or append_eos=False"
        raise ConfigError(message, field="append_eos")


class _Encoder:
    """Encodes documents into shards; those in shards that an earlier run finished go by."""

    def __init__(
        self,
        writer: ShardWriter,
        tokenizer: Tokenizer,
        options: TokenizeOptions,
        partial: Partial | None,
        progress: Progress | None,
        earlier: int,
    ) -> None:
        self.statistics = TokenStatistics(tokenizer, SPLITS)
        self._writer = writer
        self._tokenizer = tokenizer
        self._options = options
        self._partial = partial
        self._progress = progress
        self._earlier = earlier
        self._finished = {split: writer.finished_documents(split) for split in SPLITS}
        for split in SPLITS:
            for shard in writer.finished_shards(split):
                self.statistics.add_shard(shard)

    def add(self, split: str, block: pa.Table) -> None:
        """Takes `block`, the next documents of `split`."""
        import pyarrow.compute as pc

        passed = min(len(block), self._finished[split])
        self._finished[split] -= passed
        block = block.slice(passed)
        if len(block) == 0:
            return
        try:
            encoded = self._tokenizer.encode_batch(
                block.column("text"),
                add_special=False,
                append_eos=self._options.append_eos,
                max_document_bytes=self._options.max_document_bytes,
                threads=self._options.threads,
                progress=reporting(self._partial, self._progress, self.statistics.all_documents, earlier=self._earlier),
            )
        except BiollmError as error:
            raise _by_id(error, block) from None
        num_bytes = pc.binary_length(block.column("text")).to_numpy()
        self._writer.add(
            split,
            encoded.ids,
            encoded.offsets,
            ids=block.column("id"),
            sources=_sources(block),
            num_bytes=num_bytes,
        )
        self.statistics.add(split, encoded.ids, encoded.offsets, num_bytes)


def _by_id(error: BiollmError, block: pa.Table) -> BiollmError:
    """The error with the document's id: row numbers of a block say nothing to the caller."""
    if error.row is None:
        return error
    name = block.column("id")[error.row].as_py()
    message = error.message.replace(f"row {error.row}", f"document {name!r}")
    attributes = {key: value for key, value in error._attributes().items() if key != "row"}
    return type(error)(message, **attributes)


def _sources(block: pa.Table) -> pa.ChunkedArray | None:
    import pyarrow as pa

    if "source" not in block.column_names:
        return None
    try:
        return block.column("source").cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
