"""Loss sensitivity: the gradient of training losses with respect to samples and frequency bins of decoded audio.

An untrained discriminator, or the STFT in a loss, weighs some samples and bins more than others whatever the audio is,
and a codec responds with artifacts of these periods (arXiv 2411.19842, App. B.5: the reason why TAAE's discriminator
uses window lengths in the golden ratio).

Axes: B batch, T samples, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..evaluation.report.tables import table
from ..markup import markdown_text
from ..modeling import CodecModel
from ..training.discriminator import Discriminator
from ..training.losses import (
    cosine_loss,
    feature_matching_loss,
    l1_loss,
    multi_scale_stft_loss,
    relative_feature_matching_loss,
    stft_l1_loss,
)
from ..training.stft_discriminator import STFTDiscriminator

EXCERPT_SECONDS = 0.75
"""Length of the excerpt from the middle of each clip."""

MARGIN = 2400
"""Samples that are left out at both ends: more than the longest window, which extends beyond the clip there."""

CLIPS = 24
"""Maximum number of clips."""

NEIGHBORS = 129
"""Number of samples or bins whose mean each one is compared with."""

DISCRIMINATOR_CHANNELS = 16
"""Channels of TAAE's discriminator here: its sensitivity depends on its windows, not on its width."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossSensitivity:
    """Mean absolute gradient of a loss.

    Attributes:
        loss: Name of the loss.
        samples: (T,) with respect to each sample.
        bins: (F,) with respect to each bin of the discrete Fourier transform of these samples.
    """

    loss: str
    samples: np.ndarray
    bins: np.ndarray

    @property
    def period(self) -> float:
        """Strongest period of the sensitivity in samples: the highest peak in the spectrum of `samples`."""
        spectrum = np.abs(np.fft.rfft(deviation_db(self.samples)))
        return len(self.samples) / (1 + int(spectrum[1:].argmax()))

    def as_json(self) -> dict[str, Any]:
        """The row of the table, as JSON values."""
        uneven = {"samples_db": unevenness(self.samples), "bins_db": unevenness(self.bins)}
        return {"loss": self.loss, **uneven, "period": self.period}


def unevenness(profile: np.ndarray) -> float:
    """Standard deviation in dB of values (N,) from the mean of their neighborhood."""
    return float(deviation_db(profile).std())


def training_losses() -> dict[str, Loss]:
    """Losses of decoded y against x, both (B, T), of both papers and of the recipes; discriminators are untrained."""
    torch.manual_seed(0)
    of_l3ac, of_taae = Discriminator(), STFTDiscriminator(channels=DISCRIMINATOR_CHANNELS)
    return {
        "L1": l1_loss,
        "1 − cosine": cosine_loss,
        "STFT, multi-scale (L3AC)": multi_scale_stft_loss,
        "STFT L1 (TAAE)": stft_l1_loss,
        "feature matching (L3AC)": lambda y, x: feature_matching_loss(of_l3ac(y), of_l3ac(x)),
        "feature matching (TAAE)": lambda y, x: relative_feature_matching_loss(of_taae(y), of_taae(x)),
    }


def measure_sensitivity(
    model: CodecModel, recordings: Iterable[np.ndarray], losses: dict[str, Loss]
) -> list[LossSensitivity]:
    """Mean absolute gradients of losses with respect to decoded recordings.

    Args:
        model: the codec.
        recordings: audio (T,) at the model's sampling rate; the first `CLIPS` that are long enough are used.
        losses: name → function of decoded and original audio (B, T).

    Raises:
        ValueError: no recording is `EXCERPT_SECONDS` long.
    """
    size = round(EXCERPT_SECONDS * model.config.sampling_rate)
    sums = {name: np.zeros(size - 2 * MARGIN) for name in losses}
    spectra = {name: np.zeros(size // 2 - MARGIN + 1) for name in losses}
    count = 0
    for recording in recordings:
        first = (len(recording) - size) // 2
        if first < 0 or not recording[first : first + size].any():
            continue
        x = torch.from_numpy(recording[first : first + size])[None]
        with torch.no_grad():
            decoded = model.decode(model.encode(x[None].to(model.device, model.dtype)).audio_codes, num_samples=size)
        y = decoded.audio_values[:, 0].float().cpu().requires_grad_()
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss(y, x), y)
            inner = gradient[0, MARGIN:-MARGIN].double().numpy()
            # Every clip has the same weight, however large its loss is.
            inner = inner / max(np.abs(inner).mean(), 1e-300)
            sums[name] += np.abs(inner)
            spectra[name] += np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
        count += 1
        if count == CLIPS:
            break
    if count == 0:
        raise ValueError(f"No recording is as long as {EXCERPT_SECONDS:g} s; give longer ones.")
    return [LossSensitivity(name, sums[name] / count, spectra[name] / count) for name in losses]


def sensitivity_section(found: Sequence[LossSensitivity], title: str) -> str:
    """A Markdown section with a row for each loss."""
    rows = [["gradient of", "samples, dB", "bins, dB", "strongest period"]]
    for one in found:
        rows.append([one.loss, *(f"{unevenness(p):.2f}" for p in (one.samples, one.bins)), f"{one.period:.1f} samples"])
    return (
        f"## Loss sensitivity, {markdown_text(title)}\n\nUnevenness of the mean absolute gradient over samples, and "
        f"over frequency bins, of decoded audio: standard deviation from the mean of the {NEIGHBORS - 1} neighbors, "
        f"over up to {CLIPS} clips. Chance accounts for about the values of L1 in the bins and of 1 − cosine in the "
        f"samples; the rest is due to the loss. Discriminators are untrained.\n\n{table(rows)}\n"
    )


def deviation_db(profile: np.ndarray) -> np.ndarray:
    """Values (N,) in dB relative to the mean of their neighborhood."""
    around = np.pad(profile, NEIGHBORS // 2, mode="reflect")
    mean = np.convolve(around, np.full(NEIGHBORS, 1 / NEIGHBORS), mode="valid")
    return 20 * np.log10(np.maximum(profile, 1e-12) / np.maximum(mean, 1e-12))
