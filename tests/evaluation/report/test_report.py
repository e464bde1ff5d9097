"""Summary, tables, chart, spectrograms and pages of made-up rows."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from l3ac_tokenizer.evaluation.codecs.base import CodecRates
from l3ac_tokenizer.evaluation.dataset import EvaluationClip, EvaluationData
from l3ac_tokenizer.evaluation.report.html import Example, make_page
from l3ac_tokenizer.evaluation.report.results_page import results_page
from l3ac_tokenizer.evaluation.report.standard_table import Standard, standard_page, standard_report, standard_rows
from l3ac_tokenizer.evaluation.report.tables import summary_tables
from l3ac_tokenizer.evaluation.run import CodecMetadata, Evaluation, EvaluationOptions
from l3ac_tokenizer.evaluation.scorers.base import Metric
from l3ac_tokenizer.evaluation.scorers.signal import SIGNAL_METRICS
from l3ac_tokenizer.evaluation.scorers.speaker import EER
from l3ac_tokenizer.evaluation.scoring import ResultRow
from l3ac_tokenizer.evaluation.summary import flat_row, summarize_evaluation

matplotlib = pytest.importorskip("matplotlib", reason="comes with the extra `eval`")

METRICS = {
    "stoi": SIGNAL_METRICS["stoi"][0],
    "pesq_wb": SIGNAL_METRICS["pesq_wb"][0],
    "mel_distance": SIGNAL_METRICS["mel_distance"][0],
    "wer": Metric("WER, %", 1, False, "told", 100),
    "eer": EER,
}
SPEAKERS = {"ann": [1.0, 0.0], "bob": [0.0, 1.0]}


def row(codec: str, clip: str, quality: float, errors: float, speaker: str | None) -> ResultRow:
    dataset = clip.partition("/")[0]
    speech = dataset != "music"
    values = {"mel_distance": 3 - 2 * quality}
    if speech:
        values |= {"stoi": quality, "pesq_wb": 1 + 2 * quality, "wer": (errors, 10.0)}
    ids = [[0, 1, 2, 3]] if codec == "ours" else None
    embedding = SPEAKERS[speaker] if speaker else None
    return ResultRow(codec, None, clip, dataset, 2.0, 2000.0 if ids else 12_000.0, ids, values, embedding)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Two data sets of speech and one of music; `ours` is worse than `opus` but for music, `gone` cannot be had."""
    names = [f"{dataset}/{number}" for dataset in ("read", "told", "music") for number in range(4)]
    speakers = {name: ("ann", "bob")[int(name[-1]) % 2] if not name.startswith("music") else None for name in names}
    clips = [
        EvaluationClip(
            name.partition("/")[0],
            name.partition("/")[2],
            "audio" if speaker is None else "speech",
            None,
            {} if speaker is None else {"speaker": speaker},
        )
        for name, speaker in speakers.items()
    ]
    rows = []
    for codec, base, errors in (("ours", 0.5, 4.0), ("opus", 0.8, 1.0)):
        for name, speaker in speakers.items():
            quality = base + 0.01 * int(name[-1]) + 0.1 * name.startswith("told")
            rows.append(row(codec, name, 0.9 if (codec, speaker) == ("ours", None) else quality, errors, speaker))
    rows[0].values.pop("pesq_wb")
    rows[0].failures["pesq_wb"] = "PESQ has no value: No utterances detected."
    rows[4] = ResultRow("ours", None, "told/0", "told", failures={"read": "told/0 is not audio."})
    codecs = [
        CodecMetadata(
            "ours", "ours", None, 16_000, 16_000, CodecRates(2.0, (4,), (2, 2)), 1000, "d1", {"encode": 1, "decode": 3}
        ),
        CodecMetadata("opus", "Opus 6 kb/s", None, 16_000, 16_000),
        CodecMetadata("gone", "gone", "the hub was out of reach."),
    ]
    return Evaluation(EvaluationData(clips), EvaluationOptions(), codecs, rows, METRICS)


@pytest.fixture(scope="module")
def summary(evaluation) -> dict:
    return json.loads(json.dumps(summarize_evaluation(evaluation)))  # what is on disk


