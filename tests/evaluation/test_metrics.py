"""Metrics against closed forms and against implementations of other people."""

import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from l3ac_tokenizer.evaluation import metrics
from l3ac_tokenizer.evaluation.metrics import MetricError

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
    "mel_distance": lambda x, y: metrics.mel_distance(x, y, RATE),
}
BEST = {"stoi": 1.0, "pesq_wb": 4.644, "pesq_nb": 4.549, "mel_distance": 0.0}


@pytest.mark.parametrize("name", AUDIO_METRICS)
def test_more_noise_is_worse(name):
    values = [AUDIO_METRICS[name](SPEECH, noisy(level)) for level in (0.0001, 0.0005, 0.002)]
    assert values == sorted(values, reverse=name != "mel_distance")


@pytest.mark.parametrize(("name", "best"), BEST.items())
def test_equal_clips_have_the_best_value(name, best):
    assert AUDIO_METRICS[name](SPEECH, SPEECH) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("name", AUDIO_METRICS)
def test_a_silent_reference_has_no_value(name):
    with pytest.raises(MetricError):
        AUDIO_METRICS[name](np.zeros_like(SPEECH), SPEECH)


@pytest.mark.parametrize(
    ("name", "samples"), [("stoi", 5000), ("stoi", 100), ("pesq_wb", 3000), ("mel_distance", 1024)]
)
def test_too_short_a_clip_has_no_value(name, samples):
    clip = NOISE[:samples]
    with pytest.raises(MetricError):
        AUDIO_METRICS[name](clip, clip)


def test_the_shortest_clip_of_the_mel_distance():
    assert metrics.mel_distance(NOISE[:1025], NOISE[:1025], RATE) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["pesq_wb", "si_sdr"])
def test_silence_in_place_of_the_clip_has_no_value(name):
    with pytest.raises(MetricError, match="silent"):
        AUDIO_METRICS[name](SPEECH, np.zeros_like(SPEECH))


def test_silence_in_place_of_the_clip_has_0_db_sdr():
    assert metrics.sdr(SPEECH, np.zeros_like(SPEECH)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", AUDIO_METRICS)
@pytest.mark.parametrize("estimate", [SPEECH[:-1], np.stack([SPEECH, SPEECH]), np.full_like(SPEECH, np.nan)])
def test_what_is_not_a_pair_of_clips_is_the_callers_error(name, estimate):
    with pytest.raises(ValueError) as caught:
        AUDIO_METRICS[name](SPEECH, estimate)
    assert not isinstance(caught.value, MetricError)


@few_examples
@given(gain=st.floats(0.01, 100), level=st.floats(0.01, 1))
def test_si_sdr_is_its_definition_and_ignores_gain(gain, level):
    x, y = SPEECH.astype(np.float64), gain * noisy(level).astype(np.float64)
    target = (x @ y) / (x @ x) * x
    expected = 10 * np.log10((target @ target) / ((target - y) @ (target - y)))
    assert metrics.si_sdr(x, y) == pytest.approx(expected, abs=1e-6)


@few_examples
@given(gain=st.floats(-0.9, 0.9))
def test_sdr_of_a_scaled_clip(gain):
    assert metrics.sdr(SPEECH, gain * SPEECH) == pytest.approx(-20 * math.log10(1 - gain), abs=1e-5)


@few_examples
@given(gain=st.floats(0.5, 2))
def test_mel_distance_of_a_scaled_clip(gain):
    """With every magnitude above the floor, the logarithms move by ln g and the spectra by the factor g."""
    expected = abs(math.log(gain)) + abs(1 - gain)
    assert metrics.mel_distance(NOISE.astype(np.float64), gain * NOISE.astype(np.float64), RATE) == pytest.approx(
        expected, abs=1e-3
    )


def test_mel_distance_is_that_of_another_implementation():
    """scipy's STFT, and mel filters from their definition."""

    def mel(clip):
        spectrum = scipy.signal.stft(
            np.pad(clip, 1024, mode="reflect"), nperseg=2048, noverlap=2048 - 256, boundary=None, padded=False
        )[2]
        return filters @ np.maximum(np.abs(spectrum) * np.hanning(2049)[:-1].sum(), 1e-4)

    # Slaney's mel scale: linear up to 1 kHz (15 mel), then 27 steps for a factor of 6.4.
    mels = np.linspace(0, 15 + 27 * math.log(RATE / 2 / 1000) / math.log(6.4), 130)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = np.arange(1025) * RATE / 2048
    filters = np.stack(
        [
            2 / (high - low) * np.clip(np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid)), 0, None)
            for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    )
    x, y = SPEECH.astype(np.float64), noisy(0.01).astype(np.float64)
    a, b = mel(x), mel(y)
    expected = np.abs(np.log(a) - np.log(b)).mean() + np.linalg.norm(a - b) / np.linalg.norm(a)
    assert metrics.mel_distance(x, y, RATE) == pytest.approx(expected, rel=1e-6)


