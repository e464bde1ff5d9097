"""`evaluate`: the tables of `l3ac evaluate` as a value."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub import model_name
from ..logs import get_logger
from ..modeling import CodecModel
from .codecs.base import Codec, codec_title
from .codecs.checkpoint import CheckpointCodec
from .dataset import as_data
from .report.files import write_report
from .report.tables import summary_tables
from .run import EXAMPLES, EvaluationOptions, run_evaluation
from .scorers.registry import SCORERS, requested_scorers
from .summary import flat_row, summarize_evaluation

if TYPE_CHECKING:
    import pandas

logger = get_logger(__name__)

CodecChoice = str | os.PathLike[str] | CodecModel


@dataclass(frozen=True)
class EvaluationResult:
    """Results of `evaluate`; `print` shows the tables of `l3ac evaluate`, in Markdown.

    Attributes:
        summary: means, intervals, ids and failures, as in `summary.json`.
        rows: one dictionary a clip and codec, as in `clips.csv`.
    """

    summary: dict[str, Any]
    rows: Sequence[dict[str, Any]]

    def __str__(self) -> str:
        return summary_tables(self.summary)

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each codec and data set.

        Columns: `codec`, `dataset`, `domain`, `clips` (those with values), `seconds`, `bits_per_second`, the mean of
        each metric by its name (`stoi`, `pesq_wb`, `wer` as a fraction, …; NaN where it has none), and `failures`, the
        number of values that are missing, with their reasons in `summary`.

        Raises:
            ImportError: pandas is missing (extra `eval`).
        """
        import pandas

        table = []
        for codec in self.summary["codecs"]:
            for name, dataset in codec.get("datasets", {}).items():
                means = {metric: value["mean"] for metric, value in dataset["values"].items()}
                table.append(
                    {
                        "codec": codec["title"],
                        "dataset": name,
                        "domain": self.summary["datasets"][name]["domain"],
                        "clips": dataset["clips"],
                        "seconds": dataset["seconds"],
                        "bits_per_second": dataset["bits_per_second"]["mean"],
                        **means,
                        "failures": len(dataset["failures"]),
                    }
                )
        return pandas.DataFrame(table)

    def clips_to_pandas(self) -> pandas.DataFrame:
        """One row for each clip and codec: the columns of `clips.csv`.

        Raises:
            ImportError: pandas is missing (extra `eval`).
        """
        import pandas

        return pandas.DataFrame(list(self.rows))


def evaluate(
    model: CodecChoice | Sequence[CodecChoice],
    dataset: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = None,
    consistency: bool = True,
    device: str = "cpu",
    threads: int = 1,
    jobs: int = 1,
    allow_truncated: bool = False,
    allow_outside: bool = False,
    trust: bool = False,
    **scorers: str | Sequence[str] | None,
) -> EvaluationResult:
    """Evaluate one or several codecs on audio of one's own, as `l3ac evaluate` does.

    Args:
        model: a model, or a codec by the name that the command takes: a bundled name, directory or hub name, with
            `@frozen` decoded as in streams, `"opus@12"`, `"codec2@1200"` or `"original"`; or a list of these.
        dataset: a folder, manifest or other corpus of `l3ac tokenize`, or a list of them; a `datasets.Dataset` with a
            column of audio; or a list of (audio (T,), sampling rate) or (audio, sampling rate, text).
        output: folder for all files of the command; None: nothing is left on disk.
        limit: maximum number of clips of each data set, evenly spread; None: all.
        consistency: also measure the consistency of ids, which takes four fifths of the encoding time.
        device: torch device of codecs that are given by name, and of scorers.
        threads: torch threads of a process.
        jobs: number of processes; above 1, codecs are given by name.
        allow_truncated: use what is there of truncated files; False: they count as not readable.
        allow_outside: also read what paths and links in a corpus name outside of it, and paths in rows of a `Dataset`.
        trust: run the code that the model of a scorer brings, see `open_scorer`.
        scorers: further metrics, each with the model that computes it, by the options of the command:
            `asr="faster-whisper"`, `speaker="resemblyzer"`, `mos=["dnsmos", "distillmos"]`, ….

    Raises:
        ImportError: a package of the extra `eval` is missing.
        TypeError: `dataset` has none of these forms, or a scorer is unknown.
        ValueError: the data hold no audio, no codec can be opened, or the model of a scorer cannot be loaded.
        OSError: the data cannot be read, or a file cannot be written.
    """
    _require_packages()
    if unknown := sorted(scorers.keys() - SCORERS.keys()):
        raise TypeError(f"`evaluate` has no argument {unknown[0]!r}; further metrics are {', '.join(SCORERS)}.")
    data = as_data(dataset, limit, allow_truncated=allow_truncated, allow_outside=allow_outside)
    for remark in data.remarks:
        logger.warning("%s", remark)
    options = EvaluationOptions(consistency, requested_scorers(scorers), device, threads, trust)
    choices = [model] if isinstance(model, (str, os.PathLike, CodecModel)) else list(model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(output or scratch)
        evaluation = run_evaluation(
            data, _codecs(choices), folder, options, jobs=jobs, examples=0 if output is None else EXAMPLES
        )
        unavailable = [f"{codec.title}: {codec.unavailable}" for codec in evaluation.codecs if codec.unavailable]
        if unavailable and not evaluation.rows:
            raise ValueError(" ".join(unavailable))
        summary = summarize_evaluation(evaluation) if output is None else write_report(evaluation, folder)[0]
    return EvaluationResult(summary, [flat_row(row, evaluation.metrics) for row in evaluation.rows])


def _codecs(choices: Sequence[CodecChoice]) -> list[str | Codec]:
    """Specs and open codecs; a model is named after its origin, with a number where that name is taken."""
    names = [os.fspath(choice) for choice in choices if not isinstance(choice, CodecModel)]
    taken = {codec_title(name) for name in names}
    codecs: list[str | Codec] = []
    for choice in choices:
        if not isinstance(choice, CodecModel):
            codecs.append(os.fspath(choice))
            continue
        if choice.training:
            raise ValueError("the model is in training mode: call model.eval() first.")
        origin = model_name(choice.name_or_path) if choice.name_or_path else "model"
        title = next(name for number in range(1, len(choices) + 2) if (name := _numbered(origin, number)) not in taken)
        taken.add(title)
        codecs.append(CheckpointCodec.of(choice, title))
    return codecs


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} ({number})"


def _require_packages() -> None:
    try:
        import pesq  # noqa: F401
        import pystoi  # noqa: F401
        import torchmetrics  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            f"`evaluate` needs the package {error.name}, which is not installed: pip install 'l3ac-tokenizer[eval]'."
        ) from error
