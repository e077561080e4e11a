"""The demo's corpus: abstracts of invented studies, with near-duplicates, boilerplate and noise planted among them, and
what the stages behind pretraining need (`conversations`).

A pure function of (size, seed): the same bytes on every Python and platform. Identifiers are hashes and the order is
shuffled, so nothing a stage reads tells what was planted. Not meant as training data: every finding is invented.
"""

import gzip
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from biollm import _native
from biollm.atomic import make_folder, write_bytes
from biollm.demo.abstracts import write_abstract
from biollm.demo.conversations import Amounts, generate_rows, write_rows
from biollm.demo.defects import BOILERPLATE, NOISE
from biollm.demo.edits import Band, hard_negative, near_duplicate
from biollm.demo.rng import Rng, mix
from biollm.demo.truth import SimilarPair, shingles, similar_pairs
from biollm.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

CORPUS_VERSION = 2
"""Raised when the bytes of a sample change."""

_METADATA = "biollm_demo"

NEAR = 0.5
"""The truth lists every pair of at least this similarity."""


@dataclass(frozen=True)
class Size:
    """How much is planted: originals, those of them with copies, companions, documents of each defect; and how much
    there is for the stages behind pretraining.
    """

    abstracts: int
    families: int
    hard_negatives: int
    of_each_defect: int
    files: int
    beyond: Amounts


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(
            abstracts=700,
            families=150,
            hard_negatives=40,
            of_each_defect=9,
            files=3,
            beyond=Amounts(conversations=400, abstracts=20, pairs=160, prompts=24, harmless=32, questions=40),
        ),
        "small": Size(
            abstracts=4600,
            families=960,
            hard_negatives=260,
            of_each_defect=55,
            files=4,
            beyond=Amounts(conversations=3600, abstracts=600, pairs=1500, prompts=192, harmless=150, questions=200),
        ),
    }
)

SOURCES = ("journals", "preprints", "repository", "crawl")

COPIES = ((1, 50), (2, 25), (3, 12), (4, 7), (6, 4), (8, 2))
"""(copies of an original, weight)."""

BANDS = (
    (Band(1.0, 1.1), 20),
    (Band(0.95, 1.0), 16),
    (Band(0.90, 0.95), 16),
    (Band(0.85, 0.90), 16),
    (Band(0.80, 0.85), 16),
    (Band(0.75, 0.80), 6),
    (Band(0.65, 0.75), 5),
    (Band(0.55, 0.65), 5),
)
"""(similarity of a copy to its original, weight)."""

HARD_NEGATIVES = (Band(0.60, 0.65), Band(0.65, 0.70), Band(0.70, 0.75))


@dataclass(frozen=True)
class Document:
    """One row of the sample, and what it truly is.

    `kind` is abstract, near_duplicate, hard_negative, boilerplate or noise; `how` is the edit of a copy or the name of
    a defect; `original` is the id of the abstract a copy was made from, its own id for an abstract with copies, else
    None; `jaccard` is measured against that original.
    """

    id: str
    text: str
    source: str
    year: int
    kind: str
    how: str | None = None
    original: str | None = None
    jaccard: float | None = None


def generate(size: str = "small", seed: int = 0) -> list[Document]:
    """The documents of a sample, in the order of its files.

    Raises ConfigError for a size that does not exist.
    """
    if size not in SIZES:
        raise ConfigError(f"size must be one of {', '.join(SIZES)}, not {size!r}")
    plan = SIZES[size]
    documents: list[Document] = []

    def add(text: str, year: int, kind: str, how: str | None = None) -> Document:
        rng = Rng(seed, "row", len(documents))
        row = Document(f"{mix(rng.bits()):016x}"[:12], text, rng.choice(SOURCES), year, kind, how)
        documents.append(row)
        return row

    for index in range(plan.abstracts):
        abstract = write_abstract(seed, index)
        original = len(documents)
        add(abstract.text(), abstract.year, "abstract")
        rng = Rng(seed, "family", index)
        copies = []
        if index < plan.families:
            copies = [near_duplicate(abstract, rng.weighted(BANDS), rng) for _ in range(rng.weighted(COPIES))]
        for copy in copies:
            row = add(copy.text, abstract.year, "near_duplicate", copy.edit)
            documents[-1] = replace(row, original=documents[original].id, jaccard=copy.jaccard)
        companion = None
        if plan.families // 2 <= index < plan.families // 2 + plan.hard_negatives:
            companion = hard_negative(seed, index, abstract, rng.choice(HARD_NEGATIVES), rng)
        if companion is not None:
            row = add(companion.text, abstract.year, "hard_negative", companion.edit)
            documents[-1] = replace(row, original=documents[original].id, jaccard=companion.jaccard)
        if copies or companion is not None:
            documents[original] = replace(documents[original], original=documents[original].id)

    for kind, makers in (("boilerplate", BOILERPLATE), ("noise", NOISE)):
        for make in makers:
            for index in range(plan.of_each_defect):
                rng = Rng(seed, make.__name__, index)
                add(make(rng), rng.between(1996, 2025), kind, make.__name__)

    Rng(seed, "order").shuffle(documents)
    return documents


