"""Reports: one self-contained HTML file about a run or a stage, or about two of them, from what lies in their folders.

`write_report` reads `run.json`, `log.jsonl`, `profile/`, and of each stage `manifest.json` and `summary.json`; it knows
no verb and no result, only the names of a few facts. `compare` holds two folders against each other. `card` writes the
model card of a checkpoint from the manifests of what it was made of.
"""

from __future__ import annotations

from biollm.report.comparison import Comparison
from biollm.report.comparison_page import compare
from biollm.report.model_card import card
from biollm.report.page import write_report

__all__ = ["Comparison", "card", "compare", "write_report"]
