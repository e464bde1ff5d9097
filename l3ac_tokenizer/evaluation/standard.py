"""Codecs and scorers of the standard table: `l3ac evaluate --standard`.

This module imports no torch, so that the command line starts fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..hub import bundled_presets

PEERS = (
    "facebook/encodec_24khz@1.5",
    "descript/dac_16khz@2",
    "kyutai/mimi@8",
    "HKUSTAudio/xcodec2-hf",
    "neuphonic/neucodec",
    "swiss-ai/wavtokenizer-large-unify-40token",
)
"""Neural codecs of transformers by hub name, near 1 kb/s where they have a setting."""

CLASSICAL_CODECS = ("opus@6", "codec2@1200", "original")

STANDARD_SCORERS: Mapping[str, Sequence[str]] = {
    "asr": ("faster-whisper",),
    "speaker": ("resemblyzer",),
    "mos": ("utmos", "distillmos"),
    "f0": ("pyin",),
}
"""Option of `l3ac evaluate` → models; all but UTMOS work offline."""

STANDARD_SECONDS = 10.0
"""Length of audio for which real-time factors are measured."""


def standard_codecs() -> list[str]:
    """The bundled models, classical codecs and peers."""
    return [*bundled_presets(), *CLASSICAL_CODECS, *PEERS]


def standard_scorers(models: Mapping[str, Any]) -> dict[str, Any]:
    """`STANDARD_SCORERS` that the options `models` (see `requested_scorers`) do not name otherwise."""
    return {kind: names for kind, names in STANDARD_SCORERS.items() if not models.get(kind)}