def test_pesq_at_another_rate_is_that_of_the_resampled_clips():
    soxr = pytest.importorskip("soxr")
    reference = speech_like(3.0, 24_000)
    estimate = reference + 0.02 * np.resize(NOISE, reference.size)
    expected = pesq_package.pesq(
        16_000, soxr.resample(reference, 24_000, 16_000), soxr.resample(estimate, 24_000, 16_000), "wb"
    )
    assert metrics.pesq(reference, estimate, 24_000) == pytest.approx(expected, abs=1e-6)


@given(symbols=st.lists(st.integers(0, 8), min_size=1, max_size=200))
def test_usage_is_its_definition(symbols):
    counts = np.bincount(symbols, minlength=9)
    found = metrics.usage(np.array(symbols), 9)
    assert (found.count, found.size, found.used) == (len(symbols), 9, np.count_nonzero(counts))
    assert found.entropy == pytest.approx(scipy.stats.entropy(counts, base=2), abs=1e-12)
    correction = (found.used - 1) / (2 * len(symbols)) * math.log2(math.e)
    assert found.entropy_miller_madow == pytest.approx(found.entropy + correction)
    assert found.normalized_entropy == pytest.approx(found.entropy / math.log2(9))
    assert found.normalized_entropy_miller_madow == pytest.approx(found.entropy_miller_madow / math.log2(9))


def test_miller_madow_corrects_the_bias_of_few_samples():
    """200 draws of 64 even symbols: the truth is 6 bits."""
    found = [metrics.usage(random.integers(0, 64, 200), 64) for _ in range(200)]
    plain = np.mean([use.entropy for use in found])
    corrected = np.mean([use.entropy_miller_madow for use in found])
    assert 6 - plain > 0.15
    assert abs(6 - corrected) < 0.05


def test_even_use_of_a_whole_codebook():
    whole, levels = metrics.codebook_usage(np.arange(3 * 5 * 7), [3, 5, 7])
    assert whole.used == whole.size == 105
    assert whole.normalized_entropy == pytest.approx(1)
    assert [level.size for level in levels] == [level.used for level in levels] == [3, 5, 7]
    assert [level.normalized_entropy for level in levels] == pytest.approx([1, 1, 1])


def test_one_id_uses_one_level_of_each_dimension():
    whole, levels = metrics.codebook_usage(np.full(10, 17), [3, 5, 7])
    assert (whole.used, whole.entropy) == (1, 0)
    assert all((level.used, level.entropy) == (1, 0) for level in levels)


@pytest.mark.parametrize("symbols", [[], [-1, 2], [3, 9]])
def test_symbols_of_no_codebook_are_refused(symbols):
    with pytest.raises(ValueError, match="give"):
        metrics.usage(np.array(symbols, dtype=np.int64), 9)
