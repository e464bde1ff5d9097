"""The bundled weights on real speech, in float32: what `test_invariants.py` says of every network."""

from __future__ import annotations

import pytest
import torch
from bundled_ids import changed_frames, read_records, record_of
from networks import speech_like

from l3ac_tokenizer import CodecModel, StreamingDecoder, StreamingEncoder
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.hub import CHECKPOINTS, bundled_presets

EXACT = 1e-4
"""Of full scale (-80 dB): in float32 a network may amplify rounding; `test_invariants.py` has the proof in float64."""

NEAR_BOUNDARY = 0.02
"""Share of frames that may lie too near to a rounding boundary to be compared."""


@pytest.fixture(scope="module", params=bundled_presets())
def model(request):
    return CodecModel.from_pretrained(request.param).eval()


@pytest.fixture(scope="module")
def assert_same_audio(model):
    """Compare audio; the largest difference of all tests is printed at the end (`pytest -s`)."""
    seen = [0.0]

    def compare(audio, expected):
        seen.append(float((audio - expected).abs().max()))
        assert seen[-1] < EXACT

    yield compare
    print(f"\n{preset_of(model)}: largest difference of audio {max(seen):.1e}")


@pytest.fixture(scope="module")
def clips(request):
    """Real speech where it is at hand, else the demo's sentence and a made signal."""
    try:
        folder = request.getfixturevalue("shared") / "audio" / "eval" / "speech"
        paths = sorted(folder.glob("*.flac"))[:4]
    except pytest.skip.Exception:
        paths = [CHECKPOINTS.parent / "assets" / "demo.flac"]
    audio = [torch.from_numpy(read_audio(path, 16_000)[0][:60_000]) for path in paths]
    return [*audio, audio[0][:1], audio[0][:12_345], speech_like(20_000), torch.zeros(5_000)]


def preset_of(model):
    return model.name_or_path.rsplit("/", 1)[-1]


def assert_same_ids(model, encoded, ids):
    changed = ids != encoded.audio_codes[0, 0]
    assert not (changed & ~model.quantizer.near_boundary(encoded.latents[0])).any()


@torch.no_grad()
def test_ids_and_audio_are_the_same_in_a_batch(model, clips, assert_same_audio):
    longest = max(map(len, clips)) + 99
    batch, mask = torch.full((len(clips), 1, longest), 0.5), torch.zeros(len(clips), 1, longest, dtype=torch.bool)
    for row, clip in enumerate(clips):
        batch[row, 0, : len(clip)], mask[row, 0, : len(clip)] = clip, True
    together = model.encode(batch, mask)
    decoded = model.decode(together.audio_codes, together.audio_codes_mask).audio_values
    for row, clip in enumerate(clips):
        own = together.audio_codes_mask[row, 0]
        ids = together.audio_codes[row, 0, own]
        assert_same_ids(model, model.encode(clip[None, None]), ids)
        alone = model.decode(ids[None, None]).audio_values[0, 0]
        assert_same_audio(decoded[row, 0, : len(alone)], alone)


@torch.no_grad()
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_chunks_and_pushes_give_the_ids_and_the_audio_of_the_whole(model, clips, seconds, assert_same_audio):
    for clip in (clip[:30_000] for clip in clips[:2]):
        encoded = model.encode(clip[None, None])
        ids = encoded.audio_codes
        assert_same_ids(model, encoded, model.encode(clip[None, None], chunk_seconds=seconds).audio_codes[0, 0])
        chunked = model.decode(ids, chunk_seconds=seconds).audio_values
        assert_same_audio(chunked, model.decode(ids).audio_values)
        encoder, decoder = StreamingEncoder(model), StreamingDecoder(model)
        pushed = [encoder.push(piece[None])[0] for piece in clip.split(round(seconds * 16_000))] + encoder.flush()
        assert_same_ids(model, encoded, torch.cat(pushed))
        heard = [decoder.push(piece[None])[0] for piece in pushed] + decoder.flush()
        frozen = model.decode(torch.cat(pushed)[None, None], time_norm="frozen").audio_values[0, 0]
        assert_same_audio(torch.cat(heard), frozen)


def test_ids_are_the_recorded_ones_on_every_machine_and_version(model):
    recorded, new = read_records()[preset_of(model)], record_of(model)
    assert recorded["encoder_digest"] == new["encoder_digest"], "record new weights: python tests/bundled_ids.py"
    assert changed_frames(new, recorded) == []
    near = {*new["near_boundary"], *recorded["near_boundary"]}
    print(f"{preset_of(model)}: {len(near)} of {len(new['ids'])} frames near a boundary")
    assert len(near) < NEAR_BOUNDARY * len(new["ids"])


def test_an_id_that_changed_is_found_unless_it_is_near_a_boundary():
    recorded = {"ids": [5, 6, 7, 8], "near_boundary": [1]}
    assert changed_frames({"ids": [5, 0, 0, 0], "near_boundary": [2]}, recorded) == [3]


@torch.no_grad()
def test_ids_vary_and_the_audio_is_not_silence(model, clips):
    out = model(clips[0][None, None])
    assert len(out.audio_codes.unique()) > 50
    assert out.audio_values.std() > 0.1 * clips[0].std()


def test_the_card_holds_the_digest_and_the_measured_table(model):
    card = (CHECKPOINTS / preset_of(model) / "README.md").read_text("utf-8")
    assert model.weights_digest() in card
    assert "STOI" in card and "SI-SDR" in card
