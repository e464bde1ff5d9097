"""`--model` takes a hub name wherever it takes a bundled name or a folder."""

from __future__ import annotations

import json

import pytest
from hub_stub import LocalHub

from l3ac_tokenizer import CodecFeatureExtractor, onnx
from l3ac_tokenizer.container import read_l3ac

from .conftest import files_below, is_one_sentence, speechlike, write_wav

NAME = "me/codec"


@pytest.fixture
def hub(tiny, tiny_model, tmp_path, monkeypatch):
    """A hub with the tiny codec, and a clip in the working folder."""
    hub = LocalHub(tmp_path / "home")
    hub.install(monkeypatch)
    CodecFeatureExtractor().save_pretrained(tiny)
    tiny_model.push_to_hub(NAME)
    write_wav(tmp_path / "in" / "a.wav", speechlike(0.5))
    return hub


def test_encode_names_the_repository_and_decode_needs_it_named(hub, l3ac, tmp_path, tiny, tiny_model):
    assert l3ac("encode", "in/a.wav", "-o", "a.l3ac", "--model", NAME)[0] == 0
    header, _ = read_l3ac(tmp_path / "a.l3ac")
    assert (header.model_name, header.weights_digest) == (NAME, tiny_model.weights_digest())
    status, _, err = l3ac("decode", "a.l3ac", "-o", "a.wav")  # data names nothing to download
    assert status == 1 and is_one_sentence(err) and f"was made by {NAME}" in err
    for model in (NAME, tiny):
        assert l3ac("decode", "a.l3ac", "-o", "a.wav", "--model", model)[0] == 0


def test_info_and_demo(hub, l3ac_json, tiny_model):
    for arguments in ([NAME], ["--model", NAME]):
        facts = l3ac_json("info", *arguments)
        assert (facts["model"], facts["weights_digest"]) == (NAME, tiny_model.weights_digest())
    assert l3ac_json("demo", "in/a.wav", "--model", NAME)["model"] == NAME


def test_tokenize_and_detokenize(hub, l3ac, l3ac_json, tmp_path):
    assert l3ac_json("tokenize", "in", "-o", "out", "--model", NAME)["model"] == NAME
    assert l3ac("detokenize", "out", "-o", "back", "--model", NAME)[0] == 0
    assert files_below(tmp_path / "back") == ["a.wav"]


@pytest.mark.usefixtures("short_count")
def test_evaluate(hub, l3ac_json, tiny_model):
    summary = l3ac_json("evaluate", "in", "-o", "results", "--model", NAME, "--no-consistency")
    (codec,) = summary["codecs"]
    assert (codec["title"], codec["digest"]) == (NAME, tiny_model.weights_digest())


@pytest.mark.parametrize("option", [[], ["--model"]])
def test_analyze(hub, l3ac, option, monkeypatch):
    seen = []
    monkeypatch.setattr("l3ac_tokenizer.cli.analyze._model", lambda name, random: seen.append(name) or exit(3))
    assert l3ac("analyze", *option, NAME)[0] == 3
    assert seen == [NAME]


def test_push(hub, l3ac_json, tiny_model):
    assert l3ac_json("push", "me/copy", "--model", NAME)["weights_digest"] == tiny_model.weights_digest()
    card = (hub.files("me/copy") / "README.md").read_text("utf-8")
    assert 'from_pretrained("me/copy")' in card and NAME not in card


def test_export_onnx(hub, l3ac_json, tmp_path, tiny_model, monkeypatch):
    exported = []

    def export(model, folder):
        exported.append(model.weights_digest())
        folder.mkdir()
        for name in onnx.FILES:
            (folder / name).touch()

    monkeypatch.setattr(onnx, "export_onnx", export)
    assert l3ac_json("export-onnx", "--model", NAME, "-o", "onnx") == {f"onnx/{name}": 0 for name in onnx.FILES}
    assert exported == [tiny_model.weights_digest()]


def test_a_name_that_the_hub_does_not_have_is_one_sentence(hub, l3ac):
    status, out, err = l3ac("encode", "in/a.wav", "-o", "a.l3ac", "--model", "me/nothing")
    assert (status, out) == (1, "") and is_one_sentence(err)
    assert "'me/nothing' is not a directory, and the hub did not give it" in err


def test_a_folder_of_that_name_comes_first(hub, l3ac, l3ac_json, tmp_path, models):
    twin = models["twin"][1]
    twin.save_pretrained(tmp_path / "me" / "codec")
    assert l3ac_json("info", NAME)["weights_digest"] == twin.weights_digest()
    assert l3ac("encode", "in/a.wav", "-o", "a.json", "--model", NAME)[0] == 0
    assert json.loads((tmp_path / "a.json").read_text())["model_name"] == "codec"
