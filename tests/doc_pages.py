"""The pages of the documentation as the tests see them: text, code blocks, headings, links."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^\n`]*)$")
_TITLE = re.compile(r'title="([^"]*)"')
_COMMENT = re.compile(r"<!--\s*(setup|not run): (.*?)\s*-->")
_HEADING = re.compile(r"^(#{1,6}) +(.*?)(?: *\{[^}]*#([\w-]+)[^}]*\})? *#*$")
_DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?[^()\s]*)\)")
_IMAGE = re.compile(r"!\[[^\[\]]*\]\(([^()\s]+)\)")
_SOURCE = re.compile(r'(?:src|href|data)="([^"]+)"')
_REFERENCE = re.compile(r"\[[^\[\]]+\]\[([\w.]+)\]")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, title (a file's name, or "Output"), text, and line in the page.

    `not_run` is the reason that a comment above it gives for not running it.
    """

    language: str
    title: str
    text: str
    line: int
    not_run: str = ""


@cache
def generated() -> ModuleType:
    """The module that makes pages from the code when the site is built."""
    spec = importlib.util.spec_from_file_location("docs_generated", DOCS / "hooks" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def pages() -> dict[str, str]:
    """Path below `docs/` → text, generated pages among them."""
    written = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
    return dict(sorted({**written, **{name: make() for name, make in generated().PAGES.items()}}.items()))


@cache
def written_pages() -> dict[str, str]:
    """Those that people wrote, and the README, by path from the repository's root."""
    made = set(generated().PAGES)
    found = {f"docs/{name}": text for name, text in pages().items() if name not in made}
    return {"README.md": (ROOT / "README.md").read_text(encoding="utf-8"), **found}


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = text.splitlines()
    i, reason = 0, ""
    while i < len(lines):
        match = _FENCE.match(lines[i])
        if match is None:
            comment = _COMMENT.search(lines[i])
            if comment and comment[1] == "not run":
                reason = comment[2]
            elif lines[i].strip():
                reason = ""
            i += 1
            continue
        start, indent = i, len(match["indent"])
        while i + 1 < len(lines) and lines[i + 1].strip() != match["ticks"]:
            i += 1
        body = "\n".join(line[indent:] for line in lines[start + 1 : i + 1])
        info = match["info"].strip()
        title = _TITLE.search(info)
        language = info.split()[0] if info else ""
        found.append(Block(language, title[1] if title else "", body + "\n", start + 1, reason))
        reason = ""
        i += 2
    return found


def setups(text: str) -> list[str]:
    """What a page asks to find in its folder: the names in `<!-- setup: NAME -->`."""
    return [match[2] for match in _COMMENT.finditer(text) if match[1] == "setup"]


def prose(text: str) -> str:
    """A page without its code blocks and code marks."""
    lines, ticks = [], ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if match and not ticks:
            ticks = match["ticks"]
        elif ticks and line.strip() == ticks:
            ticks = ""
        elif not ticks:
            lines.append(line)
    return re.sub(r"(?<!\[)`[^`\n]+`(?!\])", "`…`", "\n".join(lines))


def directives(text: str) -> list[str]:
    """The names a page shows from their docstrings."""
    return _DIRECTIVE.findall(text)


def slug(heading: str) -> str:
    """The anchor Markdown's `toc` gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", lambda m: m[1] or "", heading)
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def anchors(text: str) -> set[str]:
    """What a link to a page may name behind `#`."""
    found: dict[str, int] = {}
    fenced = ""
    for line in text.splitlines():
        match = _FENCE.match(line)
        if match and (not fenced or line.strip() == fenced):
            fenced = "" if fenced else match["ticks"]
        heading = None if fenced else _HEADING.match(line)
        if heading:
            name = heading[3] or slug(heading[2])
            found[name] = found.get(name, -1) + 1
            if found[name]:
                found[f"{name}_{found[name]}"] = 0
    return {*found, *directives(text)}


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures."""
    plain = prose(text)
    return [*_LINK.findall(plain), *_IMAGE.findall(plain), *_SOURCE.findall(plain)]


def references(text: str) -> list[str]:
    """The names of `[words][name]`."""
    return _REFERENCE.findall(prose(text))
