"""PubMed and JATS XML read slowly, on lxml's whole trees: what the native reader must give, field for field.

Written from the description of the formats and of our columns alone, with no thought of speed. `records` gives the rows
of one file, `left_out` those that later files replace or delete.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Any

from lxml import etree

__all__ = ["Bad", "RefusedError", "left_out", "paragraphs_of", "records", "tar_records"]

PARTS = ("title", "abstract", "body")
MAX_DEPTH = 512
UNREAD_ABSTRACTS = {"graphical", "toc", "teaser", "short", "video"}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BLOCKS = _names(
    "sec p title list list-item def-list def-item term def disp-quote boxed-text statement verse-group verse-line "
    "preformat code speech speaker array"
)
DROPPED = _names(
    "label fn fn-group table-wrap table-wrap-group table fig fig-group graphic inline-graphic media inline-media "
    "supplementary-material inline-supplementary-material object-id permissions attrib sec-meta ref-list annotation "
    "annotation-xml index-term x sub-article response floats-group back"
)
ANNOTATIONS = _names("annotation annotation-xml")
LANG = "{http://www.w3.org/XML/1998/namespace}lang"

Row = dict[str, Any]


class RefusedError(ValueError):
    """The file is not read: it is not well-formed, or of another kind, or holds what is not allowed."""


@dataclass(frozen=True)
class Bad:
    """A record that is set aside."""

    reason: str


# --- The file ---------------------------------------------------------------------------------------------------------

_SUBSET = r"""(?:<!--.*?-->|<\?.*?\?>|"[^"]*"|'[^']*'|[^\]"'])*"""
_MARKUP = re.compile(
    rf"""<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<!DOCTYPE(?:[^<>\["']|"[^"]*"|'[^']*')*(?:\[{_SUBSET}\]\s*)?>""",
    re.DOTALL,
)
_NAMED = re.compile(r"&([^#;&<\s][^;&<\s]*;)")
_DECLARED = re.compile(r"<!ENTITY\s+([^\s%]+)")
_DECLARATION = re.compile(r"^<\?xml\s.*?\?>")
_ENCODING = re.compile(r"encoding\s*=\s*[\"']([^\"']*)[\"']")


