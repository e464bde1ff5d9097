"""Leveled input: ids that change with the level, and word error rate by Whisper tiny.en, for several loudnesses.

`python benchmarks/leveling.py FOLDER`: 24 transcribed clips of a folder of audio, evenly spaced in its list.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from l3ac_tokenizer import CodecModel, decode_clips, encode_clips, read_audio
from l3ac_tokenizer.asr import ASR_RATE, FasterWhisper, normalized_words, word_errors
from l3ac_tokenizer.listing.layouts import read_layout
from l3ac_tokenizer.loudness import leveled

CLIPS = 24
LOUDNESSES = (None, -23.0, -20.0, -17.0)


def changed(model: CodecModel, audio: np.ndarray, ids: np.ndarray, decibels: float, lufs: float | None) -> int:
    """Number of ids of a clip (T,) that change with its level."""
    quieter = (audio * 10 ** (decibels / 20)).astype(np.float32)
    return int((encode_clips(model, [leveled(quieter, model.config.sampling_rate, lufs)[0]])[0] != ids).sum())


def main() -> None:
    """Print a row for each loudness, in LUFS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--model", default="l3ac-1k-light")
    options = parser.parse_args()
    model = CodecModel.from_pretrained(options.model).eval()
    recognize = FasterWhisper()
    files = [file for file in read_layout(options.folder).files if file.text]
    files = [files[round(place)] for place in np.linspace(0, len(files) - 1, CLIPS)]
    clips = [read_audio(os.path.join(options.folder, file.path), ASR_RATE)[0] for file in files]
    for lufs in LOUDNESSES:
        errors = words = total = ones = sixes = 0.0
        for file, audio in zip(files, clips, strict=True):
            wave, scale = leveled(audio, ASR_RATE, lufs)
            ids = encode_clips(model, [wave])[0]
            heard = recognize(decode_clips(model, [ids], [len(audio)], audio_scales=[scale])[0])
            wrong, count = word_errors(normalized_words(file.text or ""), normalized_words(heard))
            errors, words, total = errors + wrong, words + count, total + len(ids)
            ones += changed(model, audio, ids, -1.0, lufs)
            sixes += changed(model, audio, ids, -6.0, lufs)
        print(
            f"{lufs} LUFS: WER {errors / words:.1%}, ids changed by -1 dB {ones / total:.2%}, -6 dB {sixes / total:.2%}"
        )


if __name__ == "__main__":
    main()
