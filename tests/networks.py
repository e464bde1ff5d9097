"""Tiny networks, a made signal, and random weights whose ids vary: what several test files build on."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from l3ac_tokenizer import CodecModel, L3ACConfig, L3ACModel, TAAEConfig, TAAEModel
from l3ac_tokenizer.modeling.taae.blocks import LayerScale

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

TINY_LIGHT = {
    **TINY,
    "analysis": "spectral",
    "synthesis": "spectral",
    "attention": "sliding",
    "analysis_depth": 1,
    "synthesis_dim": 8,
    "synthesis_depth": 2,
}
"""The same with spectral ends and sliding attention."""

TINY_TAAE = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "patch_size": 6,
    "depths": [1, 2],
    "strides": [1, 2],
    "attention_window": [5, 3],
    "levels": [5, 3, 3],
}
"""A network of 0.6 million parameters with every kind of layer, hop 12; a query sees 9 frames."""

_LIGHT_FIELDS = ("analysis", "synthesis", "attention")

MIXED_ENDS = {
    "waveform-spectral": ("waveform", "spectral", "block"),
    "spectral-waveform": ("spectral", "waveform", "sliding"),
    "waveform-sliding": ("waveform", "waveform", "sliding"),
    "spectral-block": ("spectral", "spectral", "block"),
}
"""Analysis, synthesis and attention of networks between the published one and the light one."""

TINY_NETWORKS = {
    "tiny": lambda: L3ACModel(L3ACConfig(**TINY)),
    "tiny-light": lambda: L3ACModel(L3ACConfig(**TINY_LIGHT)),
    "tiny-taae": lambda: TAAEModel(TAAEConfig(**TINY_TAAE)),
    "tiny-taae-causal": lambda: TAAEModel(TAAEConfig(**{**TINY_TAAE, "attention_window": [7, 0], "causal": True})),
}
"""One of each family, of the same hop and levels; ids and audio of random weights hardly vary."""

MIXED_NETWORKS = {
    f"tiny-{name}": lambda choice=choice: L3ACModel(
        L3ACConfig(**{**TINY_LIGHT, **dict(zip(_LIGHT_FIELDS, choice, strict=True))})
    )
    for name, choice in MIXED_ENDS.items()
}
"""Tiny networks of `MIXED_ENDS`."""

LOW_RATE_NETWORKS = {"tiny-light-2khz": lambda: L3ACModel(L3ACConfig(**TINY_LIGHT, sampling_rate=2000))}
"""For exports: a graph has a slice for each hop of the analysis windows, at 16 kHz a hundred for hops this short."""


_made: dict[tuple[str, bytes], tuple[CodecModel, Tensor]] = {}
"""Name and state of torch's generator → network, and the state after it was made."""


def tiny(name: str) -> CodecModel:
    """A network of one of the three dictionaries whose ids vary, and whose every branch counts."""
    key = name, torch.get_rng_state().numpy().tobytes()
    if key not in _made:
        _made[key] = _tiny(name), torch.get_rng_state()
    model, state = _made[key]
    torch.set_rng_state(state)
    return copy.deepcopy(model)


@torch.no_grad()
def _tiny(name: str) -> CodecModel:
    model = (TINY_NETWORKS | MIXED_NETWORKS | LOW_RATE_NETWORKS)[name]().eval()
    for module in model.modules():
        if isinstance(module, LayerScale):
            module.scale.fill_(0.5)
    return with_varied_ids(model)


def tiny_streams() -> TAAEModel:
    """The tiny TAAE with two codebooks of 27 ids each."""
    model = tiny("tiny-taae")
    assert isinstance(model, TAAEModel)
    model.set_levels([5, 5, 5])
    model.decompose(2)
    return model


@torch.no_grad()
def with_varied_ids(model: CodecModel) -> CodecModel:
    """Spread the latents of a randomly initialised model over the levels: by default they hardly leave one id."""
    projection = model.latent_layer
    latents = model.encode(speech_like(2 * model.config.sampling_rate)[None, None]).latents[0]
    spread = latents.std(dim=0)
    projection.weight.div_(spread.view(-1, *[1] * (projection.weight.ndim - 1)))
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


def tiny_mimi() -> Any:
    """A random `MimiModel` of transformers: 4 codebooks of 32 ids."""
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        num_filters=4,
        hidden_size=16,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=32,
        codebook_size=32,
        num_quantizers=4,
        upsample_groups=16,
    )
    return MimiModel(config)
