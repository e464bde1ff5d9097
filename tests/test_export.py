"""`hf_integration.export` writes the same weights to a folder for the hub."""

import pytest
import torch
from huggingface_hub import ModelCard
from networks import TINY, TINY_LIGHT, speech_like

from hf_integration import export as export_module
from hf_integration.export import export
from l3ac_tokenizer import CodecFeatureExtractor, L3ACConfig, L3ACModel


@pytest.fixture
def checkpoint(request, tmp_path):
    folder = tmp_path / "trained"
    L3ACModel(L3ACConfig(**getattr(request, "param", TINY))).save_pretrained(folder)
    CodecFeatureExtractor().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A codec\n\nIts own card.\n")
    return folder


@pytest.mark.parametrize("checkpoint", [TINY, TINY_LIGHT], ids=["tiny", "tiny-light"], indirect=True)
def test_the_exported_folder_holds_the_same_weights(checkpoint, tmp_path):
    digest = export(checkpoint, tmp_path / "hub")
    exported = L3ACModel.from_pretrained(tmp_path / "hub")
    assert digest == exported.weights_digest() == L3ACModel.from_pretrained(checkpoint).weights_digest()
    audio = speech_like(2000)[None, None]
    with torch.no_grad():
        ids = [model.eval().encode(audio).audio_codes for model in (exported, L3ACModel.from_pretrained(checkpoint))]
    assert torch.equal(*ids)


def test_the_card_keeps_its_text_and_gains_the_metadata_of_the_hub(checkpoint, tmp_path):
    digest = export(checkpoint, tmp_path / "hub")
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.license == "mit"
    assert card.data.library_name == "l3ac_tokenizer"
    assert "audio-tokenizer" in card.data.tags
    assert "Its own card." in card.text
    assert digest in card.text


def test_a_bundled_name_can_be_exported(tmp_path):
    export("l3ac-1k", tmp_path / "hub")
    assert (tmp_path / "hub" / "model.safetensors").stat().st_size > 1e7


@pytest.mark.parametrize("missing", ["model.safetensors", "README.md"])
def test_an_incomplete_checkpoint_is_refused_and_nothing_is_left(checkpoint, tmp_path, missing):
    (checkpoint / missing).unlink()
    with pytest.raises(OSError, match=f"has no {missing}"):
        export(checkpoint, tmp_path / "hub")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trained"]


def test_corrupt_weights_are_refused_and_nothing_is_left(checkpoint, tmp_path):
    model = L3ACModel.from_pretrained(checkpoint)
    torch.nn.init.constant_(next(model.decoder.parameters()), float("nan"))
    model.save_pretrained(checkpoint)
    with pytest.raises(ValueError, match="its weights are corrupt"):
        export(checkpoint, tmp_path / "hub")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trained"]


def test_a_folder_in_use_is_refused(checkpoint, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "file").touch()
    with pytest.raises(OSError, match="already exists"):
        export(checkpoint, tmp_path / "hub")


def test_push_makes_the_repository_and_uploads_the_folder(checkpoint, tmp_path, monkeypatch, capsys):
    calls = []

    class Hub:
        def create_repo(self, repository, **options):
            calls.append(("create", repository, options["private"]))

        def upload_folder(self, *, repo_id, folder_path):
            calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))
            return type("Commit", (), {"commit_url": "address"})

    monkeypatch.setattr(export_module, "HfApi", Hub)
    assert export_module.main([str(checkpoint), "-o", str(tmp_path / "hub"), "--push", "me/codec", "--private"]) == 0
    files = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    assert calls == [("create", "me/codec", True), ("upload", "me/codec", files)]
    assert capsys.readouterr().out.endswith("address\n")
