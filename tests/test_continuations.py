"""Continuations of clips by a language model: sound while ids are drawn, and the page to listen to."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import speech_like, tiny

from l3ac_tokenizer.inference import decode_clips, encode_clips
from l3ac_tokenizer.speech_lm.continuations import Sampling, continued_ids, stream_sound, write_continuations
from l3ac_tokenizer.speech_lm.model import SpeechLM, SpeechLMConfig

RATE = 16_000
SAMPLING = Sampling(prompt=30, count=20, seed=3)


@pytest.fixture(scope="module")
def codec():
    return tiny("tiny-light")


@pytest.fixture(scope="module")
def model(codec):
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    levels = codec.config.levels
    return SpeechLM(SpeechLMConfig(**sizes, levels=levels, weights_digest=codec.weights_digest())).eval()


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "a <b> clip.wav"
    soundfile.write(path, speech_like(1000, seed=5).numpy(), RATE)
    return path


def test_the_sound_of_a_stream_is_that_of_all_its_ids_decoded_at_once(codec, model):
    ids = encode_clips(codec, [speech_like(360).numpy()])[0]
    for number in (0, 1):
        streamed = np.concatenate(list(stream_sound(codec, continued_ids(model, ids, SAMPLING, number))))
        drawn = model.continue_ids(torch.from_numpy(ids)[None], 20, seed=3 + number)[0].numpy()
        whole = decode_clips(codec, [np.concatenate([ids, drawn])], time_norm="frozen")[0]
        np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_sound_comes_before_the_last_id_is_drawn(codec, model, monkeypatch):
    drawn = []
    draw = SpeechLM.draw_ids

    def counted(*arguments):
        for ids in draw(*arguments):
            drawn.append(ids)
            yield ids

    monkeypatch.setattr(SpeechLM, "draw_ids", counted)
    chunks = stream_sound(codec, continued_ids(model, np.arange(30), SAMPLING))
    first = sum(len(chunk) for chunk in islice(chunks, 11))
    assert len(drawn) == 10 and 30 * codec.config.hop_length < first <= 40 * codec.config.hop_length
    assert first + sum(map(len, chunks)) == 50 * codec.config.hop_length


def test_the_page_has_the_original_the_codec_and_every_continuation(codec, model, clip, tmp_path):
    heard = []

    def hear(wave: np.ndarray) -> str:
        heard.append(len(wave))
        return f"words & {len(heard)}"

    folder = tmp_path / "page"
    page = write_continuations([clip, clip], model, codec, SAMPLING, 2, {"codec": "a <codec>"}, hear, folder)
    html = page.read_text()
    hop = codec.config.hop_length
    lengths = {name: soundfile.info(folder / f"01-{name}.flac").frames for name in range(4)}
    assert lengths == {0: 50 * hop, 1: 30 * hop, 2: 50 * hop, 3: 50 * hop}
    assert heard[:4] == list(lengths.values())
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{place}-{number}.flac" for place in ("01", "02") for number in range(4)),
        "index.html",
    ]
    assert all(f'src="{path.name}"' in html for path in folder.glob("*.flac"))
    assert "a &lt;codec&gt;" in html and "a &lt;b&gt; clip.wav" in html and "words &amp; 8" in html

    audio = [soundfile.read(folder / f"01-{number}.flac")[0] for number in range(4)]
    original = soundfile.read(clip)[0]
    np.testing.assert_allclose(audio[0], original[: 50 * hop], atol=1e-4)
    ids = encode_clips(codec, [original[: 30 * hop].astype(np.float32)])[0]
    np.testing.assert_allclose(audio[1], decode_clips(codec, [ids], time_norm="frozen")[0].clip(-1, 1), atol=1e-4)
    assert not np.array_equal(audio[2], audio[3])


def test_the_page_says_how_far_recognition_of_sound_and_of_ids_agree(codec, model, clip, tmp_path):
    read, folder = [], tmp_path / "page"

    def reads(ids: torch.Tensor) -> str:
        read.append(ids)
        return "the cat sat"

    page = write_continuations([clip], model, codec, SAMPLING, 2, {}, lambda wave: "The cat sat here!", folder, reads)
    assert [len(ids) for ids in read] == [30, 50, 50]
    for number, ids in enumerate(read[1:]):
        assert torch.equal(ids[:30], read[0])
        assert torch.equal(ids[30:], model.continue_ids(ids[None, :30], 20, seed=3 + number)[0])
    html = page.read_text()
    assert html.count("The cat sat here!") == 4 and html.count("the cat sat<") == 3
    assert "words that differ, beginnings</th><td>25.0 % of 4</td>" in html
    assert "words that differ, continuations</th><td>25.0 % of 8</td>" in html


def test_a_clip_shorter_than_the_prompt_is_continued_from_its_end(codec, model, clip, tmp_path):
    page = write_continuations([clip], model, codec, replace(SAMPLING, prompt=200), 1, {}, None, tmp_path / "page")
    hop = codec.config.hop_length
    assert soundfile.info(page.parent / "01-2.flac").frames == (math.ceil(1000 / hop) + 20) * hop


def test_prompts_are_leveled_as_the_training_audio_was(codec, model, clip, tmp_path):
    soundfile.write(tmp_path / "long.wav", speech_like(RATE).numpy(), RATE)
    soundfile.write(tmp_path / "quiet.wav", 0.1 * speech_like(RATE).numpy(), RATE, subtype="FLOAT")
    paths = [tmp_path / "long.wav", tmp_path / "quiet.wav"]

    def difference(folder: Path) -> float:
        write_continuations(paths, model, codec, SAMPLING, 0, {}, None, folder)
        loud, quiet = (soundfile.read(folder / f"{place}-0.flac")[0] for place in ("01", "02"))
        return float(np.abs(loud - quiet).max() / np.abs(loud).max())

    assert difference(tmp_path / "kept") == pytest.approx(0.9, abs=0.01)
    model.config.level_lufs = -23.0
    try:
        assert difference(tmp_path / "leveled") < 0.01
    finally:
        model.config.level_lufs = None


@pytest.fixture
def recipe(codec, model, tmp_path):
    pytest.importorskip("datasets")
    pytest.importorskip("yaml")
    from recipes import speech_lm

    codec.save_pretrained(tmp_path / "codec")
    model.save_pretrained(tmp_path / "run" / "model")
    return speech_lm


def arguments(clip: Path, folder: Path, *more: str) -> list[str]:
    return [
        *("speech_lm.py", "continue", str(clip), "--run", str(folder / "run"), "-o", str(folder / "page")),
        *("--model", str(folder / "codec"), "--prompt-seconds", "0.02", "--seconds", "0.01", *more),
    ]


def test_the_command_writes_the_page_with_or_without_a_recognizer(recipe, clip, tmp_path, monkeypatch, capsys):
    def missing(name: str):
        raise ModuleNotFoundError(name="faster_whisper")

    monkeypatch.setattr(recipe, "open_recognizer", missing)
    monkeypatch.setattr("sys.argv", arguments(clip, tmp_path, "--continuations", "1"))
    recipe.main()
    page = tmp_path / "page" / "index.html"
    assert capsys.readouterr().out == f"page: {page}\n"
    assert "eval-offline" in page.read_text() and page.read_text().count("<audio") == 3

    class Deaf:
        label = "A Recognizer"

        def __call__(self, wave: np.ndarray) -> str:
            return "nothing at all"

    monkeypatch.setattr(recipe, "open_recognizer", lambda name: Deaf())
    recipe.main()
    assert "A Recognizer" in page.read_text() and page.read_text().count("nothing at all") == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seconds", "60"), "exceed the context"),
        (("--run", "nowhere"), "nowhere has no folder `model`"),
        (("--token-asr", "nowhere"), "nowhere/hyperparams.yaml does not exist"),
        (("--model", "l3ac-1k-light"), "give the codec of its corpus"),
        (("--top-p", "2"), "`top_p` is 2.0"),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence(recipe, clip, tmp_path, monkeypatch, more, said):
    monkeypatch.setattr(recipe, "open_whisper", lambda: None)
    monkeypatch.setattr("sys.argv", arguments(clip, tmp_path, *more))
    with pytest.raises(SystemExit, match=said):
        recipe.main()
    assert not (tmp_path / "page" / "index.html").exists()


@pytest.mark.parametrize("package", ["jiwer", "hyperpyyaml"])
def test_a_missing_package_is_named_before_anything_is_drawn(recipe, clip, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(recipe, "open_whisper", lambda: None)
    monkeypatch.setattr("sys.argv", arguments(clip, tmp_path, "--token-asr", "run"))
    with pytest.raises(
        SystemExit, match=rf"needs the package {package}: pip install 'l3ac-tokenizer\[speechbrain,eval\]'"
    ):
        recipe.main()
    assert not (tmp_path / "page").exists()