def parsed(data: bytes) -> etree._Element:
    """The root of a document, with the entities of HTML resolved and no DTD asked for."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(f"not UTF-8: {error}") from None
    if declaration := _DECLARATION.match(text):
        encoding = _ENCODING.search(declaration[0])
        if encoding is not None and encoding[1].lower() not in ("utf-8", "us-ascii", "ascii"):
            raise RefusedError(f"encoding {encoding[1]}")
    declared: set[str] = set()

    def resolved(match: re.Match[str]) -> str:
        name = match[1]
        if name in ("lt;", "gt;", "amp;", "apos;", "quot;") and name not in declared:
            return match[0]
        if name in declared or name not in html5:
            raise RefusedError(f"entity &{name}")
        return "".join(f"&#{ord(character)};" for character in html5[name])

    pieces, at = [], 0
    for match in _MARKUP.finditer(text):
        pieces.append(_NAMED.sub(resolved, text[at : match.start()]))
        if match[0].startswith("<!DOCTYPE"):
            declared |= {f"{name};" for name in _DECLARED.findall(match[0])}
        pieces.append(match[0])
        at = match.end()
    pieces.append(_NAMED.sub(resolved, text[at:]))
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True)
    try:
        root = etree.fromstring("".join(pieces).encode(), parser)
    except etree.XMLSyntaxError as error:
        raise RefusedError(str(error)) from None
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return root
    raise RefusedError("too deep")


def records(
    data: bytes,
    *,
    name: str = "file.xml",
    text: tuple[str, ...] = ("text",),
    id: str | None = None,  # noqa: A002
    source: str | None = None,
) -> list[Row | Bad]:
    """The rows of a file, and its bad records, in order.

    Args:
        data: the file, not compressed.
        name: of the file, which ids are made of where there is no better one.
        text: ("text",) or some of `PARTS`.
        id: "pmid", "pmc" or "doi"; a record without it is bad.
        source: "journal" for the journal in place of "pubmed" and "jats".

    Raises:
        RefusedError: it cannot be read as PubMed or JATS.
    """
    root = parsed(data)
    kind = local(root)
    if kind in ("PubmedArticleSet", "PubmedBookArticleSet"):
        found = [child for child in children(root) if local(child) in ("PubmedArticle", "PubmedBookArticle")]
    elif kind == "PubmedArticle":
        found = [root]
    elif kind in ("article", "pmc-articleset", "OAI-PMH"):
        found = outermost_articles(root)
    else:
        raise RefusedError(f"root {kind}")
    made: list[Row | Bad] = []
    for row, element in enumerate(found):
        fields = jats(element) if kind in ("article", "pmc-articleset", "OAI-PMH") else pubmed(element)
        if isinstance(fields, Bad):
            made.append(fields)
            continue
        fields["id"] = fields["id"] or f"{name}:{row}"
        if id is not None:
            if fields[id] is None:
                made.append(Bad(f"no {id}"))
                continue
            fields["id"] = fields[id]
        if source == "journal":
            fields["source"] = fields["journal"] or fields["source"]
        parts = {part: fields.pop(f"_{part}") for part in PARTS}
        sections = {part: fields.pop(f"_{part}_sections") for part in ("abstract", "body")}
        fields["text"], fields["sections"] = "", []
        for part in PARTS if text == ("text",) else text:
            if not parts[part]:
                continue
            if fields["text"]:
                fields["text"] += "\n\n"
            start = len(fields["text"].encode())
            fields["text"] += parts[part]
            for title, first, last in sections.get(part, ()):
                fields["sections"].append({"title": title, "start_byte": start + first, "end_byte": start + last})
        made.append(fields)
    return made


def tar_records(data: bytes, *, name: str, **options: Any) -> list[Row | Bad]:
    """The rows of all XML members of a tar, as `records`."""
    made: list[Row | Bad] = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".xml", ".nxml")):
                held = archive.extractfile(member)
                assert held is not None
                made += records(held.read(), name=f"{name}/{member.name}", **options)
    return made


def left_out(files: list[tuple[str, bytes]]) -> tuple[list[list[bool]], list[int], list[int]]:
    """Which records of PubMed files are replaced or deleted by later ones: a mask a file; how many of each, by file.

    Args:
        files: path and bytes of each; files are later the greater their base names are.
    """
    masks = [[False] * len(records(data)) for _, data in files]
    replaced, deleted = [0] * len(files), [0] * len(files)
    living: dict[str, tuple[int, int]] = {}
    for i in sorted(range(len(files)), key=lambda i: os.path.basename(files[i][0])):
        root = parsed(files[i][1])
        row = 0
        for element in [root] if local(root) == "PubmedArticle" else children(root):
            if local(element) == "DeleteCitation":
                for pmid in (whole(child) for child in children(element) if local(child) == "PMID"):
                    if pmid in living:
                        file, old = living.pop(pmid)
                        masks[file][old] = True
                        deleted[file] += 1
            elif local(element) in ("PubmedArticle", "PubmedBookArticle"):
                fields = pubmed(element)
                if not isinstance(fields, Bad):
                    if fields["pmid"] in living:
                        file, old = living[fields["pmid"]]
                        masks[file][old] = True
                        replaced[file] += 1
                    living[fields["pmid"]] = (i, row)
                row += 1
    return masks, replaced, deleted


# --- Elements ---------------------------------------------------------------------------------------------------------


def local(element: etree._Element) -> str:
    return etree.QName(element).localname


def children(element: etree._Element) -> list[etree._Element]:
    """The elements directly inside, without comments and processing instructions."""
    return [child for child in element if isinstance(child.tag, str)]


def at(element: etree._Element, path: str) -> list[etree._Element]:
    """All elements under `element` along a path of direct children, such as "Journal/Title"."""
    found = [element]
    for name in path.split("/"):
        found = [child for parent in found for child in children(parent) if local(child) == name]
    return found


def normal(text: str) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text).strip(" ")


def raw(element: etree._Element, dropped: frozenset[str]) -> str:
    """All text inside, but for that of comments, processing instructions and `dropped` elements."""
    pieces = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and local(child) not in dropped:
            pieces.append(raw(child, dropped))
        pieces.append(child.tail or "")
    return "".join(pieces)


def whole(element: etree._Element) -> str:
    """The text inside, but that of a formula's annotations, which say it again."""
    return normal(raw(element, ANNOTATIONS))


