"""`l3ac encode`: audio files to .l3ac files.

Reads any file that soundfile reads, at any rate; the mean of several channels is taken, and that is said.
Folders are mirrored below the output folder.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..tokenization.batching import by_length
from .loading import load_model, model_name
from .options import DEFAULT_MODEL, UsageError, add_compute
from .paths import Job, make_folder_of, plan_jobs
from .report import Failures, progress, say, show_json, show_table

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from ..audio import AudioReader
    from ..modeling import CodecModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac encode`."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="audio files, folders, or - for WAV from stdin")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a .l3ac file, a folder, or - for stdout")
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_DIRECTORY", help="default: %(default)s")
    parser.add_argument(
        "--coding",
        choices=("packed", "entropy"),
        default="packed",
        help="entropy: smaller files by an adaptive model of the ids, slower (default: %(default)s)",
    )
    add_compute(parser)


def run(options: argparse.Namespace) -> int:
    """Encode every input; those that cannot be read are named, and the others are done."""
    if options.json and options.output == "-":
        raise UsageError("--json and -o - would both write to standard output: choose one.")
    from ..audio import AUDIO_SUFFIXES

    jobs = plan_jobs(options.inputs, options.output, AUDIO_SUFFIXES, (".l3ac",))
    encoding = _Encoding(load_model(options.model, options.device), options)
    lengths = encoding.lengths(jobs)
    with progress(sum(seconds for seconds in lengths.values() if seconds < math.inf), "encoding") as bar:
        readable = list(lengths)
        for group in by_length(list(lengths.values()), options.chunk_seconds):
            members = [readable[position] for position in group]
            if lengths[members[0]] > options.chunk_seconds:
                encoding.encode_long(members[0], bar)
            else:
                encoding.encode_together(members, bar)
    encoding.show(jobs)
    return 1 if encoding.failures.reasons else 0


class _Encoding:
    """One run of the command: what every file needs, and what came out."""

    def __init__(self, model: CodecModel, options: argparse.Namespace) -> None:
        self.model = model
        self.options = options
        self.rate = model.config.sampling_rate
        self.digest = model.weights_digest()
        self.failures = Failures()
        self.results: dict[Job, dict[str, Any]] = {}

    def lengths(self, jobs: Sequence[Job]) -> dict[Job, float]:
        """Seconds of each file that can be opened; infinite for standard input, which is read only once."""
        lengths: dict[Job, float] = {}
        for job in jobs:
            with self.failures.of(job.source):
                if job.source == "-":
                    lengths[job] = math.inf
                else:
                    with self._open(job) as reader:
                        lengths[job] = reader.duration
        return lengths

    def encode_together(self, jobs: Sequence[Job], bar: tqdm) -> None:
        """Short files in one batch."""
        clips: dict[Job, np.ndarray] = {}
        for job in jobs:
            with self.failures.of(job.source), self._open(job) as reader:
                clips[job] = reader.read()
                self._note(reader)
        if clips:
            from ..inference import encode_clips

            for job, ids in zip(clips, encode_clips(self.model, list(clips.values())), strict=True):
                self._write(job, ids, len(clips[job]))
                bar.update(len(clips[job]) / self.rate)

    def encode_long(self, job: Job, bar: tqdm) -> None:
        """One file in chunks, in memory that does not grow with it."""
        encoded = None
        with self.failures.of(job.source):
            encoded = self._stream(job, bar)
        if encoded is not None:
            self._write(job, *encoded)

    def show(self, jobs: Sequence[Job]) -> None:
        """Results on standard output, in the order of the inputs."""
        results = [self.results[job] for job in jobs if job in self.results]
        if self.options.json:
            show_json({"files": results, "failed": self.failures.reasons})
        elif self.options.output != "-" and results:
            rows = [
                (
                    f"{result['source']} -> {result['target']}",
                    f"{result['seconds']:.2f} s",
                    f"{result['num_ids']} ids",
                    f"{result['bytes']} bytes",
                )
                for result in results
            ]
            show_table(rows)
        if self.failures.reasons and len(jobs) > 1:
            say(f"{len(self.failures.reasons)} of {len(jobs)} files could not be encoded.")

    def _open(self, job: Job) -> AudioReader:
        from ..audio import AudioReader

        return AudioReader(job.source, self.rate)

    @staticmethod
    def _note(reader: AudioReader) -> None:
        if reader.note:
            say(f"{reader.name}: {reader.note}.")

    def _stream(self, job: Job, bar: tqdm) -> tuple[np.ndarray, int]:
        """The ids (N,) of a file and its number of samples."""
        from ..inference import encode_pieces

        num_samples = 0

        def pieces(reader: AudioReader) -> Iterator[np.ndarray]:
            nonlocal num_samples
            for samples in reader.blocks(max(1, round(self.options.chunk_seconds * self.rate))):
                yield samples
                num_samples += len(samples)
                bar.update(len(samples) / self.rate)

        with self._open(job) as reader:
            self._note(reader)
            return encode_pieces(self.model, pieces(reader)), num_samples

    def _write(self, job: Job, ids: np.ndarray, num_samples: int) -> None:
        from ..container import Header, write_l3ac

        config = self.model.config
        header = Header(
            model_name(self.options.model),
            self.digest,
            config.frame_levels,
            config.sampling_rate,
            config.hop_length,
            num_samples,
            self.options.coding,
        )
        make_folder_of(job.target)
        size = write_l3ac(sys.stdout.buffer if job.target == "-" else job.target, header, ids)
        self.results[job] = {
            "source": job.source,
            "target": job.target,
            "seconds": header.duration,
            "num_samples": num_samples,
            "num_ids": len(ids),
            "bytes": size,
        }
