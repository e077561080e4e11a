"""`dedup` by whole texts, URLs and pieces against its slow twin."""

from __future__ import annotations

import random
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import biollm
from parity import copies_twin as twin
from shared_data import shared_records

STEPS = ["none", "nfc", "case", "space", "nfc,space", "nfc,case,space"]
#: What composes, reorders, has several lower cases, is white space, and fills the blocks of the fast path.
PIECES = [
    *("a", "A", "Z", " ", "  ", "\n", "\t", "\x1f", "\x85", "\u3000", "\u2028", "\u200b", "\u0301", "\u0323", "\u0345"),
    *(
        "e\u0301",
        "é",
        "É",
        "\u212b",
        "Å",
        "\u1e9b\u0323",
        "\u0958",
        "\u1100",
        "\u1161",
        "\u11a8",
        "가",
        "각",
        "한국어 ",
    ),
    *("Σ", "σ", "ς", "ΑΣ ", "'", "İ", "i\u0307", "ẞ", "\u212a", "ﬁ", "–", "≥", "𝒜", "\U0001d15e", "\0"),
    "The Trial enrolled 1,024 Patients with Heart Failure. ",
]
SOME_TEXT = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
# Characters that every Python we run on knows, so that its tables and Rust's agree.
ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.one_of(SOME_TEXT, st.text("aA \n", max_size=40)), max_size=12),
    steps=st.sampled_from(STEPS),
    keep=st.sampled_from(["first", "longest", "shortest"]),
    threads=st.sampled_from([1, 3]),
)
def test_clusters_are_those_of_equal_texts(texts: list[str], steps: str, keep: str, threads: int) -> None:
    result = biollm.dedup(texts, method="exact", normalize=steps, keep=keep, threads=threads)  # type: ignore[arg-type]
    clusters = twin.first_rows([twin.normal_text(text, steps.split(",")) for text in texts])
    assert result.cluster_id.tolist() == clusters
    assert result.representative.tolist() == twin.kept_rows(clusters, texts, keep)
    pairs = [(pair["a"], pair["b"], pair["jaccard"]) for pair in result.pairs().to_pylist()]
    assert pairs == sorted((cluster, row, 1.0) for row, cluster in enumerate(clusters) if cluster != row)


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(SOME_TEXT, st.text(ASSIGNED, max_size=40)), steps=st.sampled_from(STEPS[1:]))
def test_a_text_and_its_normal_form_are_equal(text: str, steps: str) -> None:
    """Where normalising twice is normalising once, which composing after a lower case need not be."""
    normal = twin.normal_text(text, steps.split(","))
    if twin.normal_text(normal, steps.split(",")) == normal:
        assert biollm.dedup([text, normal], method="exact", normalize=steps).cluster_id.tolist() == [0, 0]


def test_every_character() -> None:
    """Each character that this Python knows, among others; texts equal by the twin are equal, and no others."""
    texts = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) not in ("Cs", "Cn"):
            texts += [f"a{chr(code)}\u0301 A", f"a{chr(code)}\u0301".lower() + " a"]
    result = biollm.dedup(texts, method="exact", normalize="nfc,case,space")
    keys = [twin.normal_text(text, ["nfc", "case", "space"]) for text in texts]
    assert result.cluster_id.tolist() == twin.first_rows(keys)


def test_real_texts() -> None:
    """Abstracts and their copies in another case, composition and spacing."""
    rng = random.Random(3)
    texts = [record["text"] for record in shared_records("text_bio/medical_abstracts.jsonl.gz")]
    texts += [record["text"] for record in shared_records("korean/nsmc_reviews.jsonl.gz")[:2000]]
    edits = [str.upper, lambda t: unicodedata.normalize("NFD", t), lambda t: t.replace(" ", "\n "), lambda t: t]
    texts += [rng.choice(edits)(text) for text in rng.choices(texts, k=3000)]
    for steps in ("none", "nfc,case,space"):
        result = biollm.dedup(texts, method="exact", normalize=steps, threads=2)
        keys = [twin.normal_text(text, steps.split(",")) for text in texts]
        assert result.cluster_id.tolist() == twin.first_rows(keys)
        assert result.keep_mask.sum() == len(set(keys)) < len(texts)


