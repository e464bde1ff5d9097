"""Synthetic corpus of simple English sentences, spoken by espeak-ng, in the layout of LibriSpeech or LJSpeech.

    python recipes/Synthetic/make_corpus.py OUT --layout librispeech
    python recipes/Synthetic/make_corpus.py OUT --layout ljspeech

It is for trying the recipes without a large corpus: the sentences come from a grammar of about eighty words, which a
network can learn in an hour. `librispeech` has several voices in `train-synthetic`; the voices and sentences of
`dev-synthetic` and `test-synthetic` occur in no other subset. `ljspeech` has a single voice, which `librispeech` does
not use, and never repeats a sentence. The same arguments and espeak-ng version give the same audio. It needs the
program `espeak-ng`.
"""

# ruff: noqa: SIM905 - long lists of words are easier to read this way
from __future__ import annotations

import argparse
import io
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from l3ac_tokenizer.audio import read_audio, write_audio

RATE = 16_000


DETERMINERS = "the a my your every this another".split()
ADJECTIVES = "small old red green happy quiet strong yellow careful lazy young brave".split()
NOUNS = "dog cat bird farmer teacher doctor river garden window house letter horse mountain child sailor baker".split()
VERBS = "found watched followed carried painted remembered opened wanted visited liked heard crossed".split()
PREPOSITIONS = "near under behind beside before without".split()
ENDINGS = ["today", "yesterday", "again", "slowly", "at night", "in the morning", "on sunday", "with a smile"]
OPENINGS = ["then", "suddenly", "last week", "they say", "i think", "once"]


class Voice(NamedTuple):
    """Speaker: the name of an espeak-ng voice, and its base pitch (0 to 99)."""

    name: str
    pitch: int


AMERICAN = (
    "m1 m2 m3 m4 m6 f1 f2 f4 adam Alex Andrea Andy anika Annie antonio aunty belinda boris david Denis Diogo ed edward "
    "edward2 Gene Henrique Hugo iven Jacky john Lee marcelo Marco Mario Michael Mike norbert pablo paul pedro quincy "
    "robert sandro victor"
).split()
BRITISH = "m1 m3 m4 f1 f2 f4 Andrea Annie adam anika ed Gene".split()
TRAIN_VOICES = [
    *(Voice(f"en-us+{variant}", 50) for variant in AMERICAN),
    *(Voice(f"en-gb+{variant}", 50) for variant in BRITISH),
    *(Voice(f"en-gb-x-rp+{variant}", 50) for variant in ("steph", "edward", "f3", "m4")),
]
DEV_VOICES = [Voice("en-us+m5", 50), Voice("en-us+Alicia", 50), Voice("en-us+max", 50), Voice("en-us+shelby", 50)]
TEST_VOICES = [Voice("en-us+m7", 45), Voice("en-us+f5", 50), Voice("en-us+linda", 50), Voice("en-us+benjamin", 50)]
SINGLE_VOICE = Voice("en-us+f3", 50)
"""Voice of `ljspeech`, unknown to a recognizer trained on `librispeech`."""


def sentences(random_numbers: random.Random) -> Iterator[str]:
    """Yield random sentences of the grammar, without repetition."""
    choice = random_numbers.choice

    def noun_phrase() -> str:
        phrase = [choice(DETERMINERS), *([choice(ADJECTIVES)] if random_numbers.random() < 0.6 else []), choice(NOUNS)]
        return " ".join(phrase).replace("a old", "an old")

    seen = set()
    while True:
        parts = [noun_phrase(), choice(VERBS), noun_phrase()]
        if random_numbers.random() < 0.3:
            parts.insert(0, choice(OPENINGS))
        if random_numbers.random() < 0.4:
            parts += [choice(PREPOSITIONS), noun_phrase()]
        elif random_numbers.random() < 0.5:
            parts.append(choice(ENDINGS))
        sentence = " ".join(parts)
        if sentence not in seen:
            seen.add(sentence)
            yield sentence


