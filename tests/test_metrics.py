"""Metrics against closed forms and against other implementations."""

import math

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from l3ac_tokenizer import metrics
from l3ac_tokenizer.metrics import MetricError

pesq_package = pytest.importorskip("pesq", reason="PESQ is compiled when the extra `eval` is installed")

RATE = 16_000
random = np.random.default_rng(0)
few_examples = settings(max_examples=20, deadline=None)


def speech_like(seconds: float, rate: int = RATE) -> np.ndarray:
    """Harmonics of a wavering pitch under syllables of a quarter of a second: PESQ takes it for speech."""
    t = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    return (0.1 * voice * np.clip(np.sin(2 * np.pi * 2 * t), 0, None)).astype(np.float32)


SPEECH = speech_like(4.0)
NOISE = random.standard_normal(SPEECH.size).astype(np.float32)


def noisy(level: float) -> np.ndarray:
    return SPEECH + level * NOISE


AUDIO_METRICS = {
    "stoi": lambda x, y: metrics.stoi(x, y, RATE),
    "pesq_wb": lambda x, y: metrics.pesq(x, y, RATE),
    "pesq_nb": lambda x, y: metrics.pesq(x, y, RATE, "nb"),
    "si_sdr": metrics.si_sdr,
    "sdr": metrics.sdr,
    "superb_mel": lambda x, y: metrics.superb_mel(x, y, RATE),
    "mel_distance": lambda x, y: metrics.mel_distance(x, y, RATE),
    "stft_distance": metrics.stft_distance,
}
DISTANCES = ("superb_mel", "mel_distance", "stft_distance")
BEST = {"stoi": 1.0, "pesq_wb": 4.644, "pesq_nb": 4.549, "sdr": 100.0} | dict.fromkeys(DISTANCES, 0.0)


@pytest.mark.parametrize("name", AUDIO_METRICS)
def test_more_noise_is_worse(name):
    values = [AUDIO_METRICS[name](SPEECH, noisy(level)) for level in (0.0001, 0.0005, 0.002)]
    assert values == sorted(values, reverse=name not in DISTANCES)


@pytest.mark.parametrize(("name", "best"), BEST.items())
def test_equal_clips_have_the_best_value(name, best):
    assert AUDIO_METRICS[name](SPEECH, SPEECH) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("name", [name for name in AUDIO_METRICS if name != "superb_mel"])
def test_a_silent_reference_has_no_value(name):
    with pytest.raises(MetricError):
        AUDIO_METRICS[name](np.zeros_like(SPEECH), SPEECH)


@pytest.mark.parametrize(
    ("name", "samples"),
    [("stoi", 5000), ("stoi", 100), ("pesq_wb", 3000), ("sdr", 511), *((name, 1024) for name in sorted(DISTANCES))],
)
def test_too_short_a_clip_has_no_value(name, samples):
    clip = NOISE[:samples]
    with pytest.raises(MetricError):
        AUDIO_METRICS[name](clip, clip)


def test_the_shortest_clip_of_the_mel_distance():
    assert metrics.mel_distance(NOISE[:1025], NOISE[:1025], RATE) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["pesq_wb", "si_sdr", "sdr"])
def test_silence_in_place_of_the_clip_has_no_value(name):
    with pytest.raises(MetricError, match="silent"):
        AUDIO_METRICS[name](SPEECH, np.zeros_like(SPEECH))


@pytest.mark.parametrize("name", AUDIO_METRICS)
@pytest.mark.parametrize("estimate", [SPEECH[:-1], np.stack([SPEECH, SPEECH]), np.full_like(SPEECH, np.nan)])
def test_what_is_not_a_pair_of_clips_is_the_callers_error(name, estimate):
    with pytest.raises(ValueError) as caught:
        AUDIO_METRICS[name](SPEECH, estimate)
    assert not isinstance(caught.value, MetricError)


@few_examples
@given(gain=st.floats(0.01, 100), level=st.floats(0.01, 1), offset=st.floats(-0.1, 0.1))
def test_si_sdr_is_its_definition_and_ignores_gain_and_offset(gain, level, offset):
    x, y = SPEECH.astype(np.float64), gain * (noisy(level).astype(np.float64) + offset)
    s, estimate = x - x.mean(), y - y.mean()
    target = (s @ estimate) / (s @ s) * s
    expected = 10 * np.log10((target @ target) / ((target - estimate) @ (target - estimate)))
    assert metrics.si_sdr(x, y) == pytest.approx(expected, abs=1e-6)


def test_sdr_is_the_projection_on_512_shifts_of_the_reference():
    """BSS Eval by least squares: what of the estimate lies in the space of the delayed references."""
    x, y = NOISE[:4000].astype(np.float64), NOISE[:4000] + 0.3 * np.roll(NOISE, 7)[:4000] + 0.1 * NOISE[4000:8000]
    padded = np.pad(x, (0, 511))
    shifts = np.stack([np.roll(padded, delay) for delay in range(512)], axis=1)
    estimate = np.pad(y, (0, 511))
    inside = shifts @ np.linalg.lstsq(shifts, estimate, rcond=None)[0]
    expected = 10 * np.log10((inside @ inside) / ((estimate - inside) @ (estimate - inside)))
    assert metrics.sdr(x, y) == pytest.approx(expected, abs=1e-4)


