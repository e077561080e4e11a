"""A slow, readable twin of deduplication by text, URL and piece: Python's own strings, `unicodedata`, and a dict."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Sequence

TRACKING = {
    *("_ga", "_gl", "_hsenc", "_hsmi", "_openstat", "dclid", "fbclid", "gbraid", "gclid", "gclsrc", "igsh", "igshid"),
    *("li_fat_id", "mc_cid", "mc_eid", "mkt_tok", "msclkid", "oly_anon_id", "oly_enc_id", "srsltid", "ttclid"),
    *("twclid", "vero_conv", "vero_id", "wbraid", "wickedid", "yclid", "ysclid"),
}
PORTS = {"http": "80", "https": "443"}


def normal_text(text: str, steps: Sequence[str]) -> str:
    """A text as it is compared."""
    if "nfc" in steps:
        text = unicodedata.normalize("NFC", text)
    if "case" in steps:
        text = text.lower()
    if "space" in steps:
        text = " ".join(text.split())
    return text


def first_rows(keys: Sequence[Hashable | None]) -> list[int]:
    """The first row of each row's key; a row whose key is `None` is alone."""
    first: dict[Hashable, int] = {}
    return [row if key is None else first.setdefault(key, row) for row, key in enumerate(keys)]


def kept_rows(clusters: Sequence[int], texts: Sequence[str], keep: str) -> list[int]:
    """The row kept for each row."""
    rows: dict[int, list[int]] = {}
    for row, cluster in enumerate(clusters):
        rows.setdefault(cluster, []).append(row)
    sign = {"first": 0, "longest": -1, "shortest": 1}[keep]
    return [min(rows[cluster], key=lambda row: (sign * len(texts[row].encode()), row)) for cluster in clusters]


def normal_url(url: str) -> str | None:
    """A URL as it is compared; `None` where it names nothing."""
    url = url.strip()
    scheme = ""
    if match := re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", url, re.DOTALL):
        scheme, rest = match[1].lower(), match[2]
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(?![0-9]*([/?#]|\Z)(?<!:\Z))", url):
        return url
    else:
        rest = url.removeprefix("//")
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    start = f"{scheme}://" if scheme not in ("", "http", "https") else ""
    normal = start + _authority(authority, PORTS.get(scheme or "http")) + _path(slash + path) + _query(query)
    if fragment.startswith(("!", "/")):
        normal += "#" + _encoded(fragment)
    return normal or None


def _authority(authority: str, default_port: str | None) -> str:
    user, at, host = authority.rpartition("@")
    port = ""
    if match := re.fullmatch(r"(.*):([0-9]*)", host, re.DOTALL):
        host, port = match[1], match[2]
    host = host.removesuffix(".")
    if host[:4].lower() == "www." and "." in host[4:]:
        host = host[4:]
    host = "".join(c.lower() for c in host)
    return (user + at if user else "") + host + (f":{port}" if port not in ("", default_port) else "")


def _path(path: str) -> str:
    kept: list[str] = []
    for segment in map(_encoded, path.split("/")[1:]):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "".join(f"/{segment}" for segment in kept).rstrip("/")


def _query(query: str) -> str:
    kept = []
    for parameter in query.split("&"):
        name = parameter.partition("=")[0].lower()
        if parameter and name not in TRACKING and not name.startswith("utm_"):
            kept.append(_encoded(parameter))
    return "?" + "&".join(kept) if kept else ""


def _encoded(part: str) -> str:
    def decoded(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if re.fullmatch(r"[A-Za-z0-9._~-]", character) else match[0].upper()

    return re.sub("%([0-9A-Fa-f]{2})", decoded, part)


def pieces(text: str, unit: str) -> list[str]:
    """What a text is cut into; put together they are the text."""
    if unit == "sentence":
        return sentences(text)
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    if unit == "line":
        return lines
    found: list[str] = []
    ended = False
    for line in lines:
        if not found or (ended and line.strip()):
            found.append("")
            ended = False
        found[-1] += line
        ended = not line.strip() and bool(found[-1].strip())
    return found


def sentences(text: str) -> list[str]:
    """UAX 29, SB3 to SB998, as it comes out for the characters a, B, space, . ? and line feed."""
    found = [""]
    for i, c in enumerate(text):
        before = found[-1]
        end = re.search(r"([.?])( *)\Z", before)
        parts = before.endswith("\n")  # SB4
        if end and c in "aB":  # SB8a, SB9, SB10: nothing parts before a space, a line feed or another terminator
            acronym = end[0] == "." and c == "B" and before[-2:-1] in ("a", "B")  # SB7
            goes_on = end[1] == "." and c == "a"  # SB8
            parts = not acronym and not goes_on
        if parts and i:
            found.append("")
        found[-1] += c
    return found if text else []


def cut(texts: Sequence[str], unit: str, min_length: int, steps: Sequence[str]) -> tuple[list[str], list[bool]]:
    """The texts without the pieces that an earlier one has, and which of them stay."""
    first: dict[str, int] = {}
    left, keep = [], []
    for row, text in enumerate(texts):
        rest = ""
        for piece in pieces(text, unit):
            content = piece.strip()
            long = content and len(content) >= min_length
            if not long or first.setdefault(normal_text(content, steps), row) == row:
                rest += piece
        left.append(rest)
        keep.append(rest == text or bool(rest.strip()))
    return left, keep
