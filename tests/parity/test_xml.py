"""PubMed and JATS: the native reader and an oracle on lxml's trees give the same fields, and the right ones."""

from __future__ import annotations

import gzip
import io
import tarfile
from html.entities import html5
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biollm.errors import FormatError, LimitError
from biollm.readers import as_documents, read
from shared_data import SHARED, shared_file

pytest.importorskip("lxml")

from parity import xml_documents as made
from parity import xml_oracle as oracle

PUBMED_FILES = sorted(path.name for path in (SHARED / "pubmed_xml").glob("*.xml"))
JATS_FILES = sorted(path.name for path in (SHARED / "jats").glob("*") if path.suffix in (".gz", ".xml"))

TEXTS = [("text",), ("title",), ("abstract",), ("body", "title"), ("body", "abstract"), ("title", "abstract")]


def native(path: Path, **options: Any) -> list[dict[str, Any]]:
    table = as_documents(path, **options).to_table()
    table.validate(full=True)
    return table.to_pylist()


def in_force(files: list[tuple[str, bytes]], **options: Any) -> list[dict[str, Any]]:
    """What the oracle makes of files, without bad records and what later ones replace or delete."""
    masks, _, _ = oracle.left_out(files)
    found = [oracle.records(data, name=name, **options) for name, data in files]
    pairs = [pair for rows, mask in zip(found, masks, strict=True) for pair in zip(rows, mask, strict=True)]
    return [row for row, out in pairs if not out and not isinstance(row, oracle.Bad)]


def rows(folder: Path, xml: str | bytes, **options: Any) -> list[dict[str, Any]]:
    """The records of a file, as both give them."""
    data = xml.encode() if isinstance(xml, str) else xml
    path = folder / "file.xml"
    path.write_bytes(data)
    got = native(path, on_error="skip", **options)
    assert_equal(got, in_force([(path.name, data)], **options))
    return got


def assert_equal(got: list[dict[str, Any]], expected: list[Any]) -> None:
    assert len(got) == len(expected)
    for row, want in zip(got, expected, strict=True):
        assert row == want
        data = row["text"].encode()
        for section in row["sections"]:
            shown = data[section["start_byte"] : section["end_byte"]].decode()
            assert shown == shown.strip(" \t\r\n") != ""


def pubmed(citation: str, data: str = "") -> str:
    inside = f"<MedlineCitation><PMID Version='1'>7</PMID>{citation}</MedlineCitation><PubmedData>{data}</PubmedData>"
    return f"<PubmedArticleSet><PubmedArticle>{inside}</PubmedArticle></PubmedArticleSet>"


def abstract(inside: str) -> str:
    return pubmed(f"<Article><ArticleTitle>T</ArticleTitle><Abstract>{inside}</Abstract></Article>")


def jats(body: str, meta: str = "", start: str = "<article>") -> str:
    return f"{start}<front><article-meta>{meta}</article-meta></front><body>{body}</body></article>"


# --- The traps of the formats, one by one -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("a &lt; b &amp; c &#x3bc;&#956; &gt;&quot;&apos;", "a < b & c μμ >\"'"),
        ("5 &alpha;&nbsp;&le; &NotEqualTilde;", "5 α\u00a0≤ ≂̸"),
        (
            "by <i>E. coli</i>, H<sub>2</sub>O and 10<sup>-3</sup>: <b><u>all</u> of it</b>.",
            "by E. coli, H2O and 10-3: all of it.",
        ),
        ("<mml:math xmlns:mml='m'><mml:mi>x</mml:mi><mml:mo>=</mml:mo></mml:math>1", "x=1"),
        ("<math><semantics><mi>x</mi><annotation>TeX x</annotation></semantics></math> y", "x y"),
        ("&#946;\n\t\t\t<sub>2</sub>-agonist \r\n", "β 2-agonist"),
        ("<![CDATA[a <i> & ]]>b", "a <i> & b"),
        ("un<!-- <i> -->broken<?pi x?>ness", "unbrokenness"),
        ("\u00a0 kept\u2003\u2028 ", "\u00a0 kept\u2003\u2028"),
        ("&amp;lt; &#38;amp;", "&lt; &amp;"),
    ],
)
def test_a_text_is_whole(tmp_path: Path, xml: str, text: str) -> None:
    (row,) = rows(tmp_path, abstract(f"<AbstractText>{xml}</AbstractText>"))
    assert row["text"] == f"T\n\n{text}"
    (row,) = rows(tmp_path, jats(f"<p>{xml.replace('<u>', '<underline>').replace('</u>', '</underline>')}</p>"))
    assert row["text"] == text


