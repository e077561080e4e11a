"""No page points to what is not there. Links to other hosts are only read, never followed."""

from __future__ import annotations

import posixpath
import re
import tomllib
from urllib.parse import urlsplit

import pytest

from doc_pages import DOCS, ROOT, anchors, directives, links, pages, references, written_pages

PAGES = pages()
SOURCE = "https://github.com/biollm/biollm/blob/main/"
OTHERS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "BENCHMARKS.md", "CHANGELOG.md")


def broken(page: str, target: str) -> str | None:
    """Why a link from a page (by its path below `docs/`) leads nowhere."""
    parts = urlsplit(target)
    if target.startswith(SOURCE):
        path = target.removeprefix(SOURCE).partition("#")[0]
        return None if (ROOT / path).exists() else "no such file in the repository"
    if parts.scheme:
        good = parts.scheme in ("https", "mailto") and (parts.netloc.count(".") >= 1 or parts.scheme == "mailto")
        return None if good and " " not in target else "not an address"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), parts.path)) if parts.path else page
    if path.endswith(".md"):
        if path not in PAGES:
            return "no such page"
        if parts.fragment and parts.fragment not in anchors(PAGES[path]):
            return f"{path} has no such anchor: {sorted(anchors(PAGES[path]))}"
        return None
    return None if (DOCS / path).is_file() else "no such file"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    found = {target: broken(page, target) for target in links(PAGES[page])}
    assert {target: why for target, why in found.items() if why} == {}


@pytest.mark.parametrize("page", PAGES)
def test_every_name_that_a_page_links_to_is_in_the_reference(page: str) -> None:
    shown = {name for text in PAGES.values() for name in directives(text)}
    # A method or field of a class stands with the class.
    missing = [name for name in references(PAGES[page]) if name not in shown and name.rpartition(".")[0] not in shown]
    assert missing == []


@pytest.mark.parametrize("name", OTHERS)
def test_links_between_the_files_at_the_root(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    found = {t: urlsplit(t) for t in links(text)}
    missing = [t for t, parts in found.items() if not parts.scheme and parts.path and not (ROOT / parts.path).exists()]
    assert missing == []
    wrong = [t for t, parts in found.items() if not parts.scheme and parts.fragment and not parts.path]
    assert [t for t in wrong if t[1:] not in anchors(text)] == []


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = text[text.index("\nnav:") :]
    listed = {word for line in nav.splitlines() for word in line.split() if word.endswith(".md")}
    assert listed == set(PAGES)


def test_pictures_and_files_that_pages_name_in_the_repository_exist() -> None:
    """`recipes/pubmed.toml`, `tests/parity`: what stands in code marks and looks like a path of ours."""
    folders = ("recipes/", "examples/", "tests/", "benches/", "rust/")
    missing = []
    for page, text in written_pages().items():
        for name in re.findall(r"`((?:" + "|".join(folders) + r")[\w./-]*)`", text):
            if not (ROOT / name).exists():
                missing.append(f"{page}: {name}")
    assert missing == []


def test_the_extra_that_builds_the_site_is_declared() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert any(package.startswith("mkdocs-material") for package in extras["docs"])
    assert any(package.startswith("mkdocstrings[python]") for package in extras["docs"])
