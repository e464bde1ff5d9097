"""One item ends no run: whatever is wrong with a clip is that clip's failure, and the others are there."""

from __future__ import annotations

import hostile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l3ac_tokenizer.asr import normalized_words
from l3ac_tokenizer.audio import AudioReader
from l3ac_tokenizer.cli.main import main
from l3ac_tokenizer.evaluation import scoring
from l3ac_tokenizer.evaluation.codecs.base import Codec, CompressedClip
from l3ac_tokenizer.evaluation.dataset import EvaluationClip
from l3ac_tokenizer.inference import each_or_failure, encode_audio
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.arrow import encode_records
from l3ac_tokenizer.tokenization.encoding import ClipEncoder
from l3ac_tokenizer.tokenization.sources.base import Record, safe_records
from l3ac_tokenizer.training.data.corpus import TrainingClip, decode

GOOD = hostile.flac_bytes()


def failures(network, records, columns=None) -> list[str | None]:
    """The error of each record after encoding them together."""
    table = encode_records(records, 0, columns or {}, ClipEncoder(network), None)
    return table["error"].to_pylist()


@pytest.mark.parametrize("rate", [-1, 0, 10**30, float("nan"), float("inf"), "many", None, 1.5, True, 10**400])
def test_a_row_with_a_strange_rate(rate, network, limited):
    clip = {"array": [0.1] * 200, "sampling_rate": rate}
    records = [Record("a", GOOD, "a"), Record("b", clip, "b"), Record("c", GOOD, "c")]
    first, bad, last = limited(lambda: failures(network, records)).value
    assert first is None and last is None and bad


@pytest.mark.parametrize(
    "audio",
    [
        {"array": [[0.1], [0.2, 0.3]], "sampling_rate": 16_000},
        {"array": ["a"], "sampling_rate": 16_000},
        {"array": {"a": 1}, "sampling_rate": 16_000},
        {"array": [], "sampling_rate": 16_000},
        {"array": [float("nan")], "sampling_rate": 16_000},
        {"bytes": 3},
        {"path": 3},
        {"path": "a\0b"},
        {},
        b"",
        "a\0b.wav",
        "x" * 5_000,
    ],
    ids=str,
)
def test_a_row_with_strange_audio(audio, network, limited):
    records = [Record("a", GOOD, "a"), Record("b", audio, "b"), Record("c", GOOD, "c")]
    first, bad, last = limited(lambda: failures(network, records)).value
    assert first is None and last is None and bad


@pytest.mark.parametrize("value", [10**30, "x", [1], {"a": 1}, b"x"], ids=str)
def test_a_row_with_a_value_that_its_column_cannot_hold(value, network, limited):
    records = [Record(name, GOOD, name, {"count": column}) for name, column in (("a", 1), ("b", value), ("c", 3))]
    first, bad, last = limited(lambda: failures(network, records, {"count": pa.int64()})).value
    assert first is None and last is None and "count" in bad


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"text": ' + "1" * 5_000 + "}", '{"text": NaN}', "\xff", '{"a":' * 900 + "1" + "}" * 900]
)
def test_strange_json_in_a_tar(text, network, limited, tmp_path):
    members = [member for name in ("bad", "last") for member in (hostile.tar_member(f"{name}.flac", len(GOOD), GOOD),)]
    data = text.encode("latin-1")
    path = hostile.tar(tmp_path / "x.tar", members[0], hostile.tar_member("bad.json", len(data), data), members[1])
    summary = limited(lambda: tokenize_corpus(open_source(str(path)), network, tmp_path / "out")).value
    assert summary["clips"] >= 2 and summary["complete"]


def test_a_source_that_fails_in_the_middle_goes_on_behind_it(network):
    class Broken:
        def records(self, start, stop):
            for number in range(start, stop):
                if number in (1, 3):
                    raise MemoryError
                yield Record(str(number), GOOD, str(number))

    found = list(safe_records(Broken(), 0, 5))
    assert [record.error is None for record in found] == [True, False, True, False, True]
    assert "memory" in found[1].error


