"""Publishing: a folder for the hub with the same weights and a card that says how to load them, and its upload."""

import pytest
import torch
from hub_stub import LocalHub
from huggingface_hub import ModelCard
from networks import TINY, TINY_LIGHT, speech_like

from hf_integration.export import main as script
from l3ac_tokenizer import CodecFeatureExtractor, L3ACConfig, L3ACModel
from l3ac_tokenizer.cli import main as l3ac
from l3ac_tokenizer.publishing import export_folder


@pytest.fixture
def checkpoint(request, tmp_path):
    folder = tmp_path / "trained"
    L3ACModel(L3ACConfig(**getattr(request, "param", TINY))).save_pretrained(folder)
    CodecFeatureExtractor().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A codec\n\nIts own card.\n")
    return folder


@pytest.mark.parametrize("checkpoint", [TINY, TINY_LIGHT], ids=["tiny", "tiny-light"], indirect=True)
def test_the_exported_folder_holds_the_same_weights(checkpoint, tmp_path):
    digest = export_folder(checkpoint, tmp_path / "made")
    exported = L3ACModel.from_pretrained(tmp_path / "made")
    assert digest == exported.weights_digest() == L3ACModel.from_pretrained(checkpoint).weights_digest()
    audio = speech_like(2000)[None, None]
    with torch.no_grad():
        ids = [model.eval().encode(audio).audio_codes for model in (exported, L3ACModel.from_pretrained(checkpoint))]
    assert torch.equal(*ids)


def test_the_card_keeps_its_text_and_gains_the_metadata_of_the_hub(checkpoint, tmp_path):
    digest = export_folder(checkpoint, tmp_path / "made")
    card = ModelCard.load(tmp_path / "made" / "README.md")
    assert card.data.license == "mit"
    assert card.data.library_name == "l3ac_tokenizer"
    assert "audio-tokenizer" in card.data.tags
    assert "Its own card." in card.text
    assert digest in card.text


def test_a_bundled_name_can_be_exported(tmp_path):
    export_folder("l3ac-1k", tmp_path / "made")
    assert (tmp_path / "made" / "model.safetensors").stat().st_size > 1e7


@pytest.mark.parametrize("missing", ["model.safetensors", "README.md"])
def test_an_incomplete_checkpoint_is_refused_and_nothing_is_left(checkpoint, tmp_path, missing):
    (checkpoint / missing).unlink()
    with pytest.raises(OSError, match=f"has no {missing}"):
        export_folder(checkpoint, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trained"]


def test_corrupt_weights_are_refused_and_nothing_is_left(checkpoint, tmp_path):
    model = L3ACModel.from_pretrained(checkpoint)
    torch.nn.init.constant_(next(model.decoder.parameters()), float("nan"))
    model.save_pretrained(checkpoint)
    with pytest.raises(ValueError, match="its weights are corrupt"):
        export_folder(checkpoint, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trained"]


def test_a_folder_in_use_is_refused(checkpoint, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").touch()
    with pytest.raises(OSError, match="already exists"):
        export_folder(checkpoint, tmp_path / "made")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = LocalHub(tmp_path / "home")
    hub.install(monkeypatch)
    return hub


FILES = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]


def test_push_makes_the_repository_and_uploads_the_folder(checkpoint, hub, capsys):
    assert l3ac(["push", "me/codec", "--model", str(checkpoint), "--private"]) == 0
    assert hub.private == {"me/codec"}
    assert sorted(path.name for path in hub.files("me/codec").iterdir()) == FILES
    out = capsys.readouterr().out
    assert "https://hub/me/codec" in out and L3ACModel.from_pretrained(checkpoint).weights_digest() in out


def test_the_script_is_the_same_command(checkpoint, hub, tmp_path):
    assert script([str(checkpoint), "-o", str(tmp_path / "folder"), "--push", "me/codec"]) == 0
    assert hub.private == set()
    for name in FILES:
        assert (tmp_path / "folder" / name).read_bytes() == (hub.files("me/codec") / name).read_bytes()


def test_without_a_repository_only_the_folder_is_written(checkpoint, hub, tmp_path, capsys):
    assert l3ac(["push", "--model", str(checkpoint), "-o", str(tmp_path / "folder")]) == 0
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == FILES and not hub.home.exists()
    assert l3ac(["push", "--model", str(checkpoint)]) == 2
    assert "give OWNER/NAME" in capsys.readouterr().err


def test_a_hub_that_rejects_is_one_sentence(checkpoint, monkeypatch, capsys):
    def rejected(api, *arguments, **options):
        raise RuntimeError("401 Unauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", rejected)
    assert l3ac(["push", "me/codec", "--model", str(checkpoint)]) == 1
    err = capsys.readouterr().err
    assert "me/codec could not be written to the hub (401 Unauthorized); log in" in err and err.count("\n") == 1


def test_the_card_shows_the_import_once_however_often_it_is_pushed(checkpoint, hub):
    for _ in range(2):
        assert l3ac(["push", "me/codec", "--model", str(checkpoint)]) == 0
        checkpoint = hub.files("me/codec")
        card = (checkpoint / "README.md").read_text("utf-8")
        assert card.count("import l3ac_tokenizer") == 1 and "Its own card." in card
        assert 'AutoModel.from_pretrained("me/codec")' in card


@pytest.mark.parametrize("first", ["model", "extractor"])
def test_a_model_in_memory_is_pushed_with_extractor_and_card(checkpoint, hub, first):
    CodecFeatureExtractor(level_lufs=-20).save_pretrained(checkpoint)
    model, extractor = L3ACModel.from_pretrained(checkpoint), CodecFeatureExtractor.from_pretrained(checkpoint)
    for each in (model, extractor) if first == "model" else (extractor, model):
        each.push_to_hub("me/codec")
    assert sorted(path.name for path in hub.files("me/codec").iterdir()) == FILES
    assert CodecFeatureExtractor.from_pretrained(hub.files("me/codec")).level_lufs == -20
    card = ModelCard.load(hub.files("me/codec") / "README.md")
    assert "import l3ac_tokenizer" in card.text and model.weights_digest() in card.text
    assert card.data.library_name == "l3ac_tokenizer"
    assert L3ACModel.from_pretrained(hub.files("me/codec")).weights_digest() == model.weights_digest()
