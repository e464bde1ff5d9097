"""Recipes from audio to word error rates, run as by a user, on a synthetic corpus with the bundled codec."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from conftest import ASR, TORCHRUN, TTS, asr_arguments, load, run, tts_arguments
from hyperpyyaml import load_hyperpyyaml

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.id_metadata import ModelMismatchError
from l3ac_tokenizer.speechbrain import IdStore, TokenRecognizer, read_manifest, write_manifest


def hparams_of(recipe: Path, arguments: list[str], output: Path) -> dict:
    """Load the hyperparameters of a recipe with arguments."""
    path, *rest = arguments
    overrides = dict(argument.removeprefix("--").split("=", 1) for argument in rest)
    text = "\n".join(f"{name}: {value}" for name, value in {**overrides, "output_folder": output}.items())
    with open(recipe / path, encoding="utf-8") as file:
        return load_hyperpyyaml(file, text)


def logged(folder: Path, name: str) -> list[float]:
    """Values of a name in all lines of a `train_log.txt`."""
    return [float(value) for value in re.findall(rf"{name}: ([-+.\de]+)", (folder / "train_log.txt").read_text())]


# ---------------------------------------------------------------------------------------------- recognition


def test_the_recognizer_learns_the_made_language(asr_run):
    assert logged(asr_run["output"], "test WER")[-1] < 30
    errors = logged(asr_run["output"], "valid WER")
    assert errors[0] > 90 and min(errors) < 30


def test_a_run_leaves_what_speechbrain_users_look_for(asr_run):
    output = asr_run["output"]
    for name in ("hyperparams.yaml", "env.log", "log.txt", "train_log.txt", "train.py", "wer_test.txt", "cer_test.txt"):
        assert (output / name).stat().st_size > 0, name
    assert "data_folder: " + str(asr_run["data"]) in (output / "hyperparams.yaml").read_text()
    assert len(list((output / "save").glob("CKPT*"))) in (1, 2)  # the best and the last


def test_the_recognizer_of_a_run_reads_audio_and_ids_alike(asr_run):
    recognizer = TokenRecognizer(asr_run["output"], trust=True)
    store = IdStore(asr_run["cache"] / "ids", "l3ac-1k-light")
    rows = read_manifest(asr_run["cache"] / "test.csv")
    right = 0
    for row in rows:
        wave, _ = read_audio(row.wav.replace("$data_root", str(asr_run["data"])), 16_000)
        assert recognizer(wave) == recognizer.recognize_ids(store[row.ID])
        right += recognizer(wave) == row.wrd
    assert right >= len(rows) / 4


def test_a_run_that_is_no_run_is_refused(asr_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"hyperparams\.yaml does not exist: give the output_folder"):
        TokenRecognizer(tmp_path, trust=True)
    shutil.copy(asr_run["output"] / "hyperparams.yaml", tmp_path)
    with pytest.raises(ValueError, match="no checkpoint"):
        TokenRecognizer(tmp_path, trust=True)
    with pytest.raises(ModelMismatchError, match="was trained on ids of"):
        TokenRecognizer(asr_run["output"], trust=True, codec="l3ac-1k")
    settings = tmp_path / "hyperparams.yaml"
    settings.write_text(settings.read_text().replace("inputs: ids", "inputs: log_mel"))
    with pytest.raises(ValueError, match="reads log_mel instead of ids"):
        TokenRecognizer(tmp_path, trust=True)


@pytest.mark.slow
def test_training_goes_on_where_it_was_stopped(asr_run, tmp_path):
    paths = (asr_run["data"], asr_run["cache"], tmp_path / "run")
    run(ASR, "train.py", *asr_arguments(*paths, number_of_epochs=2, dropout=0))
    first = logged(tmp_path / "run", "train loss")
    said = run(ASR, "train.py", *asr_arguments(*paths, number_of_epochs=3, dropout=0))
    losses = logged(tmp_path / "run", "train loss")
    assert losses[:2] == first and len(losses) == 3
    assert "Loading a checkpoint" in said
    # Optimizer, schedule and order of batches went on too: the same as a run that was never stopped.
    run(ASR, "train.py", *asr_arguments(*paths[:2], tmp_path / "whole", number_of_epochs=3, dropout=0))
    assert logged(tmp_path / "whole", "train loss") == pytest.approx(losses, rel=0.01)


def test_two_processes_train_together(asr_run, tmp_path):
    arguments = asr_arguments(asr_run["data"], asr_run["cache"], tmp_path / "run", number_of_epochs=1)
    run(ASR, "train.py", *arguments, "--distributed_backend=gloo", "--device=cpu", launcher=TORCHRUN)
    assert len(logged(tmp_path / "run", "test WER")) == 1


def test_too_few_utterances_for_the_processes_are_said(asr_run, tmp_path, monkeypatch):
    hparams = hparams_of(ASR, asr_arguments(*asr_run.values()), tmp_path)
    train = load(ASR / "train.py")
    units = SimpleNamespace(sp=None)
    batches = len(train.dataio_prepare(hparams, units)[3])
    monkeypatch.setenv("WORLD_SIZE", str(batches))
    with pytest.raises(ValueError, match=rf"train\.csv has 64 utterances in {batches} batches, too few for"):
        train.dataio_prepare(hparams, units)


def test_features_of_another_width_than_the_inputs_are_refused(asr_run, tmp_path):
    hparams = hparams_of(ASR, asr_arguments(*asr_run.values(), input_size=80), tmp_path)
    with pytest.raises(ValueError, match=r"`input_size` is 80; it must be None for inputs=ids\."):
        load(ASR / "train.py").dataio_prepare(hparams, SimpleNamespace(sp=None))


def test_a_refused_codec_leaves_no_trace_in_the_run(asr_run, tmp_path):
    arguments = asr_arguments(asr_run["data"], asr_run["cache"], tmp_path / "run", codec="l3ac-1k")
    with pytest.raises(AssertionError, match="give the codec that made them"):
        run(ASR, "train.py", *arguments)
    assert not (tmp_path / "run" / "save" / "codec.json").exists()


@pytest.mark.parametrize("token_type", ["bpe", pytest.param("unigram", marks=pytest.mark.slow)])
def test_units_can_be_parts_of_words(asr_run, tmp_path, token_type):
    paths = (asr_run["data"], asr_run["cache"], tmp_path / "run")
    run(ASR, "train.py", *asr_arguments(*paths, token_type=token_type, output_neurons=14, number_of_epochs=1))
    assert len(logged(tmp_path / "run", "test WER")) == 1
    assert (tmp_path / "run" / "save" / f"14_{token_type}.model").is_file()


def test_values_of_a_sweep_are_trained_once_and_stand_in_one_table(tmp_path, monkeypatch, capsys):
    sweep = load(ASR.parents[1] / "sweep.py")
    commands = []

    def train(command, check, stdout):
        commands.append(command)
        folder = Path(command[3].removeprefix("--output_folder="))
        log = "million parameters: 0.50\nepoch: 1 - valid WER: 60.00\nepoch: 2 - valid WER: 70.00\n"
        (folder / "train_log.txt").write_text(log)

    monkeypatch.setattr(sweep.subprocess, "run", train)
    asked = ["LibriSpeech/ASR", "lstm_small", "--key", "embedding", "--values", "codes", "table", "--runs"]
    for _ in range(2):
        sweep.main([*asked, str(tmp_path), "--", "--data_folder=CORPUS"])
        assert "| `table` | 0.50 | 2 | 0 | 60.00 | 70.00 |" in capsys.readouterr().out
    assert [command[4:] for command in commands] == [
        [f"--embedding={value}", "--data_folder=CORPUS"] for value in ("codes", "table")
    ]
    assert all(Path(part).is_file() for command in commands for part in command[1:3])


@pytest.mark.slow
def test_debugging_takes_a_few_batches(asr_run, tmp_path):
    run(ASR, "train.py", *asr_arguments(asr_run["data"], asr_run["cache"], tmp_path / "run"), "--debug")
    assert len(logged(tmp_path / "run", "train loss")) == 2


@pytest.mark.slow
def test_an_anchor_takes_the_place_of_the_ids(asr_run, tmp_path):
    cache = tmp_path / "cache"
    paths = (asr_run["data"], cache, tmp_path / "run")
    overrides = {"inputs": "pca_fsq", "input_size": 6, "number_of_epochs": 1}
    run(ASR, "anchors.py", *asr_arguments(*paths, **overrides))
    run(ASR, "train.py", *asr_arguments(*paths, **overrides))
    assert len(logged(tmp_path / "run", "test WER")) == 1


# ---------------------------------------------------------------------------------------------- speech


def test_the_voice_speaks_the_made_language(tts_run, asr_run):
    arguments = tts_arguments(*tts_run.values())
    said = run(TTS, "evaluate.py", *arguments, f"--recognizer=tokens:{asr_run['output']}", "--trust=True")
    folder = tts_run["output"] / "eval_test"
    results = json.loads((folder / "results.json").read_text())
    assert results["recognizer"] == "token ASR (run)"
    assert results["scores"]["generated"]["WER"] < 60
    assert set(results["scores"]) == {"generated", "codec", "recording"}
    assert results["scores"]["codec"]["dWER"] >= 0
    names = [row.ID for row in read_manifest(tts_run["cache"] / "test.csv")]
    assert results["clips"] == len(names)
    page = (folder / "index.html").read_text()
    for name in names:
        for kind in ("generated", "codec", "recording"):
            audio, rate = soundfile.read(folder / "clips" / f"{name}_{kind}.flac")
            assert rate == 16_000 and len(audio) > 0
            assert f'src="clips/{name}_{kind}.flac"' in page
        assert (folder / "clips" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f'src="clips/{name}.png"' in page
    assert "Listen: " in said


def test_training_writes_samples_and_the_loss_falls(tts_run):
    nats = logged(tts_run["output"], "valid nats")
    assert nats[-1] < 0.3 * nats[0]
    samples = list((tts_run["output"] / "samples").glob("epoch_045/*.flac"))
    assert len(samples) == len(read_manifest(tts_run["cache"] / "valid.csv"))


@pytest.mark.slow
def test_a_voice_goes_on_where_it_was_stopped(tts_run, tmp_path):
    still = {name: 0 for name in ("transformer_dropout", "target_dropout", "id_jitter", "id_drop", "samples_interval")}
    paths = (tts_run["data"], tts_run["cache"])
    run(TTS, "train.py", *tts_arguments(*paths, tmp_path / "run", number_of_epochs=1, **still))
    first = logged(tmp_path / "run", "train loss")
    said = run(TTS, "train.py", *tts_arguments(*paths, tmp_path / "run", number_of_epochs=2, **still))
    losses = logged(tmp_path / "run", "train loss")
    assert losses[:1] == first and len(losses) == 2
    assert "Loading a checkpoint" in said
    run(TTS, "train.py", *tts_arguments(*paths, tmp_path / "whole", number_of_epochs=2, **still))
    assert logged(tmp_path / "whole", "train loss") == pytest.approx(losses, rel=0.01)


@pytest.mark.slow
def test_two_processes_train_a_voice_together(tts_run, tmp_path):
    arguments = tts_arguments(tts_run["data"], tts_run["cache"], tmp_path / "run", number_of_epochs=1)
    run(TTS, "train.py", *arguments, "--distributed_backend=gloo", "--device=cpu", launcher=TORCHRUN)
    assert len(logged(tmp_path / "run", "valid nats")) == 1


def test_texts_of_which_the_alphabet_has_nothing_are_counted_and_skipped(tts_run, tmp_path, caplog):
    rows = read_manifest(tts_run["cache"] / "train.csv")
    write_manifest(tmp_path / "train.csv", [replace(rows[0], wrd="1984"), *rows[1:]])
    arguments = tts_arguments(*tts_run.values(), train_csv=tmp_path / "train.csv")
    with caplog.at_level(logging.WARNING):
        datasets = load(TTS / "train.py").dataio_prepare(hparams_of(TTS, arguments, tmp_path))
    assert len(datasets["train"]) == len(rows) - 1
    assert f"skipped 1 of {len(rows)} texts without any character of the alphabet" in caplog.text


def test_clips_that_are_looked_at_are_drawn_from_all():
    some_of = load(TTS / "train.py").some_of
    assert some_of(5, None, 1) == some_of(5, 9, 1) == [0, 1, 2, 3, 4]
    numbers = some_of(100, 10, 1)
    assert len(set(numbers)) == 10 and max(numbers) > 50
    assert numbers == some_of(100, 10, 1) != some_of(100, 10, 2)


def test_too_few_clips_for_a_batch_are_said(tts_run, tmp_path):
    hparams = hparams_of(TTS, tts_arguments(*tts_run.values(), batch_size=1000), tmp_path)
    with pytest.raises(ValueError, match=r"a step of all processes needs 1000: give more clips"):
        load(TTS / "train.py").dataio_prepare(hparams)
