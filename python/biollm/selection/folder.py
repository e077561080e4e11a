"""The folder of a selection, behind its documents: decisions, summary, and the manifest as commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biollm.atomic import write_json
from biollm.document_files import write_parquet

if TYPE_CHECKING:
    from biollm.selection.result import Selection

__all__ = ["finish_folder"]


def finish_folder(selection: Selection, folder: Path, documents: Mapping[str, str]) -> Selection:
    """Writes `decisions.parquet`, `summary.json` and `manifest.json` behind the kept documents.

    Args:
        selection: the result.
        folder: holds the parts of the kept documents.
        documents: their names in the folder → xxh3-128.

    Returns:
        The result with the manifest that was written.

    Raises:
        FileError: the system refused.
    """
    outputs = dict(documents)
    outputs["decisions.parquet"] = write_parquet(folder / "decisions.parquet", selection.decisions())
    outputs["summary.json"] = write_json(folder / "summary.json", selection.summary().to_dict())
    manifest = replace(selection.manifest, outputs=outputs)
    manifest.write(folder)
    return replace(selection, manifest=manifest)
