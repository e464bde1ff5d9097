"""Page to listen to synthesized speech beside the recordings, with spectrograms and alignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import atomic_write
from ..listening_page import facts_table, listening_page, players_table, section
from ..markup import figure_text, html_text, relative_url
from ..plots import draw_spectrogram


@dataclass(frozen=True)
class SynthesizedClip:
    """A sentence on the page.

    Attributes:
        name: Name of the clip.
        text: Text that it should say.
        audio: Kind of audio (such as `generated`) → file, relative to the page's folder.
        heard: Kind of audio → text that the recognizer heard.
        picture: File, relative to the page's folder; None without a picture.
    """

    name: str
    text: str
    audio: Mapping[str, str]
    heard: Mapping[str, str]
    picture: str | None


def write_page(folder: Path, title: str, facts: Mapping[str, str], clips: Sequence[SynthesizedClip]) -> Path:
    """Write `index.html` into a folder, with the facts in a table and a section for each clip; returns its path.

    Raises:
        OSError: the page cannot be written.
    """
    sections = [section("Results", facts_table(facts)), *map(_clip_section, clips)]
    path = folder / "index.html"
    with atomic_write(path) as target:
        target.write(listening_page(title, "", sections).encode())
    return path


def _clip_section(clip: SynthesizedClip) -> str:
    rows = ((kind, relative_url(file), [clip.heard.get(kind, "")]) for kind, file in clip.audio.items())
    body = f"<p>{html_text(clip.text)}</p>{players_table(rows)}"
    if clip.picture:
        alternative = html_text(f"Spectrogram and alignment of {clip.name}")
        body += f'<img class="chart" src="{html_text(relative_url(clip.picture))}" alt="{alternative}">'
    return section(clip.name, body)


def write_picture(path: Path, wave: np.ndarray, sampling_rate: int, alignment: np.ndarray, text: str) -> bool:
    """Draw a spectrogram of a clip (T,), and below it the attention (N, S) of its ids to the S characters of a text.

    Returns:
        False if matplotlib is not installed; nothing is written then.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1)
    draw_spectrogram(above, wave, sampling_rate)
    above.set_ylabel("kHz")
    below.imshow(alignment.T, aspect="auto", origin="lower", interpolation="nearest")
    below.set_xlabel("ids")
    below.set_ylabel("characters")
    if len(text) <= 60:
        below.set_yticks(
            range(len(text)), [figure_text(character) for character in text], fontsize=min(9, 270 / len(text))
        )
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=80)
    return True