def first(texts: Iterator[str] | list[str]) -> str | None:
    """The first that is not empty."""
    return next((text for text in texts if text), None)


def digits(text: str | None) -> str | None:
    return text if text is not None and re.fullmatch(r"[0-9]+", text) else None


def pmc_id(text: str) -> str | None:
    match = re.fullmatch(r"(?:PMC)?([0-9]+)", text, re.IGNORECASE)
    return f"PMC{match[1]}" if match else None


def outermost_articles(element: etree._Element) -> list[etree._Element]:
    if local(element) == "article":
        return [element]
    return [article for child in children(element) for article in outermost_articles(child)]


# --- PubMed -----------------------------------------------------------------------------------------------------------


def pubmed(record: etree._Element) -> Row | Bad:
    """The fields of a PubmedArticle or PubmedBookArticle."""
    book = local(record) == "PubmedBookArticle"
    top = "BookDocument" if book else "MedlineCitation"
    pmid = digits(first([whole(element) for element in at(record, f"{top}/PMID")]))
    if pmid is None:
        return Bad("no PMID")
    under = "BookDocument" if book else "MedlineCitation/Article"

    def texts(path: str, below: str = under) -> list[str]:
        return [whole(element) for element in at(record, f"{below}/{path}")]

    titles = texts("ArticleTitle") + (texts("Book/BookTitle") if book else [])
    paragraphs, sections, start = [], [], 0
    for element in at(record, f"{under}/Abstract/AbstractText"):
        if not (text := whole(element)):
            continue
        label = normal(element.get("Label", ""))
        paragraphs.append(f"{label}: {text}" if label else text)
        end = start + len(paragraphs[-1].encode())
        sections.append((label, start, end))
        start = end + 1
    date = f"{under}/Book/PubDate" if book else f"{under}/Journal/JournalIssue/PubDate"
    years = [match[0] for text in texts("Year", date) if (match := re.fullmatch("[0-9]{4}", text))]
    medline = "(?<![0-9])[0-9]{4}(?![0-9])"
    years += [match[0] for text in texts("MedlineDate", date) if (match := re.search(medline, text))]
    if not book:
        years += [text for text in texts("ArticleDate/Year") if re.fullmatch("[0-9]{4}", text)]
    # Those of PubmedBookData come first.
    lists = ["PubmedBookData/ArticleIdList", "BookDocument/ArticleIdList"] if book else ["PubmedData/ArticleIdList"]
    ids = [element for path in lists for element in at(record, f"{path}/ArticleId")]
    doi = first([whole(element) for element in ids if element.get("IdType") == "doi"])
    if doi is None and not book:
        places = at(record, f"{under}/ELocationID")
        doi = first([whole(e) for e in places if e.get("EIdType") == "doi" and e.get("ValidYN") != "N"])
    pmc = first([pmc_id(whole(element)) or "" for element in ids if element.get("IdType") == "pmc"])
    title = titles[0] if titles else ""
    return {
        "id": pmid,
        "source": "pubmed",
        "title": title,
        "year": int(years[0]) if years else None,
        "languages": [text for text in texts("Language") if text],
        "publication_types": [
            text for text in texts("PublicationType" if book else "PublicationTypeList/PublicationType") if text
        ],
        "journal": first(texts("Book/BookTitle") if book else texts("Journal/Title")),
        "pmid": pmid,
        "pmc": pmc,
        "doi": doi,
        "_title": title,
        "_abstract": "\n".join(paragraphs),
        "_body": "",
        "_abstract_sections": sections,
        "_body_sections": [],
    }


# --- JATS -------------------------------------------------------------------------------------------------------------


