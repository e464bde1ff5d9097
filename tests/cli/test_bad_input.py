"""Bad input: one clear sentence, a non-zero exit, and nothing half-written."""

from __future__ import annotations

import re
import resource

import numpy as np
import pytest

from .conftest import files_below, is_one_sentence, speechlike, write_wav


@pytest.fixture
def inputs(tmp_path, l3ac, tiny):
    write_wav(tmp_path / "good.wav", speechlike(0.5))
    assert l3ac("encode", "good.wav", "-o", "good.l3ac", "--model", tiny)[0] == 0
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.wav").write_text("this is not audio")
    (tmp_path / "text.l3ac").write_text("this is not a container")
    (tmp_path / "nothing.wav").write_bytes(b"")
    write_wav(tmp_path / "empty.wav", np.zeros(0))
    write_wav(tmp_path / "nan.wav", np.array([0, np.nan, 0], dtype=np.float32))
    write_wav(tmp_path / "inf.wav", np.array([0, np.inf, 0], dtype=np.float32))
    write_wav(tmp_path / "loud.wav", np.array([0, 5, 0], dtype=np.float32))
    data = (tmp_path / "good.l3ac").read_bytes()
    (tmp_path / "short.l3ac").write_bytes(data[:-1])
    (tmp_path / "flipped.l3ac").write_bytes(data[:100] + bytes([data[100] ^ 4]) + data[101:])
    (tmp_path / "longer.l3ac").write_bytes(data + b"x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("encode missing.wav -o new.l3ac --model TINY", "missing.wav: no such file"),
        ("encode folder -o new.l3ac/ --model TINY", "folder holds no files"),
        ("encode text.wav -o new.l3ac --model TINY", "text.wav is not audio"),
        ("encode nothing.wav -o new.l3ac --model TINY", "nothing.wav is not audio"),
        ("encode empty.wav -o new.l3ac --model TINY", "empty.wav holds no audio"),
        ("encode nan.wav -o new.l3ac --model TINY", "nan.wav has the sample nan"),
        ("encode inf.wav -o new.l3ac --model TINY", "inf.wav has the sample inf"),
        ("encode loud.wav -o new.l3ac --model TINY", "loud.wav has the sample 5 .*beyond ±4"),
        ("encode good.wav -o folder/../text.wav/new.l3ac --model TINY", "cannot make the folder .*text.wav"),
        ("encode good.wav -o text.wav/ --model TINY", "cannot make the folder text.wav"),
        ("encode good.wav -o /dev/full --model TINY", "cannot write /dev/full: no space left"),
        (
            "encode good.wav -o new.l3ac --model l3ac-1kk",
            "neither a preset nor a checkpoint directory.*did you mean l3ac-1k",
        ),
        ("encode good.wav -o new.l3ac --model something", "neither a preset nor a checkpoint directory.*`l3ac models`"),
        ("encode good.wav -o new.l3ac --model sqcodec-24k-24khz", "no bundled weights"),
        ("encode good.wav -o new.l3ac --model folder", "folder does not hold a model"),
        ("encode good.wav -o new.l3ac --model broken", "broken does not hold a model"),
        ("encode good.wav -o new.l3ac --model TINY --device toaster", "device 'toaster' cannot be used"),
        ("decode missing.l3ac -o new.wav --model TINY", "missing.l3ac: no such file"),
        ("decode folder -o new/ --model TINY", "folder holds no files"),
        ("decode text.l3ac -o new.wav --model TINY", "text.l3ac is not a .l3ac file"),
        ("decode good.wav -o new.wav --model TINY", "good.wav is not a .l3ac file"),
        ("decode short.l3ac -o new.wav --model TINY", "short.l3ac is damaged.*0 of 30 ids are good"),
        ("decode flipped.l3ac -o new.wav --model TINY", "flipped.l3ac is damaged.*0 of 30 ids are good"),
        ("decode longer.l3ac -o new.wav --model TINY", "longer.l3ac is damaged.*30 of 30 ids are good"),
        ("decode good.l3ac -o text.wav/new.wav --model TINY", "cannot make the folder text.wav"),
        ("decode good.l3ac -o new.wav", "good.l3ac was made by tiny: 'tiny' is neither a preset"),
        ("info missing.l3ac", "missing.l3ac: no such file"),
        ("info text.l3ac", "text.l3ac is not a .l3ac file"),
        ("info l3ac1k", "did you mean l3ac-1k"),
        ("demo missing.wav --model TINY -o new", "missing.wav: no such file"),
        ("demo folder --model TINY -o new", "folder: it is a directory"),
        ("demo good.wav --model TINY -o text.wav", "cannot make the folder text.wav"),
    ],
)
def test_bad_input(inputs, l3ac, tiny, command, words):
    before = files_below(inputs)
    status, out, err = l3ac(*command.replace("TINY", tiny).split())
    assert status == 1 and out == ""
    assert is_one_sentence(err), err
    assert re.search(words, err), err
    assert files_below(inputs) == before


@pytest.mark.parametrize(
    "command", ["encode good.wav -o new.l3ac", "decode good.l3ac -o new.wav", "decode good.l3ac -o new.flac"]
)
def test_a_full_disk_leaves_nothing(inputs, l3ac, tiny, command):
    before = files_below(inputs)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (120, limits[1]))  # what fits on the "disk"
    try:
        status, out, err = l3ac(*command.split(), "--model", tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1 and out == ""
    assert is_one_sentence(err) and "cannot write new." in err, err
    assert files_below(inputs) == before
