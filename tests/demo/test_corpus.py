"""The sample: the same bytes everywhere, and planted as it says, by measurement."""

import gzip
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from biollm.demo.abstracts import compile_sentence, grammar, render
from biollm.demo.conversations import FILES
from biollm.demo.corpus import NEAR, Document, generate, measured_pairs, sample_files, write_sample
from biollm.demo.defects import BOILERPLATE, NOISE
from biollm.demo.edits import Band, near_duplicate, sentences
from biollm.demo.rng import Rng
from biollm.demo.truth import SimilarPair, best_partner, jaccard, shingles, similar_pairs, words
from biollm.errors import ConfigError

# Changes with any word of the grammar: then raise CORPUS_VERSION.
SHA256 = {
    "tiny": "54cec783a42cdbd3c44749941653c3b8b00ef7eb5498b1bd352678d84df148d5",
    "small": "699343bdca7f581295ada3bc8f79b35761365ddf361f16b33678a50847eaa44d",
}


@pytest.fixture(scope="module")
def tiny() -> list[Document]:
    return generate("tiny")


@pytest.fixture(scope="module")
def tiny_pairs(tiny: list[Document]) -> list[SimilarPair]:
    return measured_pairs(tiny)


def is_planted(a: Document, b: Document) -> bool:
    return a.original is not None and a.original == b.original


def test_tiny_has_its_bytes(tiny: list[Document]) -> None:
    assert hashlib.sha256(b"".join(sample_files(tiny, 3))).hexdigest() == SHA256["tiny"]
    assert generate("tiny", seed=1)[0].text != tiny[0].text


def test_small_has_its_bytes_and_its_pairs() -> None:
    small = generate("small")
    assert hashlib.sha256(b"".join(sample_files(small, 4))).hexdigest() == SHA256["small"]
    # Within each family is enough to count planted pairs, and cheap.
    families: dict[str, list[frozenset[tuple[str, ...]]]] = {}
    for document in small:
        if document.original is not None:
            families.setdefault(document.original, []).append(shingles(document.text))
    assert sum(len(similar_pairs(family, 0.8)) for family in families.values()) >= 2000
    assert len({document.id for document in small}) == len(small)


def test_planted_pairs_cover_the_range(tiny: list[Document], tiny_pairs: list[SimilarPair]) -> None:
    planted = [pair.jaccard for pair in tiny_pairs if is_planted(tiny[pair.a], tiny[pair.b])]
    assert sum(similarity >= 0.8 for similarity in planted) >= 300
    bins = Counter(min(int(similarity * 20), 19) for similarity in planted)
    assert all(bins[index] >= 20 for index in range(11, 20)), bins  # 0.55 to 1.0 in steps of 0.05
    copies = [document for document in tiny if document.kind == "near_duplicate"]
    assert {copy.how for copy in copies} == {"exact", "format", "words", "sentences", "truncated", "notice", "mixed"}
    assert all(copy.jaccard is not None and 0.55 <= copy.jaccard <= 1.0 for copy in copies)


def test_what_is_recorded_is_what_is_measured(tiny: list[Document]) -> None:
    by_id = {document.id: document for document in tiny}
    for document in tiny:
        if document.jaccard is not None:
            assert document.original is not None
            original = by_id[document.original]
            assert original.kind == "abstract"
            assert document.jaccard == jaccard(shingles(document.text), shingles(original.text))


def test_hard_negatives_are_near_nothing(tiny: list[Document], tiny_pairs: list[SimilarPair]) -> None:
    best = best_partner(tiny_pairs, len(tiny))
    negatives = [row for row, document in enumerate(tiny) if document.kind == "hard_negative"]
    assert len(negatives) >= 30
    assert all(0.6 <= (tiny[row].jaccard or 0) < 0.75 for row in negatives)
    assert all(best[row] < 0.8 for row in negatives)


def test_originals_are_far_from_one_another(tiny: list[Document]) -> None:
    originals = [shingles(document.text) for document in tiny if document.kind == "abstract"]
    assert similar_pairs(originals, 0.35) == []