def test_a_pmid_is_the_records_own(tmp_path: Path) -> None:
    comments = (
        "<CommentsCorrectionsList><CommentsCorrections><PMID>8</PMID></CommentsCorrections></CommentsCorrectionsList>"
    )
    listed = (
        "<ArticleIdList><ArticleId IdType='pubmed'>7</ArticleId>"
        "<ArticleId IdType='doi'>10.1/own</ArticleId></ArticleIdList>"
    )
    other = (
        listed.replace("own", "other").replace("7", "9").replace("doi'", "pmc'>1</ArticleId><ArticleId IdType='doi'")
    )
    references = f"<ReferenceList><Reference>{other}</Reference></ReferenceList>"
    for data in (listed + references, references + listed):
        (row,) = rows(tmp_path, pubmed(comments, data))
        assert (row["id"], row["pmid"], row["doi"], row["pmc"]) == ("7", "7", "10.1/own", None)


def test_abstracts_labels_and_what_is_no_abstract(tmp_path: Path) -> None:
    other = "<OtherAbstract Language='fre'><AbstractText>Non</AbstractText></OtherAbstract>"
    copyright_ = "<CopyrightInformation>© us</CopyrightInformation>"
    labelled = (
        "<AbstractText Label='AIM &amp; SCOPE' NlmCategory='OBJECTIVE'>One.</AbstractText>"
        "<AbstractText Label=''>Two é.</AbstractText><AbstractText Label='NONE'> <i/> </AbstractText>"
        "<AbstractText Label=' \n'/><AbstractText Label=' END\n OF '>Three.</AbstractText>"
    )
    xml = abstract(labelled + copyright_).replace("</Article>", f"</Article>{other}")
    (row,) = rows(tmp_path, xml)
    assert row["text"] == "T\n\nAIM & SCOPE: One.\nTwo é.\nEND OF: Three."
    cut = row["text"].encode()
    assert [(s["title"], cut[s["start_byte"] : s["end_byte"]].decode()) for s in row["sections"]] == [
        ("AIM & SCOPE", "AIM & SCOPE: One."),
        ("", "Two é."),
        ("END OF", "END OF: Three."),
    ]
    assert rows(tmp_path, xml, text=("abstract", "title"))[0]["sections"][0]["start_byte"] == 0
    assert rows(tmp_path, xml, text=("title",))[0]["sections"] == []
    assert rows(tmp_path, xml, text=("body",))[0]["text"] == ""


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("<Year>2001</Year>", 2001),
        ("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>", 1998),
        ("<MedlineDate>No. 12345, Winter 1987-1988</MedlineDate>", 1987),
        ("<MedlineDate>Winter</MedlineDate>", 2005),
        ("", 2005),
        ("<Year>98</Year>", 2005),
    ],
)
def test_years(tmp_path: Path, date: str, year: int) -> None:
    issue = f"<Journal><JournalIssue><PubDate>{date}</PubDate></JournalIssue><Title>J &amp; J</Title></Journal>"
    electronic = "<ArticleDate DateType='Electronic'><Year>2005</Year></ArticleDate>"
    (row,) = rows(
        tmp_path, pubmed(f"<DateCompleted><Year>1950</Year></DateCompleted><Article>{issue}{electronic}</Article>")
    )
    assert (row["year"], row["journal"]) == (year, "J & J")
    (row,) = rows(tmp_path, pubmed(f"<Article>{issue}</Article>"))
    assert row["year"] == (year if year != 2005 else None)


