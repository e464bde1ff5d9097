from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, ClassLabel, Dataset

from l3ac_tokenizer.listing.columns import renamed
from l3ac_tokenizer.listing.errors import DataError
from l3ac_tokenizer.tokenization import open_source
from l3ac_tokenizer.tokenization.sources.base import RESERVED
from l3ac_tokenizer.tokenization.sources.datasets import HubSource

from .corpora import file_bytes, write_clip


def records(source) -> list:
    return list(source.records(0, len(source)))


def known(source) -> list[tuple]:
    """Id and all columns of each record."""
    return [(record.id, *(record.columns[name] for name in source.columns)) for record in records(source)]


def assert_any_range_can_be_read(source) -> None:
    """Ranges of a source, and of one sent to another process, are ranges of the whole."""
    whole = records(source)
    sent = pickle.loads(pickle.dumps(source))
    for start in range(len(whole)):
        for stop in range(start, len(whole) + 1):
            assert list(sent.records(start, stop)) == whole[start:stop]
    assert sent.digest() == source.digest()


def test_librispeech(tmp_path):
    for name in ("84/121123/84-121123-0000", "84/121123/84-121123-0001", "1272/5/1272-5-0000"):
        write_clip(tmp_path / f"dev-clean/{name}.flac", 20)
    (tmp_path / "dev-clean/84/121123/84-121123.trans.txt").write_text(
        "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT IN LESS\n"
    )
    (tmp_path / "dev-clean/1272/5/1272-5.trans.txt").write_text("1272-5-0000 HELLO\n")
    source = open_source(str(tmp_path))
    assert source.kind == "LibriSpeech"
    assert list(source.columns) == ["text", "speaker"]
    assert known(source) == [
        ("1272-5-0000", "HELLO", "1272"),
        ("84-121123-0000", "GO DO YOU HEAR", "84"),
        ("84-121123-0001", "BUT IN LESS", "84"),
    ]
    assert records(source)[0].path == "dev-clean/1272/5/1272-5-0000.flac"
    assert_any_range_can_be_read(source)


def test_ljspeech(tmp_path):
    for name in ("LJ001-0001", "LJ001-0002", "LJ001-0003"):
        write_clip(tmp_path / f"wavs/{name}.wav", 20)
    (tmp_path / "metadata.csv").write_text('LJ001-0001|In 1865 "he"|In eighteen "he"\nLJ001-0002|only raw|\n')
    source = open_source(str(tmp_path))
    assert source.kind == "LJSpeech"
    assert known(source) == [("LJ001-0001", 'In eighteen "he"'), ("LJ001-0002", "only raw"), ("LJ001-0003", None)]


