"""The tables of the guide for users of other codecs: each expression runs, and has the shape that is stated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import transformers
from networks import speech_like, tiny_mimi

import l3ac_tokenizer

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "coming-from-other-codecs.md"
SECONDS = (0.5, 0.3)
RUN = ("Mimi", "DAC", "EnCodec")
"""Peers that transformers builds here without further packages, as tiny random models."""


def cells() -> list[tuple[str, str, str]]:
    """Section, left and right cell of each row with code on the right."""
    rows, section = [], ""
    for line in GUIDE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("|") and section != "Deliberately different":
            left, right = (cell.strip() for cell in line.strip("|").split("|"))
            right = left if right == "the same" else right
            if "`" in right:
                rows.append((section, left, right))
    return rows


def code_and_shape(cell: str) -> tuple[str, str | None]:
    code, shape = re.fullmatch(r"`([^`]+)`(?: \((.+)\))?", cell).groups()
    return code, shape


def names(model: Any, extractor: Any) -> dict[str, Any]:
    """What the expressions of the guide may use."""
    rate = extractor.sampling_rate
    audio = [speech_like(round(rate * seconds), seed).numpy() for seed, seconds in enumerate(SECONDS)]
    inputs = extractor(raw_audio=audio, sampling_rate=rate, return_tensors="pt")
    is_dac = type(model).__name__ == "DacModel"
    encoded = model.encode(inputs["input_values"]) if is_dac else model.encode(**inputs)
    scope = {name: getattr(l3ac_tokenizer, name) for name in l3ac_tokenizer.__all__}
    return scope | {
        "AutoModel": transformers.AutoModel,
        "audio": audio,
        "rate": rate,
        "model": model,
        "extractor": extractor,
        "inputs": inputs,
        "encoded": encoded,
        "codes": encoded.audio_codes,
        "piece": inputs["input_values"][:1],
    }


def check(cell: str, scope: dict[str, Any], sizes: dict[str, int]) -> Any:
    """Evaluate a cell, and compare the result with the shape that it states, if any."""
    code, shape = code_and_shape(cell)
    with torch.no_grad():
        value = eval(code, dict(scope))
    if shape is not None:
        wanted = tuple(eval(axis.replace(" ", " * "), dict(sizes)) for axis in shape.split(", "))
        assert tuple(value.shape) == wanted, code
    return value


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> tuple[dict[str, Any], dict[str, int]]:
    model = transformers.AutoModel.from_pretrained("l3ac-1k-light")
    scope = names(model, transformers.AutoFeatureExtractor.from_pretrained("l3ac-1k-light"))
    folder = tmp_path_factory.mktemp("clips")
    scope["paths"] = [folder / f"{number}.wav" for number in range(len(SECONDS))]
    for path, audio in zip(scope["paths"], scope["audio"], strict=True):
        soundfile.write(path, audio, scope["rate"])
    config = model.config
    length = scope["inputs"].input_values.shape[-1]
    sizes = {"B": 2, "T": length, "K": 1, "N": -(-length // config.hop_length), "hop": config.hop_length}
    return scope, sizes | {"D": config.feature_dim, "L": len(config.levels)}


@pytest.fixture(scope="module")
def theirs() -> dict[str, tuple[dict[str, Any], dict[str, int]]]:
    mimi = tiny_mimi()
    dac = transformers.DacModel(
        transformers.DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=32, codebook_size=32, codebook_dim=4, n_codebooks=3
        )
    )
    encodec = transformers.EncodecModel(
        transformers.EncodecConfig(num_filters=4, hidden_size=16, codebook_size=1024, codebook_dim=16)
    )
    made = {
        "Mimi": (mimi, transformers.EncodecFeatureExtractor(sampling_rate=24_000)),
        "DAC": (dac, transformers.DacFeatureExtractor(sampling_rate=16_000, hop_length=dac.config.hop_length)),
        "EnCodec": (encodec, transformers.EncodecFeatureExtractor(sampling_rate=24_000)),
    }
    found = {}
    for peer, (model, extractor) in made.items():
        scope = names(model.eval(), extractor)
        *_, codebooks, frames = scope["codes"].shape
        length, config = scope["inputs"].input_values.shape[-1], model.config
        sizes = {"B": 2, "T": length, "K": codebooks, "N": frames, "D": config.hidden_size}
        sizes |= {"hop": getattr(config, "hop_length", 0), "L": 4 * 3}
        found[peer] = scope, sizes
    return found


def test_the_guide_has_a_table_for_every_peer():
    assert {section for section, _, _ in cells()} >= {*RUN, "X-Codec2", "moshi"}


@pytest.mark.parametrize(("section", "left", "right"), cells(), ids=lambda cell: cell[:60])
def test_our_side_of_a_row_runs_and_has_the_shape_that_it_states(ours, section, left, right):
    check(right, *ours)


@pytest.mark.parametrize(
    ("peer", "left"), [(section, left) for section, left, _ in cells() if section in RUN], ids=lambda cell: cell[:60]
)
def test_their_side_of_a_row_runs_and_has_the_shape_that_it_states(theirs, peer, left):
    check(left, *theirs[peer])
