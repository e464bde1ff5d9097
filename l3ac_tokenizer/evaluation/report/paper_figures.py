"""Results printed in the papers, on their data and with their weights: shown for orientation, not comparable."""

from __future__ import annotations

from typing import NamedTuple


class PaperResult(NamedTuple):
    """A codec at one bit rate in a figure of a paper.

    Attributes:
        codec: Its name in the paper.
        kbps: Bit rate in kb/s.
        stoi: STOI as printed.
        pesq_wb: PESQ-WB as printed.
        gmacs: G MAC for 10 s as printed; the counter skips parametrized layers, and true counts are far higher.
    """

    codec: str
    kbps: float
    stoi: float
    pesq_wb: float
    gmacs: float


L3AC_FIGURE_1 = (
    PaperResult("L3AC", 0.75, 0.82, 1.68, 1.55),
    PaperResult("L3AC", 1.0, 0.84, 1.77, 2.03),
    PaperResult("L3AC", 1.5, 0.86, 1.91, 2.37),
    PaperResult("L3AC", 3.0, 0.90, 2.31, 1.64),
    PaperResult("DAC", 0.5, 0.58, 1.08, 556.0),
    PaperResult("DAC", 1.0, 0.70, 1.18, 556.0),
    PaperResult("DAC", 1.5, 0.76, 1.31, 556.0),
    PaperResult("DAC", 3.0, 0.87, 1.92, 556.1),
    PaperResult("EnCodec", 1.5, 0.80, 1.50, 55.95),
    PaperResult("EnCodec", 3.0, 0.86, 1.91, 55.95),
    PaperResult("WavTokenizer", 0.48, 0.75, 1.51, 34.26),
    PaperResult("WavTokenizer", 0.9, 0.77, 1.58, 64.17),
    PaperResult("TAAE", 0.39, 0.76, 1.53, 374.89),
    PaperResult("TAAE", 0.7, 0.79, 1.64, 374.89),
    PaperResult("UniCodec", 1.05, 0.84, 1.91, 71.22),
)
"""Zhai et al., "L3AC: Towards a Lightweight and Lossless Audio Codec" (arXiv 2504.04949), Figure 1, on their test data:
as in the script that draws it, in the authors' repository zhai-lw/L3AC."""

SQCODEC_TABLE_1 = {
    "sqcodec-0k75": {"stoi": 0.80, "pesq": 1.64},
    "sqcodec-1k5": {"stoi": 0.85, "pesq": 1.87},
    "sqcodec-3k": {"stoi": 0.90, "pesq": 2.36},
    "sqcodec-6k": {"stoi": 0.94, "pesq": 3.02},
    "sqcodec-12k": {"stoi": 0.97, "pesq": 3.67},
    "sqcodec-12k-24khz": {"stoi": 0.97, "pesq": 3.61},
    "sqcodec-24k-24khz": {"stoi": 0.99, "pesq": 4.07},
}
"""Speech in Table 1 of the first version of arXiv 2504.04949, "One Quantizer is Enough", by preset."""

TAAE_MAIN = {
    "TAAE 400 bit/s": {"si_sdr": 3.18, "mel_distance": 0.97, "stft_distance": 1.35, "pesq": 2.96, "stoi": 0.90},
    "TAAE 700 bit/s": {"si_sdr": 4.73, "mel_distance": 0.86, "stft_distance": 1.26, "pesq": 3.09, "stoi": 0.92},
    "TAAE causal 700 bit/s": {"si_sdr": 4.04, "mel_distance": 0.94, "stft_distance": 1.31, "pesq": 3.09, "stoi": 0.92},
}
"""Parker et al., "Scaling Transformers for Low-Bitrate High-Quality Speech Coding" (arXiv 2411.19842), main table, on
900 clips of 5 to 10 s of LibriSpeech test-clean."""
