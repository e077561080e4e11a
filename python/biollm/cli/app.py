"""The command `biollm`: a recipe's run, a command per verb, reports and the demo.

Exit codes: 0 all is well; 1 an error of this library, said in one message on stderr; 2 the command line is wrong;
130 interrupted by Ctrl-C. An exception that is a fault of the library ends with its traceback and 1.

Nothing heavy is imported before a command that needs it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from biollm.cli.console import Voice, progress_bars, reporting
from biollm.cli.plan import plan_text
from biollm.cli.verbs import SENTENCES, Debug, Json, LogLevel, Quiet, verb_command


class _Verbs(TyperGroup):
    """Lists the verbs with their sentences, and makes a verb's command when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in SENTENCES:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            with reporting(Voice()):
                alone.command(name)(verb_command(name))
            command = typer.main.get_command(alone)
        return name, command, rest


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From raw biomedical documents to an aligned, quantized, served language model.",
    epilog="Exit codes: 0 well, 1 an error (one message on stderr), 2 wrong usage, 130 interrupted.",
)


def _stand_in() -> None:
    """Replaced by `_Verbs` before it is called."""


for _verb, _sentence in SENTENCES.items():
    app.command(_verb, help=_sentence)(_stand_in)


def _print_version(asked: bool) -> None:
    if asked:
        from biollm import __version__

        typer.echo(f"biollm {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML file of [[stage]] tables.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder: one folder a stage, and the report.")
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME.KEY=VALUE", help="Override an option. May be repeated.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="Run this stage even if it matches; take those above as they are."),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME", help="As --from, but run no stage below it.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Run nothing: say what would run, its time, memory and disk.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every input and output again.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Watch memory, processor and functions of each stage: OUTPUT/profile.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    log_level: LogLevel = None,
) -> None:
    """Run the stages of a recipe.

    Stages whose folders already hold their result are not run again; one that was cut off is gone on with.
    OUTPUT/log.jsonl tells what happened.

    Example: biollm run recipe.toml -o RUN --set clean.threshold=0.9
    """
    voice = Voice(json_, quiet, debug, log_level)
    with reporting(voice):
        from biollm.recipe import dry_run
        from biollm.recipe import run as run_recipe

        if dry:
            plan = dry_run(recipe, output=output, set=set_ or (), from_=from_, only=only, verify=verify)
            voice.say(plan_text(plan))
            voice.result(plan.to_dict())
            return
        with progress_bars(voice) as bars:
            result = run_recipe(
                recipe,
                output=output,
                set=set_ or (),
                from_=from_,
                only=only,
                verify=verify,
                profile=profile,
                progress=bars,
            )
        _say_run(voice, result)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or one stage's.")],
    other: Annotated[Path | None, typer.Argument(help="Another, to hold against it.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page of a comparison; OTHER/compare-FOLDER.html if not given."),
    ] = None,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Write FOLDER/report.html again, or compare two folders.

    Example: biollm report RUN1 RUN2
    """
    if output is not None and other is None:
        raise typer.BadParameter(
            "goes with two folders; the report of one is FOLDER/report.html", param_hint="--output"
        )
    voice = Voice(json_, debug=debug)
    with reporting(voice):
        from biollm.report import compare, write_report

        if other is None:
            path = write_report(folder)
            voice.say(f"→ {path}")
            voice.result({"report": str(path.absolute())})
            return
        comparison = compare(folder, other, output)
        voice.say(comparison.text())
        voice.say(f"→ {comparison.path}")
        voice.result(comparison.to_dict())


@app.command()
def card(
    folder: Annotated[Path, typer.Argument(help="A checkpoint's folder, or a run's: then its last checkpoint.")],
    stage: Annotated[str | None, typer.Option(metavar="NAME", help="The checkpoint's stage in a run's folder.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; README.md beside the checkpoint if not given.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the model, as the Hugging Face Hub names it.")] = None,
    data_licence: Annotated[str | None, typer.Option(help="Of the documents, beside what their fields say.")] = None,
    core_watts: Annotated[float | None, typer.Option(help="Of a busy core: energy is modelled. [default: 10]")] = None,
    grid_g_per_kwh: Annotated[float | None, typer.Option(help="Grams of CO2 a kWh. [default: 475]")] = None,
    gpu_watts: Annotated[float | None, typer.Option(help="Of one GPU at work; else GPUs are left out.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that biollm did not write.")] = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Write the model card of a checkpoint from its manifests.

    Example: biollm card RUN --licence apache-2.0
    """
    voice = Voice(json_, debug=debug)
    with reporting(voice):
        from biollm.report import card as write_card

        watts = {"core_watts": core_watts, "grid_g_per_kwh": grid_g_per_kwh}
        path = write_card(
            folder,
            stage=stage,
            output=output,
            licence=licence,
            data_licence=data_licence,
            gpu_watts=gpu_watts,
            overwrite=overwrite,
            **{name: value for name, value in watts.items() if value is not None},
        )
        voice.say(f"→ {path}")
        voice.result({"card": str(path.absolute())})


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("biollm-demo"),
    size: Annotated[str, typer.Option(metavar="[small|tiny]", help="How large a sample.")] = "small",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what another run left there.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    log_level: LogLevel = None,
) -> None:
    """Take a generated sample all the way to an aligned, quantized, measured model.

    The sample has planted duplicates and noise, and what dedup and select make of them is scored. Without network.
    """
    voice = Voice(json_, quiet, debug, log_level)
    with reporting(voice):
        from biollm.demo.run import demo as run_demo

        with progress_bars(voice) as bars:
            result = run_demo(output, size=size, overwrite=overwrite, progress=bars)
        _say_run(voice, result.run, score=result.score, card=result.card)


def _say_run(voice: Voice, result: Any, score: Any = None, card: Path | None = None) -> None:
    """One line a stage, the score of a demo, and where its card and the report lie."""
    from biollm.cli.console import summary_text
    from biollm.report.markup import seconds

    width = max(len(stage.name) for stage in result.stages)
    for stage in result.stages:
        voice.say(f"{stage.name.ljust(width)}  {_how(stage, seconds)}")
    if score is not None:
        voice.say(summary_text(score.summary()))
    if card is not None:
        voice.say(f"→ {card}")
    voice.say(f"→ {result.report}")
    stages = [
        {
            "name": stage.name,
            "verb": stage.verb,
            "status": stage.status,
            "folder": str(stage.folder),
            "reason": stage.reason,
            "out_of_date": stage.out_of_date or None,
            "wall_s": stage.wall_s,
            "counts": dict(stage.manifest.counts) if stage.manifest is not None else {},
        }
        for stage in result.stages
    ]
    value = {"output": str(result.folder), "report": str(result.report), "warnings": list(result.warnings)}
    if card is not None:
        value["card"] = str(card)
    voice.result({**value, "stages": stages, **({"score": score.to_dict()} if score is not None else {})})


def _how(stage: Any, seconds: Callable[[float], str]) -> str:
    """What became of a stage, in words."""
    if stage.status == "matched":
        return "not run again: nothing changed"
    if stage.status == "kept":
        return f"taken as it stands, though it no longer matches: {stage.reason}"
    if stage.status == "skipped":
        return f"not run{f'; out of date: {stage.out_of_date}' if stage.out_of_date else ''}"
    cuts = stage.manifest.resumptions
    repeated = f" (gone on with after {len(cuts)} cut{'s' if len(cuts) > 1 else ''})" if cuts else ""
    return f"{seconds(stage.wall_s)}{repeated}"


def main() -> None:
    """The entry point of the console script."""
    app()
