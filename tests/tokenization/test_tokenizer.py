"""Loading, encoding, decoding, saving: what is promised, and what is refused."""

from __future__ import annotations

import base64
import json
import multiprocessing
import operator
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tokenizers

from biollm.errors import BiollmError, ConfigError, FileError, FormatError, InputError, LimitError
from biollm.tokenization import Tokenizer, train

CORPUS = ["The cells' membrane, 12345 kDa.", "The cell is the unit of life; the cells divide.\n\nDéjà vu."] * 4
SPECIAL = ["<|endoftext|>", "<|pad|>", "<|end|>"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(CORPUS, vocab_size=290, special_tokens=SPECIAL)


def changed(tokenizer: Tokenizer, change: Callable[[dict[str, Any]], object]) -> bytes:
    data = json.loads(tokenizer.to_json())
    change(data)
    return json.dumps(data).encode()


def test_texts_come_back(tokenizer: Tokenizer) -> None:
    for text in ["", " ", "The cells", "naïve 中文 🧬\0\r\n\t", "<|end|>", "\ud7ff\U0010ffff"]:
        encoded = tokenizer.encode(text)
        assert encoded.ids.dtype == np.uint32
        assert tokenizer.decode(encoded.ids) == text
        assert len(encoded) == len(encoded.ids)


def test_special_tokens_are_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    text = "x<|end|><|pad|>"
    assert not set(tokenizer.encode(text).ids.tolist()) & {0, 1, 2}
    assert tokenizer.encode(text, allow_special="all").ids.tolist()[-2:] == [2, 1]
    only = tokenizer.encode(text, allow_special=["<|end|>"]).ids.tolist()
    assert 2 in only
    assert 1 not in only
    with pytest.raises(InputError, match="not a special token"):
        tokenizer.encode(text, allow_special=["<|nope|>"])
    with pytest.raises(InputError, match="allow_special"):
        tokenizer.encode(text, allow_special="some")
    assert tokenizer.decode([2, 1], skip_special=True) == ""
    assert tokenizer.decode([2, 1]) == "<|end|><|pad|>"


def test_batches(tokenizer: Tokenizer) -> None:
    texts = [*CORPUS, "", "x" * 40_000, "é"]
    want = [tokenizer.encode(text).ids.tolist() for text in texts]
    arrow = pa.chunked_array([pa.array(texts[:3]), pa.array(texts[3:])])
    for given in (texts, tuple(texts), arrow, pa.array(texts, pa.large_string())):
        for threads in (1, 2, None):
            batch = tokenizer.encode_batch(given, threads=threads)
            assert [ids.tolist() for ids in batch] == want
    assert (len(batch), batch[-1].tolist(), batch.offsets[0]) == (len(texts), want[-1], 0)
    assert tokenizer.decode_batch(batch, threads=2) == texts
    assert tokenizer.decode_batch(want) == texts
    assert tokenizer.decode_batch([]) == []
    with pytest.raises(IndexError):
        batch[len(texts)]
    ended = tokenizer.encode_batch(texts, append_eos=True)
    assert [ids.tolist() for ids in ended] == [[*ids, 0] for ids in want]
    calls: list[tuple[int, int | None]] = []
    tokenizer.encode_batch(texts, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (len(texts), len(texts))


def test_lone_surrogates_and_wrong_types(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError):
        tokenizer.encode("a\ud800")
    with pytest.raises(InputError) as caught:
        tokenizer.encode_batch(["a", "b\udfff"])
    assert caught.value.row == 1
    with pytest.raises(InputError) as caught:
        tokenizer.encode_batch(pa.array(["a", None]))
    assert caught.value.row == 1
    with pytest.raises(TypeError):
        tokenizer.encode(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        tokenizer.encode_batch(["a", 1])  # type: ignore[list-item]
    with pytest.raises(LimitError) as limited:
        tokenizer.encode_batch(["a", "bcd"], max_document_bytes=2)
    assert (limited.value.row, limited.value.limit) == (1, 2)
    with pytest.raises(ConfigError):
        tokenizer.encode_batch(["a"], out="lists")  # type: ignore[arg-type]


def test_decoding_what_is_no_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("中").ids
    assert len(ids) == 3
    assert tokenizer.decode(ids[:2]) == "\ufffd"
    assert tokenizer.decode_bytes(ids[:2]) == "中".encode()[:2]
    with pytest.raises(InputError, match="whole text"):
        tokenizer.decode(ids[:2], errors="strict")
    for wrong in ([tokenizer.vocab_size], [-1], [2**32], [2**63 - 1], np.array([290])):
        with pytest.raises(InputError, match=r"ids\[0\]"):
            tokenizer.decode(wrong)
    for odd in ([1.5], [[1]], ["a"]):
        with pytest.raises(InputError):
            tokenizer.decode(odd)
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(np.array([5, 6], np.int64)) == tokenizer.decode([5, 6])


def test_the_vocabulary(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 290
    assert (tokenizer.eos_id, tokenizer.pad_id) == (0, 1)
    assert tokenizer.special_tokens == {token: i for i, token in enumerate(SPECIAL)}
    for i in range(290):
        token = tokenizer.id_to_token(i)
        assert token is not None
        assert tokenizer.token_to_id(token) == i
    assert tokenizer.token_to_id(" cell") is not None
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.token_to_id("\ud800") is None
    assert tokenizer.id_to_token(290) is None


def _ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text).ids.tolist()


def test_pickle_threads_and_spawned_processes(tokenizer: Tokenizer) -> None:
    text = "The cells divide. " * 200
    want = _ids_of(tokenizer, text)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert (_ids_of(again, text), again.sha256, again.eos_id) == (want, tokenizer.sha256, 0)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_ids_of, [tokenizer] * 20, [text] * 20)) == [want] * 20
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        # A method by name: the child cannot import this module, and a lost task would wait for ever.
        decoded = processes.apply_async(operator.methodcaller("decode", want), (tokenizer,)).get(timeout=120)
        assert decoded == text


def test_saving(tokenizer: Tokenizer, tmp_path: Path) -> None:
    written = tokenizer.save(tmp_path)
    assert set(written) == {"tokenizer.json", "tokenizer_config.json"}
    again = Tokenizer.from_file(tmp_path)
    assert again.to_json() == tokenizer.to_json()
    assert (again.sha256, again.eos_token, again.pad_token) == (tokenizer.sha256, "<|endoftext|>", "<|pad|>")
    assert set(tokenizer.save(tmp_path / "other.json")) == {"other.json"}
    with pytest.raises(FileError):
        tokenizer.save(tmp_path / "absent" / "tokenizer.json")
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": {"content": "<|end|>"}, "pad_token": None}))
    assert Tokenizer.from_file(tmp_path).eos_id == 2
    config.write_text(json.dumps({"eos_token": "<|nope|>"}))
    with pytest.raises(FormatError, match="nope"):
        Tokenizer.from_file(tmp_path)
    config.write_text("{")
    with pytest.raises(FormatError):
        Tokenizer.from_file(tmp_path)


def test_a_template_and_plain_added_tokens_as_tokenizers_has_them(tokenizer: Tokenizer) -> None:
    def change(data: dict[str, Any]) -> None:
        special = {"id": "<|pad|>", "ids": [1], "tokens": ["<|pad|>"]}
        end = {"id": "<|end|>", "ids": [2], "tokens": ["<|end|>"]}
        data["post_processor"] = {
            "type": "Sequence",
            "processors": [
                {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                {
                    "type": "TemplateProcessing",
                    "single": [
                        {"SpecialToken": {"id": "<|pad|>", "type_id": 0}},
                        {"Sequence": {"id": "A", "type_id": 0}},
                        {"SpecialToken": {"id": "<|end|>", "type_id": 0}},
                    ],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                    "special_tokens": {"<|pad|>": special, "<|end|>": end},
                },
            ],
        }
        flags = {"single_word": False, "lstrip": False, "rstrip": False}
        data["added_tokens"] += [
            {"id": 290, "content": "ell", **flags, "normalized": True, "special": False},
            {"id": 291, "content": "cell mem", **flags, "normalized": True, "special": False},
        ]
        data["model"]["ignore_merges"] = True

    data = changed(tokenizer, change)
    ours, theirs = Tokenizer.from_json(data), tokenizers.Tokenizer.from_str(data.decode())
    for text in ["", "hello cells", "a cell membrane, cell me", "<|end|>ell", *CORPUS]:
        for add in (True, False):
            ids = ours.encode(text, add_special=add, allow_special="all").ids.tolist()
            assert ids == theirs.encode(text, add_special_tokens=add).ids
            assert ours.decode(ids, skip_special=True) == theirs.decode(ids)
    assert (ours.vocab_size, ours.id_to_token(291)) == (292, b"cell mem")


def test_forms_that_mean_the_same(tokenizer: Tokenizer) -> None:
    def as_pairs(data: dict[str, Any]) -> None:
        data["model"]["merges"] = [merge.split(" ") for merge in data["model"]["merges"]]
        split = data["pre_tokenizer"]["pretokenizers"][0]
        split["behavior"], split["invert"] = "Removed", True
        data["normalizer"] = {"type": "Sequence", "normalizers": []}
        del data["model"]["type"], data["post_processor"], data["truncation"]

    again = Tokenizer.from_json(changed(tokenizer, as_pairs))
    assert all(_ids_of(again, text) == _ids_of(tokenizer, text) for text in CORPUS)


REFUSED: dict[str, Callable[[dict[str, Any]], object]] = {
    "normalizer": lambda d: d.update(normalizer={"type": "NFC"}),
    "truncation": lambda d: d.update(truncation={"max_length": 8}),
    "padding": lambda d: d.update(padding={"strategy": "BatchLongest"}),
    "model.type": lambda d: d["model"].update(type="WordPiece"),
    "model.dropout": lambda d: d["model"].update(dropout=0.1),
    "model.continuing_subword_prefix": lambda d: d["model"].update(continuing_subword_prefix="##"),
    "model.end_of_word_suffix": lambda d: d["model"].update(end_of_word_suffix="</w>"),
    "pre_tokenizer": lambda d: d.update(pre_tokenizer={"type": "Metaspace"}),
    "pre_tokenizer.pattern": lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"\d+"}),
    "pre_tokenizer.behavior": lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(behavior="MergedWithNext"),
    "pre_tokenizer.add_prefix_space": lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
    "post_processor": lambda d: d.update(post_processor={"type": "RobertaProcessing"}),
    "decoder": lambda d: d.update(decoder={"type": "WordPiece"}),
    "added_tokens[0].lstrip": lambda d: d["added_tokens"][0].update(lstrip=True),
}
BROKEN: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "no model": ("model", lambda d: d.pop("model")),
    "no vocab": ("vocab", lambda d: d["model"].pop("vocab")),
    "no merges": ("merges", lambda d: d["model"].pop("merges")),
    "a missing byte": ("vocab", lambda d: d["model"]["vocab"].pop("Ā")),
    "an id twice": ("vocab", lambda d: d["model"]["vocab"].update({"zz": 5})),
    "a negative id": ("vocab", lambda d: d["model"]["vocab"].update({"zz": -5})),
    "a token outside the alphabet": ("vocab", lambda d: d["model"]["vocab"].update({"a b": 999})),
    "an empty token": ("vocab", lambda d: d["model"]["vocab"].update({"": 999})),
    "a merge twice": ("merges", lambda d: d["model"]["merges"].append(d["model"]["merges"][0])),
    "a merge of unknown tokens": ("merges", lambda d: d["model"]["merges"].append("q qq")),
    "a merge of three": ("merges", lambda d: d["model"]["merges"].append("a b c")),
    "merges of numbers": ("merges", lambda d: d["model"].update(merges=[1, 2])),
    "an added token without content": ("added_tokens[0].content", lambda d: d["added_tokens"][0].pop("content")),
    "an added token of a token's id": ("added_tokens", lambda d: d["added_tokens"].append({"id": 9, "content": "xyz"})),
    "an added token of an id that no loader gives it": (
        "added_tokens",
        lambda d: d["added_tokens"].append({"id": 999, "content": "xyz"}),
    ),
    "an added token twice": ("added_tokens", lambda d: d["added_tokens"].append(d["added_tokens"][0])),
    "a template of an unknown id": (
        "post_processor",
        lambda d: d.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}],
                "special_tokens": {"x": {"ids": [77]}},
            }
        ),
    ),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(field: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(changed(tokenizer, REFUSED[field]))
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_file(path)
    assert (caught.value.field, caught.value.path) == (field, str(path))


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_names_the_field(name: str, tokenizer: Tokenizer) -> None:
    field, change = BROKEN[name]
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_json(changed(tokenizer, change))
    assert caught.value.field == field


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null", b'{"model": "x"}', b"[" * 500_000])
def test_garbage_is_a_format_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(FormatError):
        Tokenizer.from_file(path)


def test_a_key_given_twice(tokenizer: Tokenizer) -> None:
    text = tokenizer.to_json().replace('"!": 3,', '"!": 3, "!": 3,', 1)
    with pytest.raises(FormatError, match="twice"):
        Tokenizer.from_json(text)
    with pytest.raises(InputError):
        Tokenizer.from_json("\ud800")


# --- .tiktoken ------------------------------------------------------------------------------------------------------


def ranks(*tokens: bytes) -> bytes:
    all_tokens = [*(bytes([b]) for b in range(256)), *tokens]
    return b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(all_tokens))


def test_a_tiktoken_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(ranks(b"ab", b"abc"))
    with pytest.raises(ConfigError, match="pattern="):
        Tokenizer.from_file(path)
    with pytest.raises(ConfigError, match="cl50k"):
        Tokenizer.from_file(path, pattern="cl50k")
    loaded = Tokenizer.from_file(path, pattern="gpt2", special_tokens={"<|endoftext|>": 300})
    assert loaded.encode("abcab").ids.tolist() == [257, 256]
    assert (loaded.eos_id, loaded.vocab_size) == (300, 301)
    again = pickle.loads(pickle.dumps(loaded))
    assert again.encode("abc<|endoftext|>", allow_special="all").ids.tolist() == [257, 300]
    assert Tokenizer.from_json(loaded.to_json()).encode("abcab").ids.tolist() == [257, 256]
    with pytest.raises(InputError, match="taken"):
        Tokenizer.from_file(path, pattern="gpt2", special_tokens={"<|endoftext|>": 256})


def test_a_cl100k_vocabulary_that_no_json_equals(tmp_path: Path) -> None:
    path = tmp_path / "cl100k.tiktoken"
    path.write_bytes(ranks(b"\n "))
    loaded = Tokenizer.from_file(path)
    assert loaded.encode("a\n ").ids.tolist() == [97, 256]
    with pytest.raises(InputError, match="newline"):
        loaded.to_json()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", None),
        (b"YQ==\n", 1),
        (b"YQ== x\n", 1),
        (b"YQ== -1\n", 1),
        (b"YQ== 99999999999\n", 1),
        (b"YQ= 1\n", 1),
        (ranks(b"ab").replace(b"YWI= 256", b"YWI= 7"), None),
        (ranks(b"ab") + b"YWI= 300\n", None),
        (ranks().split(b"\n", 1)[1], None),
        (ranks() + b"\xff", None),
    ],
)
def test_broken_tiktoken_files(data: bytes, line: int | None, tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_file(path)
    assert (caught.value.path, caught.value.line) == (str(path), line)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        Tokenizer.from_file(tmp_path / "absent.json")
    assert caught.value.errno == 2
    with pytest.raises(FileError):
        Tokenizer.from_file(tmp_path)
    other = tmp_path / "spiece.model"
    other.write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"\.tiktoken"):
        Tokenizer.from_file(other)
    good = tmp_path / "tokenizer.json"
    good.write_text(train(CORPUS, vocab_size=278).to_json())
    with pytest.raises(ConfigError, match="pattern"):
        Tokenizer.from_file(good, pattern="gpt2")


