"""The command line, `biollm`: `app` holds the commands, `verbs` makes those of the verbs, `console` speaks."""

from __future__ import annotations


def main() -> None:
    """Runs the command; typer is imported here and not before."""
    from biollm.cli.app import main as run

    run()
