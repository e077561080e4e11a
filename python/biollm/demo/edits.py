"""Near-duplicates of an abstract at a chosen Jaccard similarity, by the edits that make duplicates in real collections.

Every edit is repeated in small steps, measured after each, until the similarity to the original falls into the wanted
band; the returned text is what was measured, so no similarity here is an estimate.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from biollm.demo.abstracts import Abstract, write_abstract
from biollm.demo.rng import Rng
from biollm.demo.truth import Shingles, jaccard, shingles

# What an editor, a converter or a typist puts in the place of a word.
REPLACEMENTS = (
    "overall", "largely", "notably", "however", "clearly", "indeed", "recorded", "observed", "present", "usual",
    "particular", "given", "several", "certain", "specific", "standard", "local", "separate", "current", "possible",
)  # fmt: skip

NOTICES = (
    "Copyright {year} the authors. Published under a licence that permits reuse with attribution.",
    "Article in press; corrected proof available online. Received in {year}, accepted after peer review.",
    "Full text available from the publisher. Reprints may be requested from the corresponding author.",
    "Presented in part at an annual scientific meeting in {year}. The authors declare no competing interests.",
    "Indexed {year}. Keywords and grant numbers are listed at the end of the printed article.",
)

_ATTEMPTS = 6


@dataclass(frozen=True)
class Band:
    """Similarities low <= J < high; `Band(1.0, 1.1)` is J = 1."""

    low: float
    high: float

    def __contains__(self, similarity: float) -> bool:
        return self.low <= similarity < self.high


@dataclass(frozen=True)
class Copy:
    """A text made from an original, the edit that made it, and its measured similarity to the original."""

    text: str
    edit: str
    jaccard: float


def sentences(text: str) -> list[str]:
    """Sentences with the blank or line break that follows each; joined they are the text."""
    return re.findall(r"(?:[^.?]|[.?](?=\S))+[.?]?\s*", text)


def reformat(text: str, rng: Rng) -> str:
    """Another layout of the same words: case, line breaks, blanks, hyphens, headings."""
    changes: list[Callable[[str], str]] = [
        lambda t: re.sub(r"\b(BACKGROUND|METHODS|RESULTS|CONCLUSIONS)\b", lambda m: m[0].capitalize(), t),
        lambda t: t.replace("\n", "  "),
        lambda t: re.sub(r"(?<=[a-z])-(?=[a-z])", " ", t),
        lambda t: re.sub(r"(?<=\w), (?=[a-z])", " ", t),
        lambda t: re.sub(r"([.?]) (?=[A-Z])", r"\1\n", t),
        lambda t: t.lower(),
        lambda t: t.replace(" (", " [").replace(")", "]"),
    ]
    for change in rng.sample(changes, rng.between(1, 3)):
        text = change(text)
    return text


def _edit_words(text: str, rng: Rng, stride: int) -> Iterator[str]:
    """Words replaced one after the other, or their letters transposed."""
    pieces = re.split(r"(\s+)", text)
    places = [i for i, piece in enumerate(pieces) if piece.isalpha() and len(piece) > 3]
    rng.shuffle(places)
    for done, place in enumerate(places, start=1):
        word = pieces[place]
        if rng.chance(50):
            cut = rng.between(1, len(word) - 2)
            pieces[place] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        else:
            pieces[place] = rng.choice(REPLACEMENTS)
        if done % stride == 0:
            yield "".join(pieces)


def _drop_sentences(text: str, rng: Rng) -> Iterator[str]:
    """Sentences left out, never the title."""
    kept = sentences(text)
    while len(kept) > 3:
        del kept[rng.between(1, len(kept) - 1)]
        yield "".join(kept).rstrip()


def _truncate(text: str, rng: Rng) -> Iterator[str]:
    """The end cut off, as by a length limit: a few words more each time."""
    pieces = re.split(r"(?<=\s)", text)
    while len(pieces) > 20:
        del pieces[-rng.between(2, 6) :]
        yield "".join(pieces).rstrip()


def _add_notices(text: str, rng: Rng, year: int) -> Iterator[str]:
    """Publisher's lines put before or after."""
    for notice in rng.sample(NOTICES, len(NOTICES)):
        line = notice.format(year=year)
        text = f"{line}\n{text}" if rng.chance(40) else f"{text}\n{line}"
        yield text


def _mix(text: str, rng: Rng) -> Iterator[str]:
    """A cut end, another layout, then word edits: what several hands leave."""
    pieces = re.split(r"(?<=\s)", text)
    text = reformat("".join(pieces[: -rng.between(3, 12)]).rstrip(), rng)
    yield text
    yield from _edit_words(text, rng, 1)


def near_duplicate(original: Abstract, band: Band, rng: Rng) -> Copy:
    """A copy of `original` whose similarity to it lies in `band` (where an edit can reach it; see `Copy.jaccard`)."""
    text = original.text()
    if band.low >= 1.0:
        return Copy(text, "exact", 1.0) if rng.chance(50) else Copy(reformat(text, rng), "format", 1.0)
    reference = shingles(text)
    stride = 1 if band.low >= 0.8 else 2
    edits: tuple[tuple[str, Callable[[], Iterator[str]], int], ...] = (
        ("words", lambda: _edit_words(text, rng, stride), 4),
        ("sentences", lambda: _drop_sentences(text, rng), 3),
        ("truncated", lambda: _truncate(text, rng), 2),
        ("notice", lambda: _add_notices(text, rng, original.year), 2),
        ("mixed", lambda: _mix(text, rng), 2),
    )
    copy = Copy(text, "exact", 1.0)
    for _ in range(_ATTEMPTS):
        edit, steps = rng.weighted([((name, make), weight) for name, make, weight in edits])
        copy = _first_in_band(steps(), edit, reference, band)
        if copy.jaccard in band:
            return copy
    for _ in range(_ATTEMPTS):  # single words reach every band
        copy = _first_in_band(_edit_words(text, rng, 1), "words", reference, band)
        if copy.jaccard in band:
            break
    return copy


def _first_in_band(steps: Iterator[str], edit: str, reference: Shingles, band: Band) -> Copy:
    """The first step below the band's upper end, in the band or already past it."""
    copy = Copy("", edit, 0.0)
    for text in steps:
        copy = Copy(text, edit, jaccard(reference, shingles(text)))
        if copy.jaccard < band.high:
            break
    return copy


def hard_negative(seed: int, index: int, original: Abstract, band: Band, rng: Rng) -> Copy | None:
    """Another study told in the words of `original`, abstract `index` of this seed: near, but no duplicate.

    Sentence by sentence the facts are exchanged until the similarity falls into `band`. None where no step lands there.
    """
    reference = shingles(original.text())
    for attempt in range(_ATTEMPTS):
        other = write_abstract(seed, index, companion=attempt)
        places = [(s, i) for s, (_, body) in enumerate(original.sections) for i in range(len(body))]
        rng.shuffle(places)
        bodies = [list(body) for _, body in original.sections]
        for section, i in places:
            bodies[section][i] = other.sections[section][1][i]
            headings = (heading for heading, _ in original.sections)
            sections = tuple(zip(headings, map(tuple, bodies), strict=True))
            text = Abstract(original.title, sections, original.layout, original.year).text()
            measured = jaccard(reference, shingles(text))
            if measured in band:
                return Copy(text, "companion", measured)
            if measured < band.low:
                break
    return None
