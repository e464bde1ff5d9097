"""Lists of audio: nothing is dropped, merged or misread without a word, whatever lies in a folder, archive or table."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from networks import tiny

from l3ac_tokenizer import audio
from l3ac_tokenizer.cli import main
from l3ac_tokenizer.evaluation.dataset import open_data
from l3ac_tokenizer.files import escaped, unescaped
from l3ac_tokenizer.listing.errors import DataError
from l3ac_tokenizer.listing.layouts import librispeech_transcripts, ljspeech_transcripts
from l3ac_tokenizer.listing.table import read_table
from l3ac_tokenizer.listing.text import read_lines, read_text
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.training.data.readers import find_clips

RATE = 16_000


def audio_bytes(samples: int = 400, suffix: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(samples, np.float32), RATE, format=suffix)
    return file.getvalue()


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio_bytes())
    return root


def put_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def ids(source) -> list[str]:
    return [record.id for record in source.records(0, len(source))]


def column(source, name: str) -> list:
    return [record.columns.get(name) for record in source.records(0, len(source))]


@pytest.fixture
def l3ac(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny("tiny").save_pretrained(tmp_path / "model")

    def run(command: str, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([command, *map(str, arguments), "--model", "model"])
        return status, *capsys.readouterr()

    return run


# ---------------------------------------------------------------------------------------------- what is left out


@pytest.fixture(autouse=True)
def _without_ffmpeg(monkeypatch):
    """As without the extra `formats`."""
    monkeypatch.setattr(audio, "has_ffmpeg", lambda: False)


UNREAD = ("b.m4a", "deep/c.m4a")


@pytest.mark.parametrize("entrance", ["tokenize", "encode", "evaluate", "train"])
def test_every_entrance_says_which_formats_and_folders_it_does_not_read(tmp_path, l3ac, caplog, entrance):
    put(tmp_path / "in", "a.wav", "shut/d.wav", *UNREAD)
    (tmp_path / "in" / "shut").chmod(0)
    try:
        os.listdir(tmp_path / "in" / "shut")
    except PermissionError:
        shut = True
    else:
        shut = False  # root lists every folder
    if entrance == "evaluate":
        said = " ".join(open_data([str(tmp_path / "in")]).remarks)
    elif entrance == "train":
        find_clips([tmp_path / "in"], domains=(), default_domain="")
        said = caplog.text
    else:
        status, _, said = l3ac(entrance, "in", "-o", "out")
        assert status == 0
    (tmp_path / "in" / "shut").chmod(0o700)
    assert "2 .m4a (b.m4a)" in said
    assert ("in/shut is left out" in said) == shut


def test_folders_without_readable_audio_say_what_they_hold(tmp_path, l3ac):
    put(tmp_path / "in", *UNREAD)
    for command in ("tokenize", "encode"):
        status, _, said = l3ac(command, "in", "-o", "out")
        assert status == 1 and "2 .m4a" in said


def test_a_summary_keeps_what_was_left_out(tmp_path, l3ac):
    put(tmp_path / "in", "a.wav", *UNREAD)
    l3ac("tokenize", "in", "-o", "out")
    (remark,) = json.loads((tmp_path / "out" / "summary.json").read_text())["remarks"]
    assert "2 .m4a" in remark


def test_transcripts_and_clips_without_each_other_are_counted(tmp_path):
    put(tmp_path, "wavs/a.wav", "wavs/b.wav")
    (tmp_path / "metadata.csv").write_text("a|one\nc|three\nd|four\n")
    remarks = open_source(str(tmp_path)).remarks
    assert remarks == [
        "1 of 2 clips have no transcript, such as wavs/b.wav.",
        "2 transcripts have no audio, such as that of c.",
    ]


def test_an_audio_folder_of_datasets_has_its_texts_and_every_clip(tmp_path):
    put(tmp_path, "a.wav", "deep/b.wav", "c.wav")
    rows = [{"file_name": "a.wav", "text": "one"}, {"file_name": "./deep/b.wav", "text": "two"}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(str(tmp_path))
    assert dict(zip(ids(source), column(source, "text"), strict=True)) == {"a": "one", "c": None, "deep/b": "two"}
    assert source.remarks == ["1 of 3 clips have no transcript, such as c.wav."]


# ------------------------------------------------------------------------------------------------------ unique ids


@pytest.mark.parametrize("names", [["a.wav", "a.flac"], ["x.y/a.wav", "x.y/a.ogg", "b.wav"]])
def test_one_stem_with_two_suffixes_gives_both_clips(tmp_path, names, l3ac):
    put(tmp_path / "in", *names)
    source = open_source(str(tmp_path / "in"))
    assert len(set(ids(source))) == len(names) and len(source.remarks) == 1
    _, _, said = l3ac("encode", "in", "-o", "out")
    assert len(list((tmp_path / "out").rglob("*.l3ac"))) == len(names) and "differ in their suffix alone" in said


def test_one_name_in_two_folders_of_a_layout_gives_both_clips(tmp_path):
    put(tmp_path, "wavs/x/a.wav", "wavs/y/a.wav")
    (tmp_path / "metadata.csv").write_text("a|one\n")
    assert ids(open_source(str(tmp_path))) == ["wavs/x/a", "wavs/y/a"]


def test_a_manifest_without_ids_names_paths_apart(tmp_path):
    put(tmp_path, "a.wav", "a.flac")
    (tmp_path / "m.csv").write_text("path\na.wav\na.flac\n")
    assert ids(open_source(str(tmp_path / "m.csv"))) == ["a.wav", "a.flac"]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["s.u0.wav", "s.u1.wav", "s.u2.wav"], ["s.u0", "s.u1", "s.u2"]),
        (["a.left.wav", "a.right.wav", "b.wav"], ["a.left", "a.right", "b"]),
        (["x/a.wav", "y/a.wav"], ["x/a", "y/a"]),
        (["a.wav", "a.flac"], ["s0/a:1", "s0/a:2"]),
        (["a.wav", "a.wav"], ["s0/a:1", "s0/a:2"]),
    ],
)
def test_every_audio_member_of_a_shard_is_a_clip(tmp_path, members, expected):
    put_tar(tmp_path / "s0.tar", [(name, audio_bytes()) for name in members])
    assert ids(open_source(str(tmp_path / "s0.tar"))) == expected


def test_texts_belong_to_the_clip_or_to_the_sample_wherever_they_stand(tmp_path):
    members = [("a.l.wav", audio_bytes()), ("b.wav", audio_bytes()), ("a.r.wav", audio_bytes())]
    texts = [("a.txt", b"both"), ("a.r.txt", b"right"), ("b.txt", "\ufeffmärchen".encode())]
    put_tar(tmp_path / "s.tar", members + texts)
    source = open_source(str(tmp_path / "s.tar"))
    assert dict(zip(ids(source), column(source, "text"), strict=True)) == {
        "a.l": "both",
        "a.r": "right",
        "b": "märchen",
    }


def test_samples_and_members_that_are_not_read_are_counted(tmp_path):
    path = put_tar(tmp_path / "s.tar", [("a.wav", audio_bytes()), ("b.m4a", b"?"), ("c.txt", b"?"), ("._a.wav", b"")])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("d.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "a.wav"
        tar.addfile(link)
    source = open_source(str(path))
    assert ids(source) == ["a"]
    said = " ".join(source.remarks)
    assert "1 links" in said and "1 samples" in said and ".m4a" in said and "without audio" in said


@pytest.mark.parametrize("kind", ["tar", "parquet", "parquet of names"])
def test_ids_that_repeat_over_shards_begin_with_their_shard(tmp_path, kind):
    for shard in ("x/s0", "x/s1"):
        (tmp_path / "x").mkdir(exist_ok=True)
        if kind == "tar":
            put_tar(tmp_path / f"{shard}.tar", [(f"{number}.wav", audio_bytes()) for number in range(2)])
            continue
        named = [{"bytes": audio_bytes(), "path": f"{number}.wav"} for number in range(2)]
        table = {"audio": named} if "names" in kind else {"id": ["0", "1"], "audio": named}
        pq.write_table(pa.table(table), tmp_path / f"{shard}.parquet")
    source = open_source(str(tmp_path))
    assert ids(source) == ["s0/0", "s0/1", "s1/0", "s1/1"]
    assert len(source.remarks) == 1 and "2 ids name several clips" in source.remarks[0]


def test_ids_that_repeat_within_a_file_say_their_place(tmp_path):
    pq.write_table(pa.table({"id": ["a", "b", "a"], "audio": [audio_bytes()] * 3}), tmp_path / "p.parquet")
    assert ids(open_source(str(tmp_path / "p.parquet"))) == ["p/a:1", "p/b", "p/a:2"]


# ----------------------------------------------------------------------------------------------- the kind of corpus


def test_a_tokenized_corpus_inside_its_own_input_is_not_read(tmp_path, l3ac):
    put(tmp_path / "in", "a.wav", "b/c.wav")
    first = l3ac("tokenize", "in", "-o", "in/ids")
    assert l3ac("tokenize", "in", "-o", "in/ids") == first
    assert "shard-00000.parquet: they hold ids" in " ".join(open_source(str(tmp_path / "in")).remarks)
    assert len(find_clips([tmp_path / "in"], domains=(), default_domain="")) == 2


def test_the_kind_of_a_folder_is_that_of_its_root(tmp_path):
    put(tmp_path, "a.wav", "b.wav")
    (tmp_path / "deep").mkdir()
    pq.write_table(pa.table({"audio": [audio_bytes()]}), tmp_path / "deep" / "p.parquet")
    put_tar(tmp_path / "deep" / "t.tar", [("x.wav", audio_bytes())])
    source = open_source(str(tmp_path))
    assert source.kind == "folder" and ids(source) == ["a", "b"]
    assert "--kind parquet" in source.remarks[0] and "--kind tar" in source.remarks[1]
    assert ids(open_source(str(tmp_path), kind="parquet")) == ["p:0"]
    assert ids(open_source(str(tmp_path), kind="tar")) == ["x"]
    with pytest.raises(DataError, match="is a folder"):
        open_source(str(tmp_path), kind="manifest")


def test_parquet_beside_audio_is_read_if_it_lists_the_audio(tmp_path):
    put(tmp_path, "a.wav", "b.wav", "c.wav")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "features.parquet")
    source = open_source(str(tmp_path))
    assert ids(source) == ["a", "b", "c"] and "none has audio" in source.remarks[0]
    pq.write_table(pa.table({"file_name": ["a.wav", "b.wav"], "text": ["A", "B"]}), tmp_path / "metadata.parquet")
    source = open_source(str(tmp_path))
    assert column(source, "text") == ["A", "B"]
    assert any("1 files of audio" in remark and "c.wav" in remark for remark in source.remarks)


# --------------------------------------------------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([pa.array([1]), pa.array([1.5])], [1.0, 1.5]),
        ([pa.array([1], pa.int8()), pa.array([2**40])], [1, 2**40]),
        ([pa.nulls(1), pa.array(["sad"])], [None, "sad"]),
        ([pa.array(["a"]), pa.array(["b"]).dictionary_encode()], ["a", "b"]),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_types_that_differ_from_file_to_file_keep_every_value(tmp_path, values, expected, swapped):
    if swapped:
        values, expected = values[::-1], expected[::-1]
    for number, value in enumerate(values):
        pq.write_table(pa.table({"audio": [audio_bytes()], "n": value}), tmp_path / f"{number}.parquet")
    source = open_source(str(tmp_path))
    tokenize_corpus(source, tiny("tiny"), tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "shard-00000.parquet")["n"].to_pylist() == expected


def test_types_that_no_type_holds_are_refused_by_file_and_column(tmp_path):
    for name, value in (("a", [1]), ("b", ["one"])):
        pq.write_table(pa.table({"audio": [audio_bytes()], "n": value}), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has string in the column n and .*a\.parquet has int64"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("values", [[2**53 + 1, 0.5], [2**70], [True, 2], [1, "x"]])
def test_numbers_of_a_manifest_are_kept_exactly(tmp_path, values):
    put(tmp_path, "a.wav", "b.wav")
    rows = [{"path": path, "n": value} for path, value in zip(["a.wav", "b.wav"], values, strict=False)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = column(open_source(str(tmp_path / "m.jsonl")), "n")
    assert [json.loads(value) if value != "x" else value for value in found] == values


def test_an_integer_too_large_beside_fractions_is_that_rows_failure(tmp_path):
    for name, value in (("a", [2**53 + 1, 2]), ("b", [0.5, 1.0])):
        pq.write_table(pa.table({"audio": [audio_bytes()] * 2, "n": value}), tmp_path / f"{name}.parquet")
    source = open_source(str(tmp_path))
    assert [record.error is None for record in source.records(0, 4)] == [False, True, True, True]


# ------------------------------------------------------------------------------------------------------ side files

MARKED = {"utf-8": "", "utf-8-sig": "", "utf-16": "", "utf-32": ""}


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_texts_are_the_same_in_every_marked_encoding(tmp_path, encoding, ends):
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(text.replace("\n", ends).encode(encoding))
        return path

    write("84-1.trans.txt", "84-1-0 FRÜH\n84-1-1 L\u2028ATE\n")
    assert librispeech_transcripts(tmp_path) == {"84-1-0": "FRÜH", "84-1-1": "L\u2028ATE"}
    write("metadata.csv", 'a|x|Früh "\nb|y\n')
    assert ljspeech_transcripts(tmp_path) == {"a": 'Früh "', "b": "y"}
    for name in ("t.csv", "t.tsv"):
        table = write(name, "path\tn\na\té\n".replace("\t", "," if name == "t.csv" else "\t"))
        assert [row for _, row in read_table(table)] == [{"path": "a", "n": "é"}]
    assert [row for _, row in read_table(write("t.jsonl", '{"n": "é"}\n'))] == [{"n": "é"}]


@pytest.mark.parametrize("name", ["84-1.trans.txt", "metadata.csv", "t.csv", "t.tsv", "t.jsonl"])
def test_another_encoding_is_refused_by_file_and_line(tmp_path, name):
    (tmp_path / name).write_bytes("a|x\nb|Früh\n".encode("latin-1"))
    readers = {"84-1.trans.txt": librispeech_transcripts, "metadata.csv": ljspeech_transcripts}
    with pytest.raises(DataError, match=rf"{name}, line 2, is not UTF-8 text .*: save it as UTF-8"):
        readers[name](tmp_path) if name in readers else list(read_table(tmp_path / name))


def test_hidden_files_of_macos_are_passed_over_everywhere(tmp_path):
    put(tmp_path, "84/1/84-1-0.flac")
    (tmp_path / "84/1/84-1.trans.txt").write_text("84-1-0 A\n")
    for name in ("84/1/._84-1.trans.txt", "84/1/._84-1-0.flac", "._84", ".DS_Store", "._x.tsv"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\xff")
    source = open_source(str(tmp_path))
    assert ids(source) == ["84-1-0"] and column(source, "text") == ["A"] and not source.remarks


@pytest.mark.parametrize("line", ["a.wav,Hello, world", "a.wav"])
def test_a_row_with_more_or_fewer_fields_than_the_header_is_refused(tmp_path, line):
    (tmp_path / "m.csv").write_text(f"path,text\n{line}\n")
    with pytest.raises(DataError, match=r"line 2, has . fields and the header has 2"):
        open_source(str(tmp_path / "m.csv"))


def test_half_of_a_character_in_a_manifest_is_refused_by_line(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "text": "\\ud83d"}\n')
    with pytest.raises(DataError, match="line 1, has half of a UTF-16 character"):
        open_source(str(tmp_path / "m.jsonl"))


def test_reading_text_names_the_file_it_cannot_read(tmp_path):
    with pytest.raises(OSError, match=r"nowhere\.txt"):
        read_text(tmp_path / "nowhere.txt")
    (tmp_path / "a.txt").write_bytes(b"a\x0bb\r\nc")
    assert read_lines(tmp_path / "a.txt") == ["a\x0bb", "c"]


# ----------------------------------------------------------------------------------------------------------- names


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_can_be_written_as_text_and_back(name):
    path = os.fsdecode(name)
    escaped(path).encode("utf-8")
    assert unescaped(escaped(path)) == path


def test_different_names_have_different_texts():
    assert len({escaped(os.fsdecode(name)) for name in (b"\xe9", b"\\xe9", b"\\\\xe9")}) == 3


@pytest.fixture
def odd_name(tmp_path) -> str:
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        (tmp_path / name).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / name).unlink()
    return name


def test_a_name_that_is_not_utf8_is_read_and_can_be_found_again(tmp_path, odd_name, l3ac):
    put(tmp_path / "in", "a.wav", odd_name)
    status, _, _ = l3ac("tokenize", "in", "-o", "out")
    assert status == 0
    rows = pq.read_table(tmp_path / "out" / "shard-00000.parquet").to_pylist()
    assert {unescaped(row["path"]) for row in rows} == {"a.wav", odd_name}
    assert l3ac("encode", "in", "-o", "encoded")[0] == 0
    assert (tmp_path / "encoded" / odd_name).with_suffix(".l3ac").is_file()


@pytest.mark.parametrize("target", ["nowhere.wav", "/nowhere/nothing.wav", "../nowhere.wav"])
def test_a_link_that_leads_nowhere_is_that_files_failure(tmp_path, l3ac, target):
    put(tmp_path / "in", "a.wav")
    (tmp_path / "in" / "gone.wav").symlink_to(target)
    status, _, said = l3ac("tokenize", "in", "-o", "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (status, summary["clips"], summary["failures"]) == (0, 1, 1) and "gone.wav" in said
    status, _, said = l3ac("encode", "in", "-o", "encoded")
    assert status == 1 and "gone.wav" in said and (tmp_path / "encoded" / "a.l3ac").is_file()


def test_a_name_too_long_for_its_output_is_that_files_failure(tmp_path, l3ac):
    long = "x" * 251 + ".wav"
    put(tmp_path / "in", "a.wav", long)
    status, _, said = l3ac("encode", "in", "-o", "out")
    assert status == 1 and long[:-4] in said and "1 of 2 files" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.l3ac"]
    assert l3ac("tokenize", "in", "-o", "ids")[0] == 0
    status, _, said = l3ac("detokenize", "ids", "-o", "back")
    assert status == 0 and (tmp_path / "back" / long).is_file()


def test_a_file_of_an_unknown_model_does_not_stop_the_others(tmp_path, l3ac, capsys):
    put(tmp_path / "in", "a.wav", "b.wav")
    l3ac("encode", "in", "-o", "out")
    assert main(["encode", "in/b.wav", "-o", "out/", "--model", "l3ac-1k-light"]) == 0
    capsys.readouterr()
    assert main(["decode", "out", "-o", "back"]) == 1
    assert capsys.readouterr().err.count("a.l3ac was made by model") == 1
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["b.wav"]
