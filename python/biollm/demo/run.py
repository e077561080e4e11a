"""`biollm demo`: the sample and its truth, a recipe, the same runner as `biollm run`, and the score."""

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from biollm.atomic import make_folder, write_bytes, write_json
from biollm.demo.corpus import SIZES, sample_is_written, write_sample
from biollm.demo.score import Score, score
from biollm.errors import ConfigError, FileError, InputError
from biollm.manifest import StageTimer
from biollm.recipe import RunProgress, RunResult
from biollm.recipe import run as run_recipe
from biollm.recipe.folder import LOCK_NAME, remove_temporary
from biollm.recipe.run import Status
from biollm.report import write_report

RECIPE_NAME = "recipe.toml"
SAMPLE_NAME = "sample"
SCORE_NAME = "score.json"
_SAMPLE_FILES = ("truth.parquet", *(f"part-{number}.jsonl.gz" for number in range(10)))


@dataclass(frozen=True)
class DemoResult:
    """What `demo` leaves: the run, the score of deduplication and selection, and the report's path."""

    run: RunResult
    score: Score
    report: Path


def demo(
    output: str | os.PathLike[str] = "biollm-demo",
    *,
    size: str = "small",
    overwrite: bool = False,
    progress: RunProgress | None = None,
) -> DemoResult:
    """Takes generated raw documents all the way to generated text, and scores what is known of them.

    Writes `sample/*.jsonl.gz`, `sample/truth.parquet` and `recipe.toml` into `output`, runs the recipe there, and adds
    `score.json` and `report.html`. A second call with the same size finds its stages finished and runs none of them.

    Args:
        output: a folder that is missing, empty, or holds a demo of this size.
        size: "small" (7,450 documents) or "tiny" (1,164).
        overwrite: replace what another run left under the names used here. Other files are never touched.
        progress: told of each stage.

    Raises:
        ConfigError: no such size.
        InputError: `output` holds something else, and `overwrite` is not given; or files under a name used here that
            no run wrote. Nothing was changed.
        FileError: the system refused to write.
    """
    recipe = recipe_text(size)
    folder = Path(output)
    _claim(folder, recipe, overwrite)
    recipe_path, sample = folder / RECIPE_NAME, folder / SAMPLE_NAME
    write_bytes(recipe_path, recipe.encode())
    _sample(sample, size, progress)
    result = run_recipe(recipe_path, output=folder, progress=progress)
    stages = {stage.name: stage for stage in result.stages}
    manifest = stages["dedup"].manifest
    assert manifest is not None  # all stages ran or match
    threshold = manifest.options["threshold"]
    scored = score(sample / "truth.parquet", stages["dedup"].folder, stages["select"].folder, threshold)
    write_json(folder / SCORE_NAME, scored.to_dict())
    report = write_report(folder, extra=(scored.summary(),))
    return DemoResult(result, scored, report)


def recipe_text(size: str) -> str:
    """The recipe of a size, as `demo` writes it.

    Raises ConfigError for a size that does not exist.
    """
    if size not in SIZES:
        raise ConfigError(f"size must be one of {', '.join(SIZES)}, not {size!r}", field="size", value=size)
    return (files("biollm.demo") / "recipes" / f"{size}.toml").read_text("utf-8")


def _sample(sample: Path, size: str, progress: RunProgress | None) -> None:
    """Writes the sample unless it lies there already; to `progress` it is one more stage."""
    if progress:
        progress.begin("sample", "sample", 0, 1)
    timer = StageTimer()
    status: Status = "failed"
    try:
        if sample_is_written(sample, size):
            status = "matched"
        else:
            remove_temporary(sample, _SAMPLE_FILES)
            write_sample(sample, size)
            status = "complete"
    finally:
        if progress:
            progress.end("sample", status, timer.wall_s)


def _claim(folder: Path, recipe: str, overwrite: bool) -> None:
    """Makes `folder` or finds it ours; anything else it refuses or, with `overwrite`, clears where it would mislead."""
    try:
        names = sorted(path.name for path in folder.iterdir() if not _is_left(path.name)) if folder.exists() else []
        found = (folder / RECIPE_NAME).read_text("utf-8", "replace") if RECIPE_NAME in names else None
    except OSError as error:
        raise FileError.from_os_error(error, folder) from error
    if names and found != recipe and not overwrite:
        holds = "another run's recipe" if found is not None else "files of something else"
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        raise InputError(
            f"the folder holds {holds} ({shown}): choose another with --output, or replace it with --overwrite",
            path=folder,
            field="output",
        )
    make_folder(folder)
    if names and found != recipe:
        _clear_sample(folder / SAMPLE_NAME)


def _is_left(name: str) -> bool:
    """Whether a name is one that a demo cut off at its very beginning leaves: a lock, the recipe half written."""
    return name == LOCK_NAME or (name.startswith(f".{RECIPE_NAME}.") and name.endswith(".tmp"))


def _clear_sample(sample: Path) -> None:
    """Removes another sample: the recipe would read its files as well. Refuses where a foreign file lies there."""
    remove_temporary(sample, _SAMPLE_FILES)
    try:
        inside = sorted(sample.iterdir()) if sample.exists() else []
        foreign = [path.name for path in inside if not _is_sample_file(path)]
        if foreign:
            message = f"holds a file that no demo wrote ({foreign[0]}): move it away, or choose another --output"
            raise InputError(message, path=sample, field="output")
        for path in inside:
            path.unlink()
    except OSError as error:
        raise FileError.from_os_error(error, sample) from error


def _is_sample_file(path: Path) -> bool:
    return path.is_file() and (path.name == "truth.parquet" or path.match("part-[0-9].jsonl.gz"))
