"""Names in data never lead out of a corpus, out of an output folder, or to a model that the user did not name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Dataset
from networks import tiny

from l3ac_tokenizer.audio import AudioSegment
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.cli.paths import plan_jobs
from l3ac_tokenizer.container import Header, write_l3ac
from l3ac_tokenizer.evaluation.dataset import EvaluationClip, open_data
from l3ac_tokenizer.evaluation.run import audio_path
from l3ac_tokenizer.listing.layouts import read_layout
from l3ac_tokenizer.names import OutsideError, file_within, path_component
from l3ac_tokenizer.tokenization import open_source
from l3ac_tokenizer.tokenization.dataset import tokenize_dataset
from l3ac_tokenizer.tokenization.sources.audio_folder import FileSource
from l3ac_tokenizer.tokenization.sources.datasets import HubSource
from l3ac_tokenizer.training.data.readers import find_clips

HOSTILE = [
    *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "~", "a\0b", "a b", "a\nb", "$(x)", "CON:"),
    *("é" * 400, "x" * 300, "\udc80", "a_b~0123456789abcdef", path_component("a/b"), path_component("a_b/")),
]
PLAIN = ["a_b", "spk1-2-3", "a.b", "é", "l3ac-1k@frozen", "facebook--encodec_24khz@1.5"]


def test_a_component_is_bounded_stays_in_its_folder_and_is_unique():
    components = [path_component(name) for name in [*HOSTILE, *PLAIN]]
    assert len(set(components)) == len(components)
    for component in components:
        assert Path("x", component).resolve().parent == Path("x").resolve(), component
        assert len(component.encode()) <= 200 and not component.startswith(".") and component.isprintable()
        assert not set(component) & set("/\\\0 \n:$")


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_name_is_its_own_component(name):
    assert path_component(name) == name


@pytest.mark.parametrize("dataset", HOSTILE)
def test_evaluation_writes_below_its_folder(tmp_path, dataset):
    for codec, name in (("a", dataset), (dataset or "a", "clip")):
        path = audio_path(tmp_path / "out", codec, EvaluationClip(dataset, name, "speech", b""))
        assert path.resolve().is_relative_to(tmp_path / "out" / "audio") and path.parent.parent.name == "samples"


def test_data_sets_that_differ_have_folders_that_differ(tmp_path):
    clips = [EvaluationClip(*pair, "speech", b"") for pair in (("a/b", "c"), ("a_b", "c"), ("a", "b/c"), ("a", "b_c"))]
    assert len({audio_path(tmp_path, "x", clip) for clip in clips}) == len(clips)


# ---------------------------------------------------------------------------------------------- what a corpus reads


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(4000) / 9), 16_000)
    return path


def paths_of(source, folder: Path) -> Iterator[str]:
    for record in source.records(0, len(source)):
        audio = record.audio.path if isinstance(record.audio, AudioSegment) else record.audio
        audio = audio.get("path") if isinstance(audio, dict) else audio
        if record.error is None and isinstance(audio, str):
            yield os.path.join(folder, audio)


def manifest(folder: Path, secret: str, **options) -> Iterator[str]:
    lines = [json.dumps({"path": path}) for path in ("own.wav", secret)]
    (folder / "m.jsonl").write_text("\n".join(lines))
    return paths_of(open_source(str(folder / "m.jsonl"), **options), folder)


def segments(folder: Path, secret: str, **options) -> Iterator[str]:
    (folder / "m.csv").write_text(f"path,start,seconds\nown.wav,0,0.1\n{secret},0,0.1\n")
    return paths_of(open_source(str(folder / "m.csv"), **options), folder)


def parquet(folder: Path, secret: str, **options) -> Iterator[str]:
    pq.write_table(pa.table({"audio": ["own.wav", secret]}), folder / "p.parquet")
    return paths_of(open_source(str(folder / "p.parquet"), **options), folder)


def parquet_in_a_folder(folder: Path, secret: str, **options) -> Iterator[str]:
    rows = [{"bytes": None, "path": path} for path in ("own.wav", secret)]
    pq.write_table(pa.table({"audio": rows}), folder / "p.parquet")
    return paths_of(open_source(str(folder), kind="parquet", **options), folder)


def hub(folder: Path, secret: str, **options) -> Iterator[str]:
    dataset = Dataset.from_dict({"audio": [str(folder / secret)]})
    return paths_of(HubSource(dataset, "someone/speech", **options), folder)


def hub_structs(folder: Path, secret: str, **options) -> Iterator[str]:
    dataset = Dataset.from_dict({"audio": [{"path": str(folder / secret), "bytes": None}]})
    return paths_of(HubSource(dataset, "someone/speech", **options), folder)


def evaluation(folder: Path, secret: str, **options) -> Iterator[str]:
    lines = [json.dumps({"path": path}) for path in ("own.wav", secret)]
    (folder / "m.jsonl").write_text("\n".join(lines))
    clips = open_data([str(folder / "m.jsonl")], **options).clips
    return (clip.source for clip in clips if clip.error is None and isinstance(clip.source, str))


def speechbrain(folder: Path, secret: str, **options) -> Iterator[str]:
    rows = [{"id": path, "path": path} for path in ("own.wav", secret)]
    return paths_of(FileSource("SpeechBrain manifests", str(folder), rows, **options), folder)


def training(folder: Path, **options) -> Iterator[str]:
    return (clip.path for clip in find_clips([folder], domains=[], default_domain="speech", **options))


def training_manifest(folder: Path, secret: str, **options) -> Iterator[str]:
    (folder / "m.csv").write_text(f"path\nown.wav\n{secret}\n")
    return training(folder / "m.csv", **options)


def training_common_voice(folder: Path, secret: str, **options) -> Iterator[str]:
    write(folder / "clips/own.wav")
    (folder / "train.tsv").write_text(f"path\nown.wav\n{os.path.join('..', secret)}\n")
    return training(folder, **options)


def training_fsd50k(folder: Path, secret: str, **options) -> Iterator[str]:
    write(folder / "FSD50K.dev_audio/own.wav")
    (folder / "FSD50K.ground_truth").mkdir()
    stem = os.path.splitext(os.path.join("..", secret))[0]
    (folder / "FSD50K.ground_truth/dev.csv").write_text(f"fname,split\nown,train\n{stem},train\n")
    return training(folder, **options)


def training_jamendo(folder: Path, secret: str, **options) -> Iterator[str]:
    write(folder / "00/own.wav")
    (folder / "autotagging-train.tsv").write_text(f"PATH\tDURATION\n00/own.wav\t1\n{secret}\t1\n")
    return training(folder, **options)


NAMING = [
    *(manifest, segments, parquet, parquet_in_a_folder, hub, hub_structs, evaluation, speechbrain),
    *(training_manifest, training_common_voice, training_fsd50k, training_jamendo),
]
"""Entrances that take paths from data: a folder and a path in it → the files that they would read."""


def absolute(folder: Path, secret: Path) -> str:
    return str(secret)


def relative(folder: Path, secret: Path) -> str:
    return os.path.relpath(secret, folder)


def link(folder: Path, secret: Path) -> str:
    (folder / "link.wav").symlink_to(secret)
    return "link.wav"


def linked_folder(folder: Path, secret: Path) -> str:
    (folder / "linked").symlink_to(secret.parent)
    return f"linked/{secret.name}"


REFERENCES = [absolute, relative, link, linked_folder]


@pytest.fixture
def corpus(tmp_path) -> tuple[Path, Path]:
    """A folder with a clip of its own, and a clip elsewhere that it must not read."""
    write(tmp_path / "corpus/own.wav")
    return tmp_path / "corpus", write(tmp_path / "private/secret.wav")


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("entrance", NAMING)
def test_paths_in_data_name_files_of_the_corpus_only(corpus, entrance, reference):
    folder, secret = corpus
    named = reference(folder, secret)
    read = [os.path.realpath(path) for path in entrance(folder, named)]
    assert str(secret) not in read and (read or entrance in (hub, hub_structs))


@pytest.mark.parametrize("entrance", NAMING)
def test_paths_outside_are_read_where_they_are_allowed(corpus, entrance):
    folder, secret = corpus
    read = [os.path.realpath(path) for path in entrance(folder, relative(folder, secret), allow_outside=True)]
    assert str(secret) in read


LISTING: list[Callable[..., Iterator[str]]] = [
    lambda folder, **options: paths_of(open_source(str(folder), **options), folder),
    lambda folder, **options: (job.source for job in plan_jobs([str(folder)], "out/", None, [".l3ac"], **options)),
    lambda folder, **options: training(folder, **options),
    lambda folder, **options: (clip.source for clip in open_data([str(folder)], **options).clips),
]
"""Entrances that list a folder."""


@pytest.mark.parametrize("reference", [link, linked_folder])
@pytest.mark.parametrize("entrance", LISTING)
def test_links_that_lead_out_of_a_folder_are_left_out(corpus, entrance, reference):
    folder, secret = corpus
    reference(folder, secret)
    assert {os.path.realpath(path) for path in entrance(folder)} == {str(folder / "own.wav")}
    assert str(secret) in {os.path.realpath(path) for path in entrance(folder, allow_outside=True)}


def vctk(folder: Path, secret: Path) -> None:
    write(folder / "wav48/p1/p1_1.wav")
    (folder / "txt/p1").mkdir(parents=True)
    (folder / "txt/p1/p1_1.txt").symlink_to(secret)


def librispeech(folder: Path, secret: Path) -> None:
    write(folder / "1/1/1-1-1.wav")
    (folder / "1/1/1-1.trans.txt").symlink_to(secret)


def ljspeech(folder: Path, secret: Path) -> None:
    write(folder / "wavs/x.wav")
    (folder / "metadata.csv").symlink_to(secret)


def common_voice(folder: Path, secret: Path) -> None:
    write(folder / "clips/x.wav")
    (folder / "x.tsv").symlink_to(secret)


@pytest.mark.parametrize("layout", [vctk, librispeech, ljspeech, common_voice])
def test_transcripts_are_not_read_through_links_that_lead_out(tmp_path, layout):
    secret = tmp_path / "secret"
    secret.write_text("path\tsentence\nx.wav\tprivate\n1-1-1 private\nx|private|private\n")
    layout(tmp_path / "corpus", secret)
    assert "private" not in str([file.text for file in read_layout(tmp_path / "corpus").files])


def test_rows_of_a_dataset_do_not_name_files_of_the_user(corpus, caplog):
    folder, secret = corpus
    dataset = Dataset.from_dict({"audio": [(folder / "own.wav").read_bytes(), b""]})
    assert len(tokenize_dataset(dataset, tiny("tiny"))) == 1
    assert len(tokenize_dataset(Dataset.from_dict({"audio": [str(secret)]}), tiny("tiny"))) == 0
    assert "allow_outside=True" in caplog.text


def test_a_list_of_which_all_lies_outside_is_refused_with_the_option(corpus):
    folder, secret = corpus
    (folder / "m.csv").write_text(f"path\n{secret}\n")
    for read in (lambda: open_source(str(folder / "m.csv")), lambda: list(training(folder / "m.csv"))):
        with pytest.raises(ValueError, match="--allow-outside"):
            read()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\0b", "/"])
def test_a_file_within_a_folder_is_nowhere_else(tmp_path, path):
    with pytest.raises(OutsideError):
        file_within(path, tmp_path)


# ---------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("name", ["model", "./model", "l3ac-1k-light", "l3ac-3k", "\x1b[2J"])
def test_a_file_loads_no_directory_that_it_names(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    model = tiny("tiny")
    for folder in ("model", "l3ac-1k-light", "l3ac-3k"):
        model.save_pretrained(tmp_path / folder)
    config = model.config
    header = Header(name, model.weights_digest(), config.levels, config.sampling_rate, config.hop_length, 1)
    write_l3ac(tmp_path / "a.l3ac", header, np.zeros(1, np.int64))
    assert main(["decode", "a.l3ac", "-o", "a.wav"]) == 1
    assert "--model" in capsys.readouterr().err and not (tmp_path / "a.wav").exists()
    assert main(["decode", "a.l3ac", "-o", "a.wav", "--model", "model"]) == 0
