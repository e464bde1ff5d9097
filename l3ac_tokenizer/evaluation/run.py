"""Evaluation run: every codec over every clip, with each result on disk as soon as it is computed.

The output folder gets:

- `clips.jsonl`: one row for each clip and codec, with its ids; `resume` reads it. `settings.json`: the settings that
  rows depend on.
- `audio/CODEC/samples/DATASET/CLIP.wav`: decoded clips and originals in the layout that Codec-SUPERB's scripts read,
  with `audio/CODEC/wav.scp` for VERSA; of the examples, or of all clips on request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..audio import write_audio
from ..causes import failure
from ..children import spawn_context
from ..files import atomic_write, concerns_all_files, open_own
from ..names import path_component, without_folders
from .codecs.base import SCORING_RATE, Codec, CodecRates, CodecUnavailable, codec_title
from .codecs.registry import open_codec, refuse_equal_titles
from .cost import count_macs
from .dataset import EvaluationClip, EvaluationData
from .scorers.base import Metric, Scorer
from .scorers.registry import SCORERS, open_scorer
from .scorers.speaker import SpeakerSimilarityScorer
from .scoring import ClipScorer, ResultRow

FORMAT = 2
"""Version of `settings.json` and `clips.jsonl`."""

EXAMPLES = 2
"""Clips of each data set whose audio is kept."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Settings of an evaluation.

    Attributes:
        consistency: Also measure the consistency of ids.
        scorers: (key of `SCORERS`, name of the model) of each further scorer.
        device: torch device of the codecs and scorers.
        threads: torch threads of a process.
        trust: run the code that a scorer's model brings, see `open_scorer`.
    """

    consistency: bool = True
    scorers: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"
    threads: int = 1
    trust: bool = False

    def of_rows(self) -> dict[str, Any]:
        """The settings by name, without the values of those that rows do not depend on."""
        settings = asdict(replace(self, device="", threads=0))
        del settings["trust"]
        return settings

    def make_scorer(self) -> ClipScorer:
        """The scorer of clips, its models loaded.

        Raises:
            ValueError: a scorer is unknown, its model cannot be loaded, or a package is missing.
        """
        scorers: dict[str, Scorer] = {}
        for kind, model in self.scorers:
            scorer = open_scorer(kind, model, self.device, trust=self.trust)
            scorers[model if SCORERS[kind].choices else kind] = scorer
        speaker = scorers.get("speaker")
        embed = speaker.embed if isinstance(speaker, SpeakerSimilarityScorer) else None
        return ClipScorer(scorers, self.consistency, embed)


@dataclass(frozen=True)
class CodecMetadata:
    """Description of a codec under test for reports; see `Codec` for the attributes that it shares.

    Attributes:
        name: Its name in rows.
        title: Its name in tables.
        unavailable: Reason why it could not be tested; None if it was. With a reason, all that follows is None.
        sampling_rate: Sampling rate of its input in Hz.
        output_rate: Sampling rate of its output in Hz.
        rates: Token rate and bit rate.
        parameters: Number of parameters.
        digest: Identifies the weights.
        gmacs: G MAC of `encode` and `decode` for 10 s of audio; None if it is not a torch model.
    """

    name: str
    title: str
    unavailable: str | None = None
    sampling_rate: int | None = None
    output_rate: int | None = None
    rates: CodecRates | None = None
    parameters: int | None = None
    digest: str | None = None
    gmacs: dict[str, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """Results: the codecs in the order requested, their rows, and the metrics."""

    data: EvaluationData
    options: EvaluationOptions
    codecs: Sequence[CodecMetadata]
    rows: Sequence[ResultRow]
    metrics: Mapping[str, Metric]

    def rows_of(self, codec: CodecMetadata) -> list[ResultRow]:
        """Rows of one codec, in the order of the clips."""
        return [row for row in self.rows if row.codec == codec.name]


@dataclass(frozen=True)
class _Task:
    codec: str | Codec
    clip: EvaluationClip
    target: Path | None
    original: Path | None


class _Worker:
    """Scores clips in one process; keeps the last codec open."""

    def __init__(self, options: EvaluationOptions, scorer: ClipScorer | None = None) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self.scorer = scorer or options.make_scorer()
        self._name: str | Codec | None = None
        self._codec: Codec | None = None

    def __call__(self, task: _Task) -> ResultRow:
        if self._codec is None or self._name != task.codec:
            self._codec, self._name = None, task.codec  # two at once may not fit in memory
            self._codec = open_codec(task.codec, self.options.device)
        row, audio = self.scorer(self._codec, task.clip)
        try:
            if audio is not None and task.target is not None:
                _write(task.target, audio)
            if audio is not None and task.original is not None and not task.original.exists():
                _write(task.original, task.clip.read(SCORING_RATE))
        except Exception as error:
            if concerns_all_files(error):
                raise
            row.failures["audio"] = failure(error)
        return row


_worker: _Worker


def _start(options: EvaluationOptions) -> None:
    global _worker
    _worker = _Worker(options)


def _work(task: _Task) -> ResultRow:
    return _worker(task)


def run_evaluation(
    data: EvaluationData,
    codecs: Sequence[str | Codec],
    output: str | Path,
    options: EvaluationOptions,
    *,
    resume: bool = False,
    jobs: int = 1,
    examples: int = EXAMPLES,
) -> Evaluation:
    """Score every codec on every clip.

    Args:
        data: clips.
        codecs: specs, see `codecs/registry.py`, or codecs that are open; these for one process alone.
        output: output folder, created if it is missing.
        options: settings.
        resume: continue with the results in `output`.
        jobs: number of processes, each with its own copy of the codec.
        examples: clips of each data set whose audio is kept; -1: all.

    Raises:
        ValueError: an open codec is given to several processes; `output` already holds results, or results of other
            settings; two codecs have the same title; the model of a scorer cannot be loaded.
        OSError: a file cannot be written.
    """
    refuse_equal_titles(codecs)
    if jobs > 1 and not all(isinstance(codec, str) for codec in codecs):
        raise ValueError("`jobs` is above 1 and a codec is open already: name it, so that each process opens its own.")
    folder = Path(output)
    scorer = options.make_scorer()  # first, so that a missing model shows before hours of work
    log = _Log(folder, options, resume, any(clip.allow_truncated for clip in data.clips))
    metadata = [_metadata(name, options.device) for name in codecs]
    kept = {clip.key for clip in (data.clips if examples < 0 else data.spread(examples))}
    tasks = []
    for name, codec in zip(codecs, metadata, strict=True):
        done = log.done(codec)
        for clip in data.clips if codec.unavailable is None else ():
            if clip.key not in done:
                paths = [audio_path(folder, owner, clip) for owner in (codec.name, "original")]
                tasks.append(_Task(name, clip, *(paths if clip.key in kept else (None, None))))
    with tqdm(total=len(tasks), desc="evaluating", unit="clip", disable=None) as bar:
        for row in _rows(tasks, options, scorer, jobs):
            log.add(row)
            bar.set_postfix_str(row.codec)
            bar.update()
    _write_lists(folder, data, metadata, kept)
    wanted = {clip.key: position for position, clip in enumerate(data.clips)}
    rows = [row for codec in metadata for row in log.done(codec).values() if row.clip in wanted]
    order = {codec.name: position for position, codec in enumerate(metadata)}
    rows.sort(key=lambda row: (order[row.codec], wanted[row.clip]))
    return Evaluation(data, options, metadata, rows, scorer.metrics)


def audio_path(folder: Path, codec: str, clip: EvaluationClip) -> Path:
    """Path of a decoded clip, whatever the names of the codec, the data set and the clip hold."""
    names = codec_folder(codec), "samples", path_component(clip.dataset), f"{path_component(clip.name)}.wav"
    return folder.joinpath("audio", *names)


def codec_folder(codec: str) -> str:
    """Name of the folder with the audio of a codec."""
    return path_component(codec.replace("/", "--"))


def _rows(tasks: Sequence[_Task], options: EvaluationOptions, scorer: ClipScorer, jobs: int) -> Iterator[ResultRow]:
    if not tasks:
        return
    if jobs == 1:
        yield from map(_Worker(options, scorer), tasks)
        return
    with ProcessPoolExecutor(jobs, spawn_context(), _start, (options,)) as pool:
        yield from pool.map(_work, tasks)


def _metadata(name: str | Codec, device: str) -> CodecMetadata:
    try:
        codec = open_codec(name, device)
    except CodecUnavailable as reason:
        title = codec_title(str(name))
        return CodecMetadata(title, title, without_folders(str(reason)))
    return CodecMetadata(
        codec.name,
        codec.title,
        None,
        codec.sampling_rate,
        codec.output_rate,
        codec.rates,
        codec.parameters,
        codec.digest,
        count_macs(codec),
    )


class _Log:
    """Rows on disk, one per line, each written as soon as it exists."""

    def __init__(self, folder: Path, options: EvaluationOptions, resume: bool, allow_truncated: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "clips.jsonl"
        settings = json.loads(json.dumps({"format": FORMAT, **options.of_rows()}))
        settings |= {"allow_truncated": True} if allow_truncated else {}
        settings_path = folder / "settings.json"
        if self._path.exists() and not resume:
            raise ValueError(f"{folder} already holds results: give --resume to continue with them, or another folder.")
        if self._path.exists() and json.loads(settings_path.read_text(encoding="utf-8")) != settings:
            raise ValueError(f"{folder} holds results of other settings (settings.json): choose another folder.")
        with atomic_write(settings_path) as file:
            file.write(json.dumps(settings, indent=2).encode())
        self._rows = list(self._read())

    def _read(self) -> Iterator[ResultRow]:
        if not self._path.exists():
            return
        whole = 0
        with open(self._path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # cut off when a run was stopped
                    break
                whole += len(line)
                yield _row(json.loads(line))
        with open_own(self._path, "r+b") as file:
            file.truncate(whole)

    def done(self, codec: CodecMetadata) -> dict[str, ResultRow]:
        """Rows of this codec with these weights, by key of the clip."""
        return {row.clip: row for row in self._rows if (row.codec, row.digest) == (codec.name, codec.digest)}

    def add(self, row: ResultRow) -> None:
        """Append a row."""
        with open_own(self._path, "ab") as file:
            file.write(f"{json.dumps(row.as_json())}\n".encode())
        self._rows.append(row)


def _row(values: dict[str, Any]) -> ResultRow:
    pairs = {name: tuple(value) if isinstance(value, list) else value for name, value in values["values"].items()}
    return ResultRow(**{**values, "values": pairs})


def _write(path: Path, audio: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, audio, SCORING_RATE)


def _write_lists(folder: Path, data: EvaluationData, codecs: Sequence[CodecMetadata], kept: set[str]) -> None:
    """Write `wav.scp` of each codec and of the originals: key and path of every clip that was kept."""
    for name in dict.fromkeys(["original", *(codec.name for codec in codecs)]):
        paths = {clip.key: audio_path(folder, name, clip) for clip in data.clips if clip.key in kept}
        # A key holds no spaces and line ends, which separate keys and paths.
        lines = [f"{path.parent.name}/{path.stem} {path.absolute()}\n" for path in paths.values() if path.exists()]
        if lines:
            with atomic_write(folder / "audio" / codec_folder(name) / "wav.scp") as file:
                file.write("".join(lines).encode())
