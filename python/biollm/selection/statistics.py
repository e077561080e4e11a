"""What is measured of each document. A rule is a threshold over one of these.

The definitions are datatrove's (`GopherQualityFilter` and `GopherRepetitionFilter`, version 0.10), after Gopher
(arXiv 2112.11446, section A1.1 and table A1), with these differences:

- Segments, those of Unicode Standard Annex 29 but blank ones, stand where datatrove has spaCy's English tokens. Both
  keep marks of punctuation; "..." is three segments and one token, "don't" one segment and two tokens. A segment over
  32 KiB comes in pieces.
- A letter has the Unicode property Alphabetic; datatrove asks `str.isalpha`, which leaves out combining vowels and
  letter-like numbers.
- Duplicate 5- to 10-grams are equal segment by segment; datatrove compares its tokens joined without blanks.
- A ratio whose denominator is 0 is 0; datatrove never reaches such a division, for it stops at the first rule that
  fails. Here every statistic is measured and every failing rule is told.

dolma's variant of the same rules (other words, medians, overlapping copies) would be another set of statistics, so
the variant's name stands with each one, and in the metadata of its column of scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["STATISTICS", "VARIANT", "Group", "Statistic"]

Group = Literal["common", "quality", "repetition"]

VARIANT: Final = "datatrove 0.10, UAX 29 segments"


@dataclass(frozen=True)
class Statistic:
    """A column of scores.

    Attributes:
        name: of the column.
        group: what it is measured with; "common" always is.
        dtype: "int64" for counts, "float64" for means, ratios and fractions.
        definition: how it is measured. Characters are code points.
        variant: whose definition it is.
    """

    name: str
    group: Group
    dtype: Literal["int64", "float64"]
    definition: str
    variant: str = VARIANT


_TOP: Final = (
    "count × characters of the most frequent {n} segments in a row, joined by blanks (the first to occur among equals)"
    " / characters of the text"
)
_DUPLICATE: Final = (
    "characters of {n} segments in a row that occurred before, walking from the left and going on behind each hit"
    " / characters of the text"
)

STATISTICS: Final[dict[str, Statistic]] = {
    statistic.name: statistic
    for statistic in (
        Statistic("characters", "common", "int64", "code points of the text"),
        Statistic("segments", "quality", "int64", "words and marks of punctuation"),
        Statistic("words", "quality", "int64", "segments not made of punctuation alone"),
        Statistic("stop_words", "quality", "int64", "how many of: the be to of and that have with (lower case) occur"),
        Statistic("mean_word_length", "quality", "float64", "characters of words / words"),
        Statistic("hash_ratio", "quality", "float64", "'#' / segments"),
        Statistic("ellipsis_ratio", "quality", "float64", "('...' + '…') / segments"),
        Statistic("bullet_line_fraction", "quality", "float64", "lines that begin with '•' or '-' / lines"),
        Statistic("ellipsis_line_fraction", "quality", "float64", "lines that end in '...' or '…' / lines"),
        Statistic("alphabetic_fraction", "quality", "float64", "segments with a letter / segments"),
        Statistic(
            "duplicate_paragraph_fraction",
            "repetition",
            "float64",
            "paragraphs (between two newlines or more, of the stripped text) equal to an earlier one / paragraphs",
        ),
        Statistic(
            "duplicate_paragraph_character_fraction",
            "repetition",
            "float64",
            "characters of these paragraphs / characters of the text",
        ),
        Statistic(
            "duplicate_line_fraction",
            "repetition",
            "float64",
            "lines (between one newline or more) equal to an earlier one / lines",
        ),
        Statistic(
            "duplicate_line_character_fraction",
            "repetition",
            "float64",
            "characters of these lines / characters of the text",
        ),
        *(Statistic(f"top_{n}_gram_character_fraction", "repetition", "float64", _TOP.format(n=n)) for n in (2, 3, 4)),
        *(
            Statistic(f"duplicate_{n}_gram_character_fraction", "repetition", "float64", _DUPLICATE.format(n=n))
            for n in range(5, 11)
        ),
    )
}
"""Name → statistic, in the order of the columns of scores."""