# --- long pieces ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["a", " ", "\n", "ab", "é", "1", "🧬", "ACGT", "<|end|>"])
def test_long_runs_come_back(unit: str, tokenizer: Tokenizer) -> None:
    text = unit * (1 << 18)
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text


# --- training -------------------------------------------------------------------------------------------------------


def test_training_says_what_the_text_allows() -> None:
    with pytest.raises(InputError, match=r"at most 2\d\d .* not 5000") as caught:
        train(["the cell"], vocab_size=5000)
    assert caught.value.field == "vocab_size"
    with pytest.raises(InputError, match="no text"):
        train([], vocab_size=300)
    with pytest.raises(InputError, match="no text"):
        train(["", ""], vocab_size=300)
    with pytest.raises(InputError, match="must be 278"):
        train(CORPUS, vocab_size=200)
    with pytest.raises(InputError):
        train(CORPUS, vocab_size=2**40)
    with pytest.raises(ConfigError):
        train(CORPUS, vocab_size=300, pattern="cl100k")
    with pytest.raises(InputError, match="special"):
        train(CORPUS, vocab_size=300, special_tokens=["a"])


def test_default_special_tokens_and_threads() -> None:
    tokenizer = train(CORPUS, vocab_size=290, threads=1)
    names = list(tokenizer.special_tokens)
    assert names[:6] == ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert list(tokenizer.special_tokens.values()) == list(range(22))
    assert train(CORPUS, vocab_size=290, threads=3).to_json() == tokenizer.to_json()
    assert train(pa.table({"text": CORPUS}), vocab_size=290).sha256 == tokenizer.sha256


def test_an_error_of_a_callback_comes_out() -> None:
    class StopError(Exception):
        pass

    def progress(done: int, total: int | None) -> None:
        raise StopError

    with pytest.raises(StopError):
        train(CORPUS, vocab_size=290, progress=progress)
    assert not issubclass(StopError, BiollmError)
