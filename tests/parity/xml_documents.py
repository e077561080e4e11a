"""PubMed and JATS files made up to be awkward: inline tags, entities, CDATA, comments, odd whitespace, nested sections.

All choices come from a `random.Random`, which hypothesis can stand behind.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

__all__ = ["damaged", "jats_article", "jats_file", "pubmed_article", "pubmed_file"]

PIECES = (
    *("a", "word", "p = 0.05", "β", "日本", "𝒳", "\u00a0", "\u2028", "\u0085", "\ufeff", "e.g."),
    *("] ", ">", "'", '"', ";"),
    *(" ", "  ", "\n", "\r\n", "\t", "\r", " \n\t ", "\u3000"),
    *("&lt;", "&gt;", "&amp;", "&quot;", "&apos;", "&#x3bc;", "&#946;", "&#32;", "&#10;", "&#xA0;", "&#x1D4B3;"),
    *("&alpha;", "&nbsp;", "&NotEqualTilde;", "&hellip;", "&copy;", "&amp;amp;", "&amp;lt;"),
    *("<![CDATA[ x < y & z ]]>", "<![CDATA[]]>", "<![CDATA[<p>&alpha;</p>]]>", "<![CDATA[]]]]><![CDATA[>]]>"),
    *("<!-- a <p> in a comment & more -->", "<!---->", "<?pi a <b> ?>", "<?x?>"),
    *("<![CDATA[</PubmedArticle></article>]]>", "<!-- </PubmedArticle><PMID>1</PMID> -->", "<?p </article> ?>"),
)
ATTRIBUTES = ("", "", "", ' a="1"', " a='x > y'", ' a="&lt;&quot;é"', '\n\ta = "b"  c="d" ', ' xml:lang="en"')
INLINE = (
    "i",
    "b",
    "sub",
    "sup",
    "u",
    "italic",
    "xref",
    "ext-link",
    "named-content",
    "mml:math",
    "mml:mi",
    "inline-formula",
)


def text(rng: Random, most: int = 6) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(most + 1)))


def element(rng: Random, name: str, content: str, attributes: str | None = None) -> str:
    """An element, empty ones written either way, with or without space in its tags."""
    given = rng.choice(ATTRIBUTES) if attributes is None else attributes
    if not content and rng.random() < 0.5:
        return f"<{name}{given}/>"
    return f"<{name}{given}{rng.choice(('', '', ' ', chr(10)))}>{content}</{name}{rng.choice(('', '', ' '))}>"


def mixed(rng: Random, names: tuple[str, ...], depth: int = 2, most: int = 3) -> str:
    """Text with elements in it."""
    pieces = [text(rng)]
    if depth:
        for _ in range(rng.randrange(most)):
            name = rng.choice(names)
            # As any DTD has it, a break is empty and TeX is text.
            deeper = 0 if name == "tex-math" else depth - 1
            content = "" if name == "break" else mixed(rng, names, deeper, most)
            pieces += [element(rng, name, content), text(rng, 3)]
    return "".join(pieces)


def number(rng: Random, digits: int = 8) -> str:
    return "".join(rng.choice("0123456789") for _ in range(digits))


def written(rng: Random, digits: str) -> str:
    """Digits in one of the ways XML has for them."""
    head, last = digits[:-1], digits[-1]
    ways = (digits, digits, digits, f" {digits}\n", f"{head}&#{ord(last)};", f"{head}<!-- 0 -->{last}")
    return rng.choice((*ways, f"{head}<![CDATA[{last}]]>", f"<?p 7?>{digits}"))


def maybe(rng: Random, make: Callable[[], str], chance: float = 0.7) -> str:
    return make() if rng.random() < chance else rng.choice(("", "\n  ", "<!-- absent -->"))


def declaration(rng: Random, root: str) -> str:
    """What may stand before the root element."""
    start = rng.choice(("", '<?xml version="1.0"?>', "<?xml version='1.0' encoding='UTF-8' standalone=\"yes\" ?>\n"))
    doctypes = (
        "",
        f'<!DOCTYPE {root} PUBLIC "-//NLM//DTD X//EN" "https://dtd.nlm.nih.gov/x.dtd?>">\n',
        f'<!DOCTYPE {root} [\n<!ENTITY unused "x > ]]"><!-- ] > --> <!ELEMENT {root} ANY> <?p ]> ?>\n]>\n',
    )
    return rng.choice(("", "\ufeff")) + start + rng.choice(("", "<!-- first -->\n", "\n")) + rng.choice(doctypes)


SCRAPS = (
    *(
        b"<",
        b">",
        b"&",
        b";",
        b"/",
        b"!",
        b"-",
        b'"',
        b"'",
        b" ",
        b"=",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"xml",
    ),
    *(b"]]>", b"<!--", b"-->", b"<![CDATA[", b"<?", b"?>", b"&#x110000;", b"&#xFFFE;", b"&#0;", b"\xef\xbf\xbe"),
    *(b"<a>", b"</a>", b"<p/>", b"</sec>", b"<sec>", b"</PubmedArticle>", b"<PubmedArticle>", b"<PMID>1</PMID>"),
    *(b"<DeleteCitation>", b"<!DOCTYPE a>", b"<?xml version='1.0'?>"),
)


def damaged(rng: Random, data: bytes) -> bytes:
    """A file with a few bytes put in, taken out, replaced or repeated, or without its end."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, other = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        scrap = rng.choice(SCRAPS)
        ways = (
            data[:at] + scrap + data[at:],
            data[:at] + scrap + data[at + 1 :],
            data[:at] + data[at + rng.randrange(1, 4) :],
            data[:at] + data[min(at, other) : max(at, other)][:200] + data[at:],
            data[:at],
        )
        data = rng.choice(ways)
    return data


