"""A fresh install of `sq_codec` divides twice in its quantizer, which leaves 3 levels of 7; this package divides once.

`sq_codec` rounds and divides the result of `FSQ.bound` of vector-quantize-pytorch by half the width, and later versions
of that library already round and divide in `bound` (SQCodec's issue 4: "the reconstruction is just a high pitched
noise"). The published weights are not at hand, so a bundled network with the same levels shows the effect on audio.
"""

from __future__ import annotations

import pytest
import torch

from l3ac_tokenizer import L3ACModel, read_audio
from l3ac_tokenizer.conversion.trial import MOST_DISTANCE, SENTENCE
from l3ac_tokenizer.metrics import stft_distance, stoi
from l3ac_tokenizer.quantization import digits_to_ids, ids_to_digits

LEVELS = (7,) * 6


def divided(latents, times):
    """Values of SQCodec's quantizer of seven levels: b = 3 · 1.001 · tanh(z), rounded and divided by 3."""
    values = 3 * 1.001 * latents.tanh()
    for _ in range(times):
        values = values.round() / 3
    return values


def test_divided_once_a_value_has_seven_levels_and_divided_twice_three():
    latents = torch.linspace(-4, 4, 1001)
    assert [len(divided(latents, times).unique()) for times in (1, 2)] == [7, 3]
    assert divided(latents, 2).abs().max() == pytest.approx(1 / 3)


def test_two_divisions_turn_speech_into_other_sounds():
    model = L3ACModel.from_pretrained("l3ac-1k-light").eval()
    assert tuple(model.config.levels) == LEVELS
    audio, _ = read_audio(SENTENCE, 16_000)
    with torch.inference_mode():
        once = model.encode(torch.from_numpy(audio)[None, None]).audio_codes
        values = (ids_to_digits(once, LEVELS) - 3) / 3
        twice = digits_to_ids(values.round() + 3, LEVELS)
        decoded = [model.decode(ids, num_samples=len(audio)).audio_values[0, 0].numpy() for ids in (once, twice)]
    distances = [stft_distance(audio, estimate) for estimate in decoded]
    intelligibility = [stoi(audio, estimate, 16_000) for estimate in decoded]
    used = [len(ids.unique()) for ids in (once, twice)]
    assert used[0] > 300 and used[1] < used[0] and used[1] <= 3**6
    assert distances == pytest.approx([1.74, 2.83], abs=0.05)
    assert distances[0] < MOST_DISTANCE < distances[1], "the trial of downloaded weights would tell"
    assert intelligibility == pytest.approx([0.78, 0.55], abs=0.02)
