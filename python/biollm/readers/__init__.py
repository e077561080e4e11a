"""Readers: files, Arrow objects and lists as one stream of documents.

`as_documents` is the one coercion that every verb applies to its source; `read` is the verb, which also counts what it
reads and can leave it as a folder of Parquet files.
"""

from biollm.readers.coercion import as_documents
from biollm.readers.options import ReadOptions
from biollm.readers.reading import ReadResult, read
from biollm.readers.source import Rejected

__all__ = ["ReadOptions", "ReadResult", "Rejected", "as_documents", "read"]