def measured_pairs(documents: Iterable[Document]) -> list[SimilarPair]:
    """All pairs of rows with Jaccard >= NEAR, planted or by accident."""
    return similar_pairs([shingles(document.text) for document in documents], NEAR)


def sample_files(documents: list[Document], files: int) -> list[bytes]:
    """The rows as JSON lines (id, text, source, year), in consecutive parts, not compressed."""
    per_file = -(-len(documents) // files)
    parts = []
    for start in range(0, len(documents), per_file):
        rows = documents[start : start + per_file]
        lines = [json.dumps({"id": d.id, "text": d.text, "source": d.source, "year": d.year}) + "\n" for d in rows]
        parts.append("".join(lines).encode())
    return parts


def truth_table(documents: list[Document], pairs: list[SimilarPair]) -> "pa.Table":
    """The truth, a row a document.

    Columns id, kind, how, original, jaccard as in Document, and `pairs`: every document later in the sample of at
    least NEAR similarity (id, jaccard, planted: both made from one original).
    """
    import pyarrow as pa

    partners: list[list[dict[str, object]]] = [[] for _ in documents]
    for pair in pairs:
        a, b = documents[pair.a], documents[pair.b]
        planted = a.original is not None and a.original == b.original
        partners[pair.a].append({"id": b.id, "jaccard": pair.jaccard, "planted": planted})
    partner = pa.struct([("id", pa.large_string()), ("jaccard", pa.float64()), ("planted", pa.bool_())])
    return pa.table(
        {
            "id": pa.array([d.id for d in documents], pa.large_string()),
            "kind": pa.array([d.kind for d in documents], pa.large_string()),
            "how": pa.array([d.how for d in documents], pa.large_string()),
            "original": pa.array([d.original for d in documents], pa.large_string()),
            "jaccard": pa.array([d.jaccard for d in documents], pa.float64()),
            "pairs": pa.array(partners, pa.list_(partner)),
        }
    )


def write_sample(folder: Path, size: str = "small", seed: int = 0) -> None:
    """Writes `part-N.jsonl.gz`, the files of `conversations` and `truth.parquet` into `folder`, each atomically, the
    truth last.

    Raises ConfigError for a size that does not exist, FileError where the folder cannot be written.
    """
    import pyarrow.parquet as pq

    documents = generate(size, seed)
    make_folder(folder)
    hashes = {}
    for number, part in enumerate(sample_files(documents, SIZES[size].files)):
        name = f"part-{number}.jsonl.gz"
        hashes[name] = write_bytes(folder / name, gzip.compress(part, compresslevel=6, mtime=0))
    abstracts = (document.text for document in documents if document.kind == "abstract")
    hashes |= write_rows(folder, generate_rows(abstracts, SIZES[size].beyond, seed))
    table = truth_table(documents, measured_pairs(documents))
    made = {"version": CORPUS_VERSION, "size": size, "seed": seed, "xxh3_128": hashes}
    table = table.replace_schema_metadata({_METADATA: json.dumps(made)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_bytes(folder / "truth.parquet", buffer.getvalue())


def sample_is_written(folder: Path, size: str = "small", seed: int = 0) -> bool:
    """Whether `folder` holds the whole sample of this size and seed, as this version writes it, unchanged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(folder / "truth.parquet").metadata or {}
        made = json.loads(metadata.get(_METADATA.encode(), b"{}"))
        wanted = {"version": CORPUS_VERSION, "size": size, "seed": seed, "xxh3_128": made.get("xxh3_128")}
        files = (path for pattern in ("*.jsonl.gz", "*.jsonl") for path in folder.glob(pattern))
        hashes = {path.name: _native.hash_file(path) for path in files}
        return bool(hashes) and made == wanted and made["xxh3_128"] == hashes
    except (OSError, ValueError, pa.ArrowException):
        return False
