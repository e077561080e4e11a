"""Document filters: statistics measured once for each document, and rules that are thresholds over them.

`select` measures and decides; its result is a `Selection`. `PRESETS` holds the rules by name.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.selection.result import Decision, Failure, Selection
    from biollm.selection.rules import GOPHER_QUALITY, GOPHER_REPETITION, PRESETS, Rule
    from biollm.selection.selecting import select
    from biollm.selection.statistics import STATISTICS, Statistic
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "Decision": "result",
        "Failure": "result",
        "GOPHER_QUALITY": "rules",
        "GOPHER_REPETITION": "rules",
        "PRESETS": "rules",
        "Rule": "rules",
        "STATISTICS": "statistics",
        "Selection": "result",
        "Statistic": "statistics",
        "select": "selecting",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)


__all__ = [
    "Decision",
    "Failure",
    "GOPHER_QUALITY",
    "GOPHER_REPETITION",
    "PRESETS",
    "Rule",
    "STATISTICS",
    "Selection",
    "Statistic",
    "select",
]
