"""`l3ac analyze` from the command line."""

from __future__ import annotations

import json

import pytest
import soundfile

from l3ac_tokenizer.cli import main

from .conftest import RATE, speechlike


def test_a_model_directory_is_analyzed_into_a_page_with_a_picture(models, tmp_path, capsys):
    folder, model = models["tiny"]
    page = tmp_path / "new" / "latency.md"
    assert main(["analyze", folder, "-o", str(page), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["stated_id"] == model.encoder_lookahead == facts["id_reach"]["after"]
    assert facts["stated_sample"] == model.decoder_lookahead == facts["sample_reach"]["after"]
    text = page.read_text()
    assert "Made by `l3ac analyze tiny`." in text and str(tmp_path) not in text
    assert "| tiny |" in text and "](latency.png)" in text
    assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_random_preset_of_taae_and_the_sensitivity_of_losses(tmp_path, capsys):
    soundfile.write(tmp_path / "clip.wav", speechlike(1.0), RATE)
    page = tmp_path / "page.md"
    assert main(["analyze", "--random", "taae-tiny", "--losses", str(tmp_path), "-o", str(page), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["id_reach"]["after"] == facts["stated_id"] > 0
    losses = {row["loss"]: row for row in facts["losses"]}
    assert losses["L1"]["samples_db"] < 1e-6 < losses["feature matching (TAAE)"]["samples_db"]
    text = page.read_text()
    assert "## Loss sensitivity, taae-tiny, random weights" in text and "](page-2.png)" in text
    assert (tmp_path / "page-2.png").read_bytes().startswith(b"\x89PNG")


def test_a_preset_without_weights_must_be_asked_for_with_random_ones(capsys):
    assert main(["analyze", "sqcodec-24k-24khz"]) == 1
    assert "no bundled weights" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["analyze", "--randomly"])
