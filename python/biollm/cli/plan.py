"""The plan of a run in words, for `biollm run --dry-run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from biollm.recipe import DryRun, PlannedStage

_UNKNOWN: Final = "?"


def plan_text(plan: DryRun) -> str:
    """A table of the stages, what the figures rest on, and whether disk and memory suffice."""
    from biollm.report.markup import seconds

    rows = [("stage", "", "input", "output", "memory", "time")]
    for stage in plan.stages:
        working = stage.action in ("runs", "goes on")
        guess = stage.estimate
        cells = (size(guess.memory_bytes), seconds(guess.wall_s) if guess.wall_s is not None else _UNKNOWN)
        output = size(guess.gives.size_bytes) if working or guess.gives.size_bytes else ""
        rows.append(
            (stage.name, _action(stage), size(stage.takes.size_bytes), output, *(cells if working else ("", "")))
        )
    wall = seconds(plan.wall_s) if plan.wall_s is not None else _UNKNOWN
    rows.append(("total", "", "", size(plan.disk_bytes), size(plan.memory_bytes), wall))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join(_cell(row[i], widths[i], i) for i in range(6)).rstrip() for row in rows]
    lines += ["", *_reasons(plan)]
    lines.append(_room("disk", plan.disk_bytes, plan.disk_free_bytes, plan.disk_suffices))
    lines.append(_room("memory", plan.memory_bytes, plan.memory_free_bytes, plan.memory_suffices))
    return "\n".join(lines)


def size(value: float | None) -> str:
    """Bytes for people: 12 kB, 3.4 MB; a question mark for what is unknown."""
    if value is None:
        return _UNKNOWN
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 999.5 * scale else f"{value / scale:,.0f} {unit}"
    return f"{value:.0f} B"


def _action(stage: PlannedStage) -> str:
    return f"{stage.action} (from {stage.reached:,})" if stage.reached else stage.action


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < 2 else text.rjust(width)


def _reasons(plan: DryRun) -> list[str]:
    """Why each stage runs, and what its figures rest on; a basis that several share is said once."""
    lines = [f"{stage.name}: {stage.reason}" for stage in plan.stages if stage.reason]
    shared: dict[str, list[str]] = {}
    for stage in plan.stages:
        if stage.estimate.basis:
            shared.setdefault(stage.estimate.basis, []).append(stage.name)
    lines += [f"times of {', '.join(names)}: {basis}" for basis, names in shared.items()]
    return lines


def _room(what: str, need: float | None, free: float, suffices: bool | None) -> str:
    if suffices is None:
        return f"{what}: what is needed is not known; {size(free)} free"
    verdict = "enough" if suffices else f"NOT ENOUGH: {size((need or 0.0) - free)} are missing"
    return f"{what}: {size(need)} needed, {size(free)} free: {verdict}"
