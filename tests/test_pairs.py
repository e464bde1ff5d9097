"""Pairs of clips: tables, the folders of benchmarks, and those made of any audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from networks import speech_like

from l3ac_tokenizer.listing.errors import DataError
from l3ac_tokenizer.names import OutsideError
from l3ac_tokenizer.speech_lm import disturbances
from l3ac_tokenizer.speech_lm.benchmarks import read_pairs
from l3ac_tokenizer.speech_lm.disturbances import RATE, disturbed, halves, joined, list_voices, segments, write_pairs
from l3ac_tokenizer.speech_lm.pairs import Pair


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


# ---------------------------------------------------------------------------------------------- tables


def test_a_table_names_files_beside_it_and_each_row_is_an_item(tmp_path):
    (tmp_path / "pairs.csv").write_text("positive,negative,group\na.wav,b/c.wav,one\n/d.wav,e.wav,\n")
    assert read_pairs(tmp_path / "pairs.csv", allow_outside=True).pairs == [
        Pair(tmp_path / "a.wav", tmp_path / "b" / "c.wav", "one", "line 2"),
        Pair(Path("/d.wav"), tmp_path / "e.wav", "", "line 3"),
    ]


@pytest.mark.parametrize("name", ["/d.wav", "../d.wav", "link.wav"])
def test_a_clip_outside_the_folder_of_its_table_is_refused(tmp_path, name):
    (tmp_path / "d.wav").touch()
    folder = touch(tmp_path / "pairs", "a.wav")
    (folder / "link.wav").symlink_to(tmp_path / "d.wav")
    (folder / "pairs.csv").write_text(f"positive,negative\na.wav,{name}\n")
    with pytest.raises(OutsideError, match=r"d\.wav|link\.wav"):
        read_pairs(folder / "pairs.csv")
    assert len(read_pairs(folder / "pairs.csv", allow_outside=True).pairs) == 1


def test_a_link_out_of_a_benchmark_is_refused(tmp_path):
    (tmp_path / "secret.wav").touch()
    folder = touch(tmp_path / "salmon", "sample_0_0.wav")
    (folder / "sample_0_1.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(OutsideError, match=r"sample_0_1\.wav"):
        read_pairs(folder)


def test_the_items_of_a_table_are_kept(tmp_path):
    (tmp_path / "pairs.tsv").write_text("item\tnegative\tpositive\n7\tb\ta\n7\td\tc\n")
    assert [pair.item for pair in read_pairs(tmp_path / "pairs.tsv").pairs] == ["7", "7"]


@pytest.mark.parametrize(
    ("table", "said"),
    [("positive,group\na,b\n", "no column 'negative'"), ("positive,negative\na,\n", "line 2, has no negative")],
)
def test_a_row_without_two_clips_is_refused(tmp_path, table, said):
    (tmp_path / "pairs.csv").write_text(table)
    with pytest.raises(DataError, match=said):
        read_pairs(tmp_path / "pairs.csv")


def test_ids_in_a_table_are_refused(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"positive": [1, 2], "negative": "b.npy"}\n')
    with pytest.raises(DataError, match="line 1: positive and negative must be names of files"):
        read_pairs(tmp_path / "pairs.jsonl")


# ---------------------------------------------------------------------------------------------- benchmarks

LEXICAL = """id,filename,voice,frequency,word,phones,length,correct
1,aB,A,12,brick,B R IH K,4,1
1,bC,A,0,blick,B L IH K,4,0
1,cD,B,12,brick,B R IH K,4,1
1,dE,B,,blick,B L IH K,4,0
2,eF,A,0,squalled,S K,4,1
2,fG,A,0,squilled,S K,4,0
3,gH,A,1,alone,AH,2,1
"""

SYNTACTIC = """id,filename,voice,type,subtype,transcription,correct
1,a,A,agreement,one,dogs eat meat,1
1,b,A,agreement,one,dogs eats meat,0
1,c,A,agreement,two,"the boy, himself",1
1,d,A,agreement,two,"the boy, herself",0
1,e,A,binding,one,x,0
"""


def test_swuggy_pairs_a_word_and_its_non_word_by_voice(tmp_path):
    (tmp_path / "gold.csv").write_text(LEXICAL)
    found = read_pairs(tmp_path)
    assert [(pair.positive.name, pair.negative.name, pair.group, pair.item) for pair in found.pairs] == [
        ("aB.wav", "bC.wav", "in vocabulary", "1"),
        ("cD.wav", "dE.wav", "in vocabulary", "1"),
        ("eF.wav", "fG.wav", "out of vocabulary", "2"),
    ]
    assert found.pairs[0].positive.parent == tmp_path
    assert found.unpaired == ["gold.csv: id 3, voice A, has no incorrect clip."]


def test_sblimp_pairs_sentences_of_one_subtype(tmp_path):
    (tmp_path / "gold.csv").write_text(SYNTACTIC)
    found = read_pairs(tmp_path)
    assert [(pair.positive.name, pair.negative.name, pair.group, pair.item) for pair in found.pairs] == [
        ("a.wav", "b.wav", "agreement", "one/1"),
        ("c.wav", "d.wav", "agreement", "two/1"),
    ]
    assert found.unpaired == ["gold.csv: id one/1, voice A, has no correct clip."]


def test_another_table_called_gold_is_refused(tmp_path):
    (tmp_path / "gold.csv").write_text("id,filename,voice,correct\n1,a,A,1\n")
    with pytest.raises(DataError, match="of another benchmark"):
        read_pairs(tmp_path)
    (tmp_path / "gold.csv").write_text("id,filename,voice,correct,frequency\n1,a,A,1,often\n")
    with pytest.raises(DataError, match="line 2, has 'often' as `frequency`"):
        read_pairs(tmp_path)
    (tmp_path / "gold.csv").write_text(SYNTACTIC.replace("meat,0", "meat,no"))
    with pytest.raises(DataError, match="line 3, has 'no' as `correct`"):
        read_pairs(tmp_path)


def test_stories_are_paired_by_their_name(tmp_path):
    folder = touch(
        tmp_path / "tSC", "0_a-1_correct.wav", "1_a-1_incorrect.wav", "2_b-2_correct.wav", "3_b-2_incorrect.wav"
    )
    touch(folder, "4_c_correct.wav", "readme.txt")
    found = read_pairs(folder)
    assert found.pairs == [
        Pair(folder / "0_a-1_correct.wav", folder / "1_a-1_incorrect.wav", "tSC", "a-1"),
        Pair(folder / "2_b-2_correct.wav", folder / "3_b-2_incorrect.wav", "tSC", "b-2"),
    ]
    assert found.unpaired == [f"{folder / '4_c_correct.wav'} has no counterpart of the same story."]


def test_stories_may_be_named_by_numbers_alone(tmp_path):
    folder = touch(tmp_path / "sSC", "10_correct.wav", "10_incorrect.wav", "9_correct.wav", "9_incorrect.wav")
    pairs = read_pairs(folder).pairs
    assert [(pair.positive.name, pair.negative.name) for pair in pairs] == [
        ("10_correct.wav", "10_incorrect.wav"),
        ("9_correct.wav", "9_incorrect.wav"),
    ]


def test_salmon_is_a_folder_of_parts(tmp_path):
    for part in ("speaker_consistency", "rir_consistency"):
        touch(tmp_path / part, "sample_2_0.wav", "sample_2_1.wav", "sample_10_1.wav", "sample_10_0.wav")
    touch(tmp_path / "rir_consistency", "sample_11_1.wav")
    found = read_pairs(tmp_path)
    assert [(pair.group, pair.positive.name, pair.negative.name) for pair in found.pairs] == [
        (part, f"sample_{number}_0.wav", f"sample_{number}_1.wav")
        for part in ("rir_consistency", "speaker_consistency")
        for number in (2, 10)
    ]
    assert len(found.unpaired) == 1 and "sample_11_1.wav" in found.unpaired[0]
    assert read_pairs(tmp_path / "speaker_consistency").pairs == found.pairs[2:]


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"neither the gold\.csv"):
        read_pairs(touch(tmp_path, "a.wav", "b/c.wav"))


# ---------------------------------------------------------------------------------------------- disturbances


def words(*lengths: float, rate: int = RATE) -> np.ndarray:
    """Noise with 40 ms of silence after each word; lengths in seconds."""
    random = np.random.default_rng(0)
    silence = np.zeros(rate // 25)
    parts = [part for length in lengths for part in (random.normal(0, 0.1, round(length * rate)), silence)]
    return np.concatenate(parts).astype(np.float32)


def test_clips_are_cut_in_the_silence_after_words():
    samples = words(0.3, 0.26, 0.4, 0.3, 0.3)
    parts = segments(samples)
    assert np.array_equal(np.concatenate(parts), samples)
    ends = np.cumsum([len(part) for part in parts])[:-1] / RATE
    silences = np.cumsum([0.34, 0.3, 0.44, 0.34])
    assert len(ends) == 4 and all(silences - 0.04 <= ends) and all(ends <= silences)


def test_segments_are_as_long_as_words():
    lengths = [len(part) / RATE for part in segments(speech_like(8 * RATE, seed=1).numpy())]
    assert min(lengths) >= 0.19 and max(lengths) <= 0.71


def test_what_is_joined_is_the_clip_but_for_the_fades():
    samples = words(0.3, 0.3, 0.3, 0.3)
    parts = segments(samples)
    whole = joined(parts)
    changed = np.flatnonzero(whole != samples)
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    assert len(whole) == len(samples)
    assert all(np.abs(cuts - place).min() <= disturbances.FADE for place in changed)
    assert np.array_equal(joined([samples]), samples)


@pytest.fixture
def made():
    samples, other = words(0.3, 0.25, 0.4, 0.3, 0.35, 0.3), words(0.35, 0.3, 0.28, 0.4, 0.3)[::-1].copy() / 10
    random = np.random.default_rng(0)
    pairs = {group: clips for group, *clips in disturbed(samples, other, False, random)}
    return samples, other, pairs


def test_the_clips_of_a_pair_are_of_one_length(made):
    _, _, pairs = made
    assert list(pairs) == ["reversed", "shuffled", "speaker", "level"]
    assert all(len(positive) == len(negative) for positive, negative in pairs.values())
    assert all(not np.array_equal(*clips) for clips in pairs.values())


def test_segments_are_reversed_in_their_place_and_shuffled_whole(made):
    samples, _, pairs = made
    parts = segments(samples)
    start = 0
    for part in parts:
        inside = slice(disturbances.FADE, len(part) - disturbances.FADE)
        assert np.array_equal(pairs["reversed"][1][start : start + len(part)][inside], part[::-1][inside])
        start += len(part)
    middles = [part[len(part) // 2 - 50 : len(part) // 2 + 50].tobytes() for part in parts]
    shuffled = pairs["shuffled"][1].tobytes()
    places = [shuffled.index(middle) for middle in middles]
    assert places != sorted(places)


def test_another_voice_goes_on_at_the_level_of_the_first(made):
    samples, other, pairs = made
    first, _ = halves(samples)
    same, replaced = (clip[len(first) :] for clip in pairs["speaker"])
    assert np.array_equal(pairs["speaker"][0][: len(first)], pairs["speaker"][1][: len(first)])
    assert np.corrcoef(replaced, halves(other)[1][: len(replaced)])[0, 1] > 0.99
    assert np.square(replaced).mean() == pytest.approx(np.square(same).mean(), rel=0.02)


@pytest.mark.parametrize("quiet", [False, True])
def test_the_level_jumps_by_12_db_from_that_of_the_positive_clip(quiet):
    samples = words(0.3, 0.25, 0.4, 0.3)
    pairs = {group: clips for group, *clips in disturbed(samples, None, quiet, np.random.default_rng(0))}
    assert "speaker" not in pairs
    positive, negative = pairs["level"]
    cut = len(halves(samples)[0])
    assert np.array_equal(positive[:cut], negative[:cut])
    powers = [np.square(clip[cut:]).mean() for clip in (negative, positive)]
    assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(12 if quiet else -12, abs=0.01)
    assert np.abs(positive).max() == pytest.approx(np.abs(samples).max() * (10 ** (-12 / 20) if quiet else 1), rel=1e-3)


def test_pairs_of_a_folder_are_written_and_read_again(tmp_path):
    corpus = tmp_path / "corpus"
    audio = corpus / "1088" / "134315"  # the layout of LibriSpeech, which names speakers
    audio.mkdir(parents=True)
    names = ["1088-134315-0000", "1088-134315-0001", "2000-134315-0000"]
    (audio / "1088-134315.trans.txt").write_text("".join(f"{name} A\n" for name in names))
    for seed, name in enumerate(names):
        soundfile.write(audio / f"{name}.flac", speech_like(3 * RATE, seed).numpy(), RATE)
    soundfile.write(audio / "1088-134315-0002.flac", speech_like(RATE // 2, 5).numpy(), RATE)
    (audio / "broken.flac").write_bytes(b"no audio")
    count, left_out = write_pairs(list_voices(corpus), tmp_path / "out")
    found = read_pairs(tmp_path / "out" / "pairs.csv")
    assert count == len(found.pairs) == 12
    assert [pair.item for pair in found.pairs][::4] == names
    assert all(pair.positive.is_file() and pair.negative.is_file() for pair in found.pairs)
    assert len(left_out) == 2 and any("1088-134315-0002 is too short" in reason for reason in left_out)
    before = [pair.negative.read_bytes() for pair in found.pairs]
    write_pairs(list_voices(corpus), tmp_path / "again")
    assert before == [pair.negative.read_bytes() for pair in read_pairs(tmp_path / "again" / "pairs.csv").pairs]


def test_a_manifest_names_speakers_and_segments(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(6 * RATE, 1).numpy(), RATE)
    (tmp_path / "list.csv").write_text("path,offset,duration,speaker\na.wav,0,3,x\na.wav,3,3,y\n")
    count, left_out = write_pairs(list_voices(tmp_path / "list.csv"), tmp_path / "out")
    assert (count, left_out) == (8, [])
    audio, _ = soundfile.read(tmp_path / "out" / "00000-shuffled-positive.flac")
    assert len(audio) == 3 * RATE
