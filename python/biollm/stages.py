"""How the recipe runner knows the verbs: each package's `stage.py` holds one `Stage`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biollm.manifest import InputRecord
from biollm.results import Progress, Result

__all__ = ["Stage", "StageContext", "StageInput"]


@dataclass(frozen=True)
class StageInput:
    """One input of a stage.

    Attributes:
        path: a stage's folder, or for kind "files" a path, glob or URL.
        kind: "files", or the kind in the folder's manifest.
        name: as the recipe names it.
        record: what the manifest will say of it; `None` for files, whose reader records each one.
    """

    path: Path | str
    kind: str
    name: str
    record: InputRecord | None = None


@dataclass(frozen=True)
class StageContext:
    """What a stage is given beside its options.

    Attributes:
        folder: to be filled; exists, and is empty but for work in progress (`biollm.partial`).
        inputs: in the order of the recipe.
        progress: to be called now and then; `None` where nobody looks.
        log: a logger below "biollm"; `biollm.telemetry.event` writes structured records to it.
    """

    folder: Path
    inputs: tuple[StageInput, ...]
    progress: Progress | None
    log: logging.Logger

    def paths(self) -> list[Path]:
        """The inputs in order, as `readers.as_documents` takes them (a list of str would be texts)."""
        return [Path(i.path) for i in self.inputs]

    def records(self) -> list[InputRecord] | None:
        """What the manifest says of the inputs; `None` where a reader must record files itself."""
        records = [i.record for i in self.inputs if i.record is not None]
        return records if len(records) == len(self.inputs) else None


@dataclass(frozen=True)
class Stage:
    """A verb as a kind of recipe stage.

    Attributes:
        verb: its name.
        options: a frozen dataclass; its fields are the keys of the stage's table and the command's options.
        takes: kind of input → (least, most or None) how many. "files" is a path, glob or URL.
        gives: the kind of folder it leaves.
        algorithm_version: raised when the same options give another output.
        unmatched_options: those that do not change output (threads, …), left out of the manifest's match.
        run: leaves the folder complete, `summary.json` and then `manifest.json` last.
        fits: what `takes` cannot say: called with the inputs, each (name, kind), and the options before anything runs;
            gives why they do not go together, in words, or `None`.
    """

    verb: str
    options: type
    takes: Mapping[str, tuple[int, int | None]]
    gives: str
    algorithm_version: int
    unmatched_options: frozenset[str]
    run: Callable[[StageContext, Any], Result]
    fits: Callable[[Sequence[tuple[str, str]], Any], str | None] | None = None
