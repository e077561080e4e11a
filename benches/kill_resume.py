"""kill -9 at random moments of the demo's recipe, and what the run is in the end.

The recipe, up to the text that the pretrained model writes, runs once uncut. Then it runs in another folder and is
killed: its whole process group, by SIGKILL, at N moments drawn evenly over its work; after each kill it is started
again. Asserted:

- after each kill, and all the time beside by a watcher: no visible file is torn (each opens, and is what the manifest
  or index beside it says);
- at the end every output of every stage has the checksum of the uncut run's, and `model.safetensors` the same bytes
  (of `continue`, whose files note seconds, all but those is compared);
- no stage that had finished before a kill ran again;
- no resumption of training repeated more steps than there are between two of its checkpoints.

    python benches/kill_resume.py --size small --kills 10 --json kills.json

Prints a table and exits with 1 where anything does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from whole_files import manifest_complaints, torn, torn_files, visible_files

COMMAND = [sys.executable, "-c", "from biollm.cli import main; main()", "run"]
CHECKPOINT_EVERY = {"tiny": 10, "small": 20}
#: Runs that ended before their kill are begun anew in an empty folder; so often at most.
MOST_LIVES = 6
#: The last stage that is run: those behind it begin anew after a kill, and take most of the demo's time.
LAST = "continue"
WATCH_EVERY_S = 0.05


@dataclass
class Kill:
    """One kill: after how many seconds of its process, in which stage, and how much of that had been done."""

    number: int
    after_s: float
    stage: str
    reached: int
    finished: list[str]
    torn: list[str]


@dataclass
class Life:
    """One folder from its first run to its finished one."""

    kills: list[Kill] = field(default_factory=list)
    resumptions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    files_watched: int = 0


class Watcher:
    """Opens every visible file of a folder as soon as it is new, in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complaints: list[str] = []
        self.opened = 0
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(WATCH_EVERY_S):
            try:
                self._look()
            except Exception as error:  # a watcher that died would see nothing torn
                self.complaints.append(f"the watcher failed: {error!r}")
                return

    def _look(self) -> None:
        # A file or folder may go while the folder is listed.
        with contextlib.suppress(FileNotFoundError):
            for path in visible_files(self.folder):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    signature = (status.st_ino, status.st_mtime_ns, status.st_size)
                    if self._seen.get(path) == signature:
                        continue
                    self._seen[path] = signature
                    self.opened += 1
                    complaint = torn(path, growing=True)
                    # A file whose name is given to a newer one while it is read says nothing.
                    if complaint and path.stat().st_ino == status.st_ino:
                        self.complaints.append(f"while running: {complaint}")
                    if path.name == "manifest.json":
                        self.complaints += [f"while running: {c}" for c in manifest_complaints(path.parent)]


class Run:
    """The recipe, run in a folder by a process group of its own."""

    def __init__(self, recipe: Path, folder: Path, overrides: list[str], log: Path) -> None:
        options = [part for override in overrides for part in ("--set", override)]
        self.command = [*COMMAND, str(recipe), "--output", str(folder), *options]
        self.log = log

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process; its group is killed when the block ends, whatever it has left."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def whole(self) -> float:
        """Runs to the end; gives the seconds it took.

        Raises:
            RuntimeError: it failed; with the end of what it said.
        """
        began = time.perf_counter()
        with self.started() as process:
            if process.wait() != 0:
                raise RuntimeError(f"exit code {process.returncode}: {self.said()}")
        return time.perf_counter() - began

    def said(self) -> str:
        """The end of what the runs have said."""
        return self.log.read_text(errors="replace")[-2000:]


