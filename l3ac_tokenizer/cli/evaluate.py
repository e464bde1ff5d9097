"""`l3ac evaluate`: codecs on folders of audio, measured as the papers measure.

Any set of codecs on any corpus: signal metrics of Codec-SUPERB and TAAE with intervals, use and consistency of ids,
rates. Writes rows, a summary and a table to a folder; a clip or codec that cannot be measured is counted and named.
"""

from __future__ import annotations

import argparse

from .options import DEFAULT_MODEL, positive_number
from .report import needing_extra, say, show_json

DEFAULT_CODECS = [DEFAULT_MODEL, "opus", "codec2", "original"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac evaluate`."""
    parser.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help="folders or manifests of audio, a data set each; speech=DATA or audio=DATA says what a folder holds",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "--codec",
        action="append",
        dest="codecs",
        metavar="NAME",
        help="a preset, directory or hub name, opus@KBPS, codec2@MODE or original; may be given several times "
        f"(default: {', '.join(DEFAULT_CODECS)})",
    )
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N clips of each data set, evenly spread")
    parser.add_argument("--resume", action="store_true", help="go on with what the folder holds")
    parser.add_argument("--jobs", type=_count, default=1, metavar="J", help="processes (default: %(default)s)")
    parser.add_argument(
        "--no-consistency",
        dest="consistency",
        action="store_false",
        help="do not encode changed clips: the encoder has a fifth of the work",
    )
    applications = parser.add_argument_group("applications (of clips of speech, but for --events and --features)")
    applications.add_argument(
        "--asr",
        metavar="NAME",
        help="WER and dWER: a hub name (openai/whisper-small, say) or directory; without a hub "
        "faster-whisper[:FOLDER] or pocketsphinx (proxy)",
    )
    applications.add_argument(
        "--speaker",
        metavar="NAME",
        help="similarity and EER: speechbrain:speechbrain/spkrec-ecapa-voxceleb, or x-vectors of transformers by hub "
        "name (microsoft/wavlm-base-plus-sv, say) or directory; without a hub resemblyzer (proxy)",
    )
    applications.add_argument(
        "--emotion", metavar="NAME", help="accuracy: a classifier (superb/wav2vec2-base-superb-er)"
    )
    applications.add_argument(
        "--events", metavar="NAME", help="accuracy: a classifier (MIT/ast-finetuned-audioset-10-10-0.4593)"
    )
    applications.add_argument("--features", metavar="NAME", help="distance in a Whisper's encoder (proxy)")
    applications.add_argument(
        "--opinion",
        action="append",
        default=[],
        dest="opinions",
        choices=("dnsmos", "distillmos"),
        help="opinion scores predicted without the original",
    )
    parser.add_argument(
        "--cost",
        action="store_true",
        help="also time and memory at 5, 30 and 60 s, batch 1 and 4, into cost.json and cost.md; takes long",
    )
    parser.add_argument("--save-audio", action="store_true", help="keep all decoded clips, not only the examples")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--threads", type=_count, default=1, metavar="T", help="of torch, a process (default: 1)")


def run(options: argparse.Namespace) -> int:
    """Measure, write the files, print the table; status 1 where no codec could be measured."""
    with needing_extra("data"):
        import pyarrow  # noqa: F401 - corpora are listed with it
    with needing_extra("eval"):
        import pesq  # noqa: F401
        import pystoi  # noqa: F401
        import torchmetrics  # noqa: F401

    from transformers.utils import logging

    from ..evaluation.cost import measure_cost
    from ..evaluation.dataset import open_data
    from ..evaluation.options import Options
    from ..evaluation.report.files import write_cost, write_report
    from ..evaluation.run import EXAMPLES, evaluate

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    data = open_data(options.data, options.limit)
    for name, domain in data.domains.items():
        say(f"{name}: {sum(clip.dataset == name for clip in data.clips)} clips, taken as {domain}.")
    codecs = options.codecs or DEFAULT_CODECS
    evaluation = evaluate(
        data,
        codecs,
        options.output,
        Options(
            consistency=options.consistency,
            asr=options.asr,
            speaker=options.speaker,
            emotion=options.emotion,
            events=options.events,
            features=options.features,
            opinions=tuple(dict.fromkeys(options.opinions)),
            device=options.device,
            threads=options.threads,
        ),
        resume=options.resume,
        jobs=options.jobs,
        examples=-1 if options.save_audio else EXAMPLES,
    )
    for codec in evaluation.codecs:
        if codec.unavailable is not None:
            say(f"{codec.title} is not available: {codec.unavailable}")
    summary, files = write_report(evaluation, options.output)
    if options.cost:
        names = [name for name, codec in zip(codecs, evaluation.codecs, strict=True) if codec.unavailable is None]
        summary["cost"] = measure_cost(names, options.threads)
        files |= write_cost(summary["cost"], options.output)
    if options.json:
        show_json(summary)
    else:
        for name in ("table.md", "cost.md"):
            if name in files:
                print(files[name].read_text(encoding="utf-8"))
        say(f"written: {', '.join(str(path) for path in files.values())}.")
    return 0 if evaluation.rows else 1


def _count(text: str) -> int:
    number = positive_number(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(number)
