"""`docs/results.md`: what was measured, beside what the papers print, and where it is worse first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .chart import draw_chart
from .papers import L3AC_FIGURE_1, TAAE_MAIN
from .scoring import SIGNAL
from .tables import id_table, mean_cell, quality_table, rate_table, table

Summary = Mapping[str, Any]

COMPARED = ("stoi", "pesq_wb", "sdr", "superb_mel", "si_sdr", "mel_distance", "stft_distance")
"""Signal metrics in the list of what is worse; those of applications all are."""


def results_page(
    summaries: Mapping[str, Summary], models: Sequence[str], page: Path, command: str
) -> dict[Path, bytes]:
    """The page and its pictures, by path.

    Args:
        summaries: `signal` (all clips) and `applications` (those with transcripts), of `summarize`.
        models: titles of the codecs that the page is about.
        page: its path; pictures lie beside it.
        command: that made it.
    """
    signal, applications = summaries["signal"], summaries["applications"]
    pictures = draw_chart(signal)
    sections = [f"# Results\n\n{_introduction(signal, models, command)}"]
    sections += [f"## Where {model} is worse\n\n{_worse(summaries, model)}" for model in models]
    sections.append(f"## Quality\n\n{_quality(signal)}")
    if pictures:
        sections.append(
            f"![quality of speech over rate]({page.stem}.svg)\n\nFilled: measured here, with 95 % intervals. Dashed: "
            "the points of the L3AC paper's Figure 1, on its data, not comparable. A circle grows with the multiply–"
            "accumulates for 10 s of audio: counted in full for ours, as printed for the paper's (its counter skips "
            "weight-normed layers, so that L3AC's circles are far too small beside ours: 2.03 G where a full count "
            "gives about 44 G)."
        )
    sections += [
        f"## Applications\n\n{_applications(applications)}",
        f"## Ids\n\n{_ids(signal)}",
        f"## Beside the papers\n\n{_papers(signal, models)}",
        f"## How it was measured\n\n{_method(signal, applications)}",
    ]
    contents = {page: ("\n\n".join(sections) + "\n").encode()}
    return contents | {page.with_suffix(f".{kind}"): picture for kind, picture in pictures.items()}


def _codec(summary: Summary, title: str) -> Mapping[str, Any]:
    return next(codec for codec in summary["codecs"] if codec["title"] == title)


def _introduction(signal: Summary, models: Sequence[str], command: str) -> str:
    data = ", ".join(
        f"{facts['clips']} clips of {name} ({facts['seconds'] / 60:.1f} minutes)"
        for name, facts in signal["datasets"].items()
    )
    named = ", ".join(f"`{model}` (weights digest `{_codec(signal, model)['digest']}`)" for model in models)
    return (
        f"{named} on {data}; no reader, album or source of them was trained on. Every figure is a mean over clips with "
        f"its 95 % bootstrap interval. Made by `{command}`, which writes this page anew."
    )


def _worse(summaries: Mapping[str, Summary], model: str) -> str:
    """What does better than a model of ours, beyond both intervals; then what does not."""
    lines = []
    applications = summaries["applications"]
    for summary, names in ((summaries["signal"], COMPARED), (applications, _of_applications(applications))):
        ours = _codec(summary, model)
        others = [
            codec
            for codec in summary["codecs"]
            if codec["unavailable"] is None and codec["title"] not in ("original", model)
        ]
        for domain in ours["domains"]:
            for name, metric in summary["metrics"].items():
                mean = ours["domains"][domain]["values"][name]
                if name not in names or mean["mean"] is None:
                    continue
                better, alike, behind = _ranked(mean, metric, domain, name, others)
                if not (better or alike or behind):
                    continue
                text = f"- **{metric['title']}**, {domain}: {mean_cell(mean, metric)}."
                for titles, word in ((better, "Better"), (alike, "Within the intervals"), (behind, "Worse")):
                    if titles:
                        text += f" {word}: {', '.join(titles)}."
                lines.append((not better, text))
    lines.sort(key=lambda line: line[0])
    return "\n".join(text for _, text in lines)


def _of_applications(summary: Summary) -> list[str]:
    return [name for name in summary["metrics"] if name not in SIGNAL]


def _ranked(
    mean: Mapping[str, Any], metric: Mapping[str, Any], domain: str, name: str, others: list[Mapping[str, Any]]
) -> tuple[list[str], list[str], list[str]]:
    better, alike, behind = [], [], []
    low, high = mean["interval"] or (mean["mean"], mean["mean"])
    for codec in others:
        other = codec["domains"][domain]["values"][name]
        if other["mean"] is None:
            continue
        rate = codec["domains"][domain]["bits_per_second"]["mean"]
        text = f"{codec['title']} {metric['scale'] * other['mean']:.{metric['decimals']}f} at {rate / 1000:.2f} kb/s"
        other_low, other_high = other["interval"] or (other["mean"], other["mean"])
        if other_low <= high and low <= other_high:
            alike.append(text)
        elif (other["mean"] > mean["mean"]) == metric["higher_is_better"]:
            better.append(text)
        else:
            behind.append(text)
    return better, alike, behind


def _quality(signal: Summary) -> str:
    parts = []
    for domain in dict.fromkeys(facts["domain"] for facts in signal["datasets"].values()):
        datasets = [name for name, facts in signal["datasets"].items() if facts["domain"] == domain]
        parts.append(f"### {domain.capitalize()} ({', '.join(datasets)})")
        if len(datasets) > 1:
            parts += ["Mean of the means of its data sets:", quality_table(signal, domain)]
        parts += [quality_table(signal, domain, dataset) for dataset in datasets]
    return "\n\n".join(parts)


def _applications(applications: Summary) -> str:
    clips = sum(facts["clips"] for facts in applications["datasets"].values())
    sources = {name: metric["source"] for name, metric in applications["metrics"].items()}
    named = ", ".join(
        f"{applications['metrics'][name]['title']} ({sources[name]})"
        for name in ("wer", "dwer", "speaker_similarity", "eer", "distillmos")
        if name in sources
    )
    return (
        f"On the {clips} clips of speech with a transcript (four a reader): {named}. EER is over all "
        "pairs of decoded clips of these few readers: it tells codecs apart, and is no figure of VoxCeleb. The "
        "recogniser and the voice encoder are small models that need no hub.\n\n"
        + quality_table(applications, "speech", metrics=_of_applications(applications))
    )


def _ids(signal: Summary) -> str:
    return (
        f"{rate_table(signal)}\n\nG MAC: encoding + decoding, all products and convolutions by torch's counter. The "
        "L3AC paper prints 2.03 for l3ac-1k, from a counter that skips weight-normed layers. Times and memory beside "
        f"other codecs: `make bench` (docs/speed.md).\n\n{id_table(signal)}"
    )


def _papers(signal: Summary, models: Sequence[str]) -> str:
    ours = [_codec(signal, model) for model in models]

    def cell(codec: Mapping[str, Any], name: str) -> str:
        values = (codec.get("domains") or {}).get("speech", {}).get("values", {})
        return mean_cell(values[name], signal["metrics"][name]) if name in values else "–"

    first = [["L3AC paper, Figure 1", "kb/s", "STOI ↑", "PESQ-WB ↑", "GMAC for 10 s, as printed"]]
    first += [
        [f"{point.codec} (theirs)", f"{point.kbps:g}", f"{point.stoi:.2f}", f"{point.pesq_wb:.2f}", f"{point.gmacs:g}"]
        for point in L3AC_FIGURE_1
    ]
    first += [
        [
            f"**{codec['title']} (ours, here)**",
            _kbps(codec),
            cell(codec, "stoi"),
            cell(codec, "pesq_wb"),
            _full_count(codec),
        ]
        for codec in ours
    ]
    titles = {
        "si_sdr": "SI-SDR, dB ↑",
        "mel_distance": "mel distance ↓",
        "stft_distance": "STFT distance ↓",
        "pesq": "PESQ ↑",
        "stoi": "STOI ↑",
    }
    second = [["TAAE paper", *titles.values()]]
    second += [[f"{name} (theirs)", *(f"{row[key]:.2f}" for key in titles)] for name, row in TAAE_MAIN.items()]
    second += [
        [f"**{codec['title']} (ours, here)**", *(cell(codec, "pesq_wb" if key == "pesq" else key) for key in titles)]
        for codec in ours
    ]
    return (
        "Theirs are on their data, with weights trained on thousands of hours: **not comparable** with ours in the "
        f"last rows, which say how far there is to go.\n\n{table(first)}\n\n{table(second)}"
    )


def _kbps(ours: Mapping[str, Any]) -> str:
    return f"{ours['rates']['bits_per_second'] / 1000:.2f}" if ours.get("rates") else "–"


def _full_count(ours: Mapping[str, Any]) -> str:
    return "–" if ours["gmacs"] is None else f"{sum(ours['gmacs'].values()):.1f}, all layers counted"


def _method(signal: Summary, applications: Summary) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in signal["versions"].items() if version)
    metrics = {**signal["metrics"], **applications["metrics"]}
    rows = [["metric", "definition"]]
    rows += [[metric["title"], metric["source"]] for metric in metrics.values()]
    return (
        "Everything is compared at 16 kHz: clips are resampled to each codec's rate and back with soxr (VHQ), and cut "
        "or filled with silence to the original's length. Opus is libsndfile's, its bits those of the audio packets; "
        "Codec 2 is Debian's, with its delay taken back. STOI and PESQ are of speech only. What has no value is "
        "counted in the last column. Ids changed: by white noise 60 dB below the clip, by one sample and by one hop "
        f"of silence before it (ids moved by one), by a gain of −6 dB.\n\n{table(rows)}\n\n"
        f"Machine: {signal['machine']}. {versions}."
    )