def test_common_voice_as_a_folder_and_by_its_table(tmp_path):
    for name in ("common_voice_de_1", "common_voice_de_2"):
        write_clip(tmp_path / f"clips/{name}.flac", 20)
    rows = [
        ["client_id", "path", "sentence", "age", "locale"],
        ["c1", "common_voice_de_2.flac", 'Ein "Satz', "", "de"],
    ]
    (tmp_path / "train.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    source = open_source(str(tmp_path))
    assert source.kind == "Common Voice"
    assert known(source) == [("common_voice_de_1", None, None, None), ("common_voice_de_2", 'Ein "Satz', "c1", "de")]
    table = open_source(str(tmp_path / "train.tsv"))
    (record,) = records(table)
    assert record.columns == {"text": 'Ein "Satz', "speaker": "c1", "language": "de", "age": ""}
    assert Path(record.audio).is_file()


def test_vctk(tmp_path):
    write_clip(tmp_path / "wav48_silence_trimmed/p225/p225_001_mic1.flac", 20)
    write_clip(tmp_path / "wav48_silence_trimmed/p226/p226_002_mic2.flac", 20)
    (tmp_path / "txt/p225").mkdir(parents=True)
    (tmp_path / "txt/p225/p225_001.txt").write_text("Please call Stella.\n")
    source = open_source(str(tmp_path))
    assert source.kind == "VCTK"
    assert known(source) == [("p225_001_mic1", "Please call Stella.", "p225"), ("p226_002_mic2", None, "p226")]


def test_a_flat_folder_in_the_order_of_its_paths(tmp_path):
    for name in ("b/x.wav", "a.flac", "b/a.b.wav", ".hidden.wav", ".git/y.wav"):
        write_clip(tmp_path / name, 20)
    (tmp_path / "notes.txt").write_text("not audio")
    source = open_source(str(tmp_path))
    assert [record.id for record in records(source)] == ["a", "b/a.b", "b/x"]
    assert source.columns == {}
    assert_any_range_can_be_read(source)


def test_the_digest_follows_names_sizes_and_texts(tmp_path):
    write_clip(tmp_path / "a.wav", 20)
    first = open_source(str(tmp_path)).digest()
    assert open_source(str(tmp_path)).digest() == first
    write_clip(tmp_path / "a.wav", 21)
    longer = open_source(str(tmp_path)).digest()
    write_clip(tmp_path / "b.wav", 20)
    assert len({first, longer, open_source(str(tmp_path)).digest()}) == 3


def test_manifests_with_every_kind_of_column(tmp_path):
    lines = [
        {"audio_filepath": "x/a.wav", "text": "one", "speaker": 7, "take": 1, "gain": 2, "tags": ["t"], "ok": True},
        {"audio_filepath": "x/b.wav", "take": 5, "gain": 0.5, "extra": None},
    ]
    (tmp_path / "m.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    source = open_source(str(tmp_path / "m.jsonl"))
    first, second = records(source)
    assert (first.id, first.path, first.audio) == ("x/a", "x/a.wav", str(tmp_path / "x/a.wav"))
    assert (
        first.columns
        == {
            "text": "one",
            "speaker": "7",
            "take": 1,
            "gain": 2.0,
            "tags": '["t"]',
            "ok": True,
            "extra": None,
        }
        or "extra" not in first.columns
    )
    assert second.columns["gain"] == 0.5 and second.columns["text"] is None
    assert source.columns["take"] == pa.int64() and source.columns["gain"] == pa.float64()
    assert_any_range_can_be_read(source)


def test_a_manifest_of_speechbrain(tmp_path):
    with open(tmp_path / "m.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["ID", "duration", "wav", "spk_id", "wrd"], ["u1", "2.5", "/d/a.wav", "s1", "A, B"]]
        )
    (record,) = records(open_source(str(tmp_path / "m.csv"), allow_outside=True))
    assert (record.id, record.audio) == ("u1", "/d/a.wav")
    assert record.columns == {"text": "A, B", "speaker": "s1", "duration": "2.5"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"path": "a.wav"}\n{"path"\n', "line 2"),
        ("m.jsonl", "[1]\n", "line 1, is not a JSON object"),
        ("m.jsonl", '{"text": "a"}\n', "no column that names the audio.*it has text"),
        ("m.csv", "path,text\n,hello\n", "line 2, has no path"),
        ("m.csv", "path\na.wav\na.wav\n", "both have the id 'a'"),
        ("m.tsv", "path\n", "no column|lists no clips"),
        ("m.csv", "", "no column"),
    ],
)
def test_damaged_manifests_are_refused_before_any_work(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / name))


def test_parquet_with_the_audio_feature(tmp_path):
    for shard in range(2):
        rows = {
            "audio": [{"bytes": file_bytes(20, n), "path": f"u{n}.flac"} for n in range(5 * shard, 5 * shard + 5)],
            "transcription": [f"text {n}" for n in range(5)],
            "speaker_id": [n for n in range(5)],
            "loudness": [0.5] * 5,
        }
        dataset = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
        dataset.to_parquet(str(tmp_path / f"train-{shard}.parquet"), batch_size=2)
    source = open_source(str(tmp_path))
    assert source.kind == "Parquet" and len(source) == 10
    assert {name: str(kind) for name, kind in source.columns.items()} == {
        "text": "string",
        "speaker": "string",
        "loudness": "double",
    }
    assert [record.id for record in records(source)] == [f"u{n}" for n in range(10)]
    assert records(source)[7].audio == file_bytes(20, 7)
    assert records(source)[7].columns == {"text": "text 2", "speaker": "2", "loudness": 0.5}
    assert_any_range_can_be_read(source)


def test_parquet_with_plain_bytes_with_paths_and_with_nothing(tmp_path):
    pq.write_table(pa.table({"flac": [file_bytes(20), None], "lang": ["en", "de"]}), tmp_path / "a.parquet")
    first, second = records(open_source(str(tmp_path / "a.parquet")))
    assert (first.id, first.path, first.columns) == ("a:0", "a.parquet:0", {"language": "en"})
    assert first.audio == file_bytes(20) and first.error is None
    assert second.error == "a.parquet:1 has no audio in its row: it is null."
    pq.write_table(pa.table({"path": ["x/1.wav"], "id": [5]}), tmp_path / "b.parquet")
    (record,) = records(open_source(str(tmp_path / "b.parquet")))
    assert (record.id, record.path, record.audio) == ("5", "x/1.wav", str(tmp_path / "x/1.wav"))
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="no column of audio"):
        open_source(str(tmp_path / "c.parquet"))
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a complete Parquet"):
        open_source(str(tmp_path / "d.parquet"))


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples_of_a_tar(first: int, count: int = 3) -> list[tuple[str, bytes]]:
    return [
        member
        for n in range(first, first + count)
        for member in (
            (f"set/u{n}.flac", file_bytes(200, n)),
            (f"set/u{n}.txt", f"text {n}\n".encode()),
            (f"set/u{n}.json", json.dumps({"speaker": n, "locale": "en", "other": 1}).encode()),
        )
    ]


