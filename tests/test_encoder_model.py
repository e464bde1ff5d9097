"""The encoder alone: its ids and digests are those of the codec, and its memory is its own."""

from __future__ import annotations

import pytest
import torch
from networks import MIXED_NETWORKS, TINY_NETWORKS, speech_like, tiny
from safetensors.torch import load_file

from l3ac_tokenizer import (
    CodecEncoderModel,
    CodecModel,
    L3ACEncoderModel,
    L3ACModel,
    StreamingEncoder,
    TAAEEncoderModel,
    encode_clips,
)

NETWORKS = [*TINY_NETWORKS, *MIXED_NETWORKS]


@pytest.fixture(params=NETWORKS)
def codec(request, tmp_path):
    """A codec that was saved, in two files where the network is the first."""
    model = tiny(request.param)
    shards = {"max_shard_size": "30KB"} if request.param == NETWORKS[0] else {}
    model.save_pretrained(tmp_path, **shards)
    return CodecModel.from_pretrained(tmp_path).eval()


@torch.no_grad()
def test_ids_latents_and_digests_are_those_of_the_codec(codec, tmp_path):
    encoder, info = CodecEncoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "mismatched_keys"))
    encoder.eval()
    clips = torch.stack([speech_like(1000), speech_like(1000, seed=1)])[:, None]
    mask = torch.ones_like(clips, dtype=torch.bool)
    mask[1, :, 700:] = False
    for arguments in ({}, {"padding_mask": mask}, {"padding_mask": mask, "chunk_seconds": 0.01}):
        ours, theirs = encoder.encode(clips, **arguments), codec.encode(clips, **arguments)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    forward, whole = encoder(clips, padding_mask=mask), codec(clips, padding_mask=mask)
    assert all(torch.equal(forward[name], whole[name]) for name in forward)
    assert encoder(clips).audio_codes_mask is None
    assert encoder.id_digests() == codec.id_digests() and encoder.encoder_digest() == codec.encoder_digest()
    assert [each.tolist() for each in encode_clips(encoder, [clips[0, 0].numpy()])] == [
        each.tolist() for each in encode_clips(codec, [clips[0, 0].numpy()])
    ]
    stream = StreamingEncoder(encoder)
    pushed = [*stream.push(clips[0, 0]), *stream.flush()]
    assert torch.equal(torch.cat(pushed), codec.encode(clips[:1]).audio_codes[0, 0])


def test_it_has_no_weights_of_a_decoder(codec, tmp_path):
    encoder = CodecEncoderModel.from_pretrained(tmp_path)
    names = {name for name, _ in encoder.named_parameters()}
    assert names == {name for name, _ in codec.named_parameters() if not name.startswith("decoder.")}
    assert not hasattr(encoder, "decoder")


def test_a_changed_encoder_has_another_digest(codec, tmp_path):
    encoder = CodecEncoderModel.from_pretrained(tmp_path)
    with torch.no_grad():
        next(encoder.encoder.parameters()).mul_(1.01)
    assert encoder.weights_digest() != codec.weights_digest()


def test_an_encoder_saved_alone_encodes_and_is_not_taken_for_a_codec(codec, tmp_path):
    encoder = CodecEncoderModel.from_pretrained(tmp_path).eval()
    encoder.save_pretrained(tmp_path / "alone")
    assert all(name.startswith(("encoder.", "quantizer.")) for name in load_file(tmp_path / "alone/model.safetensors"))
    again = CodecEncoderModel.from_pretrained(tmp_path / "alone").eval()
    clip = speech_like(1000)[None, None]
    assert torch.equal(again.encode(clip).audio_codes, codec.encode(clip).audio_codes)
    with pytest.raises(ValueError, match=r"without the weights of a decoder: load it from the checkpoint of a whole"):
        again.weights_digest()
    with pytest.raises(ValueError, match=rf"; load it with {type(encoder).__name__}.from_pretrained"):
        CodecModel.from_pretrained(tmp_path / "alone")


def test_bundled_names_and_families():
    encoder = L3ACEncoderModel.from_pretrained("l3ac-1k-light")
    assert type(CodecEncoderModel.from_pretrained("l3ac-1k-light")) is L3ACEncoderModel
    assert encoder.weights_digest() == L3ACModel.from_pretrained("l3ac-1k-light").weights_digest()
    assert isinstance(TAAEEncoderModel(tiny("tiny-taae").config), CodecEncoderModel)
