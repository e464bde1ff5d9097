"""Result of the codec as the page shows it: facts in HTML, spectrograms, and files to play and to download."""

from __future__ import annotations

import io
import math

import numpy as np

from ..audio import write_audio
from ..container import dump_l3ac
from ..id_files import SUFFIXES
from ..markup import html_text
from ..plots import as_png, draw_spectrogram, spectrogram_db
from .clips import Result
from .recordings import Progress

_INK = "#7d7d7d"
"""Color of axes: 4 to 1 against the page in light and in dark."""
_LAST_IDS = 12
"""Ids of a running recording that are shown."""

STYLE = """
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .9rem 1rem; margin: 0; }
.facts dt, .facts small { color: color-mix(in srgb, var(--body-text-color) 75%, transparent); font-size: var(--text-sm);
                          font-weight: 400; }
.facts dd { margin: 0; font-size: var(--text-lg); font-weight: 600; font-variant-numeric: tabular-nums;
            overflow-wrap: anywhere; }
.facts small { display: block; }
.remark { margin: .9rem 0 0; }
.latest { margin: .9rem 0 0; font-family: var(--font-mono); font-size: var(--text-sm); overflow-wrap: anywhere; }
[role=alert].refusal { margin: 0; padding: .7rem .9rem; overflow-wrap: anywhere; border-left: 4px solid #c0392b;
                       background: color-mix(in srgb, #c0392b 10%, transparent); }
#facts { min-height: 3rem; }
"""
"""Style sheet of what this module makes."""


def result_facts(result: Result) -> str:
    """Model, length, ids, bits and times of a result, as HTML."""
    header = result.header
    count, seconds = len(result.ids), header.duration
    bits = count * math.log2(header.codebook_size)
    size = len(dump_l3ac(header, result.ids))
    facts = [
        ("model", header.model_name, f"{header.sampling_rate / 1000:g} kHz"),
        ("length", f"{seconds:.2f} s", f"{header.num_samples:,} samples"),
        ("ids", f"{count:,}", f"{header.sampling_rate / header.hop_length:.1f} per second"),
        ("bits", f"{bits:,.0f}", f"{bits / seconds:,.0f} per second"),
        ("file", f"{size:,} bytes", f"1/{2 * header.num_samples / size:.0f} of 16-bit PCM"),
    ]
    if result.encode_seconds is not None:
        facts.append(("encoding", f"{result.encode_seconds:.2f} s", _speed(seconds, result.encode_seconds)))
    facts.append(("decoding", f"{result.decode_seconds:.2f} s", _speed(seconds, result.decode_seconds)))
    return _facts(facts) + (f'<p class="remark">{html_text(result.remark)}</p>' if result.remark else "")


def progress_facts(progress: Progress) -> str:
    """Length and ids of a recording that runs, as HTML."""
    facts = [
        ("recorded", f"{progress.seconds:.1f} s", "the longest recording" if progress.full else ""),
        ("ids", f"{len(progress.ids):,}", ""),
        ("encoding", f"{progress.encode_seconds:.2f} s", _speed(progress.seconds, progress.encode_seconds)),
    ]
    latest = " ".join(map(str, progress.ids[-_LAST_IDS:].tolist()))
    return f'{_facts(facts)}<p class="latest">{latest}</p>'


def refusal(sentence: str) -> str:
    """An error as HTML."""
    return f'<p class="refusal" role="alert">{html_text(sentence)}</p>'


def spectrograms(result: Result) -> tuple[bytes | None, bytes]:
    """PNG files of the original, if there is one, and of the decoded clip, on the scale of the first."""
    rate = result.header.sampling_rate
    reference = result.decoded if result.original is None else result.original
    top = float(spectrogram_db(reference, rate).max())
    original = None if result.original is None else _spectrogram(result.original, rate, top)
    return original, _spectrogram(result.decoded, rate, top)


def wav(samples: np.ndarray, sampling_rate: int) -> bytes:
    """A clip (T,) as a WAV file."""
    file = io.BytesIO()
    write_audio(file, samples, sampling_rate)
    return file.getvalue()


def id_files(result: Result) -> dict[str, bytes]:
    """The ids as files: format → bytes."""
    return {"l3ac": dump_l3ac(result.header, result.ids), "json": SUFFIXES[".json"](result.header, result.ids)}


def _spectrogram(samples: np.ndarray, sampling_rate: int, top: float) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 2.5), layout="constrained", facecolor="none")
    axis = figure.subplots()
    draw_spectrogram(axis, samples, sampling_rate, top)
    axis.set_xlabel("seconds", color=_INK, fontsize=11)
    axis.set_ylabel("kHz", color=_INK, fontsize=11)
    axis.tick_params(color=_INK, labelcolor=_INK, labelsize=11)
    axis.spines[:].set_visible(False)
    return as_png(figure)


def _speed(seconds: float, taken: float) -> str:
    return f"{seconds / taken:.1f}× real time"


def _facts(facts: list[tuple[str, str, str]]) -> str:
    """Names with their values and small print as a list of definitions."""
    rows = (
        f"<div><dt>{name}</dt><dd>{html_text(value)}{f'<small>{html_text(small)}</small>' if small else ''}</dd></div>"
        for name, value, small in facts
    )
    return f'<dl class="facts">{"".join(rows)}</dl>'