def test_there_are_no_accidental_duplicates(tiny: list[Document], tiny_pairs: list[SimilarPair]) -> None:
    accidents = [pair for pair in tiny_pairs if not is_planted(tiny[pair.a], tiny[pair.b])]
    assert all(pair.jaccard < 0.8 for pair in accidents)


def test_words_of_abstracts_are_unambiguous(tiny: list[Document]) -> None:
    """Split at anything but letters, digits and a dot or comma inside a number: the same words."""
    for document in tiny:
        if document.kind == "abstract":
            plain = re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[^\w.,]|_", " ", document.text.lower())
            assert words(document.text) == plain.split()


def test_deduplication_measures_the_same(tiny: list[Document], tiny_pairs: list[SimilarPair]) -> None:
    """Two programs that share no code, in two languages, give one similarity to the last bit."""
    import biollm

    found = biollm.dedup([document.text for document in tiny], threshold=0.8).pairs().to_pylist()
    measured = {(pair.a, pair.b): pair.jaccard for pair in tiny_pairs}
    near = {(row["a"], row["b"]): row["jaccard"] for row in found if row["jaccard"] >= NEAR}
    assert len(near) > 200
    assert near == {pair: measured.get(pair) for pair in near}


def test_facts_are_consistent(tiny: list[Document]) -> None:
    interval = re.compile(
        r"(?:ratio|risk) of (\d\.\d\d)(?: \(95% CI| and a confidence interval (?:from|of)| that lay between)"
        r" (\d\.\d\d) (?:to|and) (\d\.\d\d)"
    )
    seen = 0
    for document in tiny:
        if document.kind != "abstract":
            continue
        for ratio, low, high in interval.findall(document.text):
            seen += 1
            assert float(low) < float(ratio) < float(high)
        # A risk said to be lower or higher has its whole interval on that side of 1.
        for sentence in sentences(document.text):
            for _, low, high in interval.findall(sentence):
                if re.search(r"a lower risk|reduced odds|(?:reduced|lowered) the r|protective", sentence):
                    assert float(high) < 1.0
                elif re.search(r"a higher risk|increased odds|raised the odds", sentence):
                    assert float(low) > 1.0
                elif re.search(r"no association|similar odds|the same risk|did not|had no effect", sentence):
                    assert float(low) < 1.0 < float(high)
    assert seen > 200


def test_every_slot_and_fact_is_defined() -> None:
    tables = grammar()
    for study in tables.studies.values():
        assert list(study) == ["title", "BACKGROUND", "METHODS", "RESULTS", "CONCLUSIONS"]
    assert len({field["name"] for field in tables.fields}) == 12
    for column in ("drugs", "genes", "diseases"):
        names = [name for field in tables.fields for name in field[column]]
        assert len(names) == len(set(names)), column


def test_sentence_templates() -> None:
    sentence = compile_sentence("we [saw|[never|seldom] met] {n} patients.")
    readings = {render(sentence, {"n": "3"}, Rng(i)) for i in range(60)}
    assert readings == {f"we {verb} 3 patients." for verb in ("saw", "never met", "seldom met")}
    with pytest.raises(ValueError, match="not closed"):
        compile_sentence("we [saw")


def test_sentences_are_the_text() -> None:
    text = "One of 2,400. P = 0.05 (so). Does it?\nBACKGROUND: Yes."
    assert "".join(sentences(text)) == text
    assert len(sentences(text)) == 4


def test_every_defect_is_planted_and_distinct(tiny: list[Document]) -> None:
    makers = {make.__name__ for make in (*BOILERPLATE, *NOISE)}
    counts = Counter(document.how for document in tiny if document.kind in ("boilerplate", "noise"))
    assert counts == dict.fromkeys(makers, 9)
    texts = [document.text for document in tiny if document.kind in ("boilerplate", "noise")]
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)


