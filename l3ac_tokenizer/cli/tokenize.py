"""`l3ac tokenize`: encode a corpus to Parquet shards of ids.

The corpus is a folder of audio (LibriSpeech, LJSpeech, Common Voice and VCTK are recognized), a manifest (.jsonl,
.json, .csv, .tsv), Parquet with audio, WebDataset tar shards or a list of them (.txt), the URL of any of these on
object storage, or the name of a dataset on the hub. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from .loading import level_of, load_encoder
from .options import UsageError, add_compute, add_lufs, add_model, add_outside, add_truncated, positive_number
from .report import needing_extra, say, say_truncated, show_facts, show_json

if TYPE_CHECKING:
    from ..tokenization.engines import Engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac tokenize`."""
    parser.add_argument("corpus", metavar="CORPUS", help="folder, manifest, .parquet, .tar, URL, or hub dataset name")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="folder or URL for the shards")
    add_model(parser)
    add_format(parser)
    parser.add_argument(
        "--split", type=int, default=1, metavar="K", help="write each id as K smaller ones (default: 1)"
    )
    parser.add_argument("--max-seconds", type=positive_number, metavar="S", help="count longer clips as failures")
    parser.add_argument(
        "--segment-seconds", type=positive_number, metavar="S", help="cut recordings into rows of S seconds"
    )
    parser.add_argument(
        "--segment-margin",
        type=positive_number,
        metavar="M",
        help="cut at the quietest place in the last M seconds of each segment (default: at its end)",
    )
    add_lufs(parser)
    add_truncated(parser)
    add_outside(parser)
    parser.add_argument("--max-failures", type=int, metavar="N", help="stop after more than N failed clips")
    parser.add_argument(
        "--shard-rows", type=int, default=1000, metavar="R", help="clips in a shard (default: %(default)s)"
    )
    parser.add_argument(
        "--num-shards",
        type=int,
        default=1,
        metavar="N",
        help="divide the corpus over N jobs, each with its own --shard-index and output; see `l3ac merge`",
    )
    parser.add_argument("--shard-index", type=int, default=0, metavar="I", help="number of this job, from 0")
    parser.add_argument(
        "--num-proc", type=int, metavar="P", help="worker processes (default: 1; with Ray, all of the cluster's CPUs)"
    )
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="default: %(default)s")
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="address of a Ray cluster (default: one on this machine)"
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=positive_number,
        metavar="G",
        help="GPUs of a Ray worker with --device cuda, e.g. 0.25: four workers share one (default: 1)",
    )
    parser.add_argument("--kind", metavar="KIND", help="folder, parquet, tar, manifest or hub (default: recognized)")
    parser.add_argument("--hub-config", metavar="NAME", help="configuration of a hub dataset")
    parser.add_argument(
        "--hub-split", default="train", metavar="NAME", help="split of a hub dataset (default: %(default)s)"
    )
    add_compute(parser)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option for what is written beside the shards."""
    parser.add_argument(
        "--format",
        choices=("parquet", "npy-index"),
        default="parquet",
        help="npy-index: also write all ids as one array to memory-map (default: %(default)s)",
    )


def write_index(options: argparse.Namespace) -> None:
    """Write the array of all ids and its index if `--format` asks for them."""
    if options.format == "npy-index":
        from ..tokenization.npy_index import write_npy_index

        write_npy_index(options.output)


def run(options: argparse.Namespace) -> int:
    """Tokenize, or resume; the status is 0 even if single clips failed, which are then reported."""
    if options.ray_address and options.engine != "ray":
        raise UsageError("--ray-address needs --engine ray.")
    if options.gpus_per_worker and (options.engine != "ray" or options.device == "cpu"):
        raise UsageError("--gpus-per-worker needs --engine ray and --device cuda.")
    with needing_extra("data"):
        import datasets  # noqa: F401 - brings what sources and the writer need

        from ..tokenization import open_source, tokenize_corpus
        from ..tokenization.output import failures_place
        from ..tokenization.segments import Segmentation
        from ..tokenization.sources.open import KINDS
        from ..tokenization.spec import TokenizationOptions

    if options.segment_margin is not None and options.segment_seconds is None:
        raise UsageError("--segment-margin needs --segment-seconds.")
    if options.kind not in (None, *KINDS):
        raise UsageError(f"--kind is {options.kind}; it must be {', '.join(KINDS)}.")

    level_lufs = level_of(options.model, options.lufs)
    try:
        job_options = TokenizationOptions(
            options.split,
            options.max_seconds,
            options.shard_rows,
            options.num_shards,
            options.shard_index,
            options.allow_truncated,
            level_lufs,
            None
            if options.segment_seconds is None
            else Segmentation(options.segment_seconds, options.segment_margin or 0.0),
        )
        engine = _engine(options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _log_with(say)
    model = load_encoder(options.model)
    source = open_source(
        options.corpus,
        options.hub_config,
        options.hub_split,
        kind=options.kind,
        output=options.output,
        allow_outside=options.allow_outside,
    )
    summary = tokenize_corpus(
        source,
        model,
        options.output,
        job_options,
        engine=engine,
        chunk_seconds=options.chunk_seconds,
        device=options.device,
        max_failures=options.max_failures,
    )
    if summary["shards"]:  # with more jobs than shards, some have none
        write_index(options)
    if options.json:
        show_json(summary)
    else:
        show_facts(texts(summary))
    if summary["failures"]:
        say(f"{summary['failures']} clips could not be encoded: see {failures_place(options.output)}.")
    say_truncated(summary["truncated"], summary["first_truncated"])
    return 0


def texts(summary: dict[str, Any]) -> dict[str, str]:
    """Names and values of a summary, as readable text."""
    speed = summary["audio_hours_per_hour"]
    return {
        "read as": summary["corpus"]["kind"],
        "clips": f"{summary['clips']:,}",
        "failures": f"{summary['failures']:,}",
        "truncated": f"{summary['truncated']:,}",
        "audio": f"{summary['hours']:.2f} h",
        "ids": f"{summary['ids']:,}",
        "rate": "-" if summary["ids_per_second"] is None else f"{summary['ids_per_second']:.2f} ids/s",
        "speed": "-" if speed is None else f"{speed:.1f}× real time",
        "model": summary["model"],
        "weights digest": summary["weights_digest"],
        "shards": str(summary["shards"]),
    }


def _engine(options: argparse.Namespace) -> Engine:
    if options.engine == "ray":
        with needing_extra("ray"):
            from ..tokenization.ray_engine import RayEngine

            return RayEngine(options.ray_address, options.num_proc, options.gpus_per_worker or 1.0)
    from ..tokenization.engines import LocalEngine

    return LocalEngine(1 if options.num_proc is None else options.num_proc)


def _log_with(show: Any) -> None:
    """Show the warnings of `l3ac_tokenizer.tokenization` as messages of the command."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            show(record.getMessage())

    logger = logging.getLogger("l3ac_tokenizer.tokenization")
    logger.handlers = [Handler()]
    logger.propagate = False
