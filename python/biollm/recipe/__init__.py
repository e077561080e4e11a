"""Recipes: several verbs in one run, described in a TOML file.

`run` parses a recipe (`parse`), checks it as a whole (`graph`), runs the stages whose folders do not already hold what
they would make (`match`), and writes the run's report and log. `dry_run` says what that would do and take. `options`
turns plain values into a verb's options dataclass.
"""

from __future__ import annotations

from biollm.recipe.estimate import Estimate
from biollm.recipe.forecast import DryRun, PlannedStage, dry_run
from biollm.recipe.graph import VERBS, Node, Source, load_stage, plan
from biollm.recipe.parse import Recipe, StageSpec, parse_recipe, read_recipe
from biollm.recipe.run import RunProgress, RunResult, StageOutcome, run
from biollm.recipe.volumes import Volume

__all__ = [
    "VERBS",
    "DryRun",
    "Estimate",
    "Node",
    "PlannedStage",
    "Recipe",
    "RunProgress",
    "RunResult",
    "Source",
    "StageOutcome",
    "StageSpec",
    "Volume",
    "dry_run",
    "load_stage",
    "parse_recipe",
    "plan",
    "read_recipe",
    "run",
]
