"""The peers' engines, vocabularies and texts that the tests of tokenization compare with."""

from __future__ import annotations

import base64
import gzip
import random
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import tiktoken
from tokenizers import Regex, pre_tokenizers

from biollm import _native
from biollm.columns import string_array, text_array, text_chunks, values
from shared_data import shared_file, shared_records

#: As tokenizer.json files and tiktoken carry them; written out here, not taken from the code under test.
CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
REGEX = {
    "gpt2": rf"{CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+",
    "llama3": "|".join(
        (
            rf"(?i:{CONTRACTIONS})",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            SPACES,
        )
    ),
    "o200k": "|".join(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:{CONTRACTIONS})?",
            rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:{CONTRACTIONS})?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            SPACES,
        )
    ),
}
#: tiktoken's own forms, possessive and all.
TIKTOKEN_REGEX = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "o200k": REGEX["o200k"],
}
VOCABULARIES = {"gpt2": "gpt2", "cl100k": "cl100k_base", "o200k": "o200k_base"}


@cache
def _split(pattern: str) -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(REGEX[pattern]), "isolated")


def reference_pieces(pattern: str, text: str) -> Counter[str]:
    """The pieces that `tokenizers`' engine splits a text into."""
    return Counter(piece for piece, _ in _split(pattern).pre_tokenize_str(text))


def pieces(pattern: str, *texts: str) -> Counter[str]:
    """Ours."""
    offsets, data, counts = _native.count_words(text_chunks(text_array(list(texts))), pattern=pattern, threads=1)
    words = string_array(offsets, data).to_pylist()
    return Counter(dict(zip(words, values(counts, np.uint64).tolist(), strict=True)))


def vocabulary(name: str, folder: Path) -> Path:
    """A shared .tiktoken file, unpacked."""
    path = folder / f"{VOCABULARIES[name]}.tiktoken"
    if not path.exists():
        path.write_bytes(gzip.decompress(shared_file(f"tokenizers/{path.name}.gz").read_bytes()))
    return path


def tiktoken_encoding(name: str, path: Path, special: dict[str, int] | None = None) -> tiktoken.Encoding:
    """tiktoken over the same file."""
    lines = (line.split() for line in path.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding(name, pat_str=TIKTOKEN_REGEX[name], mergeable_ranks=ranks, special_tokens=special or {})


def real_texts(limit: int = 400) -> dict[str, list[str]]:
    """Texts of the shared data by kind, up to `limit` of each."""
    fields = {
        "abstracts": ("text_bio/medical_abstracts.jsonl.gz", "text"),
        "questions": ("text_bio/medquad_qa.jsonl.gz", None),
        "korean": ("korean/nsmc_reviews.jsonl.gz", None),
        "code": ("code/humaneval.jsonl.gz", None),
    }
    texts = {}
    for kind, (name, field) in fields.items():
        records = shared_records(name)[:limit]
        texts[kind] = [r[field] if field else "\n".join(v for v in r.values() if isinstance(v, str)) for r in records]
    texts["genome"] = [shared_file("seq/GenBank_NC_005816.fna").read_text()]
    smiles = gzip.decompress(shared_file("smiles/chembl.smi.gz").read_bytes()).decode()
    texts["smiles"] = smiles.splitlines()[:limit]
    return texts


_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789",
    " \t\n\r\u00a0\u3000\u2009\u0085\u2028",
    "'\"!?.,;:-/\\()[]{}<>|&^%$#@~`*+=_",
    "éüñßøåçİıſK",
    "中文字漢語日本한국어",
    "абвгдЖЗعربيहिन्दी्",
    "🧬👍🏽👩🔬🇰🇷",
    "\u200b\u200d\ufe0f\u0301\u0308\u0345",
    "ǅᾈʰªⅧ²½٣৪",
    "'s't're've'm'll'd'S'T'RE'LL'ſ",
)
_FIXED = (
    "", " ", "  ", "\n", "\n\n", "\r\n", " \n ", "  \n \n   ", "a \n  ", "\t\t \n  x", "a" * 1000, "a" * 20_000,
    " " * 5000, "\n" * 3000, "ab" * 5000, "." * 4000, "é" * 2000, "中" * 3000, "🧬" * 1000, "👨‍👩‍👧‍👦" * 200,
    "\u200d" * 100,
    "e\u0301" * 500, "\u0301ABC", "1\u0301a", "\u0301" * 300 + "A" * 300, "A\u0301B\u0301" * 100, "\u00a0" * 50,
    "\u2028\u2029" * 20, "\0" * 50, "\0\x01\x02abc", "\ufeffabc", "\ufffd" * 40, "0" * 1001, "1234567890" * 100,
    "a1b2c3" * 100, "ACGT" * 3000, "don't DON'T I'LL i'll we'Ve 'S's ſ'ſ x'ſ 'ſx", "Ñandú ÀÉÎõü", "ªº ˠʰ ⁿ",
    "ǅ ǈ ǋ ᾈ ᾏ", "²³¹ ½ Ⅷ ৪ ٣", "\u1680\u2000\u200a\u202f\u205f x", "a \u0085b", "﷽" * 30, "▁hello ▁▁ x", "ﬀ ﬁ ﬅ 'ﬅ",
    "<|endoftext|>", "<|im_start|>user<|im_end|>", "<s> </s> <unk>", "\ud7ff\ue000", "𝒜𝓑𝔠𝟘", "İI ıi", "HTTPServer//\n/",
)  # fmt: skip


@cache
def adversarial_texts() -> tuple[str, ...]:
    """Texts on which drop-in tokenizers go wrong: runs, mixed classes, random code points, long words. The same on
    every run."""
    rng = random.Random(1)
    texts = list(_FIXED)
    for _ in range(2500):
        n = rng.choice((1, 2, 3, 5, 8, 13, 40, 150))
        parts = ("".join(rng.choices(rng.choice(_ALPHABETS), k=rng.choice((1, 1, 2, 3, 6, 17)))) for _ in range(n))
        texts.append("".join(parts))
    for _ in range(1000):
        spans = ((0, 0x250), (0x250, 0xD800), (0xE000, 0x110000))
        texts.append("".join(chr(rng.randrange(*rng.choice(spans))) for _ in range(rng.randrange(1, 60))))
    for letters, lengths in (
        ("abcdefghijklmnopqrstuvwxyz", (20, 47, 48, 49, 50, 64, 255, 256, 500, 3000)),
        ("ACDEFGHIKLMNPQRSTVWY", (20, 300, 1000)),
    ):
        for _ in range(200):
            texts.append("".join(rng.choices(letters, k=rng.choice(lengths))))
    return tuple(texts)
