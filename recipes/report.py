"""Generate docs/reports/results.md and standard.md: bundled weights and other codecs on the evaluation audio.

    L3AC_SHARED=… make report

or, with a folder that has `audio/eval` (speech, music, general; `eval/transcripts.csv`), the held-out clips of
`audio/train` and `audio/train-more`, and `audio/manifest.csv`:

    python recipes/report.py "$L3AC_SHARED" -o docs/reports/results.md

Results of all clips are kept in `results/`: an interrupted run resumes, and only changed weights are measured again.
Signal and id metrics are over all clips of `eval`, those of applications and the first standard table over its speech
with a transcript. Further standard tables are of noisy speech, which is mixed here from clips of `eval`, and of speech
that training holds out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from l3ac_tokenizer.audio import write_audio
from l3ac_tokenizer.cli.report import one_sentence
from l3ac_tokenizer.evaluation.codecs.base import codec_title
from l3ac_tokenizer.evaluation.cost import measure_speed
from l3ac_tokenizer.evaluation.dataset import open_data
from l3ac_tokenizer.evaluation.report.files import write_report
from l3ac_tokenizer.evaluation.report.results_page import results_page
from l3ac_tokenizer.evaluation.report.standard_table import Standard, standard_report, standard_rows
from l3ac_tokenizer.evaluation.run import EvaluationOptions, run_evaluation
from l3ac_tokenizer.evaluation.scorers.registry import available_scorers, requested_scorers
from l3ac_tokenizer.evaluation.standard import CLASSICAL_CODECS, PEERS, STANDARD_SCORERS
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.hub import bundled_presets
from l3ac_tokenizer.markup import printable

COMMAND = "make report"
DATA_SETS = ["speech", "music", "general"]
HELD_OUT = {
    "crowd and non-native": ("speechocean-70", "picovoice-ww-jarvis_"),
    "other languages": ("kerstin-de", "yoruba", "asterisk-it", "fillets-cs-v", "artikulate-el"),
}
"""Beginnings of the names of further clips of speech, held out by the training configurations (`light/base.yaml`)."""
HELD_OUT_CLIPS = 5
"""Most clips of each beginning."""
NOISY = "noisy speech"
NOISY_CLIPS = 12
SNR_DB = 10.0
"""Power of the speech over that of the sound mixed to it, both over the whole clip."""
ABOUT = {
    "speech": "English: clips of `eval/speech` with a transcript, by six readers of LibriSpeech.",
    NOISY: f"English: clips of the same readers with a sound of `eval/general` mixed to each, {SNR_DB:g} dB below the "
    "speech. The original, to which the metrics compare, is the noisy clip.",
    "crowd and non-native": "English words of many voices on their own devices, and English read by a native speaker "
    "of Mandarin: held out by training, though the tokens that the light weights began from may have seen them.",
    "other languages": "German, Yoruba, Italian, Czech and Greek, held out in the same way. There are no transcripts.",
}
"""Data set of a standard table → what it holds."""


def main() -> None:
    """Write the manifests, evaluate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, metavar="FOLDER", help="folder with the evaluation audio (L3AC_SHARED)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("docs/reports/results.md"), help="page (default: %(default)s)"
    )
    parser.add_argument(
        "--rows", type=Path, default=Path("results"), help="folder of the results of all clips (default: %(default)s)"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=bundled_presets(),
        metavar="NAME_OR_DIRECTORY",
        help="models (default: all bundled)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="use at most N clips of each data set, for a trial run")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes (default: %(default)s)")
    options = parser.parse_args()
    command = COMMAND if options.limit is None else f"python recipes/report.py FOLDER --limit {options.limit}"
    try:
        options.rows.mkdir(parents=True, exist_ok=True)
        manifests = _write_manifests(options.shared, options.rows)
        codecs = [*options.models, *CLASSICAL_CODECS, *PEERS]
        scorers, missing = available_scorers(requested_scorers(STANDARD_SCORERS), "cpu")
        without_text = tuple(scorer for scorer in scorers if scorer[0] != "asr")
        summaries = {
            name: _summary(name, manifests[name], codecs, EvaluationOptions(False, asked), options)
            for name, asked in (("applications", scorers), ("noisy", scorers), ("held-out", without_text))
        }
        standard = Standard(measure_speed(codecs), missing)
        rows = [row for summary in summaries.values() for row in standard_rows(summary, standard)]
        titles = [codec_title(model) for model in options.models]
        weights = {of["title"]: of["digest"] for of in summaries["noisy"]["codecs"] if of["title"] in titles}
        _write(standard_report(rows, standard, weights, ABOUT, options.output.with_name("standard.md"), command))
        summaries["signal"] = _summary(
            "signal", manifests["signal"], [*codecs, "opus@12"], EvaluationOptions(), options
        )
        _write(results_page(summaries, titles, options.output, command))
    except (OSError, ValueError) as error:
        sys.exit(printable(f"report: {one_sentence(error)}"))


