"""A corpus of seconds that the tests make themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def write_corpus(folder: Path, clips: int = 4, seconds: float = 1.0) -> Path:
    """`clips` files of colored noise with a varying tone in each of speech/, music/ and general/."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * RATE)) / RATE
    for domain in ("speech", "music", "general"):
        (folder / domain).mkdir(parents=True)
        for number in range(clips):
            tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * time) * rng.uniform(0.1, 0.4)
            audio = tone + 0.02 * rng.standard_normal(len(time))
            soundfile.write(folder / domain / f"voice{number}_0.wav", audio, RATE, subtype="PCM_16")
    return folder
