"""When a row ends, and what text it leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from biollm.inference.completion import Completion, Row, TokenLogprob
from byte_tokenizer import ByteTokenizer

EOS = 0


def row_of(text: str | bytes, **options: Any) -> Row:
    """A row fed with the bytes of a text until it is finished."""
    settings = {"max_tokens": 100, "eos_ids": (EOS,), "stop": (), "tokenizer": ByteTokenizer(), "with_logprobs": False}
    row = Row("prompt", [1, 2, 3], **{**settings, **options})
    for byte in text if isinstance(text, bytes) else text.encode():
        row.append(byte, None)
    return row


def test_max_tokens_ends_a_text() -> None:
    row = row_of("abcdef", max_tokens=4)
    completion = row.completion()
    assert (completion.text, completion.finish_reason, completion.prompt_tokens) == ("abcd", "length", 3)
    assert completion.token_ids == tuple(b"abcd")
    assert completion.logprobs is None
    assert completion.seconds > 0


def test_the_end_of_text_token_is_counted_but_not_shown() -> None:
    completion = row_of("ab\0cd").completion()
    assert (completion.text, completion.finish_reason) == ("ab", "stop")
    assert completion.token_ids == (97, 98, EOS)


def test_the_end_of_text_wins_over_the_length() -> None:
    assert row_of("ab\0", max_tokens=3).completion().finish_reason == "stop"


@pytest.mark.parametrize(
    ("text", "stop", "shown", "tokens"),
    [
        ("one two three", (" two",), "one", 7),
        ("one two three", ("three", "wo"), "one t", 7),
        ("one two", ("xyz",), None, 7),
        ("aaab", ("ab",), "aa", 4),
        ("ab", ("ab",), "", 2),
        ("naïve café, ok", ("é",), "naïve caf", 12),  # a stop string of one two-byte character
        ("日本語のテキスト", ("語の",), "日本", 12),
        ("x\n\nQ: y", ("\n\n", "Q:"), "x", 3),
    ],
)
def test_stop_strings_end_a_text_and_are_cut(text: str, stop: tuple[str, ...], shown: str | None, tokens: int) -> None:
    row = row_of(text, stop=stop)
    assert row.finished == (shown is not None)
    assert len(row.token_ids) == tokens
    if shown is not None:
        assert row.completion().text == shown
        assert row.completion().finish_reason == "stop"


def test_a_stop_string_is_found_however_its_bytes_fall_into_tokens() -> None:
    class Chunks:
        """Token i is the i-th piece."""

        pieces = ("Hel", "lo wor", "ld! EN", "D of", " story")

        def decode(self, ids: Any, /) -> str:
            return "".join(self.pieces[i] for i in ids)

        def id_to_token(self, token_id: int, /) -> bytes | None:
            return self.pieces[token_id].encode()

    for stop, shown in (("END", "Hello world! "), ("lo world! END", "Hel"), ("D of s", "Hello world! EN")):
        row = Row("", [1], max_tokens=9, eos_ids=(), stop=(stop,), tokenizer=Chunks(), with_logprobs=False)
        for token_id in range(5):
            row.append(token_id, None)
        assert row.completion().text == shown


def test_without_a_tokenizer_there_is_no_text() -> None:
    assert row_of("ab\0", tokenizer=None).completion().text is None


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert row_of(b"a\xff\x80\0").completion().text == "a\ufffd\ufffd"


def test_ids_that_no_token_has_stand_for_no_text() -> None:
    row = Row("", [1], max_tokens=9, eos_ids=(), stop=("bc",), tokenizer=ByteTokenizer(), with_logprobs=False)
    for token_id in (97, 5000, 98, 5000, 5000, 5000, 99, 100):
        row.append(token_id, None)
    completion = row.completion()
    assert completion.text == "a"  # the stop string is found across them
    assert completion.token_ids == (97, 5000, 98, 5000, 5000, 5000, 99)


def test_a_finished_row_takes_nothing_more() -> None:
    row = row_of("a\0bcd")
    assert row.token_ids == [97, EOS]


def test_completions_become_json() -> None:
    row = Row((5, 6), [5, 6], max_tokens=1, eos_ids=(), stop=(), tokenizer=None, with_logprobs=True)
    row.append(7, TokenLogprob(7, -0.5, ((7, -0.5), (8, -1.5))))
    completion = row.completion()
    assert isinstance(completion, Completion)
    data = json.loads(json.dumps(completion.to_dict()))
    assert data["token_ids"] == [7]
    assert data["logprobs"] == [{"token_id": 7, "logprob": -0.5, "top": [[7, -0.5], [8, -1.5]]}]
