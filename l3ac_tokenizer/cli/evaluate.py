"""`l3ac evaluate`: evaluate codecs on folders of audio, by the metrics of the papers.

Takes any set of codecs and any corpus. Measures the signal metrics of Codec-SUPERB and TAAE with confidence intervals,
codebook usage, consistency of ids and bit rates. The output folder gets all results, a summary, tables, plots and a
page to listen. Clips and codecs that cannot be measured are counted and listed with the reason.
"""

from __future__ import annotations

import argparse

from ..evaluation.scorers.registry import SCORERS, available_scorers, requested_scorers
from ..evaluation.standard import standard_codecs, standard_scorers
from ..hub import DEFAULT_MODEL
from ..markup import printable
from .options import MODEL_HELP, add_outside, add_truncated, positive_number
from .report import needing_extra, say, say_truncated, show_json

DEFAULT_CODECS = [DEFAULT_MODEL, "opus", "codec2", "original"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac evaluate`."""
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="folders or manifests of audio, a data set each; speech=DATA or audio=DATA gives the domain",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="output folder")
    parser.add_argument(
        *("--codec", "--model"),
        action="append",
        dest="codecs",
        metavar="NAME",
        help=f"{MODEL_HELP}, opus@KBPS, codec2@MODE or original; may be repeated "
        f"(default: {', '.join(DEFAULT_CODECS)})",
    )
    parser.add_argument(
        "--standard",
        action="store_true",
        help="the standard table into standard.md, .csv and .json: with no --codec, of the bundled models, Opus, "
        "Codec 2 and the neural codecs of the hub; WER, speaker similarity, predicted MOS and F0 by the offline models "
        "and UTMOS, where no option names others; time for 10 s of audio",
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N clips of each data set, evenly spread")
    add_truncated(parser)
    add_outside(parser)
    parser.add_argument("--resume", action="store_true", help="resume the evaluation in the output folder")
    parser.add_argument(
        "--jobs", type=_count, default=1, metavar="J", help="number of processes (default: %(default)s)"
    )
    parser.add_argument(
        "--no-consistency",
        dest="consistency",
        action="store_false",
        help="do not measure the consistency of ids, which takes four fifths of the encoding time",
    )
    scorers = parser.add_argument_group("further metrics", "Each option names the model that computes its metrics.")
    for kind, entry in SCORERS.items():
        scorers.add_argument(
            f"--{kind}",
            action="append" if entry.choices else "store",
            choices=entry.choices or None,
            metavar=None if entry.choices else "NAME",
            help=entry.help,
        )
    scorers.add_argument(
        "--trust",
        action="store_true",
        help="run the code that a model of SpeechBrain brings in its hyperparams.yaml (--speaker speechbrain:…)",
    )
    parser.add_argument(
        "--cost",
        action="store_true",
        help="also measure time and memory at 5, 30 and 60 s, batch 1 and 4, into cost.json and cost.md; takes long",
    )
    parser.add_argument("--save-audio", action="store_true", help="keep all decoded clips, not only the examples")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--threads", type=_count, default=1, metavar="T", help="torch threads per process (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, write the files and print the tables; exit status 1 if no codec could be measured."""
    with needing_extra("data"):
        import pyarrow  # noqa: F401 - corpora are listed with it
    with needing_extra("eval"):
        import pesq  # noqa: F401
        import pystoi  # noqa: F401
        import torchmetrics  # noqa: F401

    from transformers.utils import logging

    from ..evaluation.cost import measure_cost, measure_speed
    from ..evaluation.dataset import open_data
    from ..evaluation.report.files import write_cost, write_report
    from ..evaluation.report.standard_table import Standard
    from ..evaluation.run import EXAMPLES, EvaluationOptions, run_evaluation

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    data = open_data(
        options.data,
        options.limit,
        allow_truncated=options.allow_truncated,
        allow_outside=options.allow_outside,
    )
    for remark in data.remarks:
        say(remark)
    for name, domain in data.domains.items():
        say(f"{name}: {sum(clip.dataset == name for clip in data.clips)} clips of {domain}.")
    codecs = options.codecs or (standard_codecs() if options.standard else DEFAULT_CODECS)
    scorers = requested_scorers(vars(options))
    missing: dict[str, str] = {}
    if options.standard:
        further, missing = available_scorers(requested_scorers(standard_scorers(vars(options))), options.device)
        scorers += further
        for name, reason in missing.items():
            say(f"{name} is not available: {reason}")
    evaluation = run_evaluation(
        data,
        codecs,
        options.output,
        EvaluationOptions(options.consistency, scorers, options.device, options.threads, options.trust),
        resume=options.resume,
        jobs=options.jobs,
        examples=-1 if options.save_audio else EXAMPLES,
    )
    for codec in evaluation.codecs:
        if codec.unavailable is not None:
            say(f"{codec.title} is not available: {codec.unavailable}")
    available = [name for name, codec in zip(codecs, evaluation.codecs, strict=True) if codec.unavailable is None]
    standard = Standard(measure_speed(available, options.threads), missing) if options.standard else None
    summary, files = write_report(evaluation, options.output, standard)
    truncated = [clip for dataset in summary["datasets"].values() for clip in dataset["truncated"]]
    say_truncated(len(truncated), next(iter(truncated), None))
    if options.cost:
        summary["cost"] = measure_cost(available, options.threads)
        files |= write_cost(summary["cost"], options.output)
    if options.json:
        show_json(summary)
    else:
        for name in ("standard.md", "table.md", "cost.md"):
            if name in files:
                print(printable(files[name].read_text(encoding="utf-8"), keep="\n"))
        say(f"written: {', '.join(str(path) for path in files.values())}.")
    return 0 if evaluation.rows else 1


def _count(text: str) -> int:
    number = positive_number(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(number)
