"""Listening page of a text-to-speech run beside the recordings, with figures if matplotlib is installed."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import atomic_write

STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .3rem .8rem; text-align: left; vertical-align: top }
tr + tr { border-top: 1px solid #ddd } img { max-width: 100%; display: block } audio { width: 15rem }
section { margin: 2rem 0; border-top: 2px solid #ccc }
"""


@dataclass(frozen=True)
class ListeningRow:
    """One sentence of the page.

    Attributes:
        name: Name of the clip.
        text: The text to be spoken.
        audio: Kind → audio file, relative to the folder of the page.
        heard: Kind → words recognized in that file.
        picture: Figure, relative to the folder of the page; None: no figure.
    """

    name: str
    text: str
    audio: Mapping[str, str]
    heard: Mapping[str, str]
    picture: str | None


def write_page(folder: Path, title: str, facts: Mapping[str, str], clips: Sequence[ListeningRow]) -> Path:
    """Write `index.html` to a folder and return its path."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><table>",
        *(f"<tr><th>{html.escape(name)}<td>{html.escape(value)}" for name, value in facts.items()),
        "</table>",
    ]
    for clip in clips:
        parts.append(f"<section><h2>{html.escape(clip.name)}</h2><p>{html.escape(clip.text)}</p><table>")
        for name, file in clip.audio.items():
            heard = html.escape(clip.heard.get(name, ""))
            player = f'<audio controls preload=none src="{html.escape(file)}"></audio>'
            parts.append(f"<tr><th>{html.escape(name)}<td>{player}<td>{heard}")
        parts.append("</table>")
        if clip.picture:
            parts.append(f'<img src="{html.escape(clip.picture)}" alt="Spectrogram and attention of {clip.name}">')
        parts.append("</section>")
    path = folder / "index.html"
    with atomic_write(path) as target:
        target.write("\n".join(parts).encode())
    return path


def write_picture(path: Path, wave: np.ndarray, sampling_rate: int, alignment: np.ndarray, text: str) -> bool:
    """Draw the spectrogram of a clip (T,) and the attention (N, S) of its ids to the S characters of a text.

    Returns:
        Whether the figure was written; False without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1)
    above.specgram(wave + 1e-6 * np.random.default_rng(0).standard_normal(len(wave)), 512, sampling_rate, noverlap=384)
    above.set_ylabel("Hz")
    below.imshow(alignment.T, aspect="auto", origin="lower", interpolation="nearest")
    below.set_xlabel("ids")
    below.set_ylabel("characters")
    if len(text) <= 60:
        below.set_yticks(range(len(text)), list(text), fontsize=min(9, 270 / len(text)))
    figure.savefig(path, dpi=80)
    return True
