"""biollm: from raw biomedical documents to an aligned, quantized, served language model.

Verbs are functions (`biollm.dedup(...)`), commands (`biollm dedup ...`) and stages of a recipe (`biollm run`).
Names load on first use: `import biollm` by itself imports no numpy, pyarrow, torch or typer.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.alignment import align
    from biollm.deduplication import DedupResult, dedup
    from biollm.documents import Documents
    from biollm.errors import (
        BiollmError,
        ConfigError,
        FileError,
        FormatError,
        InputError,
        InternalError,
        LimitError,
        MissingExtra,
    )
    from biollm.evaluation import Evaluation, evaluate
    from biollm.inference import LLM, Classifier, Completion, generate
    from biollm.quantization import quantize
    from biollm.readers import read
    from biollm.report import card
    from biollm.selection import Selection, select
    from biollm.tokenization import Shards, Tokenizer, tokenize
    from biollm.training import Checkpoint, train
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "BiollmError": "errors",
        "Checkpoint": "training",
        "Classifier": "inference",
        "Completion": "inference",
        "ConfigError": "errors",
        "DedupResult": "deduplication",
        "Documents": "documents",
        "Evaluation": "evaluation",
        "FileError": "errors",
        "FormatError": "errors",
        "InputError": "errors",
        "InternalError": "errors",
        "LLM": "inference",
        "LimitError": "errors",
        "MissingExtra": "errors",
        "Selection": "selection",
        "Shards": "tokenization",
        "Tokenizer": "tokenization",
        "align": "alignment",
        "card": "report",
        "dedup": "deduplication",
        "evaluate": "evaluation",
        "generate": "inference",
        "quantize": "quantization",
        "read": "readers",
        "select": "selection",
        "tokenize": "tokenization",
        "train": "training",
    }
    __getattr__, __dir__ = lazy_names(__name__, {**_HOMES, "__version__": "_native"})

__version__: str

__all__ = [
    "BiollmError",
    "Checkpoint",
    "Classifier",
    "Completion",
    "ConfigError",
    "DedupResult",
    "Documents",
    "Evaluation",
    "FileError",
    "FormatError",
    "InputError",
    "InternalError",
    "LLM",
    "LimitError",
    "MissingExtra",
    "Selection",
    "Shards",
    "Tokenizer",
    "align",
    "card",
    "dedup",
    "evaluate",
    "generate",
    "quantize",
    "read",
    "select",
    "tokenize",
    "train",
]
