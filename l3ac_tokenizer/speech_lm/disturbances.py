"""Pairs made of any audio: a clip, and the same clip disturbed in one respect.

| group | negative clip |
|---|---|
| `reversed` | each segment is reversed in time, in its place |
| `shuffled` | the segments are in another order |
| `speaker` | the second half is by another speaker, at the same level |
| `level` | one half is 12 dB quieter; the positive clip is quieter as a whole in every second pair |

Word boundaries are unknown, so a clip is cut at its quietest places: each segment ends at the frame of 10 ms with the
least energy between 0.2 and 0.5 s after its start. They are about as long as words, and need not be words. Both clips
of a pair are cut and faded at the same places, so that the cuts tell nothing. Axes: T samples.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..audio import AudioSegment, read_audio, write_audio
from ..causes import failure
from ..listing.layouts import read_layout
from ..listing.manifest import load_manifest
from .pairs import write_csv

RATE = 16_000
"""Sampling rate in Hz of the clips that are made."""

FRAME = RATE // 100
SHORTEST, LONGEST = 20, 50
"""Frames of a segment."""

FADE = RATE // 400
"""Samples that fade in and out at a cut."""

QUIETER = 10 ** (-12 / 20)
LEAST_SEGMENTS = 4


class Voice(NamedTuple):
    """A clip to disturb.

    Attributes:
        audio: path, or segment of a file.
        name: of the clip, in the table of pairs.
        speaker: None: unknown.
    """

    audio: str | AudioSegment
    name: str
    speaker: str | None


def list_voices(path: str | os.PathLike[str]) -> list[Voice]:
    """The clips of an audio folder in any layout of `listing`, or of a manifest, with their speakers.

    Raises:
        DataError: a table is damaged.
        OSError: the folder or the manifest cannot be read.
    """
    if Path(path).is_dir():
        return [Voice(str(Path(path) / file.path), file.id, file.speaker) for file in read_layout(path).files]
    manifest = load_manifest(path)
    return [
        Voice(
            AudioSegment(str(Path(manifest.root) / row.path), row.start, row.seconds),
            row.path,
            None if row.values.get("speaker") is None else str(row.values["speaker"]),
        )
        for row in manifest.rows
    ]


def segments(samples: np.ndarray) -> list[np.ndarray]:
    """Cut a clip (T,) at quiet places, see above; joined in order they are the clip."""
    frames = len(samples) // FRAME
    energy = np.square(samples[: frames * FRAME].astype(np.float64)).reshape(frames, FRAME).sum(axis=1)
    cuts = [0]
    while frames - cuts[-1] >= SHORTEST + LONGEST:
        first = cuts[-1] + SHORTEST
        cuts.append(first + int(energy[first : cuts[-1] + LONGEST].argmin()))
    # a cut in the middle of its frame
    return np.split(samples, [cut * FRAME + FRAME // 2 for cut in cuts[1:]])


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join parts (T,) with a short fade out and in at each joint."""
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    faded = [part.astype(np.float32) for part in parts]
    for before, after in itertools.pairwise(faded):
        before[-FADE:] *= ramp[::-1][-len(before) :]
        after[:FADE] *= ramp[: len(after)]
    return np.concatenate(faded)


def halves(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a clip (T,) at the joint of its segments that is nearest to the middle."""
    ends = np.cumsum([len(part) for part in segments(samples)])[:-1]
    cut = int(ends[np.abs(ends - len(samples) / 2).argmin()])
    return samples[:cut], samples[cut:]


def disturbed(
    samples: np.ndarray, other: np.ndarray | None, quiet: bool, random: np.random.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Group, positive and negative clip of each pair made of a clip (T,).

    Args:
        samples: Clip of at least `LEAST_SEGMENTS` segments.
        other: Clip of another speaker of as many; None: no pair of the group `speaker`.
        quiet: Whether the positive clip of the group `level` is quieter as a whole.
        random: Generator of the order of segments.
    """
    parts = segments(samples)
    whole = joined(parts)
    yield "reversed", whole, joined([part[::-1] for part in parts])
    order = np.arange(len(parts))
    while (order == np.arange(len(parts))).all():
        order = random.permutation(len(parts))
    yield "shuffled", whole, joined([parts[place] for place in order])
    first, second = halves(samples)
    if other is not None:
        theirs = halves(other)[1]
        length = min(len(second), len(theirs))
        same, replaced = second[:length], theirs[:length]
        gain = np.sqrt(np.square(same).mean() / max(np.square(replaced).mean(), 1e-12))
        replaced = replaced * min(gain, 1 / max(np.abs(replaced).max(), 1e-12))
        yield "speaker", joined([first, same]), joined([first, replaced])
    gains = (QUIETER, 1.0) if quiet else (1.0, QUIETER)
    positive = joined([first * gains[0], second * gains[0]])
    yield "level", positive, joined([first * gains[0], second * gains[1]])


def write_pairs(voices: Sequence[Voice], folder: Path) -> tuple[int, list[str]]:
    """Write pairs of clips, and `pairs.csv` with their groups; the item of a pair is its clip.

    The same clips in the same order give the same pairs.

    Returns:
        The number of pairs, and why clips were left out, one sentence each.

    Raises:
        OSError: A file cannot be written.
    """
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    clips: dict[int, np.ndarray] = {}
    left_out = []
    for number, voice in enumerate(voices):
        try:
            samples, _ = read_audio(voice.audio, RATE)
        except (OSError, ValueError) as error:
            left_out.append(failure(error))
            continue
        if len(segments(samples)) >= LEAST_SEGMENTS:
            clips[number] = samples
        else:
            left_out.append(f"{voice.name} is too short: it has fewer than {LEAST_SEGMENTS} segments.")
    rows = []
    for number, samples in clips.items():
        voice = voices[number]
        others = [each for each in clips if None not in (voice.speaker, voices[each].speaker)]
        others = [each for each in others if voices[each].speaker != voice.speaker]
        other = clips[int(random.choice(others))] if others else None
        for group, *pair in disturbed(samples, other, number % 2 == 1, random):
            names = [f"{number:05d}-{group}-{side}.flac" for side in ("positive", "negative")]
            for name, clip in zip(names, pair, strict=True):
                write_audio(folder / name, clip, RATE)
            rows.append([*names, group, voice.name])
    write_csv(folder / "pairs.csv", ("positive", "negative", "group", "item"), rows)
    return len(rows), left_out
