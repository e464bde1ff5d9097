"""`CodecFeatureExtractor`: accepted and refused input, errors, and the batch for the model."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DataCollatorWithPadding

from l3ac_tokenizer.feature_extraction import MAX_ABS_SAMPLE, CodecFeatureExtractor

RATE = 16_000


@pytest.fixture
def extractor() -> CodecFeatureExtractor:
    return CodecFeatureExtractor()


def ramp(length: int) -> np.ndarray:
    return np.linspace(-1, 1, length, dtype=np.float32)


@pytest.mark.parametrize(
    "convert",
    [np.asarray, list, tuple, torch.from_numpy, lambda audio: audio.astype(np.float64)],
    ids=["array", "list", "tuple", "tensor", "float64"],
)
def test_every_form_of_a_waveform_gives_the_same_batch_of_one(extractor, convert):
    audio = ramp(7)
    for given_audio in (convert(audio), [convert(audio)]):
        batch = extractor(given_audio, sampling_rate=RATE, return_tensors="pt")
        assert batch["input_values"].dtype == torch.float32
        assert batch["input_values"].shape == batch["padding_mask"].shape == (1, 1, 7)
        np.testing.assert_array_equal(batch["input_values"][0, 0].numpy(), audio)
        assert batch["padding_mask"].all()


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=6), side=st.sampled_from(["left", "right"]))
def test_the_mask_marks_exactly_the_samples_of_each_clip(lengths, side):
    clips = [ramp(length) + 2 for length in lengths]  # no sample is zero
    extractor = CodecFeatureExtractor(padding_side=side)
    batch = extractor(clips, sampling_rate=RATE, return_tensors="np")
    assert batch["input_values"].shape == (len(clips), 1, max(lengths))
    for values, mask, clip in zip(batch["input_values"][:, 0], batch["padding_mask"][:, 0], clips, strict=True):
        np.testing.assert_array_equal(values[mask.astype(bool)], clip)
        assert (values[~mask.astype(bool)] == 0).all()
        edge = mask[: len(clip)] if side == "right" else mask[-len(clip) :]
        assert edge.all()


def test_padding_and_truncation(extractor):
    clips = [ramp(5), ramp(9)]

    def lengths(**options):
        return [item.shape for item in extractor(clips, sampling_rate=RATE, **options)["input_values"]]

    assert lengths() == lengths(padding="longest") == [(1, 9), (1, 9)]
    assert lengths(padding=False) == [(1, 5), (1, 9)]
    assert lengths(padding="max_length", max_length=12) == [(1, 12), (1, 12)]
    assert lengths(truncation=True, max_length=7) == [(1, 7), (1, 7)]
    assert lengths(padding="max_length", truncation=True, max_length=4) == [(1, 4), (1, 4)]
    with pytest.raises(ValueError, match="padding=True"):
        extractor(clips, sampling_rate=RATE, padding=False, return_tensors="pt")


def test_the_input_is_not_changed(extractor):
    audio = ramp(5)
    extractor([audio, ramp(9)], sampling_rate=RATE, return_tensors="pt")["input_values"].zero_()
    np.testing.assert_array_equal(audio, ramp(5))


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        ([], "empty"),
        (np.zeros(0), "empty"),
        ([ramp(3), np.zeros(0)], r"`raw_audio\[1\]` is empty"),
        (np.zeros((2, 100)), r"\(2, 100\).*stereo"),
        (np.zeros((100, 2)), r"\(100, 2\).*stereo"),
        ([ramp(3), np.zeros((3, 2))], r"`raw_audio\[1\]`.*stereo"),
        ([0.0, float("nan")], "nan at sample 1"),
        ([ramp(3), [0.0, 0.0, float("-inf")]], r"`raw_audio\[1\]` holds -inf at sample 2"),
        (np.full(10, np.nextafter(MAX_ABS_SAMPLE, np.inf, dtype=np.float32)), "full scale"),
        ((ramp(10) * 32767).astype(np.int16), "int16 by 32768"),
    ],
)
def test_bad_audio_is_refused_by_name(extractor, audio, reason):
    with pytest.raises(ValueError, match=reason):
        extractor(audio, sampling_rate=RATE)


def test_both_names_of_the_waveforms_are_the_same(extractor):
    clips = [ramp(5), ramp(9)]
    batches = [extractor(**{name: clips}, sampling_rate=RATE, return_tensors="np") for name in ("audio", "raw_audio")]
    for name in extractor.model_input_names:
        np.testing.assert_array_equal(*(batch[name] for batch in batches))
    with pytest.raises(ValueError, match=r"`audio\[1\]`.*stereo"):
        extractor(audio=[ramp(3), np.zeros((3, 2))], sampling_rate=RATE)
    for wrong in ({}, {"raw_audio": clips, "audio": clips}):
        with pytest.raises(ValueError, match="give one of them"):
            extractor(**wrong, sampling_rate=RATE)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("form", [None, "np", "pt"])
@pytest.mark.parametrize(
    "padding", [{}, {"padding": "longest"}, {"padding": "max_length", "max_length": 12}, {"pad_to_multiple_of": 4}]
)
def test_single_extractions_are_collated_as_they_would_be_extracted_together(side, form, padding):
    extractor = CodecFeatureExtractor(padding_side=side)
    clips = [ramp(5), ramp(9), ramp(7)]
    singles = [extractor(clip, sampling_rate=RATE, return_tensors=form) for clip in clips]
    width = 9 if padding in ({}, {"padding": "longest"}) else 12
    together = extractor(clips, sampling_rate=RATE, padding="max_length", max_length=width, return_tensors="pt")
    for collated in (
        extractor.pad(singles, return_tensors="pt", **padding),
        DataCollatorWithPadding(extractor, **padding)(singles),
        DataCollatorWithPadding(extractor, **padding)([dict(single) for single in singles]),
        DataCollatorWithPadding(extractor, **padding)([{k: v[0] for k, v in single.items()} for single in singles]),
    ):
        for name in extractor.model_input_names:
            assert torch.equal(collated[name], together[name])


def test_overshoot_up_to_the_bound_is_audio(extractor):
    extractor([MAX_ABS_SAMPLE, -MAX_ABS_SAMPLE], sampling_rate=RATE)


def test_another_sampling_rate_is_refused_with_the_way_to_resample(extractor):
    with pytest.raises(ValueError, match=r"44100.*16000.*soxr\.resample\(raw_audio, 44100, 16000\)"):
        extractor(ramp(10), sampling_rate=44_100)


def test_only_mono_can_be_configured():
    with pytest.raises(ValueError, match="`feature_size` is 2"):
        CodecFeatureExtractor(feature_size=2)


def test_saving_and_loading_keeps_every_setting(tmp_path):
    extractor = CodecFeatureExtractor(sampling_rate=24_000, padding_side="left")
    extractor.save_pretrained(tmp_path)
    assert CodecFeatureExtractor.from_pretrained(tmp_path).to_dict() == extractor.to_dict()