def test_dois_of_a_record(tmp_path: Path) -> None:
    places = "<ELocationID EIdType='pii'>S1</ELocationID><ELocationID EIdType='doi' ValidYN='{}'>10.1/e</ELocationID>"
    listed = (
        "<ArticleIdList><ArticleId IdType='pmc'>PMC12</ArticleId>"
        "<ArticleId IdType='doi'>10.1/l</ArticleId></ArticleIdList>"
    )
    article = f"<Article>{places}</Article>"
    assert rows(tmp_path, pubmed(article.format("Y")))[0]["doi"] == "10.1/e"
    assert rows(tmp_path, pubmed(article.format("N")))[0]["doi"] is None
    (row,) = rows(tmp_path, pubmed(article.format("Y"), listed))
    assert (row["doi"], row["pmc"]) == ("10.1/l", "PMC12")
    assert rows(tmp_path, pubmed(article.format("Y"), listed), id="pmc")[0]["id"] == "PMC12"
    assert rows(tmp_path, pubmed(article.format("Y")), id="pmc") == []


def test_books(tmp_path: Path) -> None:
    book = (
        "<PubmedArticleSet><PubmedBookArticle><BookDocument><PMID>20301295</PMID>"
        "<ArticleIdList><ArticleId IdType='bookaccession'>NBK1116</ArticleId></ArticleIdList>"
        "<Book><BookTitle>GeneReviews<sup>®</sup></BookTitle><PubDate><Year>1993</Year></PubDate></Book>"
        "<ArticleTitle>Some <i>GENE</i></ArticleTitle><Language>eng</Language>"
        "<PublicationType UI='D016454'>Review</PublicationType>"
        "<Abstract><AbstractText Label='A'>B.</AbstractText></Abstract>"
        "</BookDocument><PubmedBookData><ArticleIdList><ArticleId IdType='doi'>10.1/b</ArticleId></ArticleIdList>"
        "</PubmedBookData></PubmedBookArticle></PubmedArticleSet>"
    )
    (row,) = rows(tmp_path, book)
    assert (row["id"], row["title"], row["journal"]) == ("20301295", "Some GENE", "GeneReviews®")
    assert (row["year"], row["text"], row["doi"]) == (1993, "Some GENE\n\nA: B.", "10.1/b")
    assert (row["languages"], row["publication_types"]) == (["eng"], ["Review"])
    (row,) = rows(tmp_path, book.replace("ArticleTitle", "Heading"))
    assert row["title"] == "GeneReviews®"


def test_formulas_are_kept_once(tmp_path: Path) -> None:
    math = "<mml:math xmlns:mml='m'><mml:mi>a</mml:mi></mml:math>"
    tex = r"<tex-math><![CDATA[\documentclass{minimal}\begin{document} $$a$$ \end{document}]]></tex-math>"
    image = "<inline-graphic href='a.gif'/>"
    for formula, text in (
        (f"<alternatives>{math}{tex}{image}</alternatives>", "x $$a$$ y"),
        (f"<alternatives>{image}{math}</alternatives>", "x a y"),
        (f"<alternatives>{math}<textual-form>alpha</textual-form></alternatives>", "x alpha y"),
        (f"<alternatives>{image}</alternatives>", "x y"),
        (f"<inline-formula>{tex}</inline-formula>", "x $$a$$ y"),
        ("<tex-math>a^2</tex-math>", "x a^2 y"),
    ):
        (row,) = rows(tmp_path, jats(f"<p>x {formula} y</p>"))
        assert row["text"] == text


