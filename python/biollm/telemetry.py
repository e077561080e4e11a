"""Structured log records: what happened, to which stage, with plain fields, through the standard `logging`."""

from __future__ import annotations

import logging

from biollm.results import Scalar

__all__ = ["event"]


def event(log: logging.Logger, name: str, message: str, *, level: int = logging.INFO, **fields: Scalar) -> None:
    """Logs one event.

    Args:
        log: a logger below "biollm".
        name: of the event, as "checkpoint" or "resumed": what a reader of the log searches for.
        message: for people.
        level: as in `logging`.
        fields: plain values, kept apart from the message in a run's log.
    """
    log.log(level, "%s", message, extra={"biollm_event": name, "biollm_fields": fields})
