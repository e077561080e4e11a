"""Writes `src/xml/entities_table.rs`: the named character references of HTML5, which JATS files use.

    python rust/read/generate_entities.py

Source: the WHATWG list as `html.entities.html5` has it; names that end in a semicolon, without it.
"""

from __future__ import annotations

from html.entities import html5
from pathlib import Path


def literal(text: str) -> str:
    """A Rust string literal in ASCII."""
    return '"' + "".join(f"\\u{{{ord(character):x}}}" for character in text) + '"'


def main() -> None:
    """Writes the table."""
    names = sorted(name.removesuffix(";") for name in html5 if name.endswith(";"))
    lines, line = [], "   "
    for name in names:
        pair = f'("{name}", {literal(html5[name + ";"])})'
        if len(line) + len(pair) > 108:
            lines.append(line)
            line = "   "
        line += f" {pair},"
    lines.append(line)
    body = "\n".join(lines)
    text = (
        "//! Written by `generate_entities.py` from HTML5's list: do not edit.\n\n"
        "/// (name, what it stands for), sorted by name.\n"
        f"#[rustfmt::skip]\npub(super) static ENTITIES: [(&str, &str); {len(names)}] = [\n{body}\n];\n"
    )
    Path(__file__).parent.joinpath("src", "xml", "entities_table.rs").write_text(text)


if __name__ == "__main__":
    main()
