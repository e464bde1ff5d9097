"""A tiny network, a made signal, and random weights whose ids vary: what several test files build on."""

from __future__ import annotations

import torch

from l3ac_tokenizer import L3ACModel

TINY = {
    "feature_dim": 16,
    "encoder_rates": [3, 2],
    "encoder_dims": [4, 6, 8],
    "encoder_depths": [1, 1, 1],
    "encoder_layers": [1, 1],
    "compress_rate": 2,
    "decoder_rates": [2, 3],
    "decoder_dims": [8, 6, 4],
    "decoder_depths": [1, 1],
    "decoder_layers": [1, 1],
    "attention_window": 5,
    "num_attention_heads": 2,
    "levels": [5, 3, 3],
}
"""A network of a few thousand parameters with every kind of layer, hop 12; its windows fill within 60 samples."""


@torch.no_grad()
def with_varied_ids(model: L3ACModel) -> L3ACModel:
    """Spread the latents of a randomly initialised model over the levels: by default they hardly leave one id."""
    projection = model.quantizer.project_in
    latents = model.encode(speech_like(2 * model.config.sampling_rate)[None, None]).latents[0]
    spread = latents.std(dim=0)
    projection.weight.div_(spread[:, None])
    projection.bias.sub_(latents.mean(dim=0)).div_(spread)
    return model


def speech_like(samples: int, seed: int = 0) -> torch.Tensor:
    """A made signal (T,) with a moving pitch, bursts of noise, and pauses."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples, dtype=torch.float64) / 16_000
    pitch = 120 + 40 * torch.sin(2 * torch.pi * (0.7 + 0.1 * seed) * time)
    phase = 2 * torch.pi * torch.cumsum(pitch, 0) / 16_000
    voiced = sum(torch.sin(k * phase) / k for k in range(1, 12))
    syllables = (0.5 + 0.5 * torch.sin(2 * torch.pi * 3.1 * time + seed)).square()
    noise = torch.randn(samples, generator=generator, dtype=torch.float64)
    wave = syllables * voiced + 0.3 * (1 - syllables) * noise
    return (0.15 * wave).clamp(-1, 1).float()