def test_data_sets_count_the_same_and_failed_clips_not_at_all(summary):
    ours = summary["codecs"][0]
    read, told = np.mean([0.50, 0.51, 0.52, 0.53]), np.mean([0.61, 0.62, 0.63])
    assert ours["datasets"]["told"]["clips"] == 3 and ours["domains"]["speech"]["clips"] == 7
    assert ours["domains"]["speech"]["values"]["stoi"]["mean"] == pytest.approx((read + told) / 2)
    assert ours["datasets"]["read"]["values"]["pesq_wb"]["count"] == 3
    assert ours["domains"]["speech"]["failed"] == {"PESQ-WB": 1, "not readable": 1}
    assert ours["domains"]["audio"]["values"]["stoi"]["mean"] is None
    assert ours["domains"]["speech"]["values"]["wer"]["mean"] == pytest.approx(0.4)
    assert ours["domains"]["speech"]["bits_per_second"]["mean"] == 1000


def test_the_equal_error_rate_is_over_all_speakers_of_a_domain(summary):
    assert summary["codecs"][1]["domains"]["speech"]["values"]["eer"]["mean"] == 0.0
    assert summary["codecs"][1]["domains"]["speech"]["values"]["eer"]["count"] == 8 * 7 // 2
    assert summary["codecs"][1]["domains"]["audio"]["values"]["eer"]["mean"] is None


def test_tables_have_a_row_a_codec_and_say_what_is_missing(summary):
    text = summary_tables(summary)
    assert text.count("| gone |") == 2 + 2  # speech, audio, read, told
    assert text.count("not available: the hub was out of reach.") == 4
    assert "| PESQ-WB: 1, not readable: 1 |" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "1.0 + 3.0" in text and "0.00 M" in text


def test_a_flat_row_divides_what_is_pooled(evaluation):
    flat = flat_row(evaluation.rows[1], METRICS)
    assert flat["wer"] == 0.4 and flat["eer"] is None and flat["failures"] is None
    assert flat_row(evaluation.rows[0], METRICS)["failures"].startswith("pesq_wb: PESQ has no value")


@pytest.fixture(scope="module")
def standard(summary) -> tuple[list, Standard]:
    speed = {"threads": 1, "seconds": 10.0, "rounds": 3, "rows": [{"codec": "ours", "encode": 0.1, "decode": 0.2}]}
    standard = Standard(speed, {"utmos": "the model 'utmos' cannot be loaded (of /home/me): give a directory."})
    return standard_rows(summary, standard), standard


def test_the_standard_table_has_a_row_a_codec_and_data_set(summary, standard):
    rows, _ = standard
    assert [(row["dataset"], row["codec"]) for row in rows] == [
        (dataset, codec) for dataset in ("read", "told", "music") for codec in ("ours", "Opus 6 kb/s", "gone")
    ]
    ours = rows[0]
    read = summary["codecs"][0]["datasets"]["read"]["values"]
    assert ours["stoi"] == read["stoi"]["mean"] and (ours["stoi_low"], ours["stoi_high"]) == tuple(
        read["stoi"]["interval"]
    )
    assert ours["clips"] == 4 and rows[3]["clips"] == 3
    assert ours["wer"] == pytest.approx(40) and ours["utmos"] is None and ours["kbps"] == 1
    assert (ours["ids_per_second"], ours["codebooks"], ours["id_entropy"], ours["id_bits"]) == (2, 1, 2, 2)
    assert (ours["rtf_encode"], ours["rtf_decode"], ours["parameters"]) == (0.1, 0.2, 0.001)
    assert (ours["gmacs_encode"], ours["gmacs_decode"]) == (0.1, 0.3)
    assert rows[1]["id_entropy"] is rows[1]["rtf_encode"] is rows[1]["gmacs_encode"] is None
    assert rows[6]["stoi"] is None  # music
    assert len({tuple(row) for row in rows}) == 1


