"""`l3ac evaluate`: every clip is measured or counted, runs resume, and the files hold the results."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import speech_like, tiny, tiny_streams

from l3ac_tokenizer import L3ACModel, metrics
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.evaluation.dataset import open_data
from l3ac_tokenizer.evaluation.scorers.registry import requested_scorers
from l3ac_tokenizer.evaluation.standard import standard_codecs, standard_scorers

pytest.importorskip("pesq", reason="comes with the extra `eval`")
pytest.importorskip("pyarrow", reason="comes with the extra `data`")

pytestmark = pytest.mark.usefixtures("short_count")

RATE = 16_000


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Clips with a corrupt and a silent file among them, and a checkpoint of either family."""
    root = tmp_path_factory.mktemp("evaluation")
    for number in range(3):
        write(root / "speech" / f"{number}.wav", speech_like(RATE, seed=number).numpy())
    write(root / "speech" / "silent.wav", np.zeros(RATE))
    (root / "speech" / "broken.wav").write_bytes(b"not audio")
    write(root / "music" / "deep" / "noise.flac", 0.1 * np.random.default_rng(0).standard_normal(RATE).clip(-5, 5))
    torch.manual_seed(0)
    tiny("tiny").save_pretrained(root / "tiny")
    tiny_streams().save_pretrained(root / "streams")
    return root


def write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


def evaluate(root: Path, output: Path, *options: object) -> tuple[int, dict]:
    data = [str(root / "speech"), str(root / "music")]
    status = main(["evaluate", *data, "-o", str(output), *map(str, options)])
    summary = output / "summary.json"
    return status, json.loads(summary.read_text()) if summary.exists() else {}


@pytest.fixture(scope="module")
def results(root) -> tuple[Path, dict]:
    codecs = ("tiny", "opus", "original", "nobody/no-codec", "streams")
    names = [str(root / name) if (root / name).is_dir() else name for name in codecs]
    output = root / "results"
    status, summary = evaluate(root, output, *(word for name in names for word in ("--codec", name)))
    assert status == 0
    return output, summary


def test_every_clip_is_measured_or_counted(results):
    _, summary = results
    assert summary["datasets"]["speech"] == {"domain": "speech", "clips": 5, "seconds": 4.0, "truncated": []}
    assert summary["datasets"]["music"]["domain"] == "audio"
    for codec in (summary["codecs"][number] for number in (0, 1, 2, 4)):
        speech = codec["datasets"]["speech"]
        assert speech["clips"] == 3
        assert speech["failed"]["not readable"] == 1 and speech["failed"]["silent"] == 1
        reasons = {failure["clip"]: failure["reason"] for failure in speech["failures"]}
        assert "broken.wav is not audio" in reasons["speech/broken"] and "silent" in reasons["speech/silent"]
        for name, mean in speech["values"].items():
            missing = speech["failed"].get(summary["metrics"][name]["title"], 0)
            if mean["count"]:
                assert mean["count"] + missing == 3, name


def test_ids_of_taae_are_counted_codebook_by_codebook(results):
    _, summary = results
    ids = summary["codecs"][4]["datasets"]["speech"]["ids"]
    assert [book["size"] for book in ids["codebooks"]] == [27, 27] and ids["levels"] == []
    rates = ids["bits_per_second"]
    assert rates["nominal"] == pytest.approx(2 * np.log2(27) * RATE / 12)
    assert 0 < rates["entropy"] <= rates["huffman"] <= rates["whole_bits"]


def test_an_unavailable_codec_keeps_its_row(results):
    output, summary = results
    assert "no such model" in summary["codecs"][3]["unavailable"]
    lines = [line for line in (output / "table.md").read_text().splitlines() if line.startswith("| nobody/no-codec")]
    assert len(lines) == 2 and all("not available: no such directory exists" in line for line in lines)


