"""Recipes: several verbs in one run, described in a TOML file.

`run` parses a recipe (`parse`), checks it as a whole (`graph`), runs the stages whose folders do not already hold what
they would make (`match`), and writes the run's report. `options` turns plain values into a verb's options dataclass.
"""

from __future__ import annotations

from biollm.recipe.graph import VERBS, Node, Source, load_stage, plan
from biollm.recipe.parse import Recipe, StageSpec, parse_recipe, read_recipe
from biollm.recipe.run import RunProgress, RunResult, StageOutcome, run

__all__ = [
    "VERBS",
    "Node",
    "Recipe",
    "RunProgress",
    "RunResult",
    "Source",
    "StageOutcome",
    "StageSpec",
    "load_stage",
    "parse_recipe",
    "plan",
    "read_recipe",
    "run",
]
