"""Datasets are recognized by their layouts, and only the requested parts are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from l3ac_tokenizer.training.data.corpus import DataError, TrainingClip
from l3ac_tokenizer.training.data.readers import find_clips


def find(root: Path, **options) -> list[TrainingClip]:
    return find_clips([root], **({"domains": [], "default_domain": "speech"} | options))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def relative(root: Path, clips: list[TrainingClip]) -> list[str]:
    return [Path(clip.path).relative_to(root).as_posix() for clip in clips]


def test_librispeech(tmp_path):
    touch(
        tmp_path,
        "train-clean-100/1/2/1-2-0.flac",
        "train-clean-360/3/4/3-4-0.flac",
        "train-clean-100/1/2/1-2.trans.txt",
    )
    touch(tmp_path, "dev-clean/5/6/5-6-0.flac", "test-clean/7/8/7-8-0.flac", "train-other-500/9/9/9-9-0.flac")
    assert relative(tmp_path, find(tmp_path)) == ["train-clean-100/1/2/1-2-0.flac", "train-clean-360/3/4/3-4-0.flac"]
    assert {clip.domain for clip in find(tmp_path)} == {"librispeech"}
    assert relative(tmp_path, find(tmp_path, training=False)) == ["dev-clean/5/6/5-6-0.flac"]


def test_common_voice_is_read_by_header(tmp_path):
    touch(tmp_path, "clips/a.mp3", "clips/b.mp3", "clips/not_listed.mp3")
    (tmp_path / "train.tsv").write_text('client_id\tsentence\tpath\tlocale\nx\tsaid "so\ta.mp3\ten\n')
    (tmp_path / "dev.tsv").write_text("path\tclient_id\nb.mp3\ty\n")
    assert relative(tmp_path, find(tmp_path)) == ["clips/a.mp3"]
    assert relative(tmp_path, find(tmp_path, training=False)) == ["clips/b.mp3"]
    (tmp_path / "train.tsv").write_text("client_id\tfile\nx\ta.mp3\n")
    with pytest.raises(DataError, match="has no column 'path'"):
        find(tmp_path)


@pytest.mark.parametrize(("suffix", "home"), [(".mp3", "."), (".low.mp3", "data/splits/split-0")])
def test_mtg_jamendo_tracks_are_cut_into_segments(tmp_path, suffix, home):
    touch(tmp_path, f"audio/00/100{suffix}", f"audio/07/207{suffix}", f"audio/00/300{suffix}")
    (tmp_path / home).mkdir(parents=True, exist_ok=True)
    table = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
    table += "t1\ta1\tb1\t00/100.mp3\t50.0\tgenre---rock\tmood---dark\nt2\ta2\tb2\t07/207.mp3\t26.5\tgenre---jazz\n"
    (tmp_path / home / "autotagging-train.tsv").write_text(table)
    clips = find(tmp_path)
    assert relative(tmp_path, clips) == [f"audio/00/100{suffix}"] * 2 + [f"audio/07/207{suffix}"] * 2
    assert [(clip.start, clip.seconds) for clip in clips] == [(0, 25), (25, 25)] * 2
    with pytest.raises(OSError, match="autotagging-validation"):
        find(tmp_path, training=False)


def test_fsd50k_is_split_by_its_table(tmp_path):
    touch(tmp_path, *(f"FSD50K.dev_audio/{number}.wav" for number in (1, 2, 3)), "FSD50K.eval_audio/4.wav")
    assert len(find(tmp_path)) == 3
    with pytest.raises(DataError, match=r"dev\.csv is missing, which states the validation part of FSD50K"):
        find(tmp_path, training=False)
    (tmp_path / "FSD50K.ground_truth").mkdir()
    table = 'fname,labels,mids,split\n1,"Bark,Dog","/m/05tny_,/m/0bt9lr",train\n'
    table += "2,Bell,/m/0395lw,val\n3,Rain,/m/06mb1,train\n"
    (tmp_path / "FSD50K.ground_truth/dev.csv").write_text(table)
    assert relative(tmp_path, find(tmp_path)) == ["FSD50K.dev_audio/1.wav", "FSD50K.dev_audio/3.wav"]
    assert relative(tmp_path, find(tmp_path, training=False)) == ["FSD50K.dev_audio/2.wav"]


def test_the_test_split_of_fsd50k_is_not_taken(tmp_path):
    touch(tmp_path, "FSD50K.eval_audio/4.wav")
    for training in (True, False):
        with pytest.raises(DataError, match="read as fsd50k, has no audio"):
            find(tmp_path, training=training)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.csv", 'path,start,seconds,domain\n"a, b.wav",1.5,2,music\nc.wav,,,\n'),
        ("mine.tsv", "path\tstart\tseconds\tdomain\na, b.wav\t1.5\t2\tmusic\nc.wav\t\t\t\n"),
        ("mine.jsonl", '{"path": "a, b.wav", "start": 1.5, "seconds": 2, "domain": "music"}\n{"path": "c.wav"}\n'),
    ],
)
def test_manifest(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    folder = tmp_path.as_posix()
    assert find(tmp_path / name) == [
        TrainingClip(f"{folder}/a, b.wav", "music", 1.5, 2.0),
        TrainingClip(f"{folder}/c.wav", "mine"),
    ]


@pytest.mark.parametrize("name", ["mine.csv", "mine.jsonl"])
def test_a_manifest_may_have_a_byte_order_mark_and_blank_lines(tmp_path, name):
    text = "path\na.wav\n\nb.wav\n" if name.endswith("csv") else '{"path": "a.wav"}\n\n{"path": "b.wav"}\n'
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert relative(tmp_path, find(tmp_path / name)) == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mine.jsonl", '{"path": "a.wav"}\n{"file": "b.wav"}\n', "line 2, has no path"),
        ("mine.jsonl", '\n["b.wav"]\n', "line 2, is not a JSON object"),
        ("mine.jsonl", "a.wav\n", "line 1, is not JSON"),
        ("mine.jsonl", '{"path": "a.wav", "start": "soon"}\n', "line 1: start and seconds must be numbers"),
        ("mine.csv", "path,seconds\na.wav,1\n,2\n", "line 3, has no path"),
        ("mine.tsv", "path\tseconds\na.wav\tlong\n", "line 2: start and seconds must be numbers"),
    ],
)
def test_a_damaged_line_of_a_manifest_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}, {message}"):
        find(tmp_path / name)


def test_links_to_folders_are_followed(tmp_path):
    touch(tmp_path / "elsewhere", "1-2-0.flac")
    touch(tmp_path / "mine", "a.wav")
    (tmp_path / "mine/linked").symlink_to(tmp_path / "elsewhere")
    assert relative(tmp_path / "mine", find(tmp_path / "mine", allow_outside=True)) == ["a.wav", "linked/1-2-0.flac"]
    touch(tmp_path / "ls/dev-clean/1", "1-1-0.flac")
    (tmp_path / "ls/train-clean-100").mkdir()
    (tmp_path / "ls/train-clean-100/1").symlink_to(tmp_path / "elsewhere")
    found = find(tmp_path / "ls", allow_outside=True)
    assert relative(tmp_path / "ls", found) == ["train-clean-100/1/1-2-0.flac"]


def test_any_folder_and_its_domains(tmp_path):
    touch(tmp_path / "mine", "music/jazz/a.OGG", "b.wav", "notes.txt")
    assert [clip.domain for clip in find(tmp_path / "mine")] == ["mine", "mine"]
    clips = find(tmp_path / "mine", domains=["speech", "music"])
    assert {Path(clip.path).name: clip.domain for clip in clips} == {"a.OGG": "music", "b.wav": "speech"}


def test_a_clip_given_twice_is_one(tmp_path):
    touch(tmp_path / "mine", "a.wav")
    assert len(find_clips([tmp_path / "mine"] * 2, domains=[], default_domain="speech")) == 1


def test_mistakes_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is neither a folder nor a manifest"):
        find(tmp_path / "nowhere")
    with pytest.raises(DataError, match="read as folder, has no audio to train on"):
        find(tmp_path)
    (tmp_path / "train-clean-100").mkdir()
    with pytest.raises(DataError, match="read as librispeech, has no audio to validate with"):
        find(tmp_path, training=False)