def test_values_are_those_of_the_metrics(root, results):
    output, summary = results
    clip = speech_like(RATE, seed=0).numpy()
    reference = soundfile.read(root / "speech" / "0.wav", dtype="float32")[0]
    np.testing.assert_allclose(reference, clip, atol=1e-4)
    model = L3ACModel.from_pretrained(root / "tiny").eval()
    with torch.inference_mode():
        decoded = model(torch.from_numpy(reference)[None, None]).audio_values[0, 0].numpy()
    with open(output / "clips.csv", newline="") as file:
        rows = {(row["codec"], row["clip"]): row for row in csv.DictReader(file)}
    row = rows["tiny", "speech/0"]
    assert float(row["stoi"]) == pytest.approx(metrics.stoi(reference, decoded, RATE), abs=1e-4)
    assert float(row["mel_distance"]) == pytest.approx(metrics.mel_distance(reference, decoded, RATE), rel=1e-3)
    assert float(row["bits"]) == pytest.approx(np.ceil(RATE / 12) * np.log2(45))
    assert rows["opus", "music/deep/noise"]["stoi"] == ""  # Codec-SUPERB takes it of speech alone
    assert float(rows["original", "speech/0"]["mel_distance"]) == pytest.approx(0, abs=1e-12)
    values = [float(rows["tiny", f"speech/{number}"]["stoi"]) for number in range(3)]
    found = summary["codecs"][0]["datasets"]["speech"]["values"]["stoi"]
    assert found["mean"] == pytest.approx(np.mean(values)) and found["count"] == 3
    assert found["interval"][0] <= found["mean"] <= found["interval"][1]


def test_files_hold_what_the_summary_says(results):
    import pyarrow.parquet as pq

    output, summary = results
    table = (output / "table.md").read_text()
    mean = summary["codecs"][1]["domains"]["speech"]["values"]["pesq_wb"]
    assert f"{mean['mean']:.2f} [{mean['interval'][0]:.2f}, {mean['interval'][1]:.2f}]" in table
    assert pq.read_table(output / "clips.parquet").num_rows == 4 * 6
    ids = summary["codecs"][0]["datasets"]["speech"]["ids"]
    assert ids["count"] == 3 * int(np.ceil(RATE / 12))
    assert [level["size"] for level in ids["levels"]] == [5, 3, 3]
    page = (output / "index.html").read_text()
    assert page.count("<audio") >= 3 and page.count('class="sortable"') == 2
    assert all((output / name).stat().st_size > 10_000 for name in ("chart.png", "chart.svg", "spectrograms.png"))
    assert summary["seed"] == 0 and summary["versions"]["torch"] == torch.__version__