def test_the_standard_table_says_what_is_missing_and_names_no_folder(standard):
    text = standard_page(*standard)
    assert "| ours | 4 | 1.00 | 2.00 | 1 | 0.515 | 2.04 (3) | 40.0 | – |" in text
    assert text.count("| gone | not available: the hub was out of reach. |") == 3
    assert (
        "2.00 of 2.00" in text
        and "utmos is not available: the model 'utmos' cannot be loaded: give a directory." in text
    )
    assert "/home/me" not in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_standard_report_has_a_section_a_data_set_and_a_csv(standard):
    page = Path("docs/reports/standard.md")
    about = {"told": "Told **aloud**.", "read": "Read."}
    contents = standard_report(*standard, {"ours": "d1"}, about, page, "make report")
    assert set(contents) == {page, page.with_suffix(".csv")}
    text = contents[page].decode()
    assert text.index("## Told\n\nTold **aloud**.") < text.index("## Read") < text.index("utmos is not available")
    assert "`ours` (weights digest `d1`)" in text and "## Music" not in text
    assert contents[page.with_suffix(".csv")].decode().startswith("dataset,codec,unavailable,clips,kbps,")


def test_the_standard_table_is_the_first_table_of_the_page(summary, standard):
    page = make_page(summary, [], None, standard[0])
    assert page.index("Standard table, read") < page.index("Standard table, music") < page.index("<h2>Speech</h2>")
    assert page.count('class="sortable"') == 3 + 2 and page.count("not available: the hub was out of reach") == 3 + 2


def test_the_chart_draws_what_was_measured_and_what_the_paper_prints(summary):
    from l3ac_tokenizer.evaluation.report.plots import draw_chart

    pictures = draw_chart(summary)
    assert pictures["png"].startswith(b"\x89PNG")
    svg = pictures["svg"].decode()
    for text in ("ours", "Opus 6 kb/s", "WavTokenizer", "UniCodec", "STOI", "PESQ-WB"):
        assert text in svg
    assert pictures["svg"] == draw_chart(summary)["svg"]
    music = {**summary, "codecs": [{**codec, "domains": {}} for codec in summary["codecs"]]}
    assert draw_chart(music) == {}


def test_spectrograms_are_a_row_a_codec_and_a_column_a_clip():
    from l3ac_tokenizer.evaluation.report.plots import draw_spectrograms

    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    sizes = []
    for rows in ({"original": [tone, tone]}, {"original": [tone, tone], "gone": [None, tone[:100]]}):
        picture = draw_spectrograms(rows, ["a", "b"])
        assert picture.startswith(b"\x89PNG")
        sizes.append(int.from_bytes(picture[20:24], "big"))  # height
    assert sizes[1] > sizes[0]


def test_the_page_holds_everything_it_needs(summary):
    clip = np.linspace(-0.5, 0.5, 16_000).astype(np.float32)
    page = make_page(summary, [Example("read/<0>", {"original": clip, "ours": clip, "opus": None})], b"<svg/>")
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    sounds = [base64.b64decode(text) for text in re.findall(r"data:audio/flac;base64,([^\"]+)", page)]
    assert len(sounds) == 2
    np.testing.assert_allclose(soundfile.read(io.BytesIO(sounds[0]))[0], clip, atol=1e-4)
    assert "read/&lt;0&gt;" in page and "read/<0>" not in page
    assert page.count('class="sortable"') == 2 and "not available: the hub was out of reach." in page
    assert "$" not in page.replace("${", "")


def test_what_is_worse_comes_first(summary):
    summaries = {"signal": summary, "applications": summary}
    page = Path("docs/reports/results.md")
    contents = results_page(summaries, ["ours", "Opus 6 kb/s"], page, "make report")
    assert set(contents) == {page, page.with_suffix(".png"), page.with_suffix(".svg")}
    text = contents[page].decode()
    worse = text.partition("## Where ours is worse")[2].partition("## ")[0].strip().splitlines()
    verdicts = ["Better:" in line for line in worse]
    assert verdicts == sorted(verdicts, reverse=True) and verdicts[0] and not verdicts[-1]
    assert any(line.startswith("- **STOI**, speech") and "Opus 6 kb/s 0.865 at 6.00 kb/s" in line for line in worse)
    assert any(line.startswith("- **mel distance**, audio") and "Worse: Opus" in line for line in worse)
    assert "## Where Opus 6 kb/s is worse" in text and "**Opus 6 kb/s (ours, here)**" in text
    assert text.index("is worse") < text.index("## Quality") < text.index("## Beside the papers")
    assert "| L3AC (theirs) | 1 | 0.84 | 1.77 | 2.03 |" in text and "not comparable" in text
