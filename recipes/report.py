"""Make docs/results.md: the bundled weights and anchors on the evaluation audio, beside the papers' figures.

L3AC_SHARED=… make report

or, with the folder that holds `audio/eval` (speech, music, general; `eval/transcripts.csv`) and `audio/manifest.csv`:

python recipes/report.py "$L3AC_SHARED" -o docs/results.md

Rows are kept in `results/`, so a run that was stopped goes on, and other weights are all that is measured anew. Signal
metrics and ids are of all clips, applications of the clips of speech that have a transcript.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

from l3ac_tokenizer.cli.report import one_sentence
from l3ac_tokenizer.evaluation.codec import codec_title
from l3ac_tokenizer.evaluation.data import open_data
from l3ac_tokenizer.evaluation.options import Options
from l3ac_tokenizer.evaluation.report import write_report
from l3ac_tokenizer.evaluation.results_page import results_page
from l3ac_tokenizer.evaluation.run import evaluate
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.hub import bundled_presets

ANCHORS = ["opus@6", "opus@12", "codec2@1200", "original"]
PEERS = [
    "facebook/encodec_24khz@1.5",
    "descript/dac_16khz@2",
    "kyutai/mimi@8",
    "HKUSTAudio/xcodec2-hf",
    "neuphonic/neucodec",
]
COMMAND = "make report"
DATA_SETS = ["speech", "music", "general"]
APPLICATION_CODECS = ["opus@6", "codec2@1200", "original"]
APPLICATIONS = Options(consistency=False, asr="faster-whisper", speaker="resemblyzer", opinions=("distillmos",))


def main() -> None:
    """Write the manifests, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path, metavar="FOLDER", help="what L3AC_SHARED names")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results.md"), help="default: %(default)s")
    parser.add_argument("--rows", type=Path, default=Path("results"), help="default: %(default)s")
    parser.add_argument(
        "--models", nargs="+", default=bundled_presets(), metavar="NAME_OR_DIRECTORY", help="default: all bundled ones"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="clips a data set, to try it")
    parser.add_argument("--jobs", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    try:
        options.rows.mkdir(parents=True, exist_ok=True)
        manifests = _write_manifests(options.shared, options.rows)
        summaries = {}
        models = options.models
        for name, codecs, settings in (
            ("signal", [*models, *ANCHORS, *PEERS], Options()),
            ("applications", [*models, *APPLICATION_CODECS], APPLICATIONS),
        ):
            data = open_data([str(manifests[name])], options.limit)
            folder = options.rows / name
            evaluation = evaluate(data, codecs, folder, settings, resume=True, jobs=options.jobs)
            summaries[name], _ = write_report(evaluation, folder)
        titles = [codec_title(model) for model in models]
        for path, content in results_page(summaries, titles, options.output, COMMAND).items():
            with atomic_write(path) as file:
                file.write(content)
    except (OSError, ValueError) as error:
        sys.exit(f"report: {one_sentence(error)}")


def _write_manifests(shared: Path, folder: Path) -> dict[str, Path]:
    """All clips with their speakers and transcripts, and the clips with a transcript."""
    audio = shared.absolute() / "audio"
    with open(audio / "eval" / "transcripts.csv", encoding="utf-8", newline="") as file:
        texts = {row["path"]: row["text"] for row in csv.DictReader(file)}
    entries: list[dict[str, str | None]] = []
    with open(audio / "manifest.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            parts = Path(row["path"]).parts
            if parts[0] == "eval" and parts[1] in DATA_SETS:
                domain = "speech" if parts[1] == "speech" else "audio"
                entry = {"path": str(audio / row["path"]), "id": Path(row["path"]).stem, "dataset": parts[1]}
                text = texts.get(row["path"])
                entries.append({**entry, "domain": domain, "speaker": row["speaker"] or None, "text": text})
    entries.sort(key=lambda entry: DATA_SETS.index(str(entry["dataset"])))
    chosen = {"signal": entries, "applications": [entry for entry in entries if entry["text"]]}
    paths = {}
    for name, lines in chosen.items():
        paths[name] = folder / f"{name}.jsonl"
        with atomic_write(paths[name]) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    return paths


if __name__ == "__main__":
    main()