def test_paragraphs_sections_and_what_is_dropped(tmp_path: Path) -> None:
    body = """
      <p>Before.</p>
      <sec id="s1"><label>1</label><title>Intro<xref><sup>a</sup></xref></title>
        <p>One <xref ref-type="bibr">[1]</xref>.<fn><p>A note.</p></fn></p>
        <p>List:<list><list-item><label>•</label><p>first</p></list-item><list-item><p>second</p></list-item></list>end.</p>
        <sec><title>Deep</title><p>Two<break/>lines.</p><fig><caption><p>Figure.</p></caption></fig></sec>
        <table-wrap><table><tr><td>1</td></tr></table></table-wrap>
      </sec>
      <sec><title/><p>Three<disp-formula><label>(1)</label><italic>E=m</italic></disp-formula>.</p></sec>
      <sec><title> </title><fig/></sec>
      <sec><p><bold>No title.</bold></p></sec>
    """
    meta = "<title-group><article-title>On <italic>X</italic><fn><p>n</p></fn></article-title>"
    meta += "<subtitle>a study</subtitle></title-group>"
    meta += "<abstract><title>Abstract</title><sec><title>Aim</title><p>Know.</p></sec></abstract>"
    meta += "<abstract abstract-type='graphical'><p>No.</p></abstract><trans-abstract><p>Non.</p></trans-abstract>"
    meta += "<abstract abstract-type='executive-summary'><p>In short.</p></abstract>"
    floats = "<floats-group><fig><caption><p>no</p></caption></fig></floats-group>"
    xml = jats(body, meta).replace("</body>", f"</body><back><sec><p>no</p></sec></back>{floats}")
    (row,) = rows(tmp_path, xml)
    blocks = row["text"].split("\n\n")
    assert blocks == [
        *(
            "On X: a study",
            "Abstract",
            "Aim",
            "Know.",
            "In short.",
            "Before.",
            "Introa",
            "One [1].",
            "List:",
            "first",
            "second",
        ),
        *("end.", "Deep", "Two lines.", "ThreeE=m.", "No title."),
    ]
    cut = row["text"].encode()
    assert [(s["title"], cut[s["start_byte"] : s["end_byte"]].decode().split("\n\n")) for s in row["sections"]] == [
        ("Aim", ["Aim", "Know."]),
        ("Introa", blocks[6:14]),
        ("Deep", ["Deep", "Two lines."]),
        ("", ["ThreeE=m."]),
        ("", ["No title."]),
    ]


def test_ids_dates_and_sub_articles(tmp_path: Path) -> None:
    meta = (
        "<article-id pub-id-type='publisher-id'>x</article-id><article-id pub-id-type='pmcid'>PMC77</article-id>"
        "<article-id pub-id-type='doi'>10.1/a</article-id><article-id pub-id-type='pmid'>5</article-id>"
        "<pub-date pub-type='epub'><year>2012</year></pub-date><pub-date><year>2011</year></pub-date>"
        "<pub-date><year>11</year></pub-date>"
    )
    start = "<article xml:lang='EN' article-type='research-article' lang='de'>"
    stub = "<front-stub><article-id pub-id-type='pmcid'>PMC1</article-id></front-stub>"
    response = f"<response>{stub}<body><p>no</p></body></response>"
    front = f"<front><article-meta>{meta.replace('77', '78')}</article-meta></front>"
    sub = f"<sub-article>{front}<body><p>no</p></body></sub-article>"
    xml = jats("<p>b</p>", meta, start).replace("</article>", f"{sub}{response}</article>")
    (row,) = rows(tmp_path, xml)
    assert (row["id"], row["pmc"], row["doi"], row["pmid"], row["text"]) == ("PMC77", "PMC77", "10.1/a", "5", "b")
    assert (row["year"], row["languages"], row["publication_types"]) == (2011, ["en"], ["research-article"])
    assert rows(tmp_path, xml, id="doi")[0]["id"] == "10.1/a"
    (row,) = rows(tmp_path, jats("<p>b</p>"))
    assert (row["id"], row["pmc"], row["year"], row["languages"]) == ("file.xml:0", None, None, [])
    nested = f"<OAI-PMH xmlns='o'><record><metadata>{xml}</metadata></record><record>{xml}</record></OAI-PMH>"
    assert [row["id"] for row in rows(tmp_path, nested)] == ["PMC77", "PMC77"]


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "no xml",
        "<html/>",
        "<PubmedArticleSet>",
        "<PubmedArticleSet><PubmedArticle></PubmedArticleSet>",
        "<PubmedArticleSet/><PubmedArticleSet/>",
        "<article>&unknown;</article>",
        "<article>&alpha</article>",
        "<article>a & b</article>",
        "<article a=1/>",
        "<article a='1' a='2'/>",
        "<article a='<'/>",
        "<article>]]></article>",
        "<article><!-- a -- b --></article>",
        "<article>&#0;</article>",
        "<article>&#xD800;</article>",
        "<article>\x01</article>",
        "<article></article>text",
        "<article><![CDATA[</article>",
        "<article></Article>",
        "<?xml version='1.0' encoding='latin-1'?><article/>",
        "<!DOCTYPE article [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;'>]><article>&lol2;</article>",
        "<!DOCTYPE article [<!ENTITY xxe SYSTEM 'file:///etc/passwd'>]><article>&xxe;</article>",
        "<!DOCTYPE article [<!ENTITY alpha 'b'>]><article>&alpha;</article>",
    ],
)
def test_what_is_refused(tmp_path: Path, xml: str) -> None:
    path = tmp_path / "file.xml"
    path.write_text(xml)
    with pytest.raises(oracle.RefusedError):
        oracle.records(xml.encode())
    with pytest.raises(FormatError) as caught:
        native(path)
    assert caught.value.path == str(path)


