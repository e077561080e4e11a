"""Decisions against datatrove's own filters, rule by rule, on real texts.

Runs where datatrove is installed: `pip install 'datatrove[processing]' spacy`, in an environment of its own.
Measured with datatrove 0.10.1 on 1,912 abstracts and 7,328 answers: on the same words every rule decides every
document alike; on spaCy's words the rules agree on 99.9 % or more, but for the share of alphabetic words (96 % of the
abstracts, 99 % of the answers), whose threshold lies amid the abstracts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import biollm
from biollm.selection import PRESETS
from parity.select_twin import segments
from shared_data import shared_records

pytest.importorskip("datatrove", reason="datatrove is not installed")

# Our rule → the argument of datatrove's filter; both symbols share one there.
QUALITY = {
    "min_words": "min_doc_words",
    "max_words": "max_doc_words",
    "min_mean_word_length": "min_avg_word_length",
    "max_mean_word_length": "max_avg_word_length",
    "max_hash_ratio": "max_symbol_word_ratio",
    "max_bullet_line_fraction": "max_bullet_lines_ratio",
    "max_ellipsis_line_fraction": "max_ellipsis_lines_ratio",
    "min_alphabetic_fraction": "max_non_alpha_words_ratio",
    "min_stop_words": "min_stop_words",
}
REPETITION = {
    "max_duplicate_paragraph_fraction": "dup_para_frac",
    "max_duplicate_paragraph_character_fraction": "dup_para_char_frac",
    "max_duplicate_line_fraction": "dup_line_frac",
    "max_duplicate_line_character_fraction": "dup_line_char_frac",
}


def single_rule_filters() -> dict[str, Any]:
    """Filters of datatrove that apply one rule each, by our rule's name."""
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    thresholds = {rule.name: rule.threshold for rules in PRESETS.values() for rule in rules}
    off = dict.fromkeys(QUALITY.values())
    filters = {ours: GopherQualityFilter(**{**off, theirs: thresholds[ours]}) for ours, theirs in QUALITY.items()}
    off = {**dict.fromkeys(REPETITION.values()), "top_n_grams": (), "dup_n_grams": ()}
    for ours, theirs in REPETITION.items():
        filters[ours] = GopherRepetitionFilter(**{**off, theirs: thresholds[ours]})
    for kind, theirs, orders in (("top", "top_n_grams", range(2, 5)), ("duplicate", "dup_n_grams", range(5, 11))):
        for n in orders:
            ours = f"max_{kind}_{n}_gram_character_fraction"
            filters[ours] = GopherRepetitionFilter(**{**off, theirs: ((n, thresholds[ours]),)})
    return filters


def agreement(
    texts: list[str], words: Callable[[str, str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    """Rule → share of texts that both drop or both keep, if datatrove splits words as given."""
    import datatrove.pipeline.filters.gopher_quality_filter as quality
    import datatrove.pipeline.filters.gopher_repetition_filter as repetition
    from datatrove.data import Document

    known = {text: words(text, "eng") for text in texts}
    for module in (quality, repetition):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: known[text])
    result = biollm.select(texts)
    bits = {rule.name: 1 << i for i, rule in enumerate(result.rules)}
    shares = {}
    for name, single in single_rule_filters().items():
        ours_bits = bits[name] | (bits["max_ellipsis_ratio"] if name == "max_hash_ratio" else 0)
        ours = [bool(int(failed) & ours_bits) for failed in result.failed]
        theirs = [single.filter(Document(text=text, id="")) is not True for text in texts]
        shares[name] = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(texts)
    assert len(shares) == len(bits) - 2  # the empty text; both symbols in one
    return shares


@pytest.fixture(scope="module")
def texts() -> list[str]:
    abstracts = [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    answers = [record["answer"] for record in shared_records("text_bio/medquad_qa.jsonl.gz")]
    return [text for text in [*abstracts, *answers] if text.isascii() and text.strip()]


def test_equal_on_the_same_words(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shares = agreement(texts, lambda text, language: segments(text), monkeypatch)
    assert set(shares.values()) == {1.0}, shares


def test_nearly_equal_on_the_words_of_spacy(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from datatrove.utils.text import split_into_words

    shares = agreement(texts[::5], split_into_words, monkeypatch)
    assert shares.pop("min_alphabetic_fraction") > 0.95
    assert min(shares.values()) > 0.995, shares
