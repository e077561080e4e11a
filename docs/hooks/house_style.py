"""A griffe extension: docstrings of this house as the Google sections that mkdocstrings knows.

The house writes several names in one entry (`num_tokens, num_documents: …`), several errors on one line
(`InputError: …. FileError: …`), and arguments without a heading where there are few. For people reading the source
that is shorter; here each becomes an entry of its own.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_HEADING = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):\s*$")
_ERROR = r"[A-Z]\w*(?:Error|Extra|Exception)|KeyboardInterrupt"
_ERRORS = re.compile(rf"(?:^|(?<=[.;)] ))((?:{_ERROR})(?:, (?:and )?(?:{_ERROR}))*): (?=\S)")
_NAMES = re.compile(r"(?:^|(?<=[.;] ))(\*{0,2}[a-z_]\w*(?:, (?:and )?\*{0,2}[a-z_]\w*)*)(?: \([^)]*\))?: (?=\S)")


class HouseStyle(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """A class: its fields, and the arguments of its constructor."""
        init = cls.members.get("__init__")
        arguments = _parameters(init) if isinstance(init, griffe.Function) else []
        fields = [name for name, member in cls.members.items() if isinstance(member, griffe.Attribute)]
        _rewrite(cls, [*fields, *arguments], "Attributes")

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """A function or method: its parameters."""
        _rewrite(func, _parameters(func), "Args")


def _parameters(function: griffe.Function) -> list[str]:
    return [parameter.name.lstrip("*") for parameter in function.parameters]


def _rewrite(obj: griffe.Object, names: list[str], section: str) -> None:
    if obj.docstring is not None:
        obj.docstring.value = google(obj.docstring.value, names, section)


def google(text: str, names: list[str], section: str) -> str:
    """A docstring with one entry a line in its sections.

    Args:
        text: the docstring, its indent taken away.
        names: of parameters or fields.
        section: "Args" or "Attributes": where entries without a heading go.
    """
    prose: list[str] = []
    sections: dict[str, list[str]] = {}
    current: str | None = None
    loose = False
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading:
            current, loose = heading[1], False
            sections.setdefault(current, [])
            continue
        indented = line.startswith(" ")
        if current is not None and not indented and line.strip():
            current = None
        if current is None and _starts_entry(line, names):
            # An entry without a heading, at whatever indent: `steps: optimizer steps.`
            sections.setdefault(section, [])
            sections[section].append(line.strip())
            loose = True
        elif current is None and loose and indented and line.strip():
            sections[section].append(f"    {line.strip()}")
        elif current is not None:
            sections[current].append(line)
        else:
            loose = loose and not line.strip()
            prose.append(line)
    if not sections:
        return text
    parts = ["\n".join(_without_empty_headings(prose)).strip()]
    for name, lines in sections.items():
        parts.append("\n".join([f"{name}:", *(f"    {line}" for line in _entries(name, lines, names))]))
    return "\n\n".join(part for part in parts if part)


def _starts_entry(line: str, names: list[str]) -> bool:
    match = _NAMES.match(line.strip())
    return bool(match) and set(_split(match[1])) <= set(names)  # type: ignore[index]


def _without_empty_headings(lines: list[str]) -> list[str]:
    """Without headings of our own ("How much:") whose entries have gone into a section."""
    kept = [line for i, line in enumerate(lines) if not (line.rstrip().endswith(":") and _blank(lines, i + 1))]
    return [line for i, line in enumerate(kept) if line.strip() or (i and kept[i - 1].strip())]


def _blank(lines: list[str], i: int) -> bool:
    return i >= len(lines) or not lines[i].strip() or lines[i].rstrip().endswith(":")


def _entries(section: str, lines: list[str], names: list[str]) -> list[str]:
    """The lines of a section, an entry beginning wherever a name is given, continuation lines indented."""
    if section in ("Returns", "Yields"):
        return [line.strip() for line in lines if line.strip()]
    pattern = _ERRORS if section == "Raises" else _NAMES
    known = None if section == "Raises" else set(names)
    base = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    entries: list[str] = []
    for line in lines:
        if not line.strip():
            entries.append("")
            continue
        body = line[base:] if section != "Raises" else line.strip()
        begins = [m for m in pattern.finditer(body.strip()) if known is None or set(_split(m[1])) <= known]
        stripped = body.strip()
        head = stripped[: begins[0].start()] if begins else stripped
        if head.strip():
            entries.append(f"    {body.rstrip() if not begins else head.strip()}" if entries else head.strip())
        ends = [*(m.start() for m in begins[1:]), len(stripped)]
        for match, end in zip(begins, ends[: len(begins)], strict=True):
            entries += [f"{name}: {stripped[match.end() : end].strip()}" for name in _split(match[1])]
    return entries


def _split(names: str) -> list[str]:
    return [name.strip("* ") for name in re.split(r", (?:and )?", names)]
