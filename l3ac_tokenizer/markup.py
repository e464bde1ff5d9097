"""Text from outside, encoded for each format that it goes out in: terminals, HTML, Markdown, CSV and figures."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from urllib.parse import quote

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that change the direction of text, and halves of UTF-16 characters."""

_MARKDOWN = re.compile(r"[\\`*\[\]|<>&]")
_SCHEME = re.compile(r"\b(javascript|vbscript|data|file)\s*:", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")

FIGURE_CHARACTERS = 80
"""Longest text in a figure; what follows is cut."""


class Markdown(str):
    """Text that is Markdown already and that `table_cell` leaves as it is."""


def printable(text: str, keep: str = "") -> str:
    r"""Text for a terminal: control characters as `\xNN` or `\uNNNN`, those in `keep` as they are.

    The result of `json.dumps` stays the same JSON, if its line ends are kept.
    """
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else _named(ord(match[0])), text)


def _named(character: int) -> str:
    return f"\\x{character:02x}" if character < 0x20 else f"\\u{character:04x}"


def html_text(text: str) -> str:
    """Text for an element of HTML or an attribute in quotes."""
    return html.escape(printable(text, keep="\n\t"))


def relative_url(path: str) -> str:
    """A relative path as a URL, which leads to no other host and has no scheme."""
    return quote(path.lstrip("/"), errors="surrogateescape")


def markdown_text(text: str) -> str:
    """Text for a line of Markdown: nothing in it is markup, HTML, a link or the end of the line."""
    text = _MARKDOWN.sub(_escaped, printable(" ".join(text.split())))
    return _SCHEME.sub(lambda match: f"{match[1]}&#58;", text)


def _escaped(match: re.Match[str]) -> str:
    return html.escape(match[0]) if match[0] in "<>&" else f"\\{match[0]}"


def markdown_code(text: str) -> Markdown:
    """Text as code in a line of Markdown."""
    return Markdown(f"`{printable(' '.join(text.split())).replace('`', chr(39))}`")


def table_cell(text: str) -> str:
    """Text, or `Markdown`, for a cell of a table in Markdown."""
    return text if isinstance(text, Markdown) else markdown_text(text)


def table_row(cells: Iterable[str]) -> str:
    """A line of a table in Markdown; cells are text or `Markdown`."""
    return f"| {' | '.join(map(table_cell, cells))} |"


def csv_cell(value: object) -> object:
    """A value for a cell of CSV: text that spreadsheets take for a formula gets a `'` before it."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def figure_text(text: str) -> str:
    """Text for a figure of matplotlib, in which `$` begins no formula."""
    text = printable(text)
    if len(text) > FIGURE_CHARACTERS:
        text = f"{text[: FIGURE_CHARACTERS - 1]}…"
    return text.replace("$", r"\$")
