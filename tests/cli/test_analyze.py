"""`l3ac analyze` from the command line."""

from __future__ import annotations

import json

import pytest

from l3ac_tokenizer.cli import main


def test_a_model_directory_is_analysed_into_a_page_with_a_picture(models, tmp_path, capsys):
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


def test_a_preset_without_weights_must_be_asked_for_with_random_ones(capsys):
    assert main(["analyze", "sqcodec-24k-24khz"]) == 1
    assert "no bundled weights" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["analyze", "--randomly"])
