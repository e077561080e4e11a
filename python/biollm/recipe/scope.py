"""Which stages of a recipe a run is about: all of them, those from one on, or one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from biollm.errors import ConfigError
from biollm.recipe.folder import is_finished
from biollm.recipe.graph import Node
from biollm.recipe.options import nearest

Place = Literal["usual", "above", "named", "left"]
"""Where a stage stands: "usual" runs where it does not match, "above" is taken as it stands, "named" runs even where it
matches, "left" does not run."""


@dataclass(frozen=True)
class Scope:
    """What `--from` or `--only` asked for.

    Attributes:
        named: position of the stage they name; `None` where neither was given.
        only: whether nothing below it runs.
    """

    named: int | None = None
    only: bool = False

    def place(self, position: int) -> Place:
        """Where the stage at a position stands."""
        if self.named is None:
            return "usual"
        if position == self.named:
            return "named"
        if position < self.named:
            return "above"
        return "left" if self.only else "usual"

    @property
    def option(self) -> str:
        """As the command line has it."""
        return "--only" if self.only else "--from"


def make_scope(nodes: Sequence[Node], from_: str | None, only: str | None) -> Scope:
    """The scope for stage names; at most one of `from_` and `only` is given.

    Raises:
        ConfigError: both are given, or no stage has the name.
    """
    if from_ is not None and only is not None:
        message = f"--from {from_} and --only {only} exclude each other: give one of them"
        raise ConfigError(message, field="only", value=only)
    name = only if only is not None else from_
    if name is None:
        return Scope()
    names = [node.name for node in nodes]
    if name not in names:
        option = "only" if only is not None else "from"
        message = f"--{option} {name}: the recipe has no such stage{nearest(name, names)}"
        raise ConfigError(message, field=option, value=name)
    return Scope(names.index(name), only is not None)


def require_finished(nodes: Sequence[Node], scope: Scope, folder: Path) -> None:
    """Refuses to begin where a stage that is to be taken as it stands has not finished.

    With `--from` these are all stages above; with `--only` those that the stage takes as inputs.

    Raises:
        ConfigError: naming the first such stage and what to run.
    """
    if scope.named is None:
        return
    named = nodes[scope.named]
    taken = {source.stage for source in named.sources}
    for node in nodes[: scope.named]:
        if (not scope.only or node.name in taken) and not is_finished(folder / node.name):
            message = (
                f"{scope.option} {named.name} takes the stages above as they stand, but {node.name!r} is not finished "
                f"in {folder}: run the recipe with --from {node.name}, or without {scope.option}"
            )
            raise ConfigError(message, path=folder / node.name, field=scope.option[2:], value=named.name)
