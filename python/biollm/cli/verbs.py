"""A command for every verb, made from the verb's options dataclass when the command is used, and not before.

`biollm --help` and `biollm dedup` therefore import no package of another verb, and no torch.
"""

from __future__ import annotations

import inspect
import logging
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from biollm.cli.console import Level, Voice, progress_bars, reporting, summary_text
from biollm.errors import InputError

if typing.TYPE_CHECKING:
    from biollm.inference import Completion
    from biollm.recipe.options import Option
    from biollm.results import Result
    from biollm.stages import Stage, StageInput

SENTENCES: Final[Mapping[str, str]] = types.MappingProxyType(
    {
        "read": "Read files into documents.",
        "dedup": "Remove duplicate and near-duplicate documents, or what they repeat.",
        "select": "Keep the documents that pass quality rules.",
        "tokenize": "Write documents as token shards.",
        "train": "Train a Llama-style model on token shards, or tune one on rows.",
        "align": "Align a chat model to preference pairs.",
        "quantize": "Store a model's weights in 8 or 4 bits.",
        "generate": "Continue prompts with a trained model.",
        "evaluate": "Measure a model on questions and held-out documents.",
    }
)
_EXAMPLES: Final[Mapping[str, str]] = types.MappingProxyType(
    {
        "read": "biollm read 'abstracts/*.jsonl.gz' -o documents",
        "dedup": "biollm dedup abstracts.jsonl -o unique --threshold 0.8",
        "select": "biollm select unique -o good",
        "tokenize": "biollm tokenize good -o shards --vocab-size 8192",
        "train": "biollm train shards -o model --size small",
        "align": "biollm align model pairs.jsonl -o aligned --method dpo",
        "quantize": "biollm quantize model shards -o model-int4 --bits 4",
        "generate": "biollm generate model --prompts 'BACKGROUND:'",
        "evaluate": "biollm evaluate model pubmedqa.jsonl heldout.jsonl -o evaluation",
    }
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Neither progress nor notes, only warnings.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and log more.")]
LogLevel = Annotated[
    Level | None,
    typer.Option("--log-level", help="Least level of what is logged to stderr; else by --quiet and --debug."),
]
_Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT", help="Files, globs, URLs, or folders of finished stages.")
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left in the output folder.")]


def verb_command(verb: str) -> Callable[..., None]:
    """The command of a verb, as a function whose signature typer reads.

    Raises:
        MissingExtra: the verb's package needs one that is not installed.
    """
    from biollm.recipe.graph import load_stage
    from biollm.recipe.options import describe

    stage = load_stage(verb)
    options = {option.name: option for option in describe(stage.options)}

    def command(**given: Any) -> None:
        voice = Voice(given.pop("json_"), given.pop("quiet_"), given.pop("debug_"), given.pop("log_level_"))
        inputs, output, overwrite = given.pop("inputs_"), given.pop("output_"), given.pop("overwrite_")
        with reporting(voice):
            values = {name: _value(options[name], value) for name, value in given.items() if _is_given(value)}
            _run(stage, inputs, output, overwrite, values, voice)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("inputs_", keyword, annotation=_Inputs),
        _output_parameter(stage),
        *(_parameter(option) for option in options.values()),
        inspect.Parameter("overwrite_", keyword, annotation=_Overwrite, default=False),
        inspect.Parameter("json_", keyword, annotation=Json, default=False),
        inspect.Parameter("quiet_", keyword, annotation=Quiet, default=False),
        inspect.Parameter("debug_", keyword, annotation=Debug, default=False),
        inspect.Parameter("log_level_", keyword, annotation=LogLevel, default=None),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = f"{SENTENCES[verb]}\n\nExample: {_EXAMPLES[verb]}"
    return command


def _run(
    stage: Stage, inputs: list[str], output: Path | None, overwrite: bool, values: dict[str, Any], voice: Voice
) -> None:
    from biollm.recipe.folder import lock
    from biollm.recipe.options import build

    options = build(stage.options, values, where=f"biollm {stage.verb}")
    found = _found_inputs(stage, inputs, options)
    if stage.verb == "train" and output is not None and _of_others():
        _run_stage(stage, found, output.absolute(), options, Voice(quiet=True))
        return
    if output is None:
        # Only what `_output_parameter` lets be left out: texts are printed and nothing is kept.
        with tempfile.TemporaryDirectory(prefix="biollm-") as temporary:
            result = _run_stage(stage, found, Path(temporary), options, voice)
        completions = [completion.to_dict() for completion in typing.cast("typing.Iterable[Completion]", result)]
        for completion in completions:
            voice.say(f"> {completion['prompt']}\n{completion['text']}\n")
        voice.result({"output": None, "summary": result.summary().to_dict(), "completions": completions})
        return
    folder = output.absolute()
    with lock(folder.with_name(f".{folder.name}.lock")):
        _claim(folder, overwrite, found)
        with _at_work(folder):
            result = _run_stage(stage, found, folder, options, voice)
    voice.say(f"{stage.verb}\n{summary_text(result.summary())}\n→ {output}")
    voice.result({"output": str(folder), "summary": result.summary().to_dict()})


def _of_others() -> bool:
    """Whether this is a process of a distributed run, and not the first: that one claims the folder and speaks."""
    from biollm.training import environment

    return environment.rank() > 0


def _run_stage(stage: Stage, inputs: tuple[StageInput, ...], folder: Path, options: Any, voice: Voice) -> Result:
    from biollm.stages import StageContext

    log = logging.getLogger(f"biollm.{stage.verb}")
    with progress_bars(voice) as bars:
        progress = bars.begin(stage.verb, stage.verb, 0, 1)
        status = "failed"
        try:
            result = stage.run(StageContext(folder, inputs, progress, log), options)
            status = "complete"
        finally:
            bars.end(stage.verb, status, 0.0)
    return result


def _found_inputs(stage: Stage, names: list[str], options: Any) -> tuple[StageInput, ...]:
    """What the command line names, found from the working directory, in the order given."""
    from biollm.recipe.graph import Node, check_inputs, find_input
    from biollm.recipe.match import stage_inputs

    where = f"biollm {stage.verb}"
    sources = []
    for name in names:
        source = find_input(name, Path.cwd(), where=where)
        if source is None:
            raise InputError(f"{where}: no such file, and no file matches: {name}", field="inputs", value=name)
        sources.append(source)
    check_inputs(stage, [(source.name, source.kind) for source in sources], options, where=where)
    return stage_inputs(Node(stage.verb, stage, None, tuple(sources)), Path.cwd())


def _claim(folder: Path, overwrite: bool, inputs: tuple[StageInput, ...]) -> None:
    """Makes the output folder exist and be empty; what an earlier run left goes only with `--overwrite`.

    One that was cut off is gone on with: its work in progress stays, and half an output beside it makes way.
    """
    from biollm.recipe.folder import has_unfinished_work, is_finished, prepare_folder

    goes_on = has_unfinished_work(folder) and not is_finished(folder)
    if not overwrite and not goes_on and folder.is_dir() and any(folder.iterdir()):
        what = "the result of an earlier run" if is_finished(folder) else "files"
        message = f"the output folder holds {what}: choose another, or give --overwrite"
        raise InputError(message, path=folder, field="output")
    for found in inputs:
        path = Path(found.path).resolve()
        if folder.resolve() in (path, *path.parents):
            message = f"the input {found.name!r} lies in the output folder: choose another output"
            raise InputError(message, path=folder, field="output")
    prepare_folder(folder, ours=goes_on)


@contextmanager
def _at_work(folder: Path) -> Iterator[None]:
    """Marks a folder as one whose verb has begun: what a killed run leaves there is then known to be ours.

    The mark is the place of work in progress itself, whether the verb keeps any or not.
    """
    from biollm.atomic import make_folder
    from biollm.partial import FOLDER_NAME
    from biollm.recipe.folder import drop_unfinished_work

    mark = make_folder(folder / FOLDER_NAME)
    try:
        yield
    except BaseException:
        if [path.name for path in folder.iterdir()] == [FOLDER_NAME] and not any(mark.iterdir()):
            drop_unfinished_work(folder)
        raise
    drop_unfinished_work(folder)


def _output_parameter(stage: Stage) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    if stage.gives == "completions":
        annotation: Any = Annotated[
            Path | None, typer.Option("--output", "-o", help="Folder to write; without it the texts are printed.")
        ]
        return inspect.Parameter("output_", keyword, annotation=annotation, default=None)
    annotation = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.", show_default=False)]
    return inspect.Parameter("output_", keyword, annotation=annotation)


def _parameter(option: Option) -> inspect.Parameter:
    """One option of the dataclass as an option of the command; not given means the dataclass's default."""
    from biollm.recipe.options import toml_text

    flag = "--" + option.name.replace("_", "-")
    kind, metavar = _command_type(option.annotation)
    note = " May be repeated." if kind == list[str] else ""
    if not option.required and option.default not in (None, (), ""):
        shown = option.default if isinstance(option.default, str) else toml_text(option.default)
        note += f" [default: {shown}]"
    flags = [flag, f"--no-{flag[2:]}"] if kind is bool else [flag]
    declared = [f"{flags[0]}/{flags[1]}"] if len(flags) == 2 else flags
    made = typer.Option(*declared, help=f"{_sentence(option.help)}{note}".strip(), show_default=False, metavar=metavar)
    default: Any = inspect.Parameter.empty if option.required else None
    annotation: Any = Annotated[kind if option.required else kind | None, made]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _command_type(annotation: Any) -> tuple[Any, str | None]:
    """The type typer is given for an option's type, and how help names its value; text where typer has no such type."""
    arms = [arm for arm in _arms(annotation) if arm is not type(None)]
    if len(arms) == 1 and arms[0] in (str, int, float, bool, Path):
        return arms[0], None
    if set(arms) == {int, float}:
        return float, None
    if any(typing.get_origin(arm) in (tuple, list) for arm in arms):
        return list[str], "TEXT"
    choices = [choice for arm in arms for choice in (typing.get_args(arm) or ((True, False) if arm is bool else ()))]
    if choices and all(arm is bool or typing.get_origin(arm) is typing.Literal for arm in arms):
        return str, "[" + "|".join(str(choice).lower() for choice in choices) + "]"
    return str, "TEXT" if str in arms else "TOML"


def _value(option: Option, given: Any) -> Any:
    """What the command line gave, as the plain value a recipe would hold."""
    from biollm.recipe.options import accepts
    from biollm.recipe.parse import parse_value

    if isinstance(given, Path):
        return str(given)
    if isinstance(given, list):
        if len(given) == 1 and accepts(given[0], option.annotation):
            return given[0]
        return [item if accepts([item], option.annotation) else parse_value(item, f"--{option.name}") for item in given]
    if isinstance(given, str) and not accepts(given, option.annotation):
        return parse_value(given, f"--{option.name}")
    if isinstance(given, float) and given.is_integer() and int in _arms(option.annotation):
        return int(given)
    return given


def _is_given(value: Any) -> bool:
    return value is not None and value != []


def _arms(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _sentence(text: str) -> str:
    """A docstring's words as help: a capital first, no code marks, a full stop."""
    plain = text.replace("`", "").strip()
    if not plain:
        return ""
    first = plain[0] if text.startswith("`") else plain[0].upper()
    return first + plain[1:] + ("" if plain.endswith(".") else ".")
