"""The measured tables of a model card belong to its weights, and the rest of the card does not change."""

from __future__ import annotations

import json

import pytest
import soundfile
import torch
from networks import TINY, speech_like, with_varied_ids

from hf_integration.model_card import MARKS, main, measured
from l3ac_tokenizer import L3ACConfig, L3ACModel
from l3ac_tokenizer.cli import main as l3ac

pytest.importorskip("pesq", reason="comes with the extra `eval`")
pytest.importorskip("pyarrow", reason="comes with the extra `data`")

pytestmark = pytest.mark.usefixtures("short_count")

CARD = "---\nlicense: mit\n---\n# Tiny\n\nA codec.\n\n## Training\n\nNone.\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A checkpoint directory, its results from `l3ac evaluate`, and the exit status of that."""
    root = tmp_path_factory.mktemp("card")
    (root / "speech").mkdir()
    soundfile.write(root / "speech" / "a.wav", speech_like(16_000).numpy(), 16_000)
    torch.manual_seed(0)
    model = with_varied_ids(L3ACModel(L3ACConfig(**TINY)).eval())
    model.calibrate_time_norm([speech_like(16_000)])
    model.save_pretrained(root / "tiny")
    codecs = ["--codec", str(root / "tiny"), "--codec", str(root / "tiny") + "@frozen"]
    status = l3ac(["evaluate", str(root / "speech"), "-o", str(root / "results"), *codecs])
    return root / "tiny", root / "results", status


@pytest.fixture
def card(results):
    path = results[0] / "README.md"
    path.write_text(CARD)
    return path


def run(results):
    return main([str(results[0]), str(results[1])])


def test_tables_come_before_the_other_sections_and_are_replaced_the_next_time(results, card):
    assert run(results) == 0
    once = card.read_text()
    before, _, rest = once.partition(MARKS[0])
    tables, _, after = rest.partition(MARKS[1])
    assert before + after.lstrip("\n") == CARD.replace("## Training", "## Measured\n\n## Training")
    assert run(results) == 0 and card.read_text() == once
    summary = json.loads((results[1] / "summary.json").read_text())
    stoi = summary["codecs"][0]["datasets"]["speech"]["values"]["stoi"]["mean"]
    assert f"| speech | {stoi:.3f}" in tables
    assert summary["codecs"][0]["digest"] in tables


def test_results_of_other_weights_are_refused(results):
    summary = json.loads((results[1] / "summary.json").read_text())
    with pytest.raises(ValueError, match=r"results are for tiny .*the checkpoint is 0{16}: evaluate this checkpoint"):
        measured(summary, "0" * 64)


def test_a_card_with_half_of_the_marks_is_left_alone(results, card, capsys):
    card.write_text(CARD + MARKS[0])
    assert run(results) == 1
    assert "The card must have the line" in capsys.readouterr().err
    assert card.read_text() == CARD + MARKS[0]