# --- PubMed -----------------------------------------------------------------------------------------------------------

MARKS = (*INLINE, "mml:annotation", "annotation-xml")


def pubmed_article(rng: Random, pmid: str | None = None) -> str:
    """A PubmedArticle; its PMID is made up unless given, and absent where it is ""."""
    pmid = number(rng) if pmid is None else pmid
    parts = [maybe(rng, lambda: element(rng, "PMID", written(rng, pmid), ' Version="1"'), 1.0 if pmid else 0.0)]
    article = [
        maybe(rng, lambda: journal(rng)),
        maybe(rng, lambda: element(rng, "ArticleTitle", mixed(rng, INLINE, 2))),
        maybe(rng, lambda: places(rng)),
        maybe(rng, lambda: abstract(rng), 0.8),
        maybe(rng, lambda: "<AuthorList><Author><LastName>A &amp; B</LastName></Author></AuthorList>"),
        *(element(rng, "Language", rng.choice(("eng", " fre ", "", "ger&#x20;"))) for _ in range(rng.randrange(3))),
        maybe(rng, lambda: types(rng)),
        maybe(
            rng,
            lambda: (
                f"<ArticleDate DateType='Electronic'><Year>{rng.choice(('2001', ' 2002', 'x'))}</Year></ArticleDate>"
            ),
            0.3,
        ),
    ]
    parts += [
        element(rng, "Article", "\n".join(article)),
        maybe(
            rng,
            lambda: (
                f"<CommentsCorrectionsList><CommentsCorrections><PMID>{number(rng)}</PMID></CommentsCorrections></CommentsCorrectionsList>"
            ),
            0.3,
        ),
        maybe(rng, lambda: f"<OtherAbstract Type='Publisher'>{abstract_text(rng)}</OtherAbstract>", 0.3),
        maybe(
            rng,
            lambda: (
                "<MeshHeadingList><MeshHeading><DescriptorName>Humans</DescriptorName></MeshHeading></MeshHeadingList>"
            ),
            0.3,
        ),
    ]
    data = maybe(
        rng, lambda: element(rng, "PubmedData", ids(rng) + references(rng) + maybe(rng, lambda: ids(rng), 0.1)), 0.8
    )
    return element(rng, "PubmedArticle", element(rng, "MedlineCitation", "".join(parts)) + data)


def pubmed_book(rng: Random) -> str:
    """A PubmedBookArticle."""
    book = [
        maybe(rng, lambda: element(rng, "BookTitle", mixed(rng, INLINE, 1))),
        maybe(rng, lambda: element(rng, "PubDate", date(rng))),
    ]
    document = [
        element(rng, "PMID", number(rng)),
        maybe(rng, lambda: ids(rng), 0.4),
        element(rng, "Book", "".join(book)),
        maybe(rng, lambda: element(rng, "ArticleTitle", mixed(rng, INLINE, 2))),
        maybe(rng, lambda: element(rng, "Language", "eng")),
        maybe(rng, lambda: '<PublicationType UI="D016454">Review</PublicationType>'),
        maybe(rng, lambda: abstract(rng)),
    ]
    return element(
        rng,
        "PubmedBookArticle",
        element(rng, "BookDocument", "".join(document))
        + maybe(rng, lambda: element(rng, "PubmedBookData", ids(rng)), 0.5),
    )


