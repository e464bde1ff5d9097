"""HTML pages to listen to clips: one style, audio players of which one plays at a time, sortable tables."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np
import soundfile

from .markup import html_text


def listening_page(title: str, introduction: str, sections: Sequence[str], footer: str = "") -> str:
    """A complete HTML document.

    Args:
        title: title, plain text.
        introduction: paragraph below the title, HTML.
        sections: `section`s in order.
        footer: last paragraph, HTML.
    """
    return Template(_TEMPLATE).substitute(
        title=html_text(title),
        introduction=introduction,
        sections="\n".join(sections),
        footer=footer,
        policy=CONTENT_POLICY,
    )


def section(title: str, body: str) -> str:
    """A section with a heading (plain text) and a body (HTML)."""
    return f"<section><h2>{html_text(title)}</h2>\n{body}</section>"


def player(source: str) -> str:
    """An audio player for a URL."""
    return f'<audio controls preload="metadata" src="{html_text(source)}"></audio>'


def facts_table(facts: Mapping[str, str]) -> str:
    """A table of names and values (plain text)."""
    rows = "".join(f"<tr><th>{html_text(name)}</th><td>{html_text(value)}</td></tr>" for name, value in facts.items())
    return f'<table class="players">{rows}</table>'


def players_table(rows: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """A table of players: the title, the URL of the audio and texts of each row, all plain text."""
    lines = []
    for title, source, texts in rows:
        cells = "".join(f"<td>{html_text(text)}</td>" for text in texts)
        lines.append(f"<tr><th>{html_text(title)}</th><td>{player(source)}</td>{cells}</tr>")
    return f'<table class="players">{"".join(lines)}</table>'


def audio_data_url(audio: np.ndarray, sampling_rate: int) -> str:
    """Audio (T,) as a `data:` URL in FLAC, so that a page needs no other file."""
    file = io.BytesIO()
    soundfile.write(file, audio, sampling_rate, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"


_TEMPLATE = (Path(__file__).parent / "listening_page.html").read_text(encoding="utf-8")


def _digest(element: str) -> str:
    """The source of a content security policy that allows the one `element` of the template, and no other."""
    found = re.search(f"<{element}>(.*?)</{element}>", _TEMPLATE, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"


CONTENT_POLICY = (
    f"default-src 'none'; script-src {_digest('script')}; style-src {_digest('style')}; img-src 'self' file: data:; "
    "media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
)
"""Content security policy of all pages: their own script and style, audio and pictures beside them, nothing else."""
