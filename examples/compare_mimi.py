"""Mimi and a codec of this package in one program.

    python examples/compare_mimi.py speech.flac kyutai/mimi l3ac-1k-light

Only the name changes; what each codec makes of the file is written as NAME_OF_CLASS.wav.
"""

import sys

import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel

from l3ac_tokenizer import read_audio


@torch.inference_mode()
def main(path: str, *names: str) -> None:
    """Encode and decode a file by each codec, and write what it becomes."""
    for name in names:
        model = AutoModel.from_pretrained(name)
        extractor = AutoFeatureExtractor.from_pretrained(name)
        rate = extractor.sampling_rate
        audio, _ = read_audio(path, rate)
        inputs = extractor(raw_audio=audio, sampling_rate=rate, return_tensors="pt")
        codes = model.encode(**inputs).audio_codes
        decoded = model.decode(codes, padding_mask=inputs["padding_mask"]).audio_values
        _, codebooks, frames = codes.shape
        assert frames == model.get_encoded_length(torch.tensor(len(audio)))
        print(f"{name}: {codebooks} x {model.config.frame_rate:.2f} ids/s of {model.config.codebook_size}")
        soundfile.write(f"{type(model).__name__}.wav", decoded.squeeze().numpy(), rate)


if __name__ == "__main__":
    main(*sys.argv[1:])
