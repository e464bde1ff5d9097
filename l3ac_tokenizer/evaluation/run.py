"""Every codec over every clip: rows of scores on disk as they are made, gone on with where a run was stopped.

In the output folder:

- `clips.jsonl`: a row a clip and codec, with its ids; what `resume` reads. `settings.json`: what rows depend on.
- `audio/CODEC/samples/DATASET/CLIP.wav`: decoded clips and originals in the layout that Codec-SUPERB's scripts read,
  with `audio/CODEC/wav.scp` for VERSA; of the examples, or of all clips where that was asked for.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..audio import write_audio
from ..files import atomic_write
from .codecs.base import SCORING_RATE, Codec, CodecUnavailable, Rates, codec_title
from .codecs.registry import open_codec, refuse_twins
from .cost import count_macs
from .dataset import Clip, ClipSets
from .options import Options
from .scoring import ClipScorer, Metric, Row

FORMAT = 1
EXAMPLES = 2
"""Clips of each data set whose audio is kept."""


@dataclass(frozen=True)
class CodecMetadata:
    """A codec under test, as reports need it.

    Attributes:
        name: As rows have it.
        title: As tables call it.
        unavailable: Why it could not be tested; None where it was. Nothing of what follows is known then.
        sampling_rate: Of what it takes, in Hz.
        output_rate: Of what it gives, in Hz.
        rates: What its ids cost.
        parameters: Their number.
        digest: Names the weights.
        gmacs: G MAC of encoding and of decoding 10 s, of a network.
    """

    name: str
    title: str
    unavailable: str | None = None
    sampling_rate: int | None = None
    output_rate: int | None = None
    rates: Rates | None = None
    parameters: int | None = None
    digest: str | None = None
    gmacs: dict[str, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured: codecs in the order they were asked for, their rows, and what the metrics are."""

    data: ClipSets
    options: Options
    codecs: Sequence[CodecMetadata]
    rows: Sequence[Row]
    metrics: Mapping[str, Metric]

    def rows_of(self, codec: CodecMetadata) -> list[Row]:
        """Rows of one codec."""
        return [row for row in self.rows if row.codec == codec.name]


@dataclass(frozen=True)
class _Task:
    codec: str
    clip: Clip
    target: Path | None
    original: Path | None


class _Worker:
    """Scores clips in one process; keeps the codec of the last one."""

    def __init__(self, options: Options, scorer: ClipScorer | None = None) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self.scorer = scorer or options.make_scorer()
        self._name: str | None = None
        self._codec: Codec | None = None

    def __call__(self, task: _Task) -> Row:
        if self._codec is None or self._name != task.codec:
            self._codec, self._name = None, task.codec  # two at once might not fit
            self._codec = open_codec(task.codec, self.options.device)
        row, audio = self.scorer(self._codec, task.clip)
        if audio is not None and task.target is not None:
            _write(task.target, audio)
        if audio is not None and task.original is not None and not task.original.exists():
            _write(task.original, task.clip.read(SCORING_RATE))
        return row


_worker: _Worker


def _start(options: Options) -> None:
    global _worker
    _worker = _Worker(options)


def _work(task: _Task) -> Row:
    return _worker(task)