def pubmed_file(rng: Random, records: list[str], deleted: tuple[str, ...] = ()) -> str:
    """A PubmedArticleSet."""
    content = [*records]
    if deleted:
        content.append(
            element(
                rng, "DeleteCitation", "".join(f"<PMID Version='1'>{written(rng, pmid)}</PMID>\n" for pmid in deleted)
            )
        )
    joined = "".join(record + rng.choice(("", "\n", "<!-- between -->")) for record in content)
    root = "PubmedArticleSet"
    return declaration(rng, root) + element(rng, root, joined, ' xmlns:mml="http://www.w3.org/1998/Math/MathML"') + "\n"


def abstract(rng: Random) -> str:
    texts = "\n".join(abstract_text(rng) for _ in range(rng.randrange(4)))
    return element(
        rng, "Abstract", texts + maybe(rng, lambda: "<CopyrightInformation>© us</CopyrightInformation>", 0.3)
    )


def abstract_text(rng: Random) -> str:
    labels = ("", "", ' Label="METHODS"', ' Label=""', ' Label="  "', " Label='A&amp;B\n C' NlmCategory='METHODS'")
    return element(rng, "AbstractText", mixed(rng, MARKS), rng.choice(labels))


def journal(rng: Random) -> str:
    issue = element(rng, "JournalIssue", maybe(rng, lambda: element(rng, "PubDate", date(rng)), 0.9))
    return element(
        rng,
        "Journal",
        issue + maybe(rng, lambda: element(rng, "Title", text(rng))) + "<ISOAbbreviation>J</ISOAbbreviation>",
    )


def date(rng: Random) -> str:
    if rng.random() < 0.5:
        return element(rng, "Year", rng.choice(("1999", " 2020\n", "19&#57;8", "199", "")), "") + "<Month>Feb</Month>"
    dates = ("1998 Dec-1999 Jan", "Winter 2000", "12345 2003", "no", "2001-2002", "", "19<!-- x -->87 Spring")
    return element(rng, "MedlineDate", rng.choice(dates))


def places(rng: Random) -> str:
    kinds = (' EIdType="doi"', ' EIdType="doi" ValidYN="Y"', ' EIdType="doi" ValidYN="N"', ' EIdType="pii" ValidYN="Y"')
    return "".join(
        element(rng, "ELocationID", f"10.1/{number(rng, 3)}", rng.choice(kinds)) for _ in range(rng.randrange(3))
    )


def types(rng: Random) -> str:
    names = ("Journal Article", "Review", "Research Support, U.S. Gov&apos;t", " ", "Retraction\n of Publication")
    return element(
        rng,
        "PublicationTypeList",
        "\n".join(element(rng, "PublicationType", rng.choice(names)) for _ in range(rng.randrange(3))),
    )


def ids(rng: Random) -> str:
    values = {
        "pubmed": lambda: number(rng),
        "doi": lambda: rng.choice((" 10.1000/a&lt;b ", f"10.1/{number(rng, 2)}", "")),
        "pmc": lambda: rng.choice((f"PMC{number(rng, 5)}", number(rng, 3), "pmc12", "PMC", "none")),
        "pii": lambda: "S0",
    }
    kinds = [rng.choice(list(values)) for _ in range(rng.randrange(4))]
    listed = "".join(element(rng, "ArticleId", values[kind](), f' IdType="{kind}"') for kind in kinds)
    return element(rng, "ArticleIdList", listed)


def references(rng: Random) -> str:
    return maybe(
        rng,
        lambda: f"<ReferenceList><Reference><Citation>C. 1990</Citation>{ids(rng)}</Reference></ReferenceList>",
        0.4,
    )


# --- JATS -------------------------------------------------------------------------------------------------------------

BLOCKS = (
    *("p", "p", "p", "sec", "sec", "title", "list", "list-item", "def-list", "def-item", "term", "def", "disp-quote"),
    *("boxed-text", "statement", "verse-group", "verse-line", "preformat", "code", "speech", "speaker", "array"),
)
DROPPED = (
    *("label", "fn", "fn-group", "table-wrap", "table", "fig", "fig-group", "graphic", "inline-graphic", "media"),
    *("supplementary-material", "object-id", "permissions", "attrib", "sec-meta", "ref-list", "annotation", "x"),
    *("index-term", "mml:annotation-xml", "inline-supplementary-material", "table-wrap-group", "inline-media"),
)
ODD = (
    "break",
    "alternatives",
    "disp-formula",
    "tex-math",
    "textual-form",
    "caption",
    "related-article",
    "styled-content",
)
NAMES = (*BLOCKS, *BLOCKS, *INLINE, *INLINE, *DROPPED, *ODD)


