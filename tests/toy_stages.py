"""Small verbs for the tests of the recipe runner: real stages in all but their work."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from biollm.atomic import write_bytes, write_json
from biollm.manifest import InputRecord, Manifest, Resumption, StageTimer
from biollm.partial import open_partial, work_key
from biollm.results import Sample, Series, Summary, Table
from biollm.stages import Stage, StageContext
from biollm.telemetry import event


@dataclass(frozen=True)
class GatherOptions:
    """Options of `gather`.

    prefix: put before every line.
    weight: a number; limits, tail: others of
        no meaning.
    threads: changes nothing.
    """

    prefix: str = ""
    weight: float = 0.5
    limits: tuple[int, ...] = ()
    tail: str | tuple[str, ...] = "end"
    fail: str = ""
    threads: int | None = None


@dataclass(frozen=True)
class TrainOptions:
    """Options of `fit`.

    steps: how many.
    mode: how.
    fail_at: the step that fails.
    """

    steps: int
    mode: str = "fast"
    fail_at: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            from biollm.errors import ConfigError

            raise ConfigError("steps must be 1 or more", field="steps", value=self.steps)


class ToyResult:
    def __init__(self, manifest: Manifest, summary: Summary) -> None:
        self.manifest = manifest
        self._summary = summary

    def summary(self) -> Summary:
        return self._summary

    def write(self, path: Any, /) -> None:
        raise AssertionError("the runner does not write results")


def example_summary(title: str) -> Summary:
    steps = tuple(range(0, 1000, 2))
    return Summary(
        title,
        facts={"documents": 1234, "share": 0.25, "nothing": None},
        tables=(Table("Words <by> count", ("word", "count"), (("a & b", 3), ("<script>alert(1)</script>", 2))),),
        series=(
            Series("Loss", "step", "nats", steps, tuple(5 / (s + 1) for s in steps), name="train"),
            Series("Loss", "step", "nats", (0, 500, 998), (6.0, 2.0, 1.0), name="validation"),
            Series("Cluster sizes", "documents", "clusters", (1, 2, 3, 9), (9000.0, 40.0, 3.0, 1.0), kind="bar"),
            Series("Reasons", "reason", "documents", ("too short", "<b>bold</b>"), (7.0, 1.0), kind="bar"),
        ),
        samples=(Sample("A text", "line one\n</pre><img src=x onerror=alert(1)>\u202e\x00"),),
    )


def _leave(
    stage: Stage,
    context: StageContext,
    options: Any,
    data: bytes,
    timer: StageTimer,
    resumptions: tuple[Resumption, ...] = (),
) -> ToyResult:
    summary = example_summary(stage.verb)
    outputs = {
        "data.json": write_bytes(context.folder / "data.json", data),
        "summary.json": write_json(context.folder / "summary.json", summary.to_dict()),
    }
    matched = {k: v for k, v in asdict(options).items() if k not in stage.unmatched_options}
    manifest = Manifest(
        stage.verb,
        stage.gives,
        stage.algorithm_version,
        matched,
        tuple(i.record or InputRecord.of_file(i.path) for i in context.inputs),
        {"lines_in": 3, "lines_out": data.count(b"\n")},
        outputs,
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
        resumptions=resumptions,
    )
    manifest.write(context.folder)
    return ToyResult(manifest, summary)


def _gather(context: StageContext, options: GatherOptions) -> ToyResult:
    timer = StageTimer()
    assert {path.name for path in context.folder.iterdir()} <= {".partial"}
    (context.folder / "part.json").write_text("half done")
    if options.fail == "interrupt":
        raise KeyboardInterrupt
    if options.fail:
        from biollm.errors import InputError

        raise InputError(options.fail, row=3)
    (context.folder / "part.json").unlink()
    if context.progress is not None:
        context.progress(1, 2)
        context.progress(2, 2)
    lines: list[str] = []
    for source in context.inputs:
        path = context.folder.__class__(source.path)
        file = path / "data.json" if path.is_dir() else path
        lines += [f"{options.prefix}{line}\n" for line in file.read_text().splitlines()]
    return _leave(GATHER, context, options, "".join(lines).encode(), timer)


def _fit(context: StageContext, options: TrainOptions) -> ToyResult:
    """Keeps every second step, so that a run that was cut off after an odd one repeats one."""
    timer = StageTimer()
    matched = {"steps": options.steps, "mode": options.mode}
    identities = [["stage", item.record.xxh3_128] for item in context.inputs if item.record is not None]
    partial = open_partial(context.folder, work_key("fit", 1, matched, identities))
    assert partial is not None
    kept = partial.path / "kept.json"
    done = json.loads(kept.read_bytes()) if kept.exists() else 0
    if partial.resumed:
        partial.resume(done, "steps")
        event(context.log, "resumed", f"goes on from step {done}", step=done)
    for step in range(done + 1, options.steps + 1):
        partial.reached(step)
        if step % 2 == 0:
            write_json(kept, step)
            event(context.log, "checkpoint", f"step {step}", level=logging.DEBUG, step=step)
        if step == options.fail_at:
            from biollm.errors import InputError

            raise InputError(f"step {step} fails")
        if context.progress is not None:
            context.progress(step, options.steps)
    result = _leave(FIT, context, options, b"fitted\n" * options.steps, timer, partial.resumptions)
    partial.discard()
    return result


GATHER = Stage(
    verb="gather",
    options=GatherOptions,
    takes={"files": (0, None), "documents": (0, None)},
    gives="documents",
    algorithm_version=1,
    unmatched_options=frozenset({"threads"}),
    run=_gather,
)
FIT = Stage(
    verb="fit",
    options=TrainOptions,
    takes={"documents": (1, None), "checkpoint": (0, 1)},
    gives="checkpoint",
    algorithm_version=1,
    unmatched_options=frozenset({"fail_at"}),
    run=_fit,
)
STAGES = {"gather": GATHER, "fit": FIT}
GATHER_2 = replace(GATHER, algorithm_version=2)
