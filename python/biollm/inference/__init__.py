"""Generation: a checkpoint and prompts in, completions out.

Importing this package imports no torch; loading a checkpoint does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.inference.completion import Completion, TokenLogprob
    from biollm.inference.completions import Completions, GenerateOptions, generate
    from biollm.inference.llm import LLM
    from biollm.inference.sampling import SamplingOptions
else:
    _HOMES = {
        "Completion": "completion",
        "Completions": "completions",
        "GenerateOptions": "completions",
        "LLM": "llm",
        "SamplingOptions": "sampling",
        "TokenLogprob": "completion",
        "generate": "completions",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = ["Completion", "Completions", "GenerateOptions", "LLM", "SamplingOptions", "TokenLogprob", "generate"]
