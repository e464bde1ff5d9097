"""Spectral front and back end of light networks: log-mel analysis, and synthesis by inverse Fourier transform.

Axes: B batch, T samples, J fine steps of h samples (`config.fine_hop`), D features, M mel bands.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from ...configuration import L3ACConfig
from ..layers import ConvNeXtBlock, Layers, TimeConv, constant
from ..span import Span

SPECTRA = ((0.025, 80, 1e-6), (0.064, 100, 1e-5))
"""Window length in seconds, number of mel bands, and minimum power of each log-mel spectrogram."""

MEL_BANDS = sum(bands for _, bands, _ in SPECTRA)

MAX_LOG_MAGNITUDE = 5.0
OVERLAP = 4
"""Length of a synthesis frame in fine steps."""


def dft_matrices(length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine matrices (length, length // 2 + 1) of the real Fourier transform of `length` samples."""
    angle = np.outer(np.arange(length), np.arange(length // 2 + 1)) % length * (2 * math.pi / length)
    return constant(np.cos(angle), like), constant(np.sin(angle), like)


def hann_window(length: int, like: Tensor) -> Tensor:
    """Periodic Hann window (length,)."""
    return constant(0.5 - 0.5 * np.cos(np.arange(length) * (2 * math.pi / length)), like)


def power_spectrum(frames: Tensor) -> Tensor:
    """Power spectrum |DFT|²: frames (…, n), n even → (…, n // 2 + 1); by matrix products in exported graphs."""
    if torch.compiler.is_exporting():
        return _power_by_products(frames)
    spectrum = torch.view_as_real(torch.fft.rfft(frames))
    return spectrum.square().sum(-1)


def _power_by_products(frames: Tensor) -> Tensor:
    """Power spectrum by two stages of small products (Cooley and Tukey), for n = a·b as near to a square as possible.

    Sample b·i + j and bin p + a·q meet in the factor w_n^((b·i + j)(p + a·q)) = w_a^(i·p) · w_n^(j·p) · w_b^(j·q) with
    w_n = exp(−2πi / n): products over i, the twiddle factors in the middle, and products over j.
    """
    length = frames.shape[-1]
    a = next(factor for factor in range(math.isqrt(length), 0, -1) if length % factor == 0)
    b = length // a

    def roots(n: int, rows: int, columns: int) -> np.ndarray:
        return np.exp(-2j * math.pi / n * (np.outer(np.arange(rows), np.arange(columns)) % n))

    first, twiddle, last = roots(a, a, a), roots(length, b, a), roots(b, b, b // 2 + 1)
    of_first = constant(np.concatenate([first.real, first.imag], axis=1), frames)  # (a, 2a)
    of_last = constant(np.block([[last.real, last.imag], [-last.imag, last.real]]), frames)  # (2b, 2·(b/2 + 1))
    real, imaginary = constant(twiddle.real, frames), constant(twiddle.imag, frames)
    x, y = _product(frames.unflatten(-1, (a, b)).transpose(-1, -2), of_first).chunk(2, dim=-1)  # (…, b, a)
    turned = torch.cat([x * real - y * imaginary, x * imaginary + y * real], dim=-2).transpose(-1, -2)  # (…, a, 2b)
    x, y = _product(turned, of_last).chunk(2, dim=-1)
    power = x.square() + y.square()  # (…, a, b/2 + 1), bin p + a·q at (p, q)
    return power.transpose(-1, -2).flatten(-2)[..., : length // 2 + 1]


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """x (…, D) times a matrix (D, D'), as one product: compilers copy the matrix for each clip otherwise."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], matrix.shape[1])


def overlapping(samples: Tensor, length: int, hop: int) -> Tensor:
    """Frames of `length` samples, `hop` apart: (B, T) → (B, J, length), by whole rows in exported graphs."""
    if not torch.compiler.is_exporting():
        return samples.unfold(1, length, hop)
    steps = (samples.shape[1] - length) // hop + 1
    rows = math.ceil(length / hop)
    padded = F.pad(samples, (0, (steps + rows - 1) * hop - samples.shape[1])).unflatten(1, (steps + rows - 1, hop))
    return torch.cat([padded[:, row : row + steps] for row in range(rows)], dim=2)[..., :length]


def inverse_dft(real: Tensor, imaginary: Tensor) -> Tensor:
    """Inverse real DFT: half spectra (…, n / 2 + 1) → frames (…, n); by matrix products in exported graphs."""
    length = 2 * (real.shape[-1] - 1)
    if torch.compiler.is_exporting():
        cos, sin = dft_matrices(length, real)
        # All bins but the first and the last also represent their complex conjugates.
        twice = constant(np.where(np.arange(length // 2 + 1) % (length // 2) == 0, 1.0, 2.0), real)
        return ((real * twice) @ cos.T - (imaginary * twice) @ sin.T) / length
    return torch.fft.irfft(torch.complex(real, imaginary), n=length)


class LogMels(nn.Module):
    """Two log-mel spectrograms with windows centered on the fine steps; samples outside the clip are zero."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        self.sampling_rate, self.hop = config.sampling_rate, config.fine_hop
        self.windows = [2 * round(seconds * config.sampling_rate / 2) for seconds, _, _ in SPECTRA]
        self.after = max(self.windows) // 2 - self.hop // 2
        for index, filters in enumerate(self.filters()):
            self.register_buffer(f"filters_{index}", filters, persistent=False)

    def filters(self) -> list[Tensor]:
        """Slaney mel filters (n // 2 + 1, bands) for each window of n samples, from 0 to half the sampling rate."""
        return [
            torch.from_numpy(
                mel_filter_bank(
                    window // 2 + 1, bands, 0.0, self.sampling_rate / 2, self.sampling_rate, "slaney", "slaney"
                ).astype(np.float32)
            )
            for window, (_, bands, _) in zip(self.windows, SPECTRA, strict=True)
        ]

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """Waveform x (B, T, 1), T a multiple of h → log10 mel power (B, J, M), in float32 or wider."""
        window, _, crop = span.around(x, self.after, self.after, self)
        span.down(self.hop)
        samples = window[..., 0].to(torch.promote_types(x.dtype, torch.float32))
        if not crop:
            samples = F.pad(samples, (self.after, self.after))
        mels = []
        with torch.autocast(x.device.type, enabled=False):
            for index, (length, (_, _, floor)) in enumerate(zip(self.windows, SPECTRA, strict=True)):
                margin = (max(self.windows) - length) // 2
                frames = overlapping(samples[:, margin : samples.shape[1] - margin], length, self.hop)
                hann = hann_window(length, samples)
                power = power_spectrum(frames * hann)
                filters = getattr(self, f"filters_{index}").to(samples.dtype)
                mels.append(_product(power, filters).clamp_min(floor).log10())
        return torch.cat(mels, dim=-1)


class SpectralAnalysis(nn.Module):
    """Front end: waveform (B, T, 1) → features (B, T / h, D), by standardized log-mels and ConvNeXt blocks."""

    def __init__(self, config: L3ACConfig):
        super().__init__()
        self.log_mels = LogMels(config)
        self.register_buffer("mean", torch.zeros(MEL_BANDS))
        self.register_buffer("std", torch.ones(MEL_BANDS))
        self.mean: Tensor
        self.std: Tensor
        self.project = nn.Linear(MEL_BANDS, config.feature_dim)
        self.blocks: Layers[ConvNeXtBlock] = Layers(
            ConvNeXtBlock(config.feature_dim) for _ in range(config.analysis_depth)
        )

    @property
    def lookahead(self) -> int:
        """Number of samples after those of a feature that the feature depends on."""
        return self.log_mels.after + self.log_mels.hop * sum(block.depthwise.after for block in self.blocks)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, 1) → (B, T / h, D)."""
        mels = self.log_mels(x, span)
        features = self.project(((mels - self.mean) / self.std).to(x.dtype))
        for block in self.blocks:
            features = block(features, span)
        return features


class SpectralSynthesis(nn.Module):
    """Back end: features (B, J, D) → waveform (B, J · h, 1) in [-1, 1], as in Vocos (arXiv 2306.00814).

    A convolution and ConvNeXt blocks predict log-magnitudes and phases of 2h + 1 bins at each fine step. Their inverse
    Fourier transforms, frames of 4h samples centered on the fine steps, are windowed and overlap-added.
    """

    def __init__(self, config: L3ACConfig):
        super().__init__()
        dim, convolutions = config.synthesis_dim, config.synthesis_depth + 1
        count = config.synthesis_lookahead_layers
        looking = convolutions if count is None else min(count, convolutions)
        lookaheads = [0] * (convolutions - looking) + [config.synthesis_lookahead] * looking
        self.hop = config.fine_hop
        self.input_norm = nn.LayerNorm(config.feature_dim)
        self.input = TimeConv(config.feature_dim, dim, lookahead=lookaheads[0])
        self.blocks: Layers[ConvNeXtBlock] = Layers(ConvNeXtBlock(dim, lookahead) for lookahead in lookaheads[1:])
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 2 * (OVERLAP * self.hop // 2 + 1))
        # A frame starts 3h/2 samples before its fine step, and the first value of the window is zero.
        self.delay = 3 * self.hop // 2 - 1

    @property
    def output_layer(self) -> nn.Linear:
        """Last layer with weights."""
        return self.project

    @property
    def lookahead(self) -> int:
        """Delay of streamed decoding: a sample depends on features up to this many samples after it."""
        steps = self.input.after + sum(block.depthwise.after for block in self.blocks)
        return steps * self.hop + self.delay

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, J, D) → (B, J · h, 1)."""
        length = x.shape[1]
        x = self.input(self.input_norm(x), span)
        for block in self.blocks:
            x = block(x, span)
        frames = self.frames(self.project(self.norm(x)))
        past = OVERLAP - 1
        frames, _, crop = span.around(frames, past, 0, self)
        inside = span.inside(frames.shape[1], crop, frames.device)
        span.up(self.hop, self.delay)
        squares = hann_window(OVERLAP * self.hop, frames).square()
        ones = frames.new_ones(1, frames.shape[1]) if inside is None else inside.to(frames.dtype)
        samples = overlap_add(frames) / overlap_add(ones[..., None] * squares).clamp_min(1e-8)
        # Whole clips start with their first fine step, streams at the first sample for which all frames are known.
        first = past * self.hop + 1 if crop else self.delay + 1
        samples = samples[:, first : first + length * self.hop]
        return samples.clamp(-1.0, 1.0).to(x.dtype)[..., None]

    @staticmethod
    def frames(spectrum: Tensor) -> Tensor:
        """Log-magnitudes and phases (B, J, 2 · (2h + 1)) → windowed frames (B, J, 4h), in float32 or wider."""
        wide = torch.promote_types(spectrum.dtype, torch.float32)
        with torch.autocast(spectrum.device.type, enabled=False):
            log_magnitude, phase = spectrum.to(wide).chunk(2, dim=-1)
            magnitude = log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp()
            frames = inverse_dft(magnitude * phase.cos(), magnitude * phase.sin())
            return frames * hann_window(frames.shape[-1], frames)


def overlap_add(frames: Tensor) -> Tensor:
    """Overlap-add of frames (B, J, 4h), h samples apart → samples (B, (J + 3) · h)."""
    steps = frames.unflatten(-1, (OVERLAP, -1)).unbind(2)
    padded = [F.pad(step, (0, 0, index, OVERLAP - 1 - index)) for index, step in enumerate(steps)]
    return torch.stack(padded).sum(0).flatten(1)
