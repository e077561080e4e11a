"""Writes `src/classes_table.rs`: the character classes that the split patterns name, over all code points.

    python rust/tokenize/generate_classes.py

The classes are read out of the regex engine of `tokenizers` (Oniguruma), since ids must equal those of its regexes;
`tests/parity/test_tokenize_unicode.py` compares both, and `tiktoken`'s engine, over every code point.
tokenizers 0.23.3: Unicode 16.0.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

LETTER, NUMBER, SPACE, NEWLINE, UPPER, LOWER = 1, 2, 4, 8, 16, 32
BITS = {
    r"\p{L}": LETTER,
    r"\p{N}": NUMBER,
    r"\s": SPACE,
    r"[\r\n]": NEWLINE,
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]": UPPER,
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]": LOWER,
}
UNICODE = "16.0"
SURROGATES = range(0xD800, 0xE000)
BLOCK = 2048


def classes() -> list[int]:
    """The bits of each code point, 0 for surrogates, shape (0x110000,)."""
    bits = [0] * 0x110000
    for regex, bit in BITS.items():
        split = pre_tokenizers.Split(Regex(regex), "removed", invert=True)
        for start in range(0, 0x110000, BLOCK):
            if start not in SURROGATES:  # one block exactly
                for text, _ in split.pre_tokenize_str("".join(map(chr, range(start, start + BLOCK)))):
                    for character in text:
                        bits[ord(character)] |= bit
    return bits


def main() -> None:
    """Writes the table."""
    runs: list[str] = []
    start = 0
    for value, group in groupby(classes()):
        runs.append(f"({start:#x}, {value})")
        start += sum(1 for _ in group)
    lines, line = [], "   "
    for run in runs:
        if len(line) + len(run) > 108:
            lines.append(line)
            line = "   "
        line += f" {run},"
    lines.append(line)
    body = "\n".join(lines)
    text = (
        f"//! Written by `generate_classes.py` from Unicode {UNICODE}: do not edit.\n\n"
        "/// (first code point of a run, class bits of the run); a run ends where the next begins.\n"
        "#[rustfmt::skip]\n"
        f"pub static RUNS: [(u32, u8); {len(runs)}] = [\n{body}\n];\n"
    )
    (Path(__file__).parent / "src" / "classes_table.rs").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
