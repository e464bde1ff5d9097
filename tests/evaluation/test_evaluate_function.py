"""`l3ac_tokenizer.evaluate`: the table of the command as a value, of models and data in any form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile
from networks import speech_like, tiny

from l3ac_tokenizer import EvaluationResult, L3ACModel, evaluate
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.evaluation import run

pytest.importorskip("pesq", reason="comes with the extra `eval`")
datasets = pytest.importorskip("datasets", reason="comes with the extra `data`")

RATE = 16_000
CLIPS = [speech_like(RATE, seed).numpy() for seed in range(2)]
METRICS = ["stoi", "sdr", "mel_distance", "changed_by_noise"]


@pytest.fixture(scope="module", autouse=True)
def _no_macs():
    """Ten seconds through a network of hop 12 take longer than all the rest."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "count_macs", lambda codec: None)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A checkpoint and two clips as files, in lossless floats."""
    root = tmp_path_factory.mktemp("evaluation")
    (root / "clips").mkdir()
    for number, clip in enumerate(CLIPS):
        soundfile.write(root / "clips" / f"{number}.wav", clip, RATE, subtype="FLOAT")
    tiny("tiny").save_pretrained(root / "tiny")
    return root


@pytest.fixture(scope="module")
def model(root) -> L3ACModel:
    return L3ACModel.from_pretrained(root / "tiny").eval()


@pytest.fixture(scope="module")
def result(root, model) -> EvaluationResult:
    return evaluate(model, root / "clips")


def test_it_is_the_table_that_the_command_writes(root, result, tmp_path):
    assert main(["evaluate", str(root / "clips"), "-o", str(tmp_path), "--codec", str(root / "tiny")]) == 0
    assert str(result) == (tmp_path / "table.md").read_text("utf-8")
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert json.loads(json.dumps(result.summary)) == summary
    written = pandas.read_csv(tmp_path / "clips.csv")
    ours = result.clips_to_pandas()
    assert list(ours.columns) == list(written.columns)
    np.testing.assert_allclose(ours[METRICS].to_numpy(float), written[METRICS].to_numpy(float))


def test_to_pandas_has_a_row_for_each_codec_and_data_set(root, model):
    table = evaluate([model, "original"], root / "clips", consistency=False).to_pandas()
    assert table["codec"].tolist() == ["tiny", "original"]
    assert table["dataset"].tolist() == ["clips", "clips"] and table["clips"].tolist() == [2, 2]
    assert table["failures"].tolist() == [0, 0]
    assert table["stoi"][1] == pytest.approx(1) and table["stoi"][0] < 0.9
    assert "changed_by_noise" not in table.columns


def forms(root: Path) -> dict[str, object]:
    encoded = [{"bytes": (root / "clips" / f"{number}.wav").read_bytes(), "path": None} for number in range(2)]
    rows = datasets.Dataset.from_dict({"audio": encoded})
    return {
        "arrays": [(clip, RATE) for clip in CLIPS],
        "arrays with text": [(clip.astype(np.float64), RATE, "hello") for clip in CLIPS],
        "a generator": ((clip, RATE) for clip in CLIPS),
        "a list of folders": [str(root / "clips")],
        "a Dataset": rows.cast_column("audio", datasets.Audio(decode=False)),
        "a Dataset of samples": datasets.Dataset.from_dict({"audio": CLIPS, "sampling_rate": [RATE] * 2}),
    }


@pytest.mark.parametrize("form", ["arrays", "arrays with text", "a generator", "a list of folders"])
def test_data_in_memory_give_the_figures_of_the_files(root, model, result, form):
    other = evaluate(model, forms(root)[form])
    np.testing.assert_array_equal(other.to_pandas()[METRICS], result.to_pandas()[METRICS])


@pytest.mark.parametrize("form", ["a Dataset", "a Dataset of samples"])
def test_a_dataset_gives_the_figures_of_the_files(root, model, result, form):
    other = evaluate(model, forms(root)[form])
    np.testing.assert_array_equal(other.to_pandas()[METRICS], result.to_pandas()[METRICS])


def test_nothing_is_left_on_disk_unless_a_folder_is_given(root, model, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    evaluate(model, [(CLIPS[0], RATE)], consistency=False)
    assert not [*(tmp_path / "here").rglob("*"), *(tmp_path / "scratch").rglob("*")]
    evaluate(model, [(CLIPS[0], RATE)], tmp_path / "results", consistency=False)
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert {"clips.csv", "summary.json", "table.md", "index.html", "audio"} <= names


def test_models_of_one_origin_are_numbered(root, model):
    other = L3ACModel.from_pretrained(root / "tiny").eval()
    table = evaluate([str(root / "tiny"), model, other], [(CLIPS[0], RATE)], consistency=False).to_pandas()
    assert table["codec"].tolist() == ["tiny", "tiny (2)", "tiny (3)"]


def test_a_codec_that_is_missing_is_a_row_of_the_table_and_alone_an_error(model):
    data = [(CLIPS[0], RATE)]
    with pytest.raises(ValueError, match="nobody/no-codec: no such directory"):
        evaluate("nobody/no-codec", data)
    result = evaluate([model, "nobody/no-codec"], data, consistency=False)
    assert "| nobody/no-codec |" in str(result) and len(result.to_pandas()) == 1


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ([], TypeError, "hold nothing"),
        (5, TypeError, "the data are int"),
        ([5], TypeError, "item 0 of the data is int"),
        ([(np.zeros(5), RATE, "text", "more")], TypeError, "item 0 of the data is tuple"),
        ("nowhere/", OSError, "no file or folder nowhere/"),
    ],
)
def test_data_in_no_form_are_refused(model, data, error, words):
    with pytest.raises(error, match=words):
        evaluate(model, data)


def test_an_array_of_two_channels_is_a_failure_with_its_reason(model):
    result = evaluate(model, [(CLIPS[0], RATE), (np.zeros((9, 2)), RATE)], consistency=False)
    (dataset,) = result.summary["codecs"][0]["datasets"].values()
    assert dataset["clips"] == 1
    assert "clip 1 has the shape (9, 2): give one channel" in dataset["failures"][0]["reason"]


def test_wrong_arguments_are_refused_before_anything_is_measured(model, monkeypatch):
    data = [(CLIPS[0], RATE)]
    monkeypatch.setattr(run.ClipScorer, "__call__", None)
    with pytest.raises(TypeError, match="no argument 'wer'; further metrics are asr"):
        evaluate(model, data, wer="whisper")
    with pytest.raises(ValueError, match="`jobs` is above 1"):
        evaluate(model, data, jobs=2)
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        evaluate(L3ACModel(model.config).train(), data)
