"""Evaluation: how well a checkpoint predicts held-out text and answers questions, with intervals.

Importing this package imports neither numpy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biollm.evaluation.losses import DocumentLosses, document_losses, shard_losses, text_losses, token_bytes
    from biollm.evaluation.resampling import Interval, bits_per_byte, bootstrap, paired_bootstrap, perplexity
else:
    from biollm.lazy import lazy_names

    _HOMES = {
        "DocumentLosses": "losses",
        "Interval": "resampling",
        "bits_per_byte": "resampling",
        "bootstrap": "resampling",
        "document_losses": "losses",
        "paired_bootstrap": "resampling",
        "perplexity": "resampling",
        "shard_losses": "losses",
        "text_losses": "losses",
        "token_bytes": "losses",
    }
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)


__all__ = [
    "DocumentLosses",
    "Interval",
    "bits_per_byte",
    "bootstrap",
    "document_losses",
    "paired_bootstrap",
    "perplexity",
    "shard_losses",
    "text_losses",
    "token_bytes",
]