def test_the_standard_table_is_written_with_what_can_be_had(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("l3ac_tokenizer.evaluation.standard.STANDARD_SCORERS", {"mos": ("utmos",)})
    monkeypatch.setitem(sys.modules, "utmos_pytorch", None)
    codecs = ("--codec", root / "tiny", "--codec", "nobody/no-codec")
    status, summary = evaluate(root, tmp_path / "out", "--standard", "--no-consistency", *codecs)
    assert status == 0 and summary["options"]["scorers"] == []
    assert "utmos is not available: utmos needs the package utmos_pytorch" in capsys.readouterr().err
    with open(tmp_path / "out" / "standard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["dataset"], row["codec"]) for row in rows] == [
        (dataset, codec) for dataset in ("speech", "music") for codec in ("tiny", "nobody/no-codec")
    ]
    speech = summary["codecs"][0]["datasets"]["speech"]
    assert float(rows[0]["stoi"]) == speech["values"]["stoi"]["mean"] and float(rows[0]["rtf_encode"]) > 0
    assert "no such model" in rows[1]["unavailable"] and rows[1]["stoi"] == rows[2]["stoi"] == ""
    assert json.loads((tmp_path / "out" / "standard.json").read_text())[0]["codec"] == "tiny"
    assert "Standard table, speech" in (tmp_path / "out" / "index.html").read_text()


def test_the_standard_table_names_every_codec_and_scorer_that_people_expect():
    names = " ".join(standard_codecs()).lower()
    for codec in ("l3ac-1k-light", "opus", "codec2", "original", "encodec", "dac", "mimi", "xcodec2", "neucodec"):
        assert codec in names
    assert "wavtokenizer" in names
    asked = requested_scorers(standard_scorers({"asr": "openai/whisper-small", "mos": None}))
    assert asked == (("speaker", "resemblyzer"), ("mos", "utmos"), ("mos", "distillmos"), ("f0", "pyin"))


def test_examples_lie_where_other_tools_look(results):
    output, _ = results
    for codec in ("tiny", "opus", "original"):
        folder = output / "audio" / codec
        lines = (folder / "wav.scp").read_text().splitlines()
        paths = [Path(line.split(" ", 1)[1]) for line in lines]
        assert paths and all(soundfile.info(path).samplerate == RATE for path in paths)
        assert all(path.is_relative_to(folder / "samples") for path in paths)


def test_an_interrupted_run_resumes(root, tmp_path, capsys):
    arguments = ("--codec", root / "tiny", "--codec", "opus", "--no-consistency")
    _, whole = evaluate(root, tmp_path / "run", *arguments)
    log = tmp_path / "run" / "clips.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 * 6
    log.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # killed while it wrote

    status, _ = evaluate(root, tmp_path / "run", *arguments)
    assert status == 1 and "--resume" in capsys.readouterr().err
    status, again = evaluate(root, tmp_path / "run", *arguments, "--resume")
    assert status == 0 and again == whole
    assert len(log.read_bytes().splitlines()) == 12

    status, _ = evaluate(root, tmp_path / "run", "--codec", "opus", "--resume")  # with consistency of ids
    assert status == 1 and "other settings" in capsys.readouterr().err


def test_rows_of_other_weights_are_made_again(root, tmp_path):
    arguments = ("--codec", tmp_path / "model", "--no-consistency", "--limit", 1)
    model = L3ACModel.from_pretrained(root / "tiny")
    model.save_pretrained(tmp_path / "model")
    _, before = evaluate(root, tmp_path / "run", *arguments)
    with torch.no_grad():
        model.quantizer.project_in.bias.add_(0.3)
    model.save_pretrained(tmp_path / "model")
    _, after = evaluate(root, tmp_path / "run", *arguments, "--resume")
    values = [run["codecs"][0]["datasets"]["music"]["values"]["mel_distance"]["mean"] for run in (before, after)]
    assert values[0] != values[1]


@pytest.mark.slow
def test_several_processes_give_the_same(root, tmp_path):
    arguments = ("--codec", root / "tiny", "--codec", "opus")
    _, alone = evaluate(root, tmp_path / "one", *arguments)
    _, together = evaluate(root, tmp_path / "two", *arguments, "--jobs", 2)
    assert alone["codecs"] == together["codecs"]


def test_manifests_name_data_sets_domains_and_labels(root, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "path,dataset,domain,text,speaker\n"
        f"{root}/speech/0.wav,read,speech,GOOD DAY,ann\n"
        f"{root}/music/deep/noise.flac,hall,audio,,\n"
    )
    data = open_data([str(manifest)], allow_outside=True)
    assert data.domains == {"read": "speech", "hall": "audio"}
    assert data.clips[0].labels == {"text": "GOOD DAY", "speaker": "ann"} and data.clips[1].labels == {}


def test_the_domain_of_a_folder_can_be_given(root):
    assert open_data([str(root / "music")]).domains == {"music": "audio"}
    assert open_data([f"speech={root / 'music'}"]).domains == {"music": "speech"}
    data = open_data([str(root / "speech"), str(root / "music")], limit=2)
    assert [clip.dataset for clip in data.clips] == ["speech", "speech", "music"]


def test_invalid_data_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="two corpora are called speech"):
        open_data([str(root / "speech"), str(root / "speech")])
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"path,domain\n{root}/speech/0.wav,poetry\n")
    with pytest.raises(ValueError, match=r"'poetry': write speech or audio"):
        open_data([str(manifest)], allow_outside=True)


def test_nothing_measured_is_a_failure(root, tmp_path, capsys):
    status, summary = evaluate(root, tmp_path / "run", "--codec", "nobody/no-codec", "--limit", 1)
    assert status == 1 and summary["codecs"][0]["unavailable"]
    assert "not available" in capsys.readouterr().out
