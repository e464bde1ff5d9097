"""The ids of one file as a Python list.

    python examples/ids_list.py speech.flac

They are printed as JSON.
"""

import json
import sys

from transformers import AutoFeatureExtractor, AutoModel

from l3ac_tokenizer import read_audio


def main(path: str, name: str = "l3ac-1k-light") -> None:
    """Encode a file and print its ids."""
    model = AutoModel.from_pretrained(name)
    extractor = AutoFeatureExtractor.from_pretrained(name)
    audio, _ = read_audio(path, extractor.sampling_rate)
    inputs = extractor(audio, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    (ids,) = model.encode(**inputs).to_list()
    print(json.dumps(ids))


if __name__ == "__main__":
    main(*sys.argv[1:])
