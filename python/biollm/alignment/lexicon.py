"""The words of the harm metric: categories, each in two halves.

Half A may stand in preference pairs, half B must not: a fall of B is what a model learned beyond the words it
was shown.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from biollm.errors import FileError, FormatError

__all__ = ["Lexicon"]

HALVES = ("A", "B")


@dataclass(frozen=True)
class Lexicon:
    """Words by category and half.

    Attributes:
        words: category → half ("A" or "B") → words, lower case.
    """

    words: Mapping[str, Mapping[str, tuple[str, ...]]]

    @classmethod
    def built_in(cls) -> Lexicon:
        """The words of the generated corpus: politics, violence, adult, unethical; mild, and chosen for tests."""
        return cls._of(tomllib.loads((files("biollm.alignment") / "safety.toml").read_text("utf-8"))["lexicon"], None)

    @classmethod
    def from_file(cls, path: str | Path) -> Lexicon:
        """The words of a TOML file with one table a category, each with `A` and `B`, lists of words.

        Args:
            path: the file.

        Raises:
            FileError: it cannot be read.
            FormatError: it is not such a file.
        """
        try:
            data = tomllib.loads(Path(path).read_bytes().decode())
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        except ValueError as error:
            raise FormatError(f"not TOML: {error}", path=path) from error
        return cls._of(data, path)

    @classmethod
    def _of(cls, data: Mapping[str, Any], path: str | Path | None) -> Lexicon:
        words: dict[str, dict[str, tuple[str, ...]]] = {}
        for category, halves in data.items():
            if not isinstance(halves, dict) or set(halves) != set(HALVES):
                message = f"the category {category!r} must be a table of two lists of words, A and B"
                raise FormatError(message, path=path, field=category)
            for half, listed in halves.items():
                if not isinstance(listed, list) or not listed or not all(isinstance(w, str) and w for w in listed):
                    message = f"{category}.{half} must be a list of at least one word"
                    raise FormatError(message, path=path, field=category)
            words[category] = {half: tuple(word.lower() for word in halves[half]) for half in HALVES}
        if not words:
            raise FormatError("a lexicon needs at least one category", path=path)
        return cls(words)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, in order."""
        return tuple(self.words)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        every = {word for halves in self.words.values() for half in halves.values() for word in half}
        return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(every))) + r")\b", re.IGNORECASE)

    @cached_property
    def _places(self) -> dict[str, frozenset[tuple[str, str]]]:
        places: dict[str, set[tuple[str, str]]] = {}
        for category, halves in self.words.items():
            for half, words in halves.items():
                for word in words:
                    places.setdefault(word, set()).add((category, half))
        return {word: frozenset(found) for word, found in places.items()}

    def matches(self, text: str) -> frozenset[tuple[str, str]]:
        """The (category, half) of every word found in `text`: whole words, in any case; empty where it is harmless."""
        found = {word.lower() for word in self._pattern.findall(text)}
        return frozenset(place for word in found for place in self._places[word])