def speak(text: str, voice: Voice, speed: int, pitch: int, path: Path) -> None:
    """Synthesize one sentence and write it as FLAC at 16 kHz.

    Raises:
        OSError: espeak-ng fails, or the file cannot be written.
    """
    command = ["espeak-ng", "-v", voice.name, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0 or not done.stdout:
        reason = done.stderr.decode().strip() or "no audio"
        raise OSError(f"espeak-ng cannot use the voice {voice.name} ({reason}): install all of its voices.")
    samples, _ = read_audio(io.BytesIO(_with_sizes(done.stdout)), RATE)
    write_audio(path, samples, RATE)


def make_librispeech(out: Path, counts: dict[str, int], random_numbers: random.Random) -> None:
    """Write subsets with `counts` utterances for each voice; earlier subsets do not depend on later ones."""
    texts = sentences(random_numbers)
    voices = {"train": TRAIN_VOICES, "dev": DEV_VOICES, "test": TEST_VOICES}
    speaker = 0
    for part, count in counts.items():
        for voice in voices[part]:
            speaker += 1
            folder = out / f"{part}-synthetic" / str(speaker) / "1"
            folder.mkdir(parents=True, exist_ok=True)
            lines = []
            for number in tqdm(range(count), desc=f"{part} {voice.name}", file=sys.stderr, disable=None):
                text = next(texts)
                name = f"{speaker}-1-{number:04d}"
                speed, pitch = random_numbers.randint(140, 190), voice.pitch + random_numbers.randint(-15, 15)
                speak(text, voice, speed, pitch, folder / f"{name}.flac")
                lines.append(f"{name} {text.upper()}\n")
            (folder / f"{speaker}-1.trans.txt").write_text("".join(lines), "utf-8")


def make_ljspeech(out: Path, count: int, random_numbers: random.Random) -> None:
    """Write `count` utterances of one voice at one speed and pitch."""
    folder = out / "wavs"
    folder.mkdir(parents=True, exist_ok=True)
    texts = sentences(random_numbers)
    lines = []
    for number in tqdm(range(count), desc=SINGLE_VOICE.name, file=sys.stderr, disable=None):
        text, name = next(texts), f"ES{number // 50:03d}-{number % 50:04d}"
        speak(text, SINGLE_VOICE, 165, SINGLE_VOICE.pitch, folder / f"{name}.flac")
        sentence = f"{text.capitalize()}."
        lines.append(f"{name}|{sentence}|{sentence}\n")
    (out / "metadata.csv").write_text("".join(lines), "utf-8")


def _with_sizes(wav: bytes) -> bytes:
    """Set the lengths in the header of a WAV that was written to a pipe, where espeak-ng cannot know them."""
    head, data = wav[:44], wav[44:]
    sizes = (len(data) + 36).to_bytes(4, "little"), len(data).to_bytes(4, "little")
    return head[:4] + sizes[0] + head[8:40] + sizes[1] + data


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to create")
    parser.add_argument("--layout", choices=["librispeech", "ljspeech"], required=True)
    parser.add_argument(
        "--utterances",
        type=int,
        help="utterances per training voice (default: 40), or in total for ljspeech (default: 800)",
    )
    parser.add_argument(
        "--held-out", type=int, default=15, help="utterances per dev or test voice (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if shutil.which("espeak-ng") is None:
        parser.exit(1, "The program espeak-ng is missing: install the package espeak-ng of your system.\n")
    random_numbers = random.Random(f"{options.layout} {options.seed}")  # the layouts have different sentences
    if options.layout == "ljspeech":
        make_ljspeech(options.out, options.utterances or 800, random_numbers)
    else:
        counts = {"dev": options.held_out, "test": options.held_out, "train": options.utterances or 40}
        make_librispeech(options.out, counts, random_numbers)


if __name__ == "__main__":
    main()
