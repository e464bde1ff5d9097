"""Ids as vectors for a language model with continuous inputs.

    python examples/continuous.py speech.flac

A linear layer takes the place of an embedding with 117,649 rows.
"""

import sys

import torch
from torch import nn
from transformers import AutoFeatureExtractor, AutoModel, LlamaConfig, LlamaModel

from l3ac_tokenizer import read_audio


def main(path: str, name: str = "l3ac-1k-light") -> None:
    """Run a small language model, untrained, over the ids of a file."""
    codec = AutoModel.from_pretrained(name)
    extractor = AutoFeatureExtractor.from_pretrained(name)
    audio, _ = read_audio(path, extractor.sampling_rate)
    inputs = extractor(audio, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.no_grad():
        features = codec.codes_to_features(codec.encode(**inputs).audio_codes)  # (B, N, D)
    config = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    lm = LlamaModel(config)
    adapter = nn.Linear(features.shape[-1], config.hidden_size)
    hidden = lm(inputs_embeds=adapter(features)).last_hidden_state
    print(f"features {tuple(features.shape)}, hidden states {tuple(hidden.shape)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
