"""Alignment of a chat model to preference pairs: direct preference optimization, and proximal policy optimization.

Importing this package imports no torch; `align` does when it is first used, and `dpo` needs trl as well.
The verb's module is called `aligning`: one called `align` would hide the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.alignment.aligning import align
    from biollm.alignment.corpus import SafetyCorpus
    from biollm.alignment.lexicon import Lexicon
    from biollm.alignment.options import AlignOptions
    from biollm.alignment.preferences import Preference, Preferences, Turn, read_preferences
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "AlignOptions": "options",
        "Lexicon": "lexicon",
        "Preference": "preferences",
        "Preferences": "preferences",
        "SafetyCorpus": "corpus",
        "Turn": "preferences",
        "align": "aligning",
        "read_preferences": "preferences",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES, torch={"aligning"})


__all__ = [
    "AlignOptions",
    "Lexicon",
    "Preference",
    "Preferences",
    "SafetyCorpus",
    "Turn",
    "align",
    "read_preferences",
]
