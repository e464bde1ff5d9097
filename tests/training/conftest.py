"""Golden losses, and a corpus of seconds and a tiny Whisper that the tests make themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpora import write_corpus
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from l3ac_tokenizer.training import evaluator


@pytest.fixture(scope="module", autouse=True)
def few_clips():
    """Statistics of averaged weights from four clips: those of 64 take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "STATISTICS_CLIPS", 4)
        yield


@pytest.fixture(scope="session")
def golden_losses(shared):
    """Tensors of the reference file of losses and schedule."""
    return load_file(shared / "reference" / "losses.safetensors")


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("audio"))


@pytest.fixture
def tiny_whisper(tmp_path) -> Path:
    """Folder of a whole Whisper with random weights, as the hub has them."""
    config = WhisperConfig(
        vocab_size=20,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=8,
        decoder_ffn_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "whisper")
    return tmp_path / "whisper"