def read_json(path: Path) -> Any:
    """A JSON file, `None` where there is none."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def stage_names(folder: Path) -> list[str]:
    """The stages of a run in order; empty before its first record."""
    record = read_json(folder / "run.json")
    return [stage["name"] for stage in record["stages"]] if record else []


def manifests(folder: Path) -> dict[str, tuple[int, int]]:
    """Finished stages: name → inode and time of the manifest."""
    found = {}
    for name in stage_names(folder):
        with contextlib.suppress(FileNotFoundError):
            status = (folder / name / "manifest.json").stat()
            found[name] = (status.st_ino, status.st_mtime_ns)
    return found


def reached(folder: Path, stage: str) -> int:
    """Units that the stage at work had done when it was killed, as its counter says."""
    try:
        return int((folder / stage / ".partial" / "reached").read_bytes())
    except (OSError, ValueError):
        return 0


def timeless(path: Path) -> Any:
    """The content of an output that notes how long it took, without that; of any other its bytes, `None` for none."""
    if not path.is_file():
        return None
    if path.parent.name == LAST and path.name == "completions.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    if path.parent.name == LAST and path.name == "summary.json":
        facts = json.loads(path.read_bytes())["facts"]
        return {key: value for key, value in facts.items() if "per second" not in key}
    return path.read_bytes()


def compare(uncut: Path, cut: Path) -> list[str]:
    """How the outputs of two finished runs differ."""
    found = []
    for name in stage_names(uncut):
        expected, got = (read_json(run / name / "manifest.json") for run in (uncut, cut))
        if got is None:
            found.append(f"{name}: not finished")
            continue
        for file in sorted({*expected["outputs"], *got["outputs"]}):
            same = expected["outputs"].get(file) == got["outputs"].get(file)
            if not same and timeless(uncut / name / file) != timeless(cut / name / file):
                found.append(f"{name}/{file}: not that of the uncut run")
        counts = [{k: v for k, v in m["counts"].items() if not k.endswith("_s")} for m in (expected, got)]
        if counts[0] != counts[1] or expected["options"] != got["options"]:
            found.append(f"{name}: counts or options are not those of the uncut run")
    model = "pretrain/model.safetensors"
    if (uncut / model).read_bytes() != (cut / model).read_bytes():
        found.append(f"{model}: not the bytes of the uncut run's")
    return found


def live(run: Run, uncut: Path, folder: Path, moments: list[float], startup: float, every: int, first: int) -> Life:
    """Kills a run at moments of its work, in seconds, rising; then lets it finish and checks all of it.

    A run that ends before a kill leaves the rest of the moments to another life.
    """
    life = Life()
    finished: dict[str, tuple[int, int]] = {}
    before = 0.0
    with Watcher(folder) as watcher:
        for number, moment in enumerate(moments, start=first):
            wait = startup + moment - before
            before = moment
            with run.started() as process:
                try:
                    code = process.wait(timeout=wait)
                except subprocess.TimeoutExpired:
                    code = None
            if code is not None:
                if code != 0:
                    life.failures.append(f"a run failed by itself, exit code {code}: {run.said()}")
                break
            life.failures += _run_again(finished, folder, f"kill {number}")
            finished |= manifests(folder)
            waiting = [name for name in stage_names(folder) if name not in finished]
            stage = waiting[0] if waiting else "report"
            kill = Kill(number, round(wait, 2), stage, reached(folder, stage), list(finished), torn_files(folder))
            life.kills.append(kill)
            life.failures += [f"after kill {number}: {complaint}" for complaint in kill.torn]
        try:
            run.whole()
        except RuntimeError as error:
            life.failures.append(str(error))
            return life
    life.files_watched = watcher.opened
    life.failures += watcher.complaints
    life.failures += _run_again(finished, folder, "the last run")
    life.failures += torn_files(folder)
    life.failures += compare(uncut, folder)
    for name in stage_names(folder):
        manifest = read_json(folder / name / "manifest.json")
        life.resumptions[name] = manifest["resumptions"] if manifest else []
        if (folder / name / ".partial").exists():
            life.failures.append(f"{name}: work in progress is left behind")
    for resumption in life.resumptions.get("pretrain", []):
        repeated = resumption["done"] - resumption["kept"]
        if repeated > every:
            life.failures.append(f"pretrain: {repeated} steps repeated, there is a checkpoint every {every}")
    in_training = sum(kill.stage == "pretrain" and kill.reached > 0 for kill in life.kills)
    if in_training and not life.resumptions.get("pretrain"):
        life.failures.append(f"pretrain: killed {in_training} times after its first step, but no resumption is noted")
    return life


def up_to(name: str, recipe: str) -> str:
    """The stages of a recipe up to one."""
    begin, *stages = recipe.split("[[stage]]")
    last = next(i for i, stage in enumerate(stages) if f'name = "{name}"' in stage)
    return "[[stage]]".join([begin, *stages[: last + 1]])


def _run_again(finished: dict[str, tuple[int, int]], folder: Path, when: str) -> list[str]:
    """Stages that had finished and whose manifest is another now, or gone."""
    now = manifests(folder)
    return [f"{name}: finished, and ran again ({when})" for name, known in finished.items() if now.get(name) != known]


def main() -> int:
    """Runs it; 1 where anything does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(CHECKPOINT_EVERY), default="tiny", help="of the demo's sample")
    parser.add_argument("--kills", type=int, default=3, help="how often to kill (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--threads", type=int, default=2, help="of training, the same in all runs (default 2)")
    parser.add_argument("--checkpoint-every", type=int, help="steps between checkpoints (default 10 tiny, 20 small)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this folder and leave it")
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp(prefix="biollm-kills-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        return _measure(options, work)
    finally:
        if options.keep is None:
            shutil.rmtree(work, ignore_errors=True)


def _measure(options: argparse.Namespace, work: Path) -> int:
    from biollm.demo.corpus import write_sample
    from biollm.demo.run import recipe_text

    every = options.checkpoint_every or CHECKPOINT_EVERY[options.size]
    recipe = work / "recipe.toml"
    recipe.write_text(up_to(LAST, recipe_text(options.size)))
    write_sample(work / "sample", options.size)
    # What compiling takes is not what is tested.
    settings = [f"pretrain.checkpoint_every={every}", f"pretrain.threads={options.threads}", f"{LAST}.compile=false"]
    uncut = work / "uncut"
    whole_s = Run(recipe, uncut, settings, work / "uncut.log").whole()
    stages = read_json(uncut / "run.json")["stages"]
    work_s = sum(stage["wall_s"] for stage in stages)
    startup = max(0.0, whole_s - work_s)
    print(f"uncut: {whole_s:.1f} s, of which {work_s:.1f} s in stages", flush=True)
    draw = random.Random(options.seed)
    lives: list[Life] = []
    killed = 0
    while killed < options.kills and len(lives) < MOST_LIVES:
        moments = sorted(draw.uniform(0.0, work_s) for _ in range(options.kills - killed))
        folder = work / f"cut-{len(lives)}"
        run = Run(recipe, folder, settings, work / f"cut-{len(lives)}.log")
        lives.append(live(run, uncut, folder, moments, startup, every, killed + 1))
        killed += len(lives[-1].kills)
        _print(lives[-1])
        if lives[-1].failures:
            break
    failures = [failure for life in lives for failure in life.failures]
    if killed < options.kills and not failures:
        failures.append(f"only {killed} of {options.kills} kills hit a run at work")
    figures = {
        "size": options.size,
        "seed": options.seed,
        "threads": options.threads,
        "checkpoint_every": every,
        "uncut_s": round(whole_s, 2),
        "kills": killed,
        "failures": failures,
        "lives": [asdict(life) for life in lives],
    }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    for failure in failures:
        print(f"FAILED: {failure}")
    if not failures:
        print(f"{killed} kills: the same bytes as uncut, nothing torn, no finished stage run again")
    return 1 if failures else 0


def _print(life: Life) -> None:
    print(f"{'kill':>4}  {'after s':>7}  {'in stage':<10} {'units done':>10}  torn  finished before")
    for kill in life.kills:
        done = ", ".join(kill.finished) or "–"
        print(
            f"{kill.number:>4}  {kill.after_s:>7.2f}  {kill.stage:<10} {kill.reached:>10}  {len(kill.torn):>4}  {done}"
        )
    for name, resumptions in life.resumptions.items():
        for item in resumptions:
            repeated = item["done"] - item["kept"]
            print(f"{name}: went on from {item['kept']} {item['unit']}, {repeated} repeated")
    print(f"files opened while runs were at work: {life.files_watched}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
