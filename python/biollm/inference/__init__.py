"""Generation: a checkpoint and prompts in, completions out.

Importing this package imports no torch; loading a checkpoint does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.inference.classifier import Classification, Classifier
    from biollm.inference.completion import Completion, TokenLogprob
    from biollm.inference.completions import Completions, GenerateOptions, generate
    from biollm.inference.likelihood import Likelihood
    from biollm.inference.llm import LLM
    from biollm.inference.sampling import SamplingOptions
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "Classification": "classifier",
        "Classifier": "classifier",
        "Completion": "completion",
        "Completions": "completions",
        "GenerateOptions": "completions",
        "LLM": "llm",
        "Likelihood": "likelihood",
        "SamplingOptions": "sampling",
        "TokenLogprob": "completion",
        "generate": "completions",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES, torch={"classifier", "llm"})


__all__ = [
    "LLM",
    "Classification",
    "Classifier",
    "Completion",
    "Completions",
    "GenerateOptions",
    "Likelihood",
    "SamplingOptions",
    "TokenLogprob",
    "generate",
]