def test_depth_is_bounded(tmp_path: Path) -> None:
    for depth, error in ((500, None), (600, LimitError), (200_000, LimitError)):
        path = tmp_path / "file.xml"
        path.write_text(jats("<b>" * depth + "x" + "</b>" * depth))
        if error is None:
            assert native(path)[0]["text"] == "x"
        else:
            with pytest.raises(error):
                native(path)


def test_the_names_of_html_entities(tmp_path: Path) -> None:
    names = sorted(name for name in html5 if name.endswith(";"))
    text = "".join(f"<p>[&{name}]</p>" for name in names)
    (row,) = rows(tmp_path, jats(text))
    # Newline and tab are white space like any other.
    assert row["text"].split("\n\n") == [oracle.normal(f"[{html5[name]}]") for name in names]


# --- All real files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS, ids="+".join)
def test_every_file_of_pubmed(text: tuple[str, ...]) -> None:
    for name in PUBMED_FILES or ["pubmed1.xml"]:
        path = shared_file(f"pubmed_xml/{name}")
        assert_equal(native(path, text=text), oracle.records(path.read_bytes(), text=text))


@pytest.mark.parametrize("name", JATS_FILES or ["efetch_pmc.xml"])
def test_every_file_of_jats(name: str) -> None:
    path = shared_file(f"jats/{name}")
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    expected = oracle.records(data, name=name)
    assert_equal(native(path), expected)
    assert len(expected) == 1
    assert_equal(native(path, text=("body", "title")), oracle.records(data, name=name, text=("body", "title")))


# --- Files made up ----------------------------------------------------------------------------------------------------

RANDOMS = st.randoms(use_true_random=False)


def pubmed_records(rng: Random, count: int) -> list[str]:
    return [
        made.pubmed_book(rng) if rng.random() < 0.2 else made.pubmed_article(rng, None if rng.random() < 0.9 else "")
        for _ in range(count)
    ]


@settings(max_examples=60, deadline=None)
@given(
    rng=RANDOMS, count=st.integers(0, 3), text=st.sampled_from(TEXTS), id=st.sampled_from([None, None, "doi", "pmc"])
)
def test_awkward_pubmed(
    tmp_path_factory: pytest.TempPathFactory,
    rng: Random,
    count: int,
    text: tuple[str, ...],
    id: str | None,  # noqa: A002
) -> None:
    xml = made.pubmed_file(rng, pubmed_records(rng, count))
    rows(tmp_path_factory.getbasetemp(), xml, text=text, id=id, source=rng.choice((None, "journal")))


@settings(max_examples=60, deadline=None)
@given(
    rng=RANDOMS, count=st.integers(0, 2), text=st.sampled_from(TEXTS), id=st.sampled_from([None, None, "doi", "pmid"])
)
def test_awkward_jats(
    tmp_path_factory: pytest.TempPathFactory,
    rng: Random,
    count: int,
    text: tuple[str, ...],
    id: str | None,  # noqa: A002
) -> None:
    xml = made.jats_file(rng, [made.jats_article(rng) for _ in range(count)])
    rows(tmp_path_factory.getbasetemp(), xml, text=text, id=id, source=rng.choice((None, "journal")))