def jats(article: etree._Element) -> Row:
    """The fields of an article."""
    meta = "front/article-meta"
    titles = at(article, f"{meta}/title-group/article-title")[:1] + at(article, f"{meta}/title-group/subtitle")[:1]
    title = ": ".join(text for element in titles if (text := inline(element)))
    abstracts = [e for e in at(article, f"{meta}/abstract") if e.get("abstract-type") not in UNREAD_ABSTRACTS]
    abstract, abstract_sections = flowing(abstracts)
    body, body_sections = flowing(at(article, "body"))
    years = [whole(element) for element in at(article, f"{meta}/pub-date/year")]
    ids = [(e.get("pub-id-type"), whole(e)) for e in at(article, f"{meta}/article-id")]
    doi = first([text for kind, text in ids if kind == "doi"])
    pmid = first([digits(text) or "" for kind, text in ids if kind == "pmid"])
    pmc = first([pmc_id(text) or "" for kind, text in ids if kind in ("pmc", "pmcid")])
    journals = [element for meta in at(article, "front/journal-meta") for element in meta.iter("{*}journal-title")]
    language, kind = normal(article.get(LANG, "")).lower(), normal(article.get("article-type", ""))
    return {
        "id": pmc or doi or pmid,
        "source": "jats",
        "title": title,
        "year": min((int(year) for year in years if re.fullmatch("[0-9]{4}", year)), default=None),
        "languages": [language] if language else [],
        "publication_types": [kind] if kind else [],
        "journal": first([whole(element) for element in journals]),
        "pmid": pmid,
        "pmc": pmc,
        "doi": doi,
        "_title": title,
        "_abstract": abstract,
        "_body": body,
        "_abstract_sections": abstract_sections,
        "_body_sections": body_sections,
    }


@dataclass
class Section:
    """A `sec`: its title, and its paragraphs from the first to before the last."""

    title: str | None
    first: int
    last: int


class Flow:
    """The paragraphs of an element in document order."""

    def __init__(self) -> None:
        self.paragraphs: list[str] = []
        self.sections: list[Section] = []
        self._running: list[str] = []

    def end(self) -> None:
        """Ends the running paragraph."""
        if text := normal("".join(self._running)):
            self.paragraphs.append(text)
        self._running.clear()

    def walk(self, element: etree._Element, *, blocks: bool = True) -> None:
        name = local(element)
        if name in DROPPED:
            return
        if name == "break":
            self._running.append(" ")
            return
        if name == "tex-math":
            self._running.append(tex(element))
            return
        if name == "alternatives":
            if (chosen := chosen_alternative(element)) is not None:
                self.walk(chosen, blocks=blocks)
            return
        is_block = blocks and name in BLOCKS
        section = None
        if is_block:
            self.end()
        if name == "sec":
            section = Section(None, len(self.paragraphs), 0)
            self.sections.append(section)
        self._running.append(element.text or "")
        for child in element:
            if isinstance(child.tag, str):
                if section is not None and local(child) == "title":
                    self.end()
                    before = len(self.paragraphs)
                    self.walk(child)
                    if section.title is None and len(self.paragraphs) > before:
                        section.title = self.paragraphs[before]
                else:
                    self.walk(child, blocks=blocks)
            self._running.append(child.tail or "")
        if is_block:
            self.end()
        if section is not None:
            section.last = len(self.paragraphs)


def flowing(elements: list[etree._Element]) -> tuple[str, list[tuple[str, int, int]]]:
    """Paragraphs joined by blank lines, and the sections as (title, first byte, byte behind the last)."""
    flow = Flow()
    for element in elements:
        flow.walk(element)
        flow.end()
    starts, at_byte = [], 0
    for paragraph in flow.paragraphs:
        starts.append((at_byte, at_byte + len(paragraph.encode())))
        at_byte = starts[-1][1] + 2
    sections = [
        (section.title or "", starts[section.first][0], starts[section.last - 1][1])
        for section in flow.sections
        if section.last > section.first
    ]
    return "\n\n".join(flow.paragraphs), sections


def paragraphs_of(xml: str) -> list[str]:
    """The paragraphs of one element given as XML."""
    flow = Flow()
    flow.walk(parsed(xml.encode()))
    flow.end()
    return flow.paragraphs


def inline(element: etree._Element) -> str:
    flow = Flow()
    flow.walk(element, blocks=False)
    flow.end()
    return "".join(flow.paragraphs)


def chosen_alternative(element: etree._Element) -> etree._Element | None:
    given = children(element)
    for name in ("textual-form", "tex-math", "math"):
        for child in given:
            if local(child) == name:
                return child
    return given[0] if given else None


def tex(element: etree._Element) -> str:
    text = raw(element, frozenset())
    begin = text.find(r"\begin{document}")
    end = text.find(r"\end{document}", begin)
    if begin < 0 or end < 0:
        return text
    return text[begin + len(r"\begin{document}") : end].strip(" \t\r\n")
