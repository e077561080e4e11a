"""A slow, readable twin of the native statistics for select: plain Python, no regular expressions.

It holds for texts over `ALPHABET`, whose characters have simple word boundaries: no marks that attach to others, no
scripts with rules of their own. Python's own `splitlines`, `strip`, `isalpha` and `len` say what the reference sees.
"""

from __future__ import annotations

from collections import Counter

LETTERS = "abhetovnwidPéßα한"
MARKS = " \t\n\r\x1c\u2028.,:;'\"-#•…(!%"
ALPHABET = LETTERS + "0179_" + MARKS
PUNCTUATION = set("!\"#%&'(),-./:;_…\x1c")
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def segments(text: str) -> list[str]:
    """Words, numbers and single marks: UAX 29 over `ALPHABET`, blank segments left out."""
    found: list[str] = []
    i = 0
    while i < len(text):
        start = i
        i += 1
        if _joins(text[start]):
            while i < len(text) and (_joins(text[i]) or _bridges(text, i)):
                i += 1
        segment = text[start:i].strip()
        if segment:
            found.append(segment)
    return found


def _joins(c: str) -> bool:
    return c.isalnum() or c == "_"


def _bridges(text: str, i: int) -> bool:
    """Whether the mark at i holds two letters, or two digits, together (WB6, WB7, WB11, WB12)."""
    if i + 1 >= len(text):
        return False
    before, mark, after = text[i - 1 : i + 2]
    return (mark in ".':" and before.isalpha() and after.isalpha()) or (
        mark in ".',;" and before.isdigit() and after.isdigit()
    )


def _ratio(a: int, b: int) -> float:
    return a / b if b else 0.0


def _pieces(text: str, newlines: int) -> list[str]:
    """The text cut at every run of at least `newlines` newlines."""
    pieces, start, i = [], 0, 0
    while i < len(text):
        end = i
        while end < len(text) and text[end] == "\n":
            end += 1
        if end - i >= newlines:
            pieces.append(text[start:i])
            start = end
        i = max(end, i + 1)
    return [*pieces, text[start:]]


def _repeated(pieces: list[str]) -> tuple[int, int]:
    """How many pieces occurred before, and their characters."""
    again = [piece for i, piece in enumerate(pieces) if piece in pieces[:i]]
    return len(again), sum(map(len, again))


def _top_characters(words: list[str], n: int) -> int:
    ngrams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not ngrams:
        return 0
    counts = Counter(ngrams)
    top = max(ngrams, key=lambda ngram: counts[ngram])  # the first among equals
    return len(top) * counts[top]


def _duplicate_characters(words: list[str], n: int) -> int:
    seen, total, i = set(), 0, 0
    while i + n <= len(words):
        ngram = tuple(words[i : i + n])
        if ngram in seen:
            total += sum(map(len, ngram))
            i += n
        else:
            seen.add(ngram)
            i += 1
    return total


def twin_scores(text: str) -> dict[str, float]:
    """Every statistic of one text, by name."""
    all_segments = segments(text)
    words = [s for s in all_segments if any(c not in PUNCTUATION for c in s)]
    lines = text.splitlines()
    paragraphs = _pieces(text.strip(), 2)
    paragraph_repeats, paragraph_characters = _repeated(paragraphs)
    pieces = _pieces(text, 1)
    line_repeats, line_characters = _repeated(pieces)
    scores: dict[str, float] = {
        "characters": len(text),
        "segments": len(all_segments),
        "words": len(words),
        "stop_words": len(STOP_WORDS & set(all_segments)),
        "mean_word_length": _ratio(sum(map(len, words)), len(words)),
        "hash_ratio": _ratio(text.count("#"), len(all_segments)),
        "ellipsis_ratio": _ratio(text.count("...") + text.count("…"), len(all_segments)),
        "bullet_line_fraction": _ratio(sum(line.lstrip()[:1] in ("•", "-") for line in lines), len(lines)),
        "ellipsis_line_fraction": _ratio(sum(line.rstrip().endswith(("...", "…")) for line in lines), len(lines)),
        "alphabetic_fraction": _ratio(sum(any(c.isalpha() for c in s) for s in all_segments), len(all_segments)),
        "duplicate_paragraph_fraction": _ratio(paragraph_repeats, len(paragraphs)),
        "duplicate_paragraph_character_fraction": _ratio(paragraph_characters, len(text)),
        "duplicate_line_fraction": _ratio(line_repeats, len(pieces)),
        "duplicate_line_character_fraction": _ratio(line_characters, len(text)),
    }
    for n in (2, 3, 4):
        scores[f"top_{n}_gram_character_fraction"] = _ratio(_top_characters(all_segments, n), len(text))
    for n in range(5, 11):
        scores[f"duplicate_{n}_gram_character_fraction"] = _ratio(_duplicate_characters(all_segments, n), len(text))
    return scores