def test_webdataset(tmp_path):
    write_tar(tmp_path / "c-000.tar", samples_of_a_tar(0))
    write_tar(tmp_path / "c-001.tar", samples_of_a_tar(3, 2))
    source = open_source(str(tmp_path))
    assert source.kind == "WebDataset"
    assert known(source) == [(f"set/u{n}", f"text {n}", str(n), "en") for n in range(5)]
    assert [record.audio for record in records(source)] == [file_bytes(200, n) for n in range(5)]
    assert records(source)[3].path == "c-001.tar/set/u3.flac"
    assert_any_range_can_be_read(source)


def test_names_in_a_tar_are_never_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in" / "bad.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (
            ("link.flac", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.flac", tarfile.LNKTYPE, "../../secret.flac"),
            ("pipe.flac", tarfile.FIFOTYPE, ""),
            ("device.flac", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
        info = tarfile.TarInfo("../../../escape.flac")
        data = file_bytes(200)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    before = sorted(tmp_path.rglob("*"))
    (record,) = records(open_source(str(path)))
    assert record.audio == data and record.id == "../../../escape"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_tar_gives_what_is_before_the_damage_and_one_failure(tmp_path):
    whole = write_tar(tmp_path / "whole.tar", samples_of_a_tar(0)).read_bytes()
    begins = [whole.index(f"set/u{n}.flac".encode()) for n in range(3)]
    for damage in (whole[: begins[2] + 700], whole[: begins[2]] + b"\xff" * 512 + whole[begins[2] + 512 :]):
        (tmp_path / "cut.tar").write_bytes(damage)
        found = records(open_source(str(tmp_path / "cut.tar")))
        assert [record.id for record in found if record.error is None][:2] == ["set/u0", "set/u1"]
        assert "cut.tar is damaged after" in found[-1].error
    (tmp_path / "cut.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(DataError, match=r"cut\.tar is damaged at its beginning.*compressed archives are not read"):
        open_source(str(tmp_path / "cut.tar"))


def test_a_dataset_of_the_hub(monkeypatch):
    dataset = Dataset.from_dict(
        {
            "file": ["x.flac", "y.flac"],
            "audio": [{"bytes": file_bytes(30), "path": "x.flac"}, None],
            "id": ["u0", "u1"],
            "lang": [1, 0],
            "speaker_id": [3, 4],
        }
    )
    dataset = dataset.cast_column("audio", Audio()).cast_column("lang", ClassLabel(names=["de", "en"]))
    asked = []
    monkeypatch.setattr("datasets.load_dataset", lambda *name, split: asked.append((*name, split)) or dataset)
    source = open_source("someone/speech", "small", "test")
    assert asked == [("someone/speech", "small", "test")]
    assert isinstance(source, HubSource)
    first, second = records(source)
    assert (first.id, first.path, first.audio["bytes"]) == ("u0", "x.flac", file_bytes(30))
    assert first.columns == {"speaker": "3", "language": "en"}
    assert second.error == "y.flac has no audio: it is null."
    assert_any_range_can_be_read(source)


def test_names_that_stand_for_nothing_are_reported(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_source(str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_source("gone.jsonl")
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(DataError, match="suffix that is not known"):
        open_source(str(tmp_path / "a.xyz"))
    with pytest.raises(DataError, match="holds no audio files"):
        open_source(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="no dataset of that name could be loaded"):
        open_source("no-such-dataset-of-ours")


def test_columns_are_known_by_their_usual_names_and_ours_are_kept_free():
    assert renamed(["ID", "wav", "wrd", "ids", "age", "error"], RESERVED) == {
        "ID": "id",
        "wav": "path",
        "wrd": "text",
        "age": "age",
    }
    assert renamed(["transcription", "text"]) == {"text": "text", "transcription": "transcription"}


def test_real_corpora_have_a_text_for_every_clip(shared):
    for name, kind in (("LibriSpeech", "LibriSpeech"), ("LJSpeech-kathleen-CC0", "LJSpeech")):
        source = open_source(str(shared / "audio" / "transcribed" / name))
        assert source.kind == kind and len(source) > 100
        for record in records(source):
            assert record.columns["text"] and Path(record.audio).is_file()
            assert kind != "LibriSpeech" or record.columns["speaker"] == record.id.split("-")[0]
