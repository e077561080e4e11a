"""Documents no corpus wants: boilerplate of web pages and noise of broken conversions, each by its defect's name.

Made from this file's own words. Nothing here looks at the rules that are to find them, and some are meant to be hard:
a legal notice is fluent prose, which no statistic of words and lines can tell from an abstract.
"""

from collections.abc import Callable

from biollm.demo.abstracts import write_abstract
from biollm.demo.rng import Rng

_MENU = (
    "Home", "About us", "Contact", "Sign in", "Register", "My account", "Current issue", "Archive", "Submit", "Editors",
    "Subscribe", "Advertise", "Help", "Search", "Browse by topic", "Most read", "Most cited", "Authors", "Reviewers",
    "News", "Podcasts", "Videos", "Events", "Careers", "Newsletter", "Alerts", "Feeds", "Share", "Print", "Download",
    "Figures", "Tables", "References", "Metrics", "Permissions", "Site map", "Accessibility", "Privacy", "Terms",
    "Cookies", "Press", "Librarians", "Societies", "Journals", "Books", "Databases", "Tools", "Collections", "Language",
)  # fmt: skip

_COOKIE = (
    "We use cookies on this site", "Cookies help us improve your visit", "This website stores small files",
    "Accept all cookies", "Reject optional cookies", "Manage preferences", "Learn more in our policy",
    "Necessary cookies are always active", "Statistics cookies count visits", "Marketing cookies follow visitors",
    "You can change your choice at any time", "Your consent is valid for twelve months", "Save my choice",
)  # fmt: skip

_LEGAL_PARTY = ("the publisher", "the operator of this site", "the licensor", "our company", "the provider", "the host")
_LEGAL_ACT = (
    "accepts no liability for losses that arise from the use of this service",
    "may change the contents of these pages at any time and without notice",
    "processes personal data only for the purposes that are described in this statement",
    "reserves all rights in the layout, the logos and the trade names that are shown here",
    "does not endorse the external pages to which links may have been provided",
    "keeps access records for a period of no more than ninety days and then deletes them",
    "grants visitors a limited right to view and print single pages for private use",
    "will answer requests for the correction of personal data within thirty days",
)
_LEGAL_FRAME = (
    "To the extent permitted by law, {party} {act}.",
    "Unless otherwise agreed in writing, {party} {act}.",
    "It is understood that {party} {act}.",
    "For the avoidance of doubt, {party} {act}, and nothing in these terms is to be read otherwise.",
    "With regard to the above, {party} {act}.",
    "In addition, {party} {act}, whether or not a visitor has been registered.",
)

_LISTED = (
    "peer reviewed", "open access", "fast decisions", "editor profile", "call for papers", "cover image", "style guide",
    "author fees", "waiver policy", "special issue", "data sharing", "reporting checklist", "image integrity",
    "conflict forms", "ethics approval", "trial registration", "reviewer guide", "preprint policy", "archive access",
)  # fmt: skip

_TEASERS = (
    "New figures show a marked rise", "Researchers puzzled by early results", "What your doctor did not mention",
    "Five habits that may change your day", "Hospital opens second wing", "Experts meet to discuss guidance",
    "Study finds link after long debate", "Patients describe life after treatment", "Ministers to review the budget",
    "Trial halted as data are examined", "Local clinic wins national award", "Why sleep matters more with age",
)  # fmt: skip

_COLUMNS = ("n", "mean", "SD", "min", "max", "P", "df", "beta", "SE", "Q1", "Q3")
_SYMBOLS = "#*~^|<>{}=+/\\@%&$_"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOJIBAKE = ("Ã©", "â€™", "Â§", "ï¿½", "Ã¼", "Å¾", "Ð¾", "¿½", "Ã±", "â€œ")


def cookie_notice(rng: Rng) -> str:
    """A consent banner: a handful of short lines."""
    return "\n".join(rng.sample(_COOKIE, rng.between(4, 8))) + f"\nVersion {rng.between(2, 40)}.{rng.below(10)}"


