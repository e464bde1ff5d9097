"""ONNX graphs give the same ids and audio as the model, for any length and batch, without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import TINY, speech_like, tiny, tiny_streams

from l3ac_tokenizer import CodecModel, L3ACConfig, L3ACModel, StreamingDecoder, StreamingEncoder, streaming
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.inference import decode_clips, encode_clips
from l3ac_tokenizer.onnx import FILES, STREAMING_FILES, export_onnx, quantize_int8

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `onnx`)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra `onnx`)")

HOP = 12
"""Of all tiny networks."""
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module", params=["tiny", "tiny-light-2khz", "streams"])
def model(request):
    torch.manual_seed(0)
    return tiny_streams() if request.param == "streams" else tiny(request.param)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module", params=["tiny", "tiny-light-2khz"])
def streaming_model(request):
    torch.manual_seed(0)
    model = tiny(request.param)
    model.calibrate_time_norm([speech_like(4000)])
    return model


@pytest.fixture(scope="module")
def streaming_folder(streaming_model, tmp_path_factory):
    """Graphs of pushes of three frames."""
    return export(streaming_model, tmp_path_factory.mktemp("onnx"), "--streaming", "3")


def export(model: CodecModel, folder: Path, *options: str) -> Path:
    """The folder of the graphs that the command makes of a checkpoint."""
    model.save_pretrained(folder / "model")
    assert main(["export-onnx", "--model", str(folder / "model"), "-o", str(folder / "made"), *options]) == 0
    return folder / "made"


@pytest.fixture(scope="module")
def sessions(folder):
    return [
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        for name in ("encoder.onnx", "decoder.onnx")
    ]


@pytest.mark.parametrize(
    ("rows", "samples"), [(1, 1), (1, HOP), (1, HOP + 1), (3, 2 * HOP), (2, 7 * HOP + 3), (1, 90 * HOP), (2, 400 * HOP)]
)
@torch.no_grad()
def test_the_graphs_give_the_ids_and_the_audio_of_the_model(model, sessions, rows, samples):
    encoder, decoder = sessions
    audio = torch.stack([speech_like(samples, seed)[None] for seed in range(rows)])
    wanted = model.encode(audio)
    (ids,) = encoder.run(None, {"input_values": audio.numpy()})
    changed = (torch.from_numpy(ids) != wanted.audio_codes).any(dim=1)
    assert ids.shape == wanted.audio_codes.shape
    assert not (changed & ~model.quantizer.near_boundary(wanted.latents)).any()
    decoded = model.decode(wanted.audio_codes).audio_values
    (values,) = decoder.run(None, {"audio_codes": wanted.audio_codes.numpy()})
    assert values.shape == decoded.shape
    assert np.abs(values - decoded.numpy()).max() < 1e-4


@torch.no_grad()
def test_pushes_to_the_streaming_graphs_give_the_ids_and_the_audio_of_the_whole(
    streaming_model, streaming_folder, monkeypatch
):
    model, clip = streaming_model, speech_like(70 * HOP + 5)

    def by_onnxruntime(step, batch):
        session = onnxruntime.InferenceSession(streaming_folder / STREAMING_FILES[type(step).__name__ == "DecoderStep"])
        names = [given.name for given in session.get_inputs()]
        facts = json.loads(session.get_modelmeta().custom_metadata_map["l3ac"])
        assert (facts["frames"], facts["delay"], facts["lead"]) == (3, step.delay, getattr(step, "lead", 0))

        def run(values, end, position, state):
            given = dict(zip(names, (values, end, position, *state), strict=True))
            output, *new = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
            for old, tensor in zip(state, new, strict=True):
                old.copy_(torch.from_numpy(tensor))
            return torch.from_numpy(output)

        return run

    monkeypatch.setattr(streaming, "compiled_step", by_onnxruntime)
    encoder, decoder = (stream(model, engine="aot", step_frames=3) for stream in (StreamingEncoder, StreamingDecoder))
    ids = torch.cat([*(encoder.push(block)[0] for block in clip.split(7 * HOP)), *encoder.flush()])
    wanted = model.encode(clip[None, None])
    changed = ids != wanted.audio_codes[0, 0]
    assert not (changed & ~model.quantizer.near_boundary(wanted.latents)[0]).any()
    samples = torch.cat([*(decoder.push(some)[0] for some in ids.split(4)), *decoder.flush()])
    whole = model.decode(ids[None, None], time_norm="frozen").audio_values[0, 0]
    assert samples.shape == whole.shape and (samples - whole).abs().max() < 1e-4


def test_a_clip_has_the_same_ids_in_a_batch_of_clips_of_its_length(model, sessions):
    audio = torch.stack([speech_like(50 * HOP, seed)[None] for seed in range(3)]).numpy()
    (together,) = sessions[0].run(None, {"input_values": audio})
    alone = np.concatenate([sessions[0].run(None, {"input_values": clip[None]})[0] for clip in audio])
    assert len(np.unique(together)) > 5
    assert (together == alone).all()


def test_the_metadata_names_the_tokenizer(model, sessions):
    for session in sessions:
        facts = json.loads(session.get_modelmeta().custom_metadata_map["l3ac"])
        assert facts == {
            "weights_digest": model.weights_digest(),
            "ids_of": [],
            "sampling_rate": model.config.sampling_rate,
            "hop_length": HOP,
            "levels": list(model.config.levels),
            "precision": "float32",
        }


def test_the_axes_have_names_and_no_path_of_this_machine_is_written(model, folder, sessions):
    assert sessions[0].get_inputs()[0].shape == ["batch", 1, "samples"]
    assert sessions[1].get_inputs()[0].shape == ["batch", model.config.num_quantizers, "ids"]
    package = str(Path(export_onnx.__code__.co_filename).parent).encode()
    assert not any(package in (folder / name).read_bytes() for name in ("encoder.onnx", "decoder.onnx"))


def test_the_documented_listing_runs_without_torch_and_gives_back_the_audio(model, folder, tmp_path):
    document = (Path(__file__).parent.parent / "docs" / "guides" / "deploying.md").read_text()
    listing = document.split("```python\n")[1].split("```")[0]
    assert len([line for line in listing.splitlines() if line.strip()]) <= 20
    clip = speech_like(4007).numpy()
    soundfile.write(tmp_path / "speech.wav", clip, model.config.sampling_rate)
    for name in ("encoder.onnx", "decoder.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    guard = "import sys; sys.modules['torch'] = None\n"  # any import of torch fails
    subprocess.run([sys.executable, "-c", guard + listing], cwd=tmp_path, check=True)
    decoded, rate = soundfile.read(tmp_path / "decoded.wav")
    assert rate == model.config.sampling_rate and len(decoded) == len(clip)


def test_int8_graphs_are_smaller_say_so_and_keep_the_quantizer_in_float32(model, folder, tmp_path):
    onnx = pytest.importorskip("onnx")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    quantize_int8(tmp_path, "both")
    for name, weight in (("encoder.onnx", "project_in"), ("decoder.onnx", "project_out")):
        graph = onnx.load(tmp_path / name)
        assert (tmp_path / name).stat().st_size < (folder / name).stat().st_size
        floats = {tuple(value.dims) for value in graph.graph.initializer if value.data_type == onnx.TensorProto.FLOAT}
        projection = getattr(model.quantizer, weight)  # TAAE has none
        assert {tuple(kept.T.shape) for kept in projection.parameters() if kept.ndim == 2} <= floats
        assert any(node.op_type == "MatMulInteger" for node in graph.graph.node)
        (facts,) = (json.loads(entry.value) for entry in graph.metadata_props if entry.key == "l3ac")
        assert facts["precision"] == "int8"
    audio = speech_like(200 * HOP)[None, None].numpy()
    ids, wanted = (
        onnxruntime.InferenceSession(where / "encoder.onnx").run(None, {"input_values": audio})[0]
        for where in (tmp_path, folder)
    )
    assert 0.2 < (ids == wanted).mean() < 1  # a random network; by chance it would be 0.02
    with pytest.raises(ValueError, match="already in int8"):
        quantize_int8(tmp_path)


def test_int8_of_the_decoder_leaves_the_encoder_as_it_is(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    quantize_int8(tmp_path)
    before, after = ([(where / name).read_bytes() for name in FILES] for where in (folder, tmp_path))
    assert before[0] == after[0] and len(after[1]) < len(before[1])
    ids = model.encode(speech_like(50 * HOP)[None, None]).audio_codes.numpy()
    wanted, values = (
        onnxruntime.InferenceSession(where / "decoder.onnx").run(None, {"audio_codes": ids})[0]
        for where in (folder, tmp_path)
    )
    assert 0 < np.abs(values - wanted).mean() < 0.5 * np.abs(wanted).mean()
    with pytest.raises(ValueError, match="give one of decoder, both"):
        quantize_int8(tmp_path, "encoder")


@pytest.mark.parametrize("model", ["tiny-light-2khz"], indirect=True)
def test_spectral_ends_are_fixed_matrices_that_int8_leaves_alone(model, folder, tmp_path):
    onnx = pytest.importorskip("onnx")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    quantize_int8(tmp_path, "both")
    # The encoder's transforms of 50 and 128 points have two stages.
    analysis = {(5, 10), (20, 12), (26, 80), (8, 16), (32, 18), (65, 100)}
    wanted = {"encoder.onnx": analysis, "decoder.onnx": {(13, 24)}}
    for name, matrices in wanted.items():
        assert not {node.op_type for node in onnx.load(folder / name).graph.node} & {"DFT", "STFT"}
        constants = onnx.load(tmp_path / name).graph.initializer
        assert matrices <= {tuple(one.dims) for one in constants if one.data_type == onnx.TensorProto.FLOAT}


def test_a_model_that_is_not_float32_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"torch.bfloat16; load it in float32"):
        export_onnx(L3ACModel(L3ACConfig(**TINY)).to(torch.bfloat16), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_command_says_in_one_sentence_what_is_wrong(tmp_path, capsys):
    assert main(["export-onnx", "--model", "l3ac-0k75", "-o", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "no bundled weights" in message and message.count("\n") == 1


def run_example(name: str, folder: Path, clip: Path, decoded: Path) -> str:
    """What an example prints where any import of torch fails."""
    blocked = decoded.parent / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('torch is not installed')")
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, folder, clip, decoded],
        env=os.environ | {"PYTHONPATH": str(blocked)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(model: CodecModel, folder: Path) -> Path:
    soundfile.write(folder / "speech.wav", speech_like(4800).numpy(), model.config.sampling_rate)
    return folder / "speech.wav"


@pytest.mark.parametrize("model", ["tiny"], indirect=True)
def test_the_example_runs_without_torch(model, folder, tmp_path):
    recording = recorded(model, tmp_path)
    assert f"{4800 // HOP} ids of" in run_example("onnx_runtime.py", folder, recording, tmp_path / "decoded.wav")
    assert soundfile.info(tmp_path / "decoded.wav").frames == 4800


@pytest.mark.parametrize("streaming_model", ["tiny"], indirect=True)
def test_the_streaming_example_gives_the_audio_of_the_whole_without_torch(streaming_model, streaming_folder, tmp_path):
    recording = recorded(streaming_model, tmp_path)
    said = run_example("onnx_streaming.py", streaming_folder, recording, tmp_path / "decoded.wav")
    audio, decoded = (soundfile.read(path, dtype="float32")[0] for path in (recording, tmp_path / "decoded.wav"))
    (ids,) = encode_clips(streaming_model, [audio])
    (whole,) = decode_clips(streaming_model, [ids], time_norm="frozen")
    assert f"{ids.shape[-1]} ids of" in said and len(decoded) == len(audio)
    assert np.abs(decoded - whole[: len(audio)].clip(-1, 1)).max() < 2e-4  # 16 bits


@pytest.mark.parametrize(("given", "graphs"), [(["--int8"], "decoder"), (["--int8", "both"], "both"), ([], None)])
def test_the_command_quantizes_what_is_asked_for_and_prints_sizes(
    given, graphs, tiny_model, tmp_path, monkeypatch, capsys
):
    quantized = []

    def export(model, folder):
        folder.mkdir()
        for number, name in enumerate(FILES):
            (folder / name).write_bytes(bytes(3 + number))

    monkeypatch.setattr("l3ac_tokenizer.onnx.export_onnx", export)
    monkeypatch.setattr("l3ac_tokenizer.onnx.quantize_int8", lambda folder, graphs: quantized.append(graphs))
    tiny_model.save_pretrained(tmp_path / "tiny")
    assert main(["export-onnx", "--model", str(tmp_path / "tiny"), "-o", str(tmp_path / "made"), "--json", *given]) == 0
    assert quantized == [graphs] * bool(given)
    sizes = {str(tmp_path / "made" / name): 3 + number for number, name in enumerate(FILES)}
    assert json.loads(capsys.readouterr().out) == sizes