def _summary(
    name: str, manifest: Path, codecs: list[str], settings: EvaluationOptions, options: argparse.Namespace
) -> dict[str, Any]:
    """Evaluate into the folder `name`, or resume, and write its report."""
    data = open_data([str(manifest)], options.limit, allow_outside=True)  # our own manifest
    for remark in data.remarks:
        print(remark, file=sys.stderr)
    folder = options.rows / name
    evaluation = run_evaluation(data, codecs, folder, settings, resume=True, jobs=options.jobs)
    return write_report(evaluation, folder)[0]


def _write(contents: Mapping[Path, bytes]) -> None:
    for path, content in contents.items():
        with atomic_write(path) as file:
            file.write(content)


def _write_manifests(shared: Path, folder: Path) -> dict[str, Path]:
    """Write manifests of all clips (`signal`), of those with a transcript (`applications`), of `NOISY` and `HELD_OUT`.

    Returns their paths.
    """
    audio = shared.absolute() / "audio"
    with open(audio / "eval" / "transcripts.csv", encoding="utf-8", newline="") as file:
        texts = {row["path"]: row["text"] for row in csv.DictReader(file)}
    entries: list[dict[str, str | None]] = []
    held_out: list[dict[str, str | None]] = []
    counts: Counter[str] = Counter()
    with open(audio / "manifest.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            parts = Path(row["path"]).parts
            if parts[0] == "eval" and parts[1] in DATA_SETS:
                domain = "speech" if parts[1] == "speech" else "audio"
                entry = {"path": str(audio / row["path"]), "id": Path(row["path"]).stem, "dataset": parts[1]}
                text = texts.get(row["path"])
                entries.append({**entry, "domain": domain, "speaker": row["speaker"] or None, "text": text})
            elif parts[0].startswith("train"):
                entry = {"path": str(audio / row["path"]), "id": Path(row["path"]).stem, "domain": "speech"}
                for name, beginnings in HELD_OUT.items():
                    found = next((beginning for beginning in beginnings if parts[-1].startswith(beginning)), None)
                    if found is not None and counts[found] < HELD_OUT_CLIPS:
                        counts[found] += 1
                        held_out.append({**entry, "dataset": name})
    entries.sort(key=lambda entry: DATA_SETS.index(str(entry["dataset"])))
    told = [entry for entry in entries if entry["text"]]
    sounds = [str(entry["path"]) for entry in entries if entry["dataset"] == "general"]
    noisy = _noisy(told, sounds, folder.absolute() / "noisy-speech")
    chosen = {"signal": entries, "applications": told, "noisy": noisy, "held-out": held_out}
    paths = {}
    for name, lines in chosen.items():
        paths[name] = folder / f"{name}.jsonl"
        with atomic_write(paths[name]) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    return paths


def _noisy(told: Sequence[dict[str, str | None]], sounds: Sequence[str], folder: Path) -> list[dict[str, str | None]]:
    """Mix a sound, repeated to the clip's length, to each of `NOISY_CLIPS` clips, both evenly spread; their entries."""
    folder.mkdir(exist_ok=True)
    entries = []
    for clip, sound in zip(_spread(told, NOISY_CLIPS), _spread(sounds, NOISY_CLIPS), strict=True):
        speech, rate = soundfile.read(clip["path"])
        noise, noise_rate = soundfile.read(sound)
        if rate != noise_rate:
            raise ValueError(f"{clip['path']} has {rate} Hz and {sound} {noise_rate} Hz: give clips of one rate.")
        noise = np.resize(noise, speech.shape)
        noise *= np.sqrt((speech**2).mean() / (noise**2).mean() / 10 ** (SNR_DB / 10))
        mixed = speech + noise
        path = folder / f"{clip['id']}.flac"
        write_audio(path, mixed / max(1.0, np.abs(mixed).max()), rate)
        entries.append({**clip, "path": str(path), "dataset": NOISY})
    return entries


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    return [items[place] for place in np.linspace(0, len(items) - 1, count).round().astype(int)]


if __name__ == "__main__":
    main()
