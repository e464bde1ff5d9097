"""Manifests, ids and embeddings of the recipes."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile
import torch
from made_speech import RATE, make_librispeech, speak
from networks import tiny

from l3ac_tokenizer import CodecModel
from l3ac_tokenizer.id_metadata import ModelMismatchError
from l3ac_tokenizer.quantization import ids_to_digits
from l3ac_tokenizer.speechbrain import (
    BiLSTM,
    FrameStore,
    Frontend,
    IdJitter,
    IdStore,
    StackFrames,
    check_run,
    extract_ids,
    id_embedding,
    levels_of,
    note_codec,
    read_manifest,
    sequence_encoder,
    write_manifest,
)
from l3ac_tokenizer.speechbrain.encoders import ENCODERS
from l3ac_tokenizer.speechbrain.manifests import audio_by_id, utterances
from l3ac_tokenizer.tokenization.errors import CorpusError


@pytest.fixture(params=["tiny", "tiny-light", "tiny-taae"])
def codec(request, tmp_path) -> str:
    tiny(request.param).save_pretrained(tmp_path / "codec")
    return str(tmp_path / "codec")


@pytest.fixture
def manifest(tmp_path):
    """A manifest of three clips, and their folder."""
    make_librispeech(tmp_path / "corpus", {"train": 3})
    chapter = tmp_path / "corpus" / "train" / "1" / "7"
    rows = [(name, path, "1", "AB CD") for name, path in audio_by_id(chapter).items()]
    write_manifest(tmp_path / "train.csv", utterances(rows, tmp_path / "corpus", "train"))
    return tmp_path / "train.csv", tmp_path / "corpus"


# ---------------------------------------------------------------------------------------------- manifests


def test_what_cannot_be_used_is_counted_by_reason_and_left_out(tmp_path, caplog):
    soundfile.write(tmp_path / "good.wav", speak("AB", 0), RATE)
    soundfile.write(tmp_path / "empty.wav", np.empty(0, dtype=np.float32), RATE)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    audio = audio_by_id(tmp_path)
    candidates = [
        *((name, audio[name], "s", "AB") for name in ("good", "empty", "broken")),
        ("missing", None, "s", "AB"),
        ("silent", audio["good"], "s", "  "),
        ("mute", audio["good"], "s", ""),
        ("dear", audio["good"], "s", "it costs $5"),
    ]
    with caplog.at_level(logging.WARNING):
        rows = list(utterances(candidates, tmp_path, "the test"))
    assert [row.ID for row in rows] == ["good"]
    assert rows[0].wav == "$data_root/good.wav"
    assert rows[0].duration == pytest.approx(len(speak("AB", 0)) / RATE, abs=1e-4)
    said = caplog.records[-1].getMessage()
    assert said.startswith("the test: 6 of 7 utterances are skipped: 2 of audio that cannot be read")
    reasons = ("2 without a transcript", "1 without audio", "1 with a $", "empty.wav holds no audio")
    assert all(reason in said for reason in reasons)


def test_of_two_files_with_one_name_the_first_is_taken_and_the_other_counted(tmp_path, caplog):
    for name in ("a.flac", "a.wav", "b.wav"):
        soundfile.write(tmp_path / name, speak("AB", 0), RATE)
    assert audio_by_id(tmp_path) == {"a": tmp_path / "a.flac", "b": tmp_path / "b.wav"}
    assert caplog.messages == [
        f"1 audio files are left out: others have their names, such as {tmp_path / 'a.wav'} beside a.flac."
    ]


def test_parts_of_a_corpus_may_be_links_to_other_disks(tmp_path):
    make_librispeech(tmp_path / "disk", {"train": 1})
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train").symlink_to(tmp_path / "disk" / "train")
    audio = audio_by_id(tmp_path / "corpus" / "train" / "1" / "7")
    rows = list(utterances([(name, path, "1", "AB") for name, path in audio.items()], tmp_path / "corpus", "train"))
    assert [row.wav for row in rows] == ["$data_root/train/1/7/1-7-0000.flac"]


def test_reading_gives_what_was_written(manifest):
    path, _ = manifest
    rows = read_manifest(path)
    assert len(rows) == 3
    write_manifest(path.with_name("again.csv"), rows)
    assert path.with_name("again.csv").read_bytes() == path.read_bytes()


def test_a_manifest_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not one utterance for .*nothing\.csv"):
        write_manifest(tmp_path / "nothing.csv", [])
    assert not (tmp_path / "nothing.csv").exists()


# ---------------------------------------------------------------------------------------------- ids


def test_ids_are_found_by_name_and_are_those_of_the_clip(manifest, codec, tmp_path):
    path, folder = manifest
    extract_ids([path, path], folder, tmp_path / "ids", codec)
    store = IdStore(tmp_path / "ids", codec)
    assert len(store) == 3
    model = CodecModel.from_pretrained(codec).eval()
    for row in read_manifest(path):
        wave = torch.from_numpy(soundfile.read(row.wav.replace("$data_root", str(folder)), dtype="float32")[0])
        with torch.no_grad():
            assert torch.equal(store[row.ID], model.encode(wave[None, None]).audio_codes[0, 0])


def test_ids_of_other_weights_or_levels_are_refused(manifest, codec, tmp_path):
    path, folder = manifest
    extract_ids([path], folder, tmp_path / "ids", codec)
    with_other_weights(codec, tmp_path / "weights")
    with pytest.raises(ModelMismatchError, match=r"with the weights .* has .*: give the codec that made them"):
        IdStore(tmp_path / "ids", str(tmp_path / "weights"))
    CodecModel.from_pretrained(codec, levels=[3, 3, 5]).save_pretrained(tmp_path / "levels")
    with pytest.raises(ModelMismatchError, match=r"levels 5,3,3 .* has 3,3,5"):
        IdStore(tmp_path / "ids", str(tmp_path / "levels"))
    assert len(IdStore(tmp_path / "ids", None)) == 3


def with_other_weights(codec, folder):
    """The same codec with other weights."""
    other = CodecModel.from_pretrained(codec)
    with torch.no_grad():
        other.latent_layer.bias.add_(0.5)
    other.save_pretrained(folder)


def test_ids_are_read_by_weights_that_kept_the_encoder(manifest, codec, tmp_path):
    path, folder = manifest
    extract_ids([path], folder, tmp_path / "ids", codec)
    note_codec(tmp_path / "run", codec)
    further = CodecModel.from_pretrained(codec)
    further.config.ids_of = list(further.id_digests())
    further.config.encoder_digest = further.encoder_digest()
    with torch.no_grad():
        next(further.decoder.parameters()).add_(0.5)
    further.save_pretrained(tmp_path / "further")
    assert len(IdStore(tmp_path / "ids", str(tmp_path / "further"))) == 3
    check_run(tmp_path / "run", str(tmp_path / "further"))


def test_a_run_goes_on_with_the_ids_of_its_codec_only(codec, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"codec\.json, .* does not exist: train the run again"):
        check_run(tmp_path / "run", codec)
    note_codec(tmp_path / "run", codec)
    note_codec(tmp_path / "run", codec)
    check_run(tmp_path / "run", codec)
    with_other_weights(codec, tmp_path / "weights")
    CodecModel.from_pretrained(codec, levels=[3, 3, 5]).save_pretrained(tmp_path / "levels")  # of the same weights
    for begin in (check_run, note_codec):
        with pytest.raises(ModelMismatchError, match=r"was trained on ids of the weights .* has .*: give the codec"):
            begin(tmp_path / "run", str(tmp_path / "weights"))
        with pytest.raises(
            ModelMismatchError, match=r"trained on ids of the levels 5,3,3 .* has 3,3,5: give the codec"
        ):
            begin(tmp_path / "run", str(tmp_path / "levels"))
    (tmp_path / "run" / "CKPT+1").mkdir()
    (tmp_path / "run" / "codec.json").unlink()
    with pytest.raises(FileNotFoundError, match="train the run again"):  # nobody knows of what ids the checkpoint is
        note_codec(tmp_path / "run", codec)


def test_anchors_are_those_of_their_codec_only(codec, tmp_path):
    frames = {"a": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
    FrameStore.write(tmp_path / "latents.safetensors", frames, CodecModel.from_pretrained(codec))
    store = FrameStore(tmp_path / "latents.safetensors", codec)
    assert "a" in store and "b" not in store and store.width == 3
    with pytest.raises(CorpusError, match=r"none of the 1 utterances of a\.csv: run anchors\.py"):
        store.known(["b"], "a.csv")
    assert np.array_equal(store["a"], frames["a"])
    with_other_weights(codec, tmp_path / "weights")
    with pytest.raises(ModelMismatchError, match=r"made for a codec with the weights .*: run anchors\.py again"):
        FrameStore(tmp_path / "latents.safetensors", str(tmp_path / "weights"))


def test_missing_ids_are_said(manifest, codec, tmp_path, caplog):
    with pytest.raises(FileNotFoundError, match=r"run extract\.py"):
        IdStore(tmp_path / "nowhere", codec)
    path, folder = manifest
    extract_ids([path], folder, tmp_path / "ids", codec)
    store = IdStore(tmp_path / "ids", codec)
    with pytest.raises(CorpusError, match=r"none of the 2 utterances of valid\.csv"):
        store.known(["a", "b"], "valid.csv")
    with caplog.at_level(logging.WARNING):
        assert store.known(["a", "1-7-0001"], "valid.csv") == ["1-7-0001"]
    assert "1 of 2 utterances are not in " in caplog.text


# ---------------------------------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("mode", ["codes", "digits", "table", "table_from_codes", "codec"])
def test_every_embedding_goes_from_ids_to_features_and_learns(codec, mode):
    layer = id_embedding(codec, 10, mode)
    features = layer(torch.randint(45, (2, 7)))
    assert features.shape == (2, 7, 10)
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_the_table_of_the_codec_starts_as_its_features(codec):
    layer = id_embedding(codec, 10, "codec")
    assert torch.equal(
        layer.table.weight, CodecModel.from_pretrained(codec).quantizer.ids_to_features(torch.arange(45))
    )


def test_an_unknown_embedding_is_named(codec):
    with pytest.raises(ValueError, match="'lookup'; it must be one of codes, digits"):
        id_embedding(codec, 10, "lookup")


def test_levels_are_those_of_the_codec(codec):
    assert levels_of(codec) == [5, 3, 3]
    assert levels_of("l3ac-1k") == [7] * 6


def test_jitter_moves_a_share_of_digits_by_one_level_in_training_only():
    levels = [5, 3, 3]
    jitter = IdJitter(levels, 0.5)
    ids = torch.arange(45).repeat(100, 1)
    moved = (ids_to_digits(jitter(ids), levels) - ids_to_digits(ids, levels)).abs()
    assert moved.max() == 1
    # An inner digit moves always when it is chosen, an outer one half the times.
    inner = ids_to_digits(ids, levels)[..., 1] == 1
    assert moved[..., 1][inner].float().mean() == pytest.approx(0.5, abs=0.03)
    assert moved[..., 1][~inner].float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(jitter.eval()(ids), ids)


def test_stacked_frames_stand_side_by_side():
    x = torch.arange(2 * 5 * 3).reshape(2, 5, 3).float()
    stacked = StackFrames(2)(x)
    assert stacked.shape == (2, 3, 6)
    assert torch.equal(stacked[0, 1], torch.cat([x[0, 2], x[0, 3]]))
    assert (stacked[:, 2, 3:] == 0).all()
    assert torch.equal(StackFrames(1)(x), x)


def test_what_a_recognizer_reads_of_a_clip_is_the_same_in_any_batch(codec):
    frontend = Frontend(codec, dim=6, stack=2).double().eval()
    ids, counts = torch.randint(45, (2, 8)), torch.tensor([8, 5])
    together, lengths = frontend(ids, counts / 8)
    assert (lengths * together.shape[1]).tolist() == [4, 3]
    for row, count in enumerate(counts):
        alone, _ = frontend(ids[row : row + 1, :count], torch.ones(1))
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-12, rtol=0)
    assert (together[1, 3:] == 0).all()


# ---------------------------------------------------------------------------------------------- the encoder


def test_the_fast_bilstm_is_that_of_torch_on_a_packed_batch():
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    ours = BiLSTM(5, 4, num_layers=2).double()
    theirs = torch.nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True).double()
    for layer, pair in enumerate(zip(ours.forwards, ours.backwards, strict=True)):
        for suffix, direction in zip(("", "_reverse"), pair, strict=True):
            for name, parameter in direction.named_parameters():
                parameter.data = getattr(theirs, f"{name.removesuffix('_l0')}_l{layer}{suffix}").data
    x, steps = torch.randn(3, 8, 5, dtype=torch.double), torch.tensor([8, 3, 6])
    packed = pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
    wanted, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    got, _ = ours(x, steps / 8)
    for clip, end in enumerate(steps):
        assert torch.allclose(got[clip, :end], wanted[clip, :end])
    # What follows the end of a clip changes nothing in it.
    x[1, 3:] = 100.0
    assert torch.equal(ours(x, steps / 8)[0][1, :3], got[1, :3])


@pytest.mark.parametrize("kind", ENCODERS)
def test_what_an_encoder_makes_of_a_clip_is_the_same_in_any_batch(kind):
    encoder = sequence_encoder(kind, input_size=5, hidden_size=8, num_layers=2, dropout=0.5).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():  # SpeechBrain's convolutions begin with weights that are almost zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, steps = torch.randn(3, 40, 5), torch.tensor([40, 3, 25])
    together, _ = encoder(x, lengths=steps / 40)
    assert together.shape == (3, 40, 16)
    for clip, end in enumerate(steps):
        alone, _ = encoder(x[clip : clip + 1, :end], lengths=torch.ones(1))
        torch.testing.assert_close(together[clip, :end], alone[0], atol=1e-5, rtol=0)
    x[1, 3:] = 100.0
    torch.testing.assert_close(encoder(x, lengths=steps / 40)[0][1, :3], together[1, :3], atol=1e-5, rtol=0)


def test_every_parameter_of_a_branchformer_learns():
    encoder = sequence_encoder("branchformer", input_size=5, hidden_size=8, num_layers=2)
    encoder(torch.randn(2, 20, 5), lengths=torch.tensor([1.0, 0.5]))[0][0].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_an_unknown_encoder_is_named():
    with pytest.raises(ValueError, match=r"'gru'; it must be one of lstm, branchformer\."):
        sequence_encoder("gru", 5, 8, 2)
