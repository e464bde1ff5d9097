"""`l3ac decode`: decode .l3ac files, or plain ids, to WAV or FLAC files.

A .l3ac file, or a .json file of `l3ac encode`, is decoded by the model that it names, or by --model, and only if that
model made its ids. A .npy or .txt file holds ids alone: it needs --model, and becomes whole frames. Of folders, the
.l3ac files are decoded, and mirrored below the output folder as WAV.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..hub import model_name
from .loading import load_model
from .options import UsageError, add_compute, add_model, add_outside
from .paths import FileJob, is_plain, make_folder_of, plan_jobs
from .report import Failures, one_sentence, progress, say, show_json, show_table

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from ..container import Header
    from ..modeling import CodecModel


class EncodedFile(NamedTuple):
    """Contents of a file of ids: its header, the good ids (N,), and the number of samples that they encode."""

    header: Header
    ids: np.ndarray
    num_samples: int

    @property
    def seconds(self) -> float:
        """Length of the decoded audio."""
        return self.num_samples / self.header.sampling_rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac decode`."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IN", help=".l3ac, .json, .npy or .txt files, folders, or - for stdin"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a .wav or .flac file (16 bit), a folder, or - for WAV to stdout",
    )
    add_model(parser, None, "the bundled model that the file names")
    add_outside(parser)
    parser.add_argument("--salvage", action="store_true", help="decode a damaged file up to its first bad block")
    add_time_norm(parser)
    add_compute(parser)


def add_time_norm(parser: argparse.ArgumentParser) -> None:
    """Add the option for the decoder's normalization."""
    parser.add_argument(
        "--time-norm",
        choices=("clip", "frozen"),
        default="clip",
        help="statistics of the decoder's normalization: of the clip (as published) or stored (as in streaming) "
        "(default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Decode every input; one that cannot be read is reported, and the others continue."""
    if options.json and options.output == "-":
        raise UsageError("--json and -o - would both write to standard output: choose one.")
    jobs = plan_jobs(options.inputs, options.output, {".l3ac"}, (".wav", ".flac"), allow_outside=options.allow_outside)
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
        ModelMismatchError: the codebook, the rates or the weights are not those of the ids.
    """
    codec = model_name(model.name_or_path or "unnamed")
    header.require(model, codec, name, "give the model that made it with --model", digests)


class Decoding:
    """One run of the command: its options, results and failures."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failures = Failures()
        self.results: dict[FileJob, dict[str, Any]] = {}
        self._model: CodecModel | None = None

    def read(self, jobs: Sequence[FileJob]) -> dict[FileJob, EncodedFile]:
        """The contents of the files that can be read, verified."""
        clips: dict[FileJob, EncodedFile] = {}
        for job in jobs:
            with self.failures.of(job.source):
                clips[job] = self._read(job)
        return clips

    def by_model(self, clips: dict[FileJob, EncodedFile]) -> Iterator[tuple[CodecModel, list[FileJob]]]:
        """Each model with the files that it decodes."""
        names: dict[str, list[FileJob]] = {}
        for job, clip in clips.items():
            names.setdefault(self.options.model or clip.header.model_name, []).append(job)
        for name, jobs in names.items():
            try:
                model = self.load(name, jobs[0].source)
            except (ValueError, OSError) as error:
                if self.options.model:
                    raise
                for job in jobs:
                    self.failures.add(job.source, one_sentence(error))
                continue
            digests = model.id_digests()
            fitting = []
            for job in jobs:
                with self.failures.of(job.source):
                    check_same_model(job.source, clips[job].header, model, digests)
                    fitting.append(job)
            yield model, fitting

    def load(self, name: str, source: str) -> CodecModel:
        """The model given with `--model`, or else the bundled one that `source` names; data names no directories.

        Raises:
            ValueError, OSError: see `load_model`; or `source` names a model that is not bundled.
        """
        from ..hub import CHECKPOINTS, bundled_presets

        if self.options.model:
            if self._model is None:
                self._model = load_model(name, self.options.device)
            return self._model
        if name not in bundled_presets():
            raise ValueError(
                f"{source} was made by {name}: {name!r} is neither a preset with bundled weights nor a model that you "
                "named; give it with --model."
            )
        return load_model(str(CHECKPOINTS / name), self.options.device)

    def decode(self, model: CodecModel, clips: dict[FileJob, EncodedFile], bar: tqdm) -> None:
        """Decode files of one model: short ones in batches, long ones in chunks."""
        from ..inference import group_by_length, least_seconds

        jobs = list(clips)
        seconds = [clip.seconds for clip in clips.values()]
        for group in group_by_length(seconds, self.options.chunk_seconds, least_seconds(model.config)):
            together = {jobs[position]: clips[jobs[position]] for position in group}
            (job, clip), *_ = together.items()
            if clip.seconds > self.options.chunk_seconds:
                self._decode_long(model, job, clip, bar)
            else:
                self._decode_together(model, together, bar)

    def _decode_together(self, model: CodecModel, clips: dict[FileJob, EncodedFile], bar: tqdm) -> None:
        """Decode short files in one batch."""
        from ..inference import decode_clips, each_or_failure

        def together(some: list[EncodedFile]) -> list[np.ndarray]:
            return decode_clips(
                model,
                [clip.ids for clip in some],
                [clip.num_samples for clip in some],
                self.options.time_norm,
                [clip.header.audio_scale for clip in some],
            )

        for (job, clip), samples in zip(clips.items(), each_or_failure(together, list(clips.values())), strict=True):
            with self.failures.of(job.source):
                if isinstance(samples, Exception):
                    raise samples
                self._write(job, clip, samples)
            bar.update(clip.seconds)

    def _decode_long(self, model: CodecModel, job: FileJob, clip: EncodedFile, bar: tqdm) -> None:
        """Decode a file in chunks; memory does not grow with its length."""
        from ..inference import decode_chunks

        def chunks() -> Iterator[np.ndarray]:
            for samples in decode_chunks(
                model,
                clip.ids,
                clip.num_samples,
                self.options.time_norm,
                self.options.chunk_seconds,
                clip.header.audio_scale,
            ):
                yield samples
                bar.update(len(samples) / clip.header.sampling_rate)

        with self.failures.of(job.source):
            self._write(job, clip, chunks())

    def show(self, jobs: Sequence[FileJob]) -> None:
        """Show the results on standard output, in the order of the inputs."""
        results = [self.results[job] for job in jobs if job in self.results]
        if self.options.json:
            show_json({"files": results, "failed": self.failures.reasons})
        elif self.options.output != "-" and results:
            show_table(
                [(f"{result['source']} -> {result['target']}", f"{result['seconds']:.2f} s") for result in results]
            )
        if self.failures.reasons and len(jobs) > 1:
            say(f"{len(self.failures.reasons)} of {len(jobs)} files could not be decoded.")

    def _read(self, job: FileJob) -> EncodedFile:
        from ..container import ContainerError, salvage_l3ac

        if is_plain(job.source):
            return self._read_plain(job.source)
        header, ids, reason = salvage_l3ac(sys.stdin.buffer if job.source == "-" else job.source)
        if reason is not None:
            if not self.options.salvage or len(ids) == 0:
                raise ContainerError(reason)
            say(reason)
        return EncodedFile(header, ids, min(header.num_samples, len(ids) * header.hop_length))

    def _read_plain(self, source: str) -> EncodedFile:
        """Plain ids, with the header of their file or, if that is of ids alone, the one that `--model` would write."""
        from ..container import Header, checked_ids
        from ..id_files import read_ids

        header, ids = read_ids(source)
        if header is None:
            if not self.options.model:
                raise ValueError(f"{source} holds ids alone: give the model that made them with --model.")
            model = self.load(self.options.model, source)
            config, levels = model.config, model.config.frame_levels
            rates = (config.sampling_rate, config.hop_length)
            name = model_name(self.options.model)
            header = Header(name, model.weights_digest(), levels, *rates, len(ids) * config.hop_length)
            checked_ids(ids, levels, source)
        return EncodedFile(header, ids, header.num_samples)

    def _write(self, job: FileJob, clip: EncodedFile, samples: np.ndarray | Iterator[np.ndarray]) -> None:
        from ..audio import write_audio

        make_folder_of(job.target)
        write_audio(job.target, samples, clip.header.sampling_rate, clip.num_samples)
        self.results[job] = {
            "source": job.source,
            "target": job.target,
            "seconds": clip.seconds,
            "num_samples": clip.num_samples,
            "num_ids": len(clip.ids),
            "salvaged": clip.num_samples < clip.header.num_samples,
        }