HOSTS = st.sampled_from(
    ["example.org", "Example.ORG", "www.example.org", "WWW.b.example.org.", "www.org", "[::1]", "Ä.de"]
)
PORTS = st.sampled_from(["", "", "", ":", ":80", ":443", ":8080"])
SEGMENTS = st.lists(st.sampled_from(["a", "B", "", ".", "..", "%2e", "%7Ex", "%2f", "%zz", "ä", "%"]), max_size=5)
PARAMETERS = st.lists(
    st.sampled_from(["a=1", "b", "", "utm_source=x", "UTM_Medium", "gclid=1", "id=%2e%2F", "gclidx=1", "=", "q=é"]),
    max_size=4,
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from(["http://", "https://", "HTTP://", "", "//", "ftp://", "doi:", "a.b:"]))
    user = draw(st.sampled_from(["", "", "", "u:p@", "@"]))
    path = "".join(f"/{segment}" for segment in draw(SEGMENTS))
    query = draw(st.sampled_from(["", "?"])) + "&".join(draw(PARAMETERS))
    fragment = draw(st.sampled_from(["", "#", "#x", "#!x", "#/x", "#a#!b"]))
    return draw(st.sampled_from(["", " "])) + scheme + user + draw(HOSTS) + draw(PORTS) + path + query + fragment


@settings(max_examples=150, deadline=None)
@given(
    found=st.lists(st.one_of(urls(), st.text("aA:/?#&=.%2e w@", max_size=16)), max_size=10),
    keep=st.sampled_from(["first", "longest", "shortest"]),
    rng=st.randoms(use_true_random=False),
)
def test_clusters_are_those_of_equal_urls(found: list[str], keep: str, rng: random.Random) -> None:
    import pyarrow as pa

    texts = ["x" * rng.randrange(4) for _ in found]
    table = pa.table({"url": pa.array(found, pa.string()), "text": pa.array(texts, pa.string())})
    result = biollm.dedup(table, method="url", keep=keep)  # type: ignore[arg-type]
    clusters = twin.first_rows([twin.normal_url(url) for url in found])
    assert result.cluster_id.tolist() == clusters, [twin.normal_url(url) for url in found]
    assert result.representative.tolist() == twin.kept_rows(clusters, texts, keep)


@settings(max_examples=150, deadline=None)
@given(url=st.one_of(urls(), st.text("aA:/?#&=.%2e w@", max_size=16)))
def test_an_url_is_that_of_its_normal_form(url: str) -> None:
    """The twin's normal form, written with the scheme that it lost, is the same page."""
    import pyarrow as pa

    normal = twin.normal_url(url)
    if normal is not None and twin.normal_url(normal) == normal:
        table = pa.table({"url": [url, normal], "text": ["a", "b"]})
        assert biollm.dedup(table, method="url").cluster_id.tolist() == [0, 0]


@pytest.mark.parametrize("name", [*sorted(twin.TRACKING), "utm_anything"])
def test_tracking_parameters(name: str) -> None:
    import pyarrow as pa

    table = pa.table({"url": ["a.org/x", f"a.org/x?{name}=1", f"a.org/x?{name}x=1"], "text": ["", "", ""]})
    clusters = [0, 0, 0 if name == "utm_anything" else 2]
    assert biollm.dedup(table, method="url").cluster_id.tolist() == clusters


LINES = st.lists(st.sampled_from(["a b", "A  b", "é", "e\u0301", "", " ", "\t", "a b\r", "Menu | Home"]), max_size=6)
PROSE = st.text("aB .?\n", max_size=24)


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.one_of(LINES.map("\n".join), PROSE), max_size=6),
    unit=st.sampled_from(["line", "paragraph"]),
    steps=st.sampled_from(["none", "nfc,case,space"]),
    min_length=st.sampled_from([1, 2, 4]),
    threads=st.sampled_from([1, 2]),
)
def test_pieces(texts: list[str], unit: str, steps: str, min_length: int, threads: int) -> None:
    check_pieces(texts, unit, steps, min_length, threads)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(PROSE, max_size=6), min_length=st.sampled_from([1, 3]))
def test_sentences(texts: list[str], min_length: int) -> None:
    check_pieces(texts, "sentence", "case", min_length, 1)


def check_pieces(texts: list[str], unit: str, steps: str, min_length: int, threads: int) -> None:
    result = biollm.dedup(
        texts,
        method=unit,  # type: ignore[arg-type]
        normalize=steps,
        min_length=min_length,
        threads=threads,
    )
    left, keep = twin.cut(texts, unit, min_length, steps.split(","))
    assert result.keep_mask.tolist() == keep
    assert result.filter() == [text for text, kept in zip(left, keep, strict=True) if kept]
    cut = [text.encode() for text in texts]
    for span in reversed(result.spans().to_pylist()):
        cut[span["row"]] = cut[span["row"]][: span["start_byte"]] + cut[span["row"]][span["end_byte"] :]
    assert [text.decode() for text in cut] == left


def test_pieces_of_real_texts() -> None:
    """Question pages that repeat whole paragraphs of each other."""
    texts = [record["answer"] for record in shared_records("text_bio/medquad_qa.jsonl.gz") if record.get("answer")]
    for unit in ("line", "paragraph"):
        check_pieces(texts[:4000], unit, "nfc,case,space", 32, 2)
