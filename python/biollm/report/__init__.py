"""Reports: one self-contained HTML file about a run or a stage, from what lies in its folders.

`write_report` reads `run.json`, and of each stage `manifest.json` and `summary.json`; it knows no verb and no result.
"""

from __future__ import annotations

from biollm.report.page import write_report

__all__ = ["write_report"]
