"""`l3ac decode`: .l3ac files to WAV or FLAC files.

A file is decoded by the model that it names, or by the one given, and only if that model's weights are those
that made its ids. Folders are mirrored below the output folder, as WAV.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..tokenization.batching import by_length
from .loading import load_model
from .options import UsageError, add_compute
from .paths import Job, make_folder_of, plan_jobs
from .report import Failures, progress, say, show_json, show_table

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from ..container import Header
    from ..modeling import CodecModel


class Clip(NamedTuple):
    """What was read of a `.l3ac` file: its header, the good ids (N,) and the samples that they stand for."""

    header: Header
    ids: np.ndarray
    num_samples: int

    @property
    def seconds(self) -> float:
        """Length of what will be decoded."""
        return self.num_samples / self.header.sampling_rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac decode`."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help=".l3ac files, folders, or - for stdin")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a .wav or .flac file (16 bit), a folder, or - for WAV to stdout",
    )
    parser.add_argument("--model", metavar="NAME_OR_DIRECTORY", help="default: the preset that the file names")
    parser.add_argument("--salvage", action="store_true", help="decode a damaged file up to its first bad block")
    add_time_norm(parser)
    add_compute(parser)


def add_time_norm(parser: argparse.ArgumentParser) -> None:
    """How the decoder normalises."""
    parser.add_argument(
        "--time-norm",
        choices=("clip", "frozen"),
        default="clip",
        help="statistics of the decoder's normalisation: of the clip (as published) or stored (as streaming "
        "has them) (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Decode every input; those that cannot be read are named, and the others are done."""
    if options.json and options.output == "-":
        raise UsageError("--json and -o - would both write to standard output: choose one.")
    jobs = plan_jobs(options.inputs, options.output, {".l3ac"}, (".wav", ".flac"))
    decoding = Decoding(options)
    clips = decoding.read(jobs)
    with progress(sum(clip.seconds for clip in clips.values()), "decoding") as bar:
        for model, members in decoding.by_model(clips):
            decoding.decode(model, {job: clips[job] for job in members}, bar)
    decoding.show(jobs)
    return 1 if decoding.failures.reasons else 0


def check_same_model(name: str, header: Header, model: CodecModel, digests: Sequence[str]) -> None:
    """Refuse ids that another model made; `digests` are the model's `id_digests`.

    Raises:
        ValueError: the codebook, the rates or the weights are not those of the ids.
    """
    config = model.config
    ours = (config.frame_levels, config.sampling_rate, config.hop_length)
    if (header.levels, header.sampling_rate, header.hop_length) != ours:
        raise ValueError(
            f"{name} holds ids of {header.model_name} with another codebook or rate (levels "
            f"{list(header.levels)}, {header.sampling_rate} Hz, hop {header.hop_length}) than the model's: "
            "give the model that made it with --model."
        )
    if header.weights_digest not in digests:
        raise ValueError(
            f"{name} holds ids of {header.model_name} with the weights {header.weights_digest[:12]}…, "
            f"and the model has the weights {digests[0][:12]}…: give the model that made it with --model."
        )


class Decoding:
    """One run of the command: what every file needs, and what came out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failures = Failures()
        self.results: dict[Job, dict[str, Any]] = {}

    def read(self, jobs: Sequence[Job]) -> dict[Job, Clip]:
        """The files that can be read, verified."""
        clips: dict[Job, Clip] = {}
        for job in jobs:
            with self.failures.of(job.source):
                clips[job] = self._read(job)
        return clips

    def by_model(self, clips: dict[Job, Clip]) -> Iterator[tuple[CodecModel, list[Job]]]:
        """Each model with the files that it decodes."""
        names: dict[str, list[Job]] = {}
        for job, clip in clips.items():
            names.setdefault(self.options.model or clip.header.model_name, []).append(job)
        for name, jobs in names.items():
            model = self.load(name, jobs[0].source)
            digests = model.id_digests()
            fitting = []
            for job in jobs:
                with self.failures.of(job.source):
                    check_same_model(job.source, clips[job].header, model, digests)
                    fitting.append(job)
            yield model, fitting

    def load(self, name: str, source: str) -> CodecModel:
        """The model that was given, or that `source` names.

        Raises:
            ValueError, OSError: see `load_model`.
        """
        try:
            return load_model(name, self.options.device)
        except (ValueError, OSError) as error:
            if self.options.model:
                raise
            raise ValueError(f"{source} was made by {name}: {error}") from error

    def decode(self, model: CodecModel, clips: dict[Job, Clip], bar: tqdm) -> None:
        """Files of one model, the short ones together."""
        jobs = list(clips)
        for group in by_length([clip.seconds for clip in clips.values()], self.options.chunk_seconds):
            together = {jobs[position]: clips[jobs[position]] for position in group}
            (job, clip), *_ = together.items()
            if clip.seconds > self.options.chunk_seconds:
                self._decode_long(model, job, clip, bar)
            else:
                self._decode_together(model, together, bar)

    def _decode_together(self, model: CodecModel, clips: dict[Job, Clip], bar: tqdm) -> None:
        """Short files in one batch."""
        from ..inference import decode_clips

        decoded = decode_clips(
            model,
            [clip.ids for clip in clips.values()],
            [clip.num_samples for clip in clips.values()],
            self.options.time_norm,
        )
        for (job, clip), samples in zip(clips.items(), decoded, strict=True):
            self._write(job, clip, samples)
            bar.update(clip.seconds)

    def _decode_long(self, model: CodecModel, job: Job, clip: Clip, bar: tqdm) -> None:
        """One file in chunks, in memory that does not grow with it."""
        from ..inference import decode_pieces

        def pieces() -> Iterator[np.ndarray]:
            for samples in decode_pieces(
                model, clip.ids, clip.num_samples, self.options.time_norm, self.options.chunk_seconds
            ):
                yield samples
                bar.update(len(samples) / clip.header.sampling_rate)

        self._write(job, clip, pieces())

    def show(self, jobs: Sequence[Job]) -> None:
        """Results on standard output, in the order of the inputs."""
        results = [self.results[job] for job in jobs if job in self.results]
        if self.options.json:
            show_json({"files": results, "failed": self.failures.reasons})
        elif self.options.output != "-" and results:
            show_table(
                [(f"{result['source']} -> {result['target']}", f"{result['seconds']:.2f} s") for result in results]
            )
        if self.failures.reasons and len(jobs) > 1:
            say(f"{len(self.failures.reasons)} of {len(jobs)} files could not be decoded.")

    def _read(self, job: Job) -> Clip:
        from ..container import ContainerError, salvage_l3ac

        header, ids, reason = salvage_l3ac(sys.stdin.buffer if job.source == "-" else job.source)
        if reason is not None:
            if not self.options.salvage or len(ids) == 0:
                raise ContainerError(reason)
            say(reason)
        return Clip(header, ids, min(header.num_samples, len(ids) * header.hop_length))

    def _write(self, job: Job, clip: Clip, samples: np.ndarray | Iterator[np.ndarray]) -> None:
        from ..audio import write_audio

        make_folder_of(job.target)
        write_audio(job.target, samples, clip.header.sampling_rate)
        self.results[job] = {
            "source": job.source,
            "target": job.target,
            "seconds": clip.seconds,
            "num_samples": clip.num_samples,
            "num_ids": len(clip.ids),
            "salvaged": clip.num_samples < clip.header.num_samples,
        }