def legal_notice(rng: Rng) -> str:
    """Fluent legal prose of 80 to 200 words."""
    acts = rng.sample(_LEGAL_ACT, rng.between(5, 8))
    clauses = [rng.choice(_LEGAL_FRAME).format(party=rng.choice(_LEGAL_PARTY), act=act) for act in acts]
    return " ".join(clauses)


def navigation_menu(rng: Rng) -> str:
    """Labels of a page's navigation, one a line or separated by bars."""
    labels = rng.sample(_MENU, rng.between(28, len(_MENU)))
    return rng.choice((" | ", "\n", " » ")).join(labels)


def bullet_list(rng: Rng) -> str:
    """Nothing but bulleted fragments."""
    mark = rng.choice(("•", "-", "*"))
    return "\n".join(f"{mark} {rng.choice(_LISTED)} {rng.choice(_LISTED)} {rng.between(1, 60)}" for _ in range(16))


def teaser_list(rng: Rng) -> str:
    """Headlines that break off in an ellipsis."""
    end = rng.choice(("...", "…"))
    return "\n".join(f"{headline}{end}" for headline in rng.sample(_TEASERS, rng.between(9, 12)))


def table_debris(rng: Rng) -> str:
    """Rows of a table that lost its layout: labels and many numbers."""
    columns = rng.sample(_COLUMNS, 5)
    rows = [
        " ".join(f"{rng.between(0, 940)}.{rng.below(100):02d}" for _ in columns) for _ in range(rng.between(12, 26))
    ]
    return "\n".join([" ".join(columns), *rows])


def garbled(rng: Rng) -> str:
    """Text in the wrong encoding: letters drawn at random, mojibake between them."""
    pieces = []
    for _ in range(rng.between(90, 200)):
        word = "".join(rng.choice(_LETTERS) for _ in range(rng.between(3, 8)))
        pieces.append(word + rng.choice(_MOJIBAKE) if rng.chance(45) else word)
    return " ".join(pieces)


def repeated_lines(rng: Rng) -> str:
    """A few lines over and over, as a page header in every page of a scan."""
    body = write_abstract(rng.below(1 << 32), 0).sections[-1][1]
    return "\n".join(rng.choice(body[:2]) for _ in range(rng.between(9, 20)))


def repeated_phrase(rng: Rng) -> str:
    """A short phrase without end on one line: a stuck generator or a keyword list."""
    words = write_abstract(rng.below(1 << 32), 0).title.rstrip(".?").split()
    phrase = words[: rng.between(3, 6)]
    return " ".join(phrase * rng.between(18, 40))


def symbol_soup(rng: Rng) -> str:
    """Markup debris: runs of symbols with stray words between."""
    pieces = []
    for _ in range(rng.between(60, 140)):
        run = "".join(rng.choice(_SYMBOLS) for _ in range(rng.between(1, 5)))
        pieces.append(rng.choice(_LISTED) if rng.chance(25) else run)
    return " ".join(pieces)


def too_short(rng: Rng) -> str:
    """A title, or a title and one sentence: sound, but nearly nothing."""
    abstract = write_abstract(rng.below(1 << 32), 0)
    return f"{abstract.title} {abstract.sections[0][1][0]}" if rng.chance(40) else abstract.title


def run_together(rng: Rng) -> str:
    """An abstract whose blanks were lost: words far too long."""
    words = write_abstract(rng.below(1 << 32), 0).text().split()
    pieces, i = [], 0
    while i < len(words):
        step = rng.between(2, 4)
        pieces.append("".join(words[i : i + step]))
        i += step
    return " ".join(pieces)


def spaced_out(rng: Rng) -> str:
    """An abstract with a blank after every letter, as some page layouts extract."""
    text = write_abstract(rng.below(1 << 32), 0).text()
    return " ".join(text[: rng.between(300, 700)].replace(" ", ""))


BOILERPLATE: tuple[Callable[[Rng], str], ...] = (
    cookie_notice,
    legal_notice,
    navigation_menu,
    bullet_list,
    teaser_list,
    table_debris,
)
NOISE: tuple[Callable[[Rng], str], ...] = (
    garbled,
    repeated_lines,
    repeated_phrase,
    symbol_soup,
    too_short,
    run_together,
    spaced_out,
)
