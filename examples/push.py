"""Push a codec to the Hugging Face hub, and load it elsewhere.

hf auth login
python examples/push.py runs/mine/best me/my-codec        # in a shell: l3ac push me/my-codec --model runs/mine/best
python examples/push.py --load me/my-codec speech.wav     # on any machine with `pip install l3ac-tokenizer`
"""

import sys

import soundfile
from transformers import AutoFeatureExtractor, AutoModel

import l3ac_tokenizer  # noqa: F401 - makes the Auto classes know the codecs; no code is uploaded with a model


def push(checkpoint: str, repository: str) -> None:
    """Upload weights, feature extractor and model card."""
    model = AutoModel.from_pretrained(checkpoint)
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint)
    model.push_to_hub(repository, private=True)
    extractor.push_to_hub(repository)
    print(f"pushed: {model.weights_digest()}")


def load(repository: str, path: str) -> None:
    """Download the codec and encode a file."""
    model = AutoModel.from_pretrained(repository)
    extractor = AutoFeatureExtractor.from_pretrained(repository)
    audio, rate = soundfile.read(path, dtype="float32")
    ids = model.encode(**extractor(audio, sampling_rate=rate, return_tensors="pt")).audio_codes
    print(f"loaded: {model.weights_digest()}")
    print(f"{ids.shape[-1]} ids of {len(audio) / rate:.2f} s")


if __name__ == "__main__":
    if sys.argv[1] == "--load":
        load(*sys.argv[2:])
    else:
        push(*sys.argv[1:])
