"""The pages of the reference that are made from the code when the site is built: the command line, the recipe's keys.

Nothing of them is kept in the repository, so they cannot fall behind; `tests/docs` holds them against the code.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

COMMANDS: Final = ("run", "report", "card", "demo")
"""Commands beside the verbs."""

_KINDS: Final = MappingProxyType({"files": "files (paths, globs, URLs)"})


def verbs() -> tuple[str, ...]:
    """The verbs in the order of the path from documents to text."""
    from biollm.recipe import VERBS

    return tuple(VERBS)


def cli_page() -> str:
    """`reference/cli.md`: what `--help` says, command by command."""
    parts = [
        "# Command line",
        "What `biollm --help` and `biollm COMMAND --help` say. The options of a verb are the keys of its stage in a "
        "[recipe](recipe-keys.md), with `-` for `_`; where the meaning of one is not clear from its sentence, the "
        "page of the verb says more.",
        "Results go to stdout, progress, warnings and errors to stderr. With `--json` stdout holds one JSON object: "
        '`"ok": true` and the result, or `"ok": false` and the error with its type, message and place.',
        "| exit code | meaning |\n|---|---|\n| 0 | all is well |\n| 1 | an error of the library, said in one message "
        "on stderr |\n| 2 | the command line is wrong |\n| 130 | interrupted by Ctrl-C |",
    ]
    parts += ["## biollm", _block(help_text())]
    for command in (*verbs(), *COMMANDS):
        parts.append(f"## biollm {command}")
        if command in verbs():
            parts.append(f"See also: [how to {command}](../how-to/{command}.md), [its keys](recipe-keys.md#{command}).")
        parts.append(_block(help_text(command)))
    return "\n\n".join(parts) + "\n"


def help_text(*command: str) -> str:
    """What `biollm COMMAND --help` prints, 100 columns wide, without colours."""
    code = "import sys; from biollm.cli.app import app; app(sys.argv[1:], prog_name='biollm', standalone_mode=True)"
    environment = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).strip()


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def keys_page() -> str:
    """`reference/recipe-keys.md`: the keys of each verb's stage, from its options dataclass."""
    parts = [
        "# Recipe keys",
        "A recipe is TOML, one `[[stage]]` after another. Three keys every stage has:",
        "| key | type | meaning |\n|---|---|---|\n"
        "| `name` | a string | names the stage and its folder `RUN/<name>`: letters a–z, digits, `-` and `_`, at most "
        "64 |\n"
        "| `verb` | a string | what the stage does |\n"
        "| `inputs` | a list of strings | stages above, or paths, globs and URLs; relative to the recipe |",
        "The others are the options of the verb. An unknown key is an error that names the nearest known one; all of "
        "a recipe is checked before its first stage runs. A change of an option marked “no” in the last column does "
        "not make a finished stage run again, for it cannot change the output.",
    ]
    for verb in verbs():
        parts += _keys(verb)
    return "\n\n".join(parts) + "\n"


def _keys(verb: str) -> list[str]:
    from biollm.recipe import load_stage
    from biollm.recipe.options import describe, toml_text, type_name

    stage = load_stage(verb)
    takes = "; ".join(f"{_count(*bounds)} {_KINDS.get(kind, kind)}" for kind, bounds in stage.takes.items())
    rows = ["| key | type | default | meaning | changes the output |", "|---|---|---|---|---|"]
    for option in describe(stage.options):
        default = "required" if option.required else "–" if option.default is None else f"`{toml_text(option.default)}`"
        matched = "no" if option.name in stage.unmatched_options else "yes"
        cells = (f"`{option.name}`", type_name(option.annotation), default, _cell(option.help), matched)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [
        f"## {verb}",
        f"Takes {takes}. Gives a folder of kind `{stage.gives}`. "
        f"[How to](../how-to/{verb}.md) · [command](cli.md#biollm-{verb}) · "
        f"algorithm version {stage.algorithm_version}.",
        "\n".join(rows),
    ]


def _count(least: int, most: int | None) -> str:
    if (least, most) == (1, 1):
        return "one"
    if most is None:
        return "any number of" if least == 0 else f"{least} or more of"
    return f"{least} to {most} of"


def _cell(text: str) -> str:
    """A docstring's sentence as a cell: its first letter large."""
    return text[:1].upper() + text[1:] if text and not text.startswith("`") else text


PAGES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {"reference/cli.md": cli_page, "reference/recipe-keys.md": keys_page}
)
"""Where in the documentation → what makes the page."""


def on_files(files: Any, config: Any) -> Any:
    """Of mkdocs: adds the generated pages to those in `docs/`."""
    from mkdocs.structure.files import File

    for source, make in PAGES.items():
        files.append(File.generated(config, source, content=make()))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Of mkdocs: puts drawings into the page itself, so that they take on its colours."""

    def drawing(match: re.Match[str]) -> str:
        return (Path(config["docs_dir"]) / "assets" / f"{match[1]}.svg").read_text(encoding="utf-8")

    return re.sub(r'<img [^>]*src="[^"]*assets/(\w+)\.svg"[^>]*>', drawing, html)


def fields_of(options: type) -> tuple[str, ...]:
    """The keys of an options dataclass."""
    return tuple(field.name for field in dataclasses.fields(options) if field.init)


def main() -> None:
    """Writes the generated pages into a folder, to be looked at: `python docs/hooks/generated.py FOLDER`."""
    for source, make in PAGES.items():
        target = Path(sys.argv[1]) / source
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
