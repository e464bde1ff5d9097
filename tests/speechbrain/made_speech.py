"""Synthetic language that a model learns in minutes: each letter is a chord of a tenth of a second."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from l3ac_tokenizer.audio import write_audio

RATE = 16_000
LETTERS = "ABCDEF"
WORDS = ["AB", "CD", "EF", "BE", "DA", "FC"]
CHORDS = {letter: (220 * 2 ** (place / 2), 700 + 500 * place) for place, letter in enumerate(LETTERS)}


def speak(text: str, seed: int) -> np.ndarray:
    """Synthesize a sentence as audio (T,); the pitch of the speaker and the noise depend on the seed."""
    rng = np.random.default_rng(seed)
    detune = 1 + 0.02 * rng.standard_normal()
    pieces = [np.zeros(RATE // 20)]
    for word in text.split():
        for letter in word:
            time = np.arange(RATE // 10) / RATE
            low, high = CHORDS[letter]
            chord = np.sin(2 * np.pi * low * detune * time) + 0.7 * np.sin(2 * np.pi * high * detune * time)
            pieces.append(0.2 * chord * np.hanning(len(time)) ** 0.3)
        pieces.append(np.zeros(RATE // 10))
    wave = np.concatenate(pieces)
    return (wave + 0.002 * rng.standard_normal(len(wave))).astype(np.float32)


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of one to three words."""
    chooser = random.Random(seed)
    return [" ".join(chooser.choices(WORDS, k=chooser.randint(1, 3))) for _ in range(count)]


def make_librispeech(folder: Path, counts: dict[str, int]) -> Path:
    """Write subsets with `counts` utterances in the layout of LibriSpeech, each of one speaker."""
    for speaker, (split, count) in enumerate(counts.items(), 1):
        chapter = folder / split / str(speaker) / "7"
        chapter.mkdir(parents=True)
        lines = []
        for number, text in enumerate(sentences(count, speaker)):
            name = f"{speaker}-7-{number:04d}"
            write_audio(chapter / f"{name}.flac", speak(text, 1000 * speaker + number), RATE)
            lines.append(f"{name} {text}\n")
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return folder


def make_ljspeech(folder: Path, count: int, sessions: int = 4) -> Path:
    """Write a corpus in the layout of LJSpeech."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for number, text in enumerate(sentences(count, 9)):
        name = f"LJ{number % sessions:03d}-{number:04d}"
        write_audio(folder / "wavs" / f"{name}.wav", speak(text, 5), RATE)
        lines.append(f"{name}|{text.title()}|{text.lower()}\n")
    (folder / "metadata.csv").write_text("".join(lines))
    return folder
