"""The stages of training: the parameters that each trains, and the kind of output that it learns from."""

from __future__ import annotations

STAGES = {
    "tokens": ("encoder.", "quantizer.", "decoder.transformer."),
    "distill": ("encoder.convolutions.",),
    "encode": ("encoder.", "quantizer.", "decoder.transformer."),
    "decode": ("quantizer.project_out.", "decoder."),
    "joint": ("",),
}
"""Stage → name prefixes of the model's parameters that it trains.

- `tokens`: spectral analysis, quantizer and transformers learn to predict log-mels from ids; no waveform is made.
- `distill`: the convolutional encoder learns the features and latents of a finished `tokens` run, its teacher.
- `encode`: like `tokens`, with an encoder of either kind.
- `decode`: the decoder alone, on ids that stay as they are.
- `joint`: everything, end to end.
"""

MEL_STAGES = ("tokens", "distill", "encode")
"""Stages that have a spectral head instead of a waveform; `distill` hands the head on unchanged."""

FIXED_LATENTS = ("distill", "decode")
"""Stages that must not change the scale of the latents."""