def test_defects_are_what_they_say() -> None:
    made = {make.__name__: [make(Rng(i)) for i in range(20)] for make in (*BOILERPLATE, *NOISE)}

    def mean_length(text: str) -> float:
        return len("".join(text.split())) / len(text.split())

    assert all(len(words(text)) < 60 for text in made["too_short"])
    assert all(mean_length(text) > 12 for text in made["run_together"])
    assert all(mean_length(text) == 1 for text in made["spaced_out"])
    assert all(re.match(r"[-•*] ", line) for text in made["bullet_list"] for line in text.splitlines())
    assert all(line.endswith(("...", "…")) for text in made["teaser_list"] for line in text.splitlines())
    assert all(len(set(text.splitlines())) <= 2 < len(text.splitlines()) for text in made["repeated_lines"])
    assert all(len(set(text.split())) <= 6 < 40 < len(text.split()) for text in made["repeated_phrase"])
    assert all(80 <= len(text.split()) <= 220 for text in made["legal_notice"])


@pytest.mark.parametrize("low", [0.55, 0.65, 0.75, 0.8, 0.9, 0.95])
def test_near_duplicates_reach_their_band(low: float) -> None:
    from biollm.demo.abstracts import write_abstract

    band = Band(low, low + 0.05)
    copies = [near_duplicate(write_abstract(3, index), band, Rng(3, index)) for index in range(20)]
    assert sum(copy.jaccard in band for copy in copies) >= 19


def test_the_generator_shares_nothing_with_the_rules() -> None:
    """No import of selection or deduplication, in any file of the generator."""
    import biollm.demo

    folder = Path(biollm.demo.__path__[0])
    for name in ("rng", "abstracts", "edits", "defects", "corpus", "conversations", "truth", "score"):
        source = (folder / f"{name}.py").read_text("utf-8")
        assert not re.search(r"^\s*(from|import) biollm\.(selection|deduplication|_native)", source, re.M), name


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="tiny, small"):
        generate("medium")


def test_written_files(tmp_path: Path, tiny: list[Document], tiny_pairs: list[SimilarPair]) -> None:
    write_sample(tmp_path / "sample", "tiny")
    names = sorted(path.name for path in (tmp_path / "sample").iterdir())
    assert names == sorted(["part-0.jsonl.gz", "part-1.jsonl.gz", "part-2.jsonl.gz", "truth.parquet", *FILES])
    rows = []
    for name in (name for name in names if name.endswith(".gz")):
        with gzip.open(tmp_path / "sample" / name, "rt", encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    assert [row["text"] for row in rows] == [document.text for document in tiny]
    assert all(set(row) == {"id", "text", "source", "year"} for row in rows)

    truth = pq.read_table(tmp_path / "sample" / "truth.parquet")
    assert truth.column("id").to_pylist() == [row["id"] for row in rows]
    listed = {(row["id"], pair["id"]): pair for row in truth.to_pylist() for pair in row["pairs"]}
    assert len(listed) == len(tiny_pairs)
    for pair in tiny_pairs:
        entry = listed[tiny[pair.a].id, tiny[pair.b].id]
        assert entry["jaccard"] == pair.jaccard >= NEAR
        assert entry["planted"] == is_planted(tiny[pair.a], tiny[pair.b])


def test_order_and_ids_tell_nothing(tiny: list[Document]) -> None:
    """Originals come before their copies half of the time, and each part and source holds its share of defects."""
    row_of = {document.id: row for row, document in enumerate(tiny)}
    copies = [(row, document) for row, document in enumerate(tiny) if document.kind == "near_duplicate"]
    after = sum(row > row_of[document.original or ""] for row, document in copies) / len(copies)
    assert 0.4 < after < 0.6
    assert all(re.fullmatch(r"[0-9a-f]{12}", document.id) for document in tiny)
    bad = Counter(document.source for document in tiny if document.kind in ("boilerplate", "noise"))
    assert all(15 <= bad[source] <= 45 for source in ("journals", "preprints", "repository", "crawl"))
