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

    def __getattr__(name):
        from importlib import import_module

        if name not in _HOMES:
            raise AttributeError(f"module 'biollm.selection' has no attribute {name!r}")
        value = getattr(import_module(f"biollm.selection.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


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
