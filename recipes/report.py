"""Generate docs/reports/results.md: bundled weights and other codecs on the evaluation audio, beside the papers.

    L3AC_SHARED=… make report

or, with a folder that has `audio/eval` (speech, music, general; `eval/transcripts.csv`), the held-out clips of
`audio/train` and `audio/train-more`, and `audio/manifest.csv`:

    python recipes/report.py "$L3AC_SHARED" -o docs/reports/results.md

Results of all clips are kept in `results/`: an interrupted run resumes, and only changed weights are measured again.
Signal and id metrics are over all clips of `eval`, those of applications over its speech with a transcript.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path

from l3ac_tokenizer.cli.report import one_sentence
from l3ac_tokenizer.evaluation.codecs.base import codec_title
from l3ac_tokenizer.evaluation.dataset import open_data
from l3ac_tokenizer.evaluation.report.files import write_report
from l3ac_tokenizer.evaluation.report.results_page import results_page
from l3ac_tokenizer.evaluation.run import EvaluationOptions, run_evaluation
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.hub import bundled_presets
from l3ac_tokenizer.markup import printable

CLASSICAL_CODECS = ["opus@6", "opus@12", "codec2@1200", "original"]
TRANSFORMERS_CODECS = [
    "facebook/encodec_24khz@1.5",
    "descript/dac_16khz@2",
    "kyutai/mimi@8",
    "HKUSTAudio/xcodec2-hf",
    "neuphonic/neucodec",
]
COMMAND = "make report"
DATA_SETS = ["speech", "music", "general"]
HELD_OUT = {
    "crowd and non-native": ("speechocean-70", "picovoice-ww-jarvis_"),
    "other languages": ("kerstin-de", "yoruba", "asterisk-it", "fillets-cs-v", "artikulate-el"),
}
"""Beginnings of the names of further clips of speech, held out by the training configurations (`light/base.yaml`)."""
HELD_OUT_CLIPS = 5
"""Most clips of each beginning."""
APPLICATION_CODECS = ["opus@6", "codec2@1200", "original"]
APPLICATIONS = EvaluationOptions(
    consistency=False, scorers=(("asr", "faster-whisper"), ("speaker", "resemblyzer"), ("mos", "distillmos"))
)


HELD_OUT_OPTIONS = EvaluationOptions(consistency=False, scorers=(("mos", "distillmos"),))


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
    try:
        options.rows.mkdir(parents=True, exist_ok=True)
        manifests = _write_manifests(options.shared, options.rows)
        summaries = {}
        models = options.models
        for name, codecs, settings in (
            ("signal", [*models, *CLASSICAL_CODECS, *TRANSFORMERS_CODECS], EvaluationOptions()),
            ("applications", [*models, *APPLICATION_CODECS], APPLICATIONS),
            ("held-out", [*models, *APPLICATION_CODECS], HELD_OUT_OPTIONS),
        ):
            data = open_data([str(manifests[name])], options.limit, allow_outside=True)  # our own manifest
            for remark in data.remarks:
                print(remark, file=sys.stderr)
            folder = options.rows / name
            evaluation = run_evaluation(data, codecs, folder, settings, resume=True, jobs=options.jobs)
            summaries[name], _ = write_report(evaluation, folder)
        titles = [codec_title(model) for model in models]
        for path, content in results_page(summaries, titles, options.output, COMMAND).items():
            with atomic_write(path) as file:
                file.write(content)
    except (OSError, ValueError) as error:
        sys.exit(printable(f"report: {one_sentence(error)}"))


def _write_manifests(shared: Path, folder: Path) -> dict[str, Path]:
    """Write manifests of all clips (`signal`), of those with a transcript (`applications`) and of `HELD_OUT`.

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
    chosen = {"signal": entries, "applications": [entry for entry in entries if entry["text"]], "held-out": held_out}
    paths = {}
    for name, lines in chosen.items():
        paths[name] = folder / f"{name}.jsonl"
        with atomic_write(paths[name]) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    return paths


if __name__ == "__main__":
    main()
