"""Spectrograms of any clip, however short."""

from __future__ import annotations

import numpy as np
import pytest

from l3ac_tokenizer.plots import spectrogram_db, spectrogram_image

RATE = 16_000


@pytest.mark.parametrize("samples", [1, 256, 300])
def test_a_spectrogram_of_a_few_samples_can_be_drawn(samples):
    assert spectrogram_image(np.full(samples, 0.5, np.float32)).shape[0] == 257


def test_spectrogram_of_a_tone_is_bright_at_its_frequency():
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    picture = spectrogram_image(tone)
    assert picture.dtype == np.uint8 and picture.shape[0] == 257
    brightest = 256 - picture[:, 10:-10].argmax(axis=0)  # low frequencies are the last rows
    assert (brightest == 2000 * 512 // RATE).all() and picture.max() == 255


def test_a_spectrogram_is_the_power_spectral_density_of_matplotlib():
    mlab = pytest.importorskip("matplotlib.mlab", reason="comes with the extra `eval`")
    noise = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    expected = 10 * np.log10(mlab.specgram(noise, NFFT=512, Fs=RATE, noverlap=384)[0])
    np.testing.assert_allclose(spectrogram_db(noise, RATE), expected, atol=1e-6)
