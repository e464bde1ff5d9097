"""A folder of audio to ids and back.

    python examples/files.py recordings/ decoded/

Each FLAC file becomes a .npy of ids and a decoded .wav.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

from l3ac_tokenizer import CodecModel, decode_clips, encode_files


def main(source: str, target: str, name: str = "l3ac-1k-light") -> None:
    """Encode and decode every FLAC file of a folder."""
    model = CodecModel.from_pretrained(name)
    paths = sorted(Path(source).glob("*.flac"))
    clips = encode_files(model, paths)
    decoded = decode_clips(model, [clip.ids for clip in clips], [clip.num_samples for clip in clips])
    Path(target).mkdir(exist_ok=True)
    for path, clip, audio in zip(paths, clips, decoded, strict=True):
        np.save(Path(target, f"{path.stem}.npy"), clip.ids)
        soundfile.write(Path(target, f"{path.stem}.wav"), audio, model.config.sampling_rate)
        print(f"{path.name}: {clip.num_samples} samples, {len(clip.ids)} ids")


if __name__ == "__main__":
    main(*sys.argv[1:])
