"""The files written by `hf_integration.propose` work inside transformers."""

import importlib

import pytest
import torch
import transformers.models
from networks import TINY, TINY_LIGHT, speech_like, with_varied_ids

from hf_integration.propose import joined, propose
from l3ac_tokenizer import L3ACConfig, L3ACModel


@pytest.fixture
def proposed(tmp_path, monkeypatch):
    """The package `transformers.models.l3ac` as proposed."""
    models = tmp_path / "src" / "transformers" / "models"
    models.mkdir(parents=True)
    propose(tmp_path)
    monkeypatch.setattr(transformers.models, "__path__", [*transformers.models.__path__, str(models)])
    importlib.invalidate_caches()
    return importlib.import_module("transformers.models.l3ac")


@pytest.mark.parametrize("sizes", [TINY, TINY_LIGHT], ids=["tiny", "tiny-light"])
def test_the_proposed_model_gives_the_same_ids_and_audio(proposed, sizes):
    ours = with_varied_ids(L3ACModel(L3ACConfig(**sizes)).eval())
    theirs = proposed.L3ACModel(proposed.L3ACConfig(**sizes)).eval()
    theirs.load_state_dict(ours.state_dict())
    inputs = proposed.CodecFeatureExtractor()(
        [speech_like(4800), speech_like(3200)], sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        expected, given = ours.encode(**inputs), theirs.encode(**inputs)
        torch.testing.assert_close(given.audio_codes, expected.audio_codes, rtol=0, atol=0)
        torch.testing.assert_close(
            theirs.decode(given.audio_codes).audio_values, ours.decode(expected.audio_codes).audio_values
        )


def test_the_proposed_files_import_nothing_of_this_package(proposed, tmp_path):
    for file in (tmp_path / "src").rglob("*.py"):
        assert "l3ac_tokenizer" not in file.read_text()


def test_files_that_define_the_same_name_are_not_joined(tmp_path):
    (tmp_path / "a.py").write_text("def f(): ...\n")
    (tmp_path / "b.py").write_text("def f(): ...\n")
    with pytest.raises(ValueError, match="both define f; rename one"):
        joined([tmp_path / "a.py", tmp_path / "b.py"], postponed_annotations=True)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(OSError, match="give a checkout of transformers"):
        propose(tmp_path)
    assert not list(tmp_path.iterdir())
