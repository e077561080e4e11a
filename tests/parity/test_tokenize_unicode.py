"""Every code point under every split pattern, against the engine of `tokenizers`; its classes against `tiktoken`'s."""

from __future__ import annotations

import pytest
import tiktoken
from tokenizers import Regex, pre_tokenizers

from parity.tokenize_reference import REGEX, pieces, reference_pieces

BLOCK = 256
BLOCKS = [start for start in range(0, 0x110000, BLOCK) if not 0xD800 <= start < 0xE000]
#: Where a code point may stand. A match never looks back, so what comes after a piece that has ended is as the start
#: of a text: behind three numbers, or behind a contraction.
CONTEXTS = "111{0}'s{0} {0}a{0}1{0}"


@pytest.mark.parametrize("pattern", REGEX)
def test_every_code_point_in_context(pattern: str) -> None:
    wrong = []
    for start in BLOCKS:
        text = "".join(CONTEXTS.format(chr(code)) for code in range(start, start + BLOCK))
        if pieces(pattern, text) != reference_pieces(pattern, text):
            wrong.append(start)
    assert wrong == []


@pytest.mark.parametrize(
    "regex", [r"\p{L}", r"\p{N}", r"\s", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"]
)
def test_both_engines_have_the_same_classes(regex: str) -> None:
    onig = pre_tokenizers.Split(Regex(regex), "removed", invert=True)
    single_bytes = {bytes([b]): b for b in range(256)}
    fancy = tiktoken.Encoding("bytes", pat_str=regex, mergeable_ranks=single_bytes, special_tokens={})
    for start in BLOCKS:
        text = "".join(map(chr, range(start, start + BLOCK)))
        theirs = "".join(piece for piece, _ in onig.pre_tokenize_str(text))
        assert bytes(fancy.encode_ordinary(text)).decode() == theirs, hex(start)