def test_damage_is_seen_where_lxml_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "file.xml"
    refused = 0
    for seed in range(250):
        rng = Random(seed)
        whole = made.pubmed_file(rng, pubmed_records(rng, 2), ("5",) if seed % 3 else ())
        if seed % 2:
            whole = made.jats_file(rng, [made.jats_article(rng)])
        data = made.damaged(rng, whole.encode())
        path.write_bytes(data)
        try:
            expected = in_force([(path.name, data)])
        except oracle.RefusedError as error:
            refused += 1
            # Of namespaces only the local names are looked at, so those need not be right.
            if "amespace" not in str(error) and "valid URI" not in str(error) and "QName" not in str(error):
                with pytest.raises((FormatError, LimitError)):
                    native(path)
        else:
            assert_equal(native(path, on_error="skip"), expected)
    assert 150 < refused < 250


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_files_longer_than_any_buffer(tmp_path: Path, suffix: str) -> None:
    coders = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    for kind in ("pubmed", "jats"):
        rng = Random(len(suffix))
        make = made.pubmed_article if kind == "pubmed" else made.jats_article
        records: list[str] = []
        while sum(map(len, records)) < 1_500_000:
            records.append(
                make(rng) + f"<!--{'x' * rng.choice((0, 1, 7, 100, 5000, 70_000))}-->" * (rng.random() < 0.1)
            )
        file = made.pubmed_file(rng, records) if kind == "pubmed" else f"<OAI-PMH>{''.join(records)}</OAI-PMH>"
        path = tmp_path / f"{kind}.xml{suffix}"
        path.write_bytes(coders[suffix](file.encode()))
        expected = in_force([(path.name, file.encode())])
        assert len(expected) > 200
        assert_equal(native(path), expected)


def test_a_tar_of_articles(tmp_path: Path) -> None:
    rng = Random(3)
    held = io.BytesIO()
    members = {f"PMC00{i}/article{i}.{'nxml' if i % 2 else 'xml'}": made.jats_article(rng) for i in range(30)}
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, xml in {
            **members,
            "PMC001/notes.txt": "no xml",
            "a/" + "long" * 60 + ".nxml": made.jats_article(rng),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(xml.encode())
            archive.addfile(info, io.BytesIO(xml.encode()))
    for suffix, data in (
        (".tar", held.getvalue()),
        (".tar.gz", gzip.compress(held.getvalue())),
        (".tgz", gzip.compress(held.getvalue())),
    ):
        path = tmp_path / f"oa{suffix}"
        path.write_bytes(data)
        expected = oracle.tar_records(held.getvalue(), name=path.name)
        assert len(expected) == 31
        assert_equal(native(path), expected)


# --- Versions ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(rng=RANDOMS, count=st.integers(1, 4))
def test_later_records_replace_and_deletions_remove(
    tmp_path_factory: pytest.TempPathFactory, rng: Random, count: int
) -> None:
    base = tmp_path_factory.mktemp("versions")
    sources = []
    for i in range(count):
        pmids = [str(rng.randrange(1, 9)) for _ in range(rng.randrange(5))]
        deleted = tuple(str(rng.randrange(1, 9)) for _ in range(rng.choice((0, 0, 1, 3))))
        xml = made.pubmed_file(
            rng, [made.pubmed_article(rng, pmid if rng.random() < 0.9 else "") for pmid in pmids], deleted
        )
        # In folders of their own, so that the order of names and that of paths differ; some names occur twice.
        folder = base / f"{count - i}"
        folder.mkdir()
        name = f"pubmed26n{rng.randrange(3):04}.xml{rng.choice(('', '.gz'))}"
        path = folder / name
        path.write_bytes(gzip.compress(xml.encode()) if name.endswith(".gz") else xml.encode())
        sources.append((path, xml.encode()))
    files = [(str(path), data) for path, data in sources]
    _, replaced, removed = oracle.left_out(files)
    expected = in_force(files)
    paths = [path for path, _ in sources]
    assert_equal(as_documents(paths, on_error="skip").to_table().to_pylist(), expected)
    counts = read(paths, on_error="skip").manifest.counts
    assert (counts["replaced"], counts["deleted"]) == (sum(replaced), sum(removed))
    assert counts["documents"] == len(expected)