def test_a_damaged_page_of_parquet_costs_its_rows(network, limited, tmp_path):
    table = pa.table({"audio": [hostile.flac_bytes(seed=number) for number in range(40)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10, compression="none")
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    offset = pq.read_metadata(tmp_path / "x.parquet").row_group(1).column(0).data_page_offset
    data[offset : offset + 20] = b"\xff" * 20
    (tmp_path / "x.parquet").write_bytes(data)
    summary = limited(
        lambda: tokenize_corpus(open_source(str(tmp_path / "x.parquet")), network, tmp_path / "out")
    ).value
    assert (summary["clips"], summary["failures"]) == (30, 10)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory"), TypeError("x"), KeyError("x")])
def test_any_error_of_a_clip_is_its_failure(error, network, limited, tmp_path):
    def fail():
        raise error

    path = hostile.write(tmp_path / "a.flac", GOOD)
    clips = [fail, lambda: AudioReader(path, 16_000), fail]
    results = limited(lambda: {place: clip.error for place, clip in encode_audio(network, clips, 30.0)}).value
    assert results[1] is None and results[0] and results[2]


def test_a_batch_that_fails_is_repeated_one_by_one():
    def double(items):
        if 3 in items:
            raise MemoryError
        return [2 * item for item in items]

    first, bad, last = each_or_failure(double, [1, 3, 5])
    assert (first, last) == (2, 10) and isinstance(bad, MemoryError)


def test_files_of_any_kind_end_no_preparation(limited, tmp_path):
    good = hostile.write(tmp_path / "good.flac", GOOD)
    others = [
        hostile.flac_claiming(tmp_path / "a.flac", 2**36 - 1),
        hostile.wav(tmp_path / "b.wav", rate=1),
        hostile.silent_flac(tmp_path / "c.flac", 3),
        hostile.write(tmp_path / "d.mp3", b"\xff\xfb\x90\x00"),
        tmp_path / ("n" * 300 + ".wav"),
        tmp_path,
    ]
    clips = [TrainingClip(str(path), "x") for path in (*others, good)]
    clips += [TrainingClip(str(good), "x", 1e308, 1e308), TrainingClip(str(good), "x", float("nan"))]
    corpus = limited(lambda: list(decode(clips, tmp_path / "cache", 16_000, 1.0).places)).value
    assert [clip.path for clip in corpus] == [str(good)]


def test_a_clip_with_a_strange_transcript_or_name_ends_no_evaluation(limited, tmp_path, monkeypatch):
    def fail(*audio):
        raise IndexError("of a library")

    monkeypatch.setattr(scoring, "SIGNAL_METRICS", {"broken": (None, fail)})

    class Same(Codec):
        name = title = "same"
        sampling_rate = output_rate = 16_000
        rates = digest = parameters = None

        def __init__(self):
            pass

        def encode(self, audio):
            return CompressedClip(audio, 1.0)

        def decode(self, encoded, length=None):
            return encoded.payload

    class Words:
        metrics = {}  # noqa: RUF012

        def score(self, trial):
            return {"words": float(len(normalized_words(trial.clip.labels["text"])))}

    path = hostile.write(tmp_path / "a.flac", hostile.flac_bytes(16_000))
    clip = EvaluationClip("x", "n" * 400, "audio", str(path), {"text": "9" * 200_000})
    row = limited(lambda: scoring.ClipScorer({"wer": Words()}, consistency=False)(Same(), clip)[0]).value
    assert row.failures.keys() == {"wer", "broken"}
    assert "".join(normalized_words("9" * 5_000)) == "9" * 5_000


def test_detokenize_leaves_out_rows_that_it_cannot_decode(network, checkpoint, limited, tmp_path, capsys):
    table = pa.table(
        {
            "id": ["a", "b", None, "n" * 400, "d", "e"],
            "ids": pa.array([[1], [10**6], [1], [1], [1], [2]], pa.list_(pa.int32())),
            "num_samples": pa.array([12, 12, 12, 12, None, 12], pa.int64()),
        }
    )
    facts = hostile.corpus_metadata(
        levels=list(network.config.levels), hop_length=12, weights_digest=network.weights_digest()
    )
    hostile.parquet(tmp_path / "x.parquet", table, facts)
    arguments = ["detokenize", str(tmp_path / "x.parquet"), "-o", str(tmp_path / "out"), "--model", str(checkpoint)]
    assert limited(lambda: main(arguments)).value == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "e.wav"]


def test_encode_and_decode_continue_behind_any_file(network, checkpoint, limited, tmp_path):
    hostile.write(tmp_path / "in/good.flac", GOOD)
    hostile.wav(tmp_path / "in/rate.wav", rate=1)
    hostile.flac_claiming(tmp_path / "in/claim.flac", 2**36 - 1)
    arguments = ["encode", str(tmp_path / "in"), "-o", str(tmp_path / "ids"), "--model", str(checkpoint)]
    assert limited(lambda: main(arguments)).value == 1
    assert [path.name for path in (tmp_path / "ids").iterdir()] == ["good.l3ac"]
    hostile.l3ac(tmp_path / "ids/bad.l3ac", (65_535,) * 3)
    hostile.l3ac(tmp_path / "ids/many.l3ac", num_ids=1 << 50)
    arguments = ["decode", str(tmp_path / "ids"), "-o", str(tmp_path / "out"), "--model", str(checkpoint)]
    assert limited(lambda: main(arguments)).value == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.wav"]