def evaluate(
    data: ClipSets,
    codecs: Sequence[str],
    output: str | Path,
    options: Options,
    *,
    resume: bool = False,
    jobs: int = 1,
    examples: int = EXAMPLES,
) -> Evaluation:
    """Score every codec on every clip.

    Args:
        data: clips.
        codecs: names, see `codecs.open_codec`.
        output: folder, made where it is missing.
        options: what is measured, and on what.
        resume: go on with what `output` holds.
        jobs: processes, each with its own copy of the codec.
        examples: clips a data set whose audio is kept; -1: all.

    Raises:
        ValueError: `output` holds results already, or those of other settings; two codecs of one name; a model for a
            metric that cannot be loaded.
        OSError: a file cannot be written.
    """
    refuse_twins(codecs)
    folder = Path(output)
    scorer = options.make_scorer()  # before hours of work: what it lacks is told now
    log = _Log(folder, options, resume)
    facts = [_facts(name, options.device) for name in codecs]
    kept = {clip.key for clip in (data.clips if examples < 0 else data.spread(examples))}
    tasks = []
    for name, fact in zip(codecs, facts, strict=True):
        done = log.done(fact)
        for clip in data.clips if fact.unavailable is None else ():
            if clip.key not in done:
                places = [audio_path(folder, codec, clip) for codec in (fact.name, "original")]
                tasks.append(_Task(name, clip, *(places if clip.key in kept else (None, None))))
    with tqdm(total=len(tasks), desc="evaluating", unit="clip", disable=None) as bar:
        for row in _rows(tasks, options, scorer, jobs):
            log.add(row)
            bar.set_postfix_str(row.codec)
            bar.update()
    _write_lists(folder, data, facts, kept)
    wanted = {clip.key: position for position, clip in enumerate(data.clips)}
    rows = [row for fact in facts for row in log.done(fact).values() if row.clip in wanted]
    order = {fact.name: position for position, fact in enumerate(facts)}
    rows.sort(key=lambda row: (order[row.codec], wanted[row.clip]))
    return Evaluation(data, options, facts, rows, scorer.metrics)


def audio_path(folder: Path, codec: str, clip: Clip) -> Path:
    """Where a decoded clip goes."""
    name = clip.name.replace("/", "_")
    return folder / "audio" / codec.replace("/", "--") / "samples" / clip.dataset / f"{name}.wav"


def _rows(tasks: Sequence[_Task], options: Options, scorer: ClipScorer, jobs: int) -> Iterator[Row]:
    if not tasks:
        return
    if jobs == 1:
        yield from map(_Worker(options, scorer), tasks)
        return
    context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
    with ProcessPoolExecutor(jobs, context, _start, (options,)) as pool:
        yield from pool.map(_work, tasks)


def _facts(name: str, device: str) -> CodecMetadata:
    try:
        codec = open_codec(name, device)
    except CodecUnavailable as reason:
        title = codec_title(name)
        return CodecMetadata(title, title, str(reason))
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
    """Rows on disk, one a line, each written at once."""

    def __init__(self, folder: Path, options: Options, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "clips.jsonl"
        settings = json.loads(json.dumps({"format": FORMAT, **asdict(options.of_rows())}))
        settings_path = folder / "settings.json"
        if self._path.exists() and not resume:
            raise ValueError(f"{folder} holds results already: give --resume to go on with them, or another folder.")
        if self._path.exists() and json.loads(settings_path.read_text()) != settings:
            raise ValueError(f"{folder} holds results of other settings (settings.json): choose another folder.")
        with atomic_write(settings_path) as file:
            file.write(json.dumps(settings, indent=2).encode())
        self._rows = list(self._read())

    def _read(self) -> Iterator[Row]:
        if not self._path.exists():
            return
        whole = 0
        with open(self._path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):  # a run was stopped in the middle of it
                    break
                whole += len(line)
                yield _row(json.loads(line))
        os.truncate(self._path, whole)

    def done(self, codec: CodecMetadata) -> dict[str, Row]:
        """Rows of this codec with these weights, by clip."""
        return {row.clip: row for row in self._rows if (row.codec, row.digest) == (codec.name, codec.digest)}

    def add(self, row: Row) -> None:
        """Append a row."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row.as_json()) + "\n")
        self._rows.append(row)


def _row(values: dict[str, Any]) -> Row:
    pairs = {name: tuple(value) if isinstance(value, list) else value for name, value in values["values"].items()}
    return Row(**{**values, "values": pairs})


def _write(path: Path, audio: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, audio, SCORING_RATE)


def _write_lists(folder: Path, data: ClipSets, codecs: Sequence[CodecMetadata], kept: set[str]) -> None:
    """`wav.scp` of each codec and of the originals: name and path of every clip that was kept."""
    for name in dict.fromkeys(["original", *(codec.name for codec in codecs)]):
        paths = {clip.key: audio_path(folder, name, clip) for clip in data.clips if clip.key in kept}
        lines = [f"{key} {path.absolute()}\n" for key, path in paths.items() if path.exists()]
        if lines:
            with atomic_write(folder / "audio" / name.replace("/", "--") / "wav.scp") as file:
                file.write("".join(lines).encode())