def test_sdr_forgives_a_filter_that_si_sdr_does_not():
    filtered = scipy.signal.lfilter([0.5, 0.4, 0.3], [1.0], NOISE).astype(np.float32)
    assert metrics.sdr(NOISE, filtered) > 40
    assert metrics.si_sdr(NOISE, filtered) < 5


@few_examples
@given(gain=st.floats(0.5, 2))
def test_mel_distance_of_a_scaled_clip(gain):
    """With every magnitude above the floor, the logarithms move by ln g and the spectra by the factor g."""
    expected = abs(math.log(gain)) + abs(1 - gain)
    assert metrics.mel_distance(NOISE.astype(np.float64), gain * NOISE.astype(np.float64), RATE) == pytest.approx(
        expected, abs=1e-3
    )


def test_mel_distance_is_that_of_another_implementation():
    x, y = SPEECH.astype(np.float64), noisy(0.01).astype(np.float64)
    a, b = (mel_filters(2048, 128) @ np.maximum(spectrum(clip, 2048, 256), 1e-4) for clip in (x, y))
    expected = np.abs(np.log(a) - np.log(b)).mean() + np.linalg.norm(a - b) / np.linalg.norm(a)
    assert metrics.mel_distance(x, y, RATE) == pytest.approx(expected, rel=1e-6)


def spectrum(clip: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Magnitudes (bins, frames) by scipy, centered and reflected."""
    padded = np.pad(clip, window // 2, mode="reflect")
    scaled = scipy.signal.stft(padded, nperseg=window, noverlap=window - hop, boundary=None, padded=False)[2]
    return np.abs(scaled) * np.hanning(window + 1)[:-1].sum()


def mel_filters(window: int, bands: int) -> np.ndarray:
    """Triangles (bands, bins) of Slaney's scale: linear up to 1 kHz (15 mel), then 27 steps for a factor of 6.4."""
    mels = np.linspace(0, 15 + 27 * math.log(RATE / 2 / 1000) / math.log(6.4), bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = np.arange(window // 2 + 1) * RATE / window
    return np.stack(
        [
            2 / (high - low) * np.clip(np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)), 0, None)
            for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    )


def test_pesq_at_another_rate_is_that_of_the_resampled_clips():
    soxr = pytest.importorskip("soxr")
    reference = speech_like(3.0, 24_000)
    estimate = reference + 0.02 * np.resize(NOISE, reference.size)
    expected = pesq_package.pesq(
        16_000, soxr.resample(reference, 24_000, 16_000), soxr.resample(estimate, 24_000, 16_000), "wb"
    )
    assert metrics.pesq(reference, estimate, 24_000) == pytest.approx(expected, abs=1e-6)


def test_superb_mel_of_a_scaled_clip():
    """Above the floor the logarithms move by 2 lg g in both scales, and the spectra by the factor g."""
    gain, x = 1.5, NOISE.astype(np.float64)
    half = metrics.superb_mel(x, gain * x, RATE) - 2 * 2 * math.log10(gain)
    double = metrics.superb_mel(x, (2 * gain - 1) * x, RATE) - 2 * 2 * math.log10(2 * gain - 1)
    assert double == pytest.approx(2 * half, rel=1e-3)


def test_superb_mel_is_that_of_another_implementation():
    """scipy's STFT and mel filters from their definition, as `descript-audiotools` has them of librosa."""
    x, y = SPEECH.astype(np.float64), noisy(0.01).astype(np.float64)
    expected = 0.0
    for window, bands in ((2048, 150), (512, 80)):
        a, b = (mel_filters(window, bands) @ spectrum(clip, window, window // 4) for clip in (x, y))
        expected += np.abs(np.log10(np.maximum(a, 1e-5) ** 2) - np.log10(np.maximum(b, 1e-5) ** 2)).mean()
        expected += np.abs(a - b).mean()
    assert metrics.superb_mel(x, y, RATE) == pytest.approx(expected, rel=1e-6)


def test_stft_distance_is_that_of_auraloss():
    auraloss = pytest.importorskip("auraloss", reason="comes with the extra `eval`")
    loss = auraloss.freq.STFTLoss(fft_size=2048, hop_size=512, win_length=2048)
    x, y = (torch.from_numpy(clip)[None, None] for clip in (SPEECH, noisy(0.01)))
    assert metrics.stft_distance(SPEECH, noisy(0.01)) == pytest.approx(float(loss(y, x)), rel=1e-4)


def test_taae_metrics_have_their_golden_values(shared):
    golden = load_file(shared / "reference" / "taae-losses.safetensors")
    pairs = [(golden[f"{name}_int16"].numpy() / 32768.0) for name in "xy"]
    for metric, function in (
        ("mel", lambda x, y: metrics.mel_distance(x, y, RATE)),
        ("stft", metrics.stft_distance),
    ):
        values = [function(x, y) for x, y in zip(*pairs, strict=True)]
        # The golden mean is over both clips at once; they have as many frames each.
        assert np.mean(values) == pytest.approx(float(golden[f"metric.{metric}"]), rel=1e-4)
    for clip, expected in enumerate(golden["metric.sisdr"]):
        assert metrics.si_sdr(pairs[0][clip], pairs[1][clip]) == pytest.approx(float(expected), abs=1e-3)
