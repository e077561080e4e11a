"""The command line, `biollm`: `app` holds the commands, `verbs` makes those of the verbs, `console` speaks."""

from __future__ import annotations

import os


def main() -> None:
    """Runs the command; typer is imported here and not before."""
    # OpenMP threads (torch's) spin at barriers unless told to sleep: where another process wants the cores, training
    # then takes several times as long. Read when torch is loaded; a value already set stands.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from biollm.cli.app import main as run

    run()
