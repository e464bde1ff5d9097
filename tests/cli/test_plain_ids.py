"""Ids of one file in plain formats: written by `l3ac encode`, read back by `l3ac decode`."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.container import ContainerError, Header, read_l3ac
from l3ac_tokenizer.id_files import SUFFIXES, read_ids, write_ids

from .conftest import RATE, files_below, is_one_sentence, speechlike, write_wav

HEADER = Header("tiny", "0" * 64, (3, 3), 16_000, 100, 450)


@pytest.fixture
def encoded(l3ac, tmp_path, tiny):
    """`a.l3ac` and the same ids in every plain format."""
    write_wav(tmp_path / "a.wav", speechlike(0.5))
    for suffix in (".l3ac", *SUFFIXES):
        status, _, err = l3ac("encode", "a.wav", "-o", f"a{suffix}", "--model", tiny)
        assert (status, err) == (0, "")
    return read_l3ac(tmp_path / "a.l3ac")


def test_every_format_holds_the_same_ids(encoded, tmp_path):
    header, ids = encoded
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ids)
    assert np.load(tmp_path / "a.npy").dtype == np.int64
    assert (tmp_path / "a.txt").read_text() == " ".join(map(str, ids)) + "\n"
    content = json.loads((tmp_path / "a.json").read_text())
    assert content.pop("ids") == ids.tolist()
    assert content == {
        "model_name": "tiny",
        "weights_digest": header.weights_digest,
        "levels": list(header.levels),
        "sampling_rate": RATE,
        "hop_length": 270,
        "num_samples": RATE // 2,
    }


def test_decode_reads_them_back(encoded, l3ac, tmp_path, tiny):
    names = [f"a{suffix}" for suffix in (".l3ac", *SUFFIXES)]
    for name in names:
        assert l3ac("decode", name, "-o", f"{name}.wav", "--model", tiny)[0] == 0
    wanted, *others = (read_audio(tmp_path / f"{name}.wav", RATE)[0] for name in names)
    assert len(wanted) == RATE // 2
    for name, audio in zip(names[1:], others, strict=True):
        assert len(audio) == (RATE // 2 if name == "a.json" else 270 * len(encoded[1])), name
        np.testing.assert_allclose(audio[: len(wanted)], wanted, atol=2**-14)


def test_several_are_decoded_together_and_a_folder_of_them_is_not(encoded, l3ac, tmp_path, tiny):
    status, _, err = l3ac("decode", "a.npy", "a.txt", "a.json", "-o", "out", "--model", tiny)
    assert status == 0 and "names differ in their suffix alone" in err
    assert files_below(tmp_path / "out") == ["a.json.wav", "a.npy.wav", "a.txt.wav"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "a.npy").rename(tmp_path / "plain" / "a.npy")
    assert l3ac("decode", "plain", "-o", "out", "--model", tiny)[0] == 1


def test_ids_alone_need_a_model_and_json_is_checked_against_it(encoded, l3ac, models):
    for name in ("a.npy", "a.txt"):
        status, _, err = l3ac("decode", name, "-o", "x.wav")
        assert status == 1 and is_one_sentence(err) and "holds ids alone: give the model" in err
    status, _, err = l3ac("decode", "a.json", "-o", "x.wav", "--model", models["twin"][0])
    assert status == 1 and is_one_sentence(err) and "with the weights" in err
    status, _, err = l3ac("decode", "a.json", "-o", "x.wav")
    assert status == 1 and is_one_sentence(err) and "a.json was made by tiny" in err


def test_ids_beyond_the_codebook_are_refused(l3ac, tmp_path, tiny):
    np.save(tmp_path / "a.npy", np.array([0, 7**6]))
    status, _, err = l3ac("decode", "a.npy", "-o", "x.wav", "--model", tiny)
    assert status == 1 and is_one_sentence(err) and "id 117649 at position 1 of a.npy" in err


def test_folders_and_the_coding_are_of_l3ac_files(l3ac, tmp_path, tiny):
    write_wav(tmp_path / "in" / "a.wav", speechlike(0.2))
    status, _, err = l3ac("encode", "in/a.wav", "-o", "a.npy", "--coding", "entropy", "--model", tiny)
    assert status == 2 and "--coding is for .l3ac files" in err and not (tmp_path / "a.npy").exists()
    assert l3ac("encode", "in", "-o", "out", "--model", tiny)[0] == 0
    assert files_below(tmp_path / "out") == ["a.l3ac"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path, suffix):
    ids = np.array([0, 8, 3, 1, 1])
    size = write_ids(tmp_path / f"a{suffix}", HEADER, ids)
    header, read = read_ids(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read, ids)
    assert size == (tmp_path / f"a{suffix}").stat().st_size
    assert header == (HEADER if suffix == ".json" else None)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def as_json(**changes) -> bytes:
    fields = {name: getattr(HEADER, name) for name in ("model_name", "weights_digest", "levels")}
    fields |= {"sampling_rate": 16_000, "hop_length": 100, "num_samples": 450, "ids": [0] * 5}
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", b""),
        ("a.npy", b"not numpy"),
        ("a.npy", npy(np.zeros((2, 3), dtype=np.int64))),
        ("a.npy", npy(np.zeros(3))),
        ("a.npy", npy(np.zeros(0, dtype=np.int64))),
        ("a.npy", npy(np.zeros(9, dtype=np.int64))[:-1]),
        ("a.npy", npy(np.zeros(9, dtype=np.int64)).replace(b"(9,)", b"(99999999,)")),
        ("a.npy", npy(np.array([{}]))),
        ("a.txt", b""),
        ("a.txt", b"1 2 three"),
        ("a.txt", b"1.5 2"),
        ("a.txt", b"9" * 400),
        ("a.txt", "1 ²".encode()),
        ("a.json", b"{"),
        ("a.json", b"[1, 2]"),
        ("a.json", b"[" * 100_000),
        ("a.json", as_json(ids=[0.5] * 5)),
        ("a.json", as_json(ids=[0] * 4)),
        ("a.json", as_json(ids=[9] * 5)),
        ("a.json", as_json(ids="01234")),
        ("a.json", as_json(num_samples=None)),
        ("a.json", as_json(num_samples=10**30)),
        ("a.json", as_json(levels=[2] * 70)),
        ("a.json", as_json(weights_digest="mine")),
        ("a.bin", b"1 2"),
    ],
)
def test_what_is_not_the_ids_of_a_clip_is_one_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ContainerError, match=name) as error:
        read_ids(tmp_path / name)
    assert "\n" not in str(error.value)
