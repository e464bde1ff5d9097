"""How evenly a loss listens: its gradient on the samples of decoded audio and on their frequency bins.

A fresh discriminator, or the STFT of a loss, weighs some samples and some bins more than others whatever the audio is,
and a codec answers with artefacts of these periods (arXiv 2411.19842, App. B.5: why TAAE's discriminator takes window
lengths in the golden ratio). Axes: B batch, T samples, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..evaluation.report.tables import table
from ..modeling import CodecModel
from ..plots import as_png, open_axis
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

SECONDS = 0.75
"""Of each clip, from its middle."""
MARGIN = 2400
"""Samples at both ends that are left out: more than the longest window, which sees beyond the clip there."""
CLIPS = 24
NEIGHBOURS = 129
"""Samples or bins to whose mean one is compared."""
CHANNELS = 16
"""Of TAAE's discriminator here: where it listens comes from its windows, not from its width."""

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sensitivity:
    """Mean absolute gradient of a loss.

    Attributes:
        loss: What the loss is called.
        samples: (T,) on each sample.
        bins: (F,) on each bin of the discrete Fourier transform of these samples.
    """

    loss: str
    samples: np.ndarray
    bins: np.ndarray

    @property
    def period(self) -> float:
        """Samples between those that are heard best: the strongest line in the spectrum of `samples`."""
        spectrum = np.abs(np.fft.rfft(_deviation(self.samples)))
        return len(self.samples) / (1 + int(spectrum[1:].argmax()))

    def facts(self) -> dict[str, Any]:
        """What the table says, as JSON values."""
        uneven = {"samples_db": unevenness(self.samples), "bins_db": unevenness(self.bins)}
        return {"loss": self.loss, **uneven, "period": self.period}


def unevenness(profile: np.ndarray) -> float:
    """Standard deviation, in dB, of values (N,) from the mean of their neighbourhood."""
    return float(_deviation(profile).std())


def training_losses() -> dict[str, Loss]:
    """The losses of decoded y against x, both (B, T): of both papers and of the recipes; discriminators are fresh."""
    torch.manual_seed(0)
    of_l3ac, of_taae = Discriminator(), STFTDiscriminator(channels=CHANNELS)
    return {
        "L1": l1_loss,
        "1 − cosine": cosine_loss,
        "STFT, multi-scale (L3AC)": multi_scale_stft_loss,
        "STFT L1 (TAAE)": stft_l1_loss,
        "feature matching (L3AC)": lambda y, x: feature_matching_loss(of_l3ac(y), of_l3ac(x)),
        "feature matching (TAAE)": lambda y, x: relative_feature_matching_loss(of_taae(y), of_taae(x)),
    }


def measure(model: CodecModel, recordings: Iterable[np.ndarray], losses: dict[str, Loss]) -> list[Sensitivity]:
    """Gradients of the losses on what the model makes of recordings (T,), at its rate; the first `CLIPS` long enough.

    Raises:
        ValueError: No recording has `SECONDS`.
    """
    size = round(SECONDS * model.config.sampling_rate)
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
            # Clips count alike, however large their losses are.
            inner = inner / max(np.abs(inner).mean(), 1e-300)
            sums[name] += np.abs(inner)
            spectra[name] += np.abs(np.fft.rfft(inner * np.hanning(len(inner))))
        count += 1
        if count == CLIPS:
            break
    if count == 0:
        raise ValueError(f"No recording has {SECONDS:g} s; give longer ones.")
    return [Sensitivity(name, sums[name] / count, spectra[name] / count) for name in losses]


def markdown(found: Sequence[Sensitivity], title: str) -> str:
    """A table, a row a loss."""
    rows = [["gradient of", "samples, dB", "bins, dB", "strongest period"]]
    for one in found:
        rows.append([one.loss, *(f"{unevenness(p):.2f}" for p in (one.samples, one.bins)), f"{one.period:.1f} samples"])
    return (
        f"## Where losses listen, {title}\n\nHow far the mean absolute gradient on a sample, and on a frequency bin, "
        f"of decoded audio lies from that on its {NEIGHBOURS - 1} neighbours: standard deviation over up to {CLIPS} "
        "clips. Chance leaves about the figures of L1 in the bins and of 1 − cosine in the samples; more is the loss's "
        f"own. Discriminators have fresh weights.\n\n{table(rows)}\n"
    )


def draw(found: Sequence[Sensitivity], sampling_rate: int) -> bytes:
    """PNG: the gradient on samples and on bins, in dB of its neighbourhood, a row a loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.7 * len(found)), layout="constrained")
    for one, (left, right) in zip(found, figure.subplots(len(found), 2, squeeze=False), strict=True):
        left.plot(_deviation(one.samples)[:2000], linewidth=0.5, color="#0b6e99")
        left.set_title(f"{one.loss}: samples", fontsize=9)
        frequencies = np.linspace(0, sampling_rate / 2000, len(one.bins))
        right.plot(frequencies, _deviation(one.bins), linewidth=0.5, color="#0b6e99")
        right.set_title("bins, kHz", fontsize=9)
        for axis in (left, right):
            axis.set_ylim(-12, 12)
            open_axis(axis)
    figure.supylabel("dB of the neighbourhood")
    return as_png(figure)


def _deviation(profile: np.ndarray) -> np.ndarray:
    """Values (N,) in dB of the mean of their neighbourhood."""
    around = np.pad(profile, NEIGHBOURS // 2, mode="reflect")
    mean = np.convolve(around, np.full(NEIGHBOURS, 1 / NEIGHBOURS), mode="valid")
    return 20 * np.log10(np.maximum(profile, 1e-12) / np.maximum(mean, 1e-12))