def jats_article(rng: Random) -> str:
    """An article."""
    languages = ("", ' xml:lang="en"', ' xml:lang="EN-GB"', ' lang="de"', ' xml:lang=" "')
    kinds = ("", ' article-type="research-article"', " article-type='case-report'")
    namespaces = ' xmlns:mml="http://www.w3.org/1998/Math/MathML" xmlns:xlink="http://www.w3.org/1999/xlink"'
    front = element(rng, "front", maybe(rng, lambda: journal_meta(rng)) + maybe(rng, lambda: article_meta(rng), 0.95))
    rest = [
        maybe(rng, lambda: element(rng, "body", body(rng)), 0.9),
        maybe(rng, lambda: f"<back><sec><title>Not read</title><p>{text(rng)}</p></sec></back>", 0.3),
        maybe(rng, lambda: "<floats-group><fig><caption><p>Not read</p></caption></fig></floats-group>", 0.2),
        maybe(
            rng,
            lambda: f"<sub-article>{front}<body><p>Not read</p></body></sub-article><response>{front}</response>",
            0.2,
        ),
    ]
    return element(rng, "article", front + "".join(rest), namespaces + rng.choice(languages) + rng.choice(kinds))


def jats_file(rng: Random, articles: list[str]) -> str:
    """One article alone, or several in a set."""
    if len(articles) == 1 and rng.random() < 0.5:
        return declaration(rng, "article") + articles[0] + "<!-- end -->"
    root = rng.choice(("pmc-articleset", "OAI-PMH"))
    shells = ("{}", "<record><metadata>{}</metadata></record>", "<!-- x -->{}\n")
    return declaration(rng, root) + element(rng, root, "".join(rng.choice(shells).format(a) for a in articles), "")


def journal_meta(rng: Random) -> str:
    title = element(rng, "journal-title", text(rng))
    return element(rng, "journal-meta", rng.choice((title, f"<journal-title-group>{title}</journal-title-group>", "")))


def article_meta(rng: Random) -> str:
    kinds = ("doi", "pmid", "pmc", "pmcid", "publisher-id")
    values = (number(rng), f"PMC{number(rng, 4)}", "10.1/x&amp;y", "")
    title = element(rng, "article-title", mixed(rng, (*INLINE, *DROPPED, *ODD)))
    group = title + maybe(rng, lambda: element(rng, "subtitle", text(rng)), 0.3)
    abstracts = ("", "", ' abstract-type="graphical"', ' abstract-type="executive-summary"', " abstract-type='toc'")
    parts = [
        *(
            element(rng, "article-id", rng.choice(values), f' pub-id-type="{rng.choice(kinds)}"')
            for _ in range(rng.randrange(4))
        ),
        maybe(rng, lambda: element(rng, "title-group", group), 0.9),
        *(
            f"<pub-date><month>3</month>{element(rng, 'year', rng.choice(('2010', ' 1999 ', '99')))}</pub-date>"
            for _ in range(rng.randrange(3))
        ),
        "<permissions><license><p>Not read</p></license></permissions>",
        *(element(rng, "abstract", body(rng), rng.choice(abstracts)) for _ in range(rng.randrange(3))),
        maybe(rng, lambda: f"<trans-abstract xml:lang='fr'>{body(rng)}</trans-abstract>", 0.2),
    ]
    return element(rng, "article-meta", "\n".join(parts))


def body(rng: Random, depth: int = 3) -> str:
    """Blocks, inline elements and what is not read, nested as no DTD would have it."""
    pieces = [text(rng, 3)]
    for _ in range(rng.randrange(4)):
        name = rng.choice(NAMES)
        if name == "tex-math":
            content = rng.choice(
                (r"\usepackage{x}\begin{document} $a&lt;b$ \end{document} ", " x^2 ", r"\begin{document}")
            )
        elif name == "break":
            content = ""
        elif name == "sec" and depth:
            title = maybe(rng, lambda: element(rng, "title", mixed(rng, INLINE, 1)), 0.8)
            content = maybe(rng, lambda: "<label>1.</label>", 0.3) + title + body(rng, depth - 1)
        else:
            content = body(rng, depth - 1) if depth else text(rng)
        pieces += [element(rng, name, content), text(rng, 3)]
    return "".join(pieces)
