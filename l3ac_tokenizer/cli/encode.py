"""`l3ac encode`: encode audio files to ids, in .l3ac files or plain formats.

Reads every format of soundfile and, with the extra `formats`, of FFmpeg, at any sampling rate; several channels are
downmixed to mono, with a message. Folders are mirrored below the output folder, as .l3ac files. A single file can also
become X.npy (int64 ids), X.txt (decimal ids on one line) or X.json (ids, samples, rates, weights digest).
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..hub import model_name
from .loading import level_of, load_encoder
from .options import UsageError, add_compute, add_lufs, add_model, add_outside, add_truncated
from .paths import PLAIN_SUFFIXES, FileJob, is_plain, make_folder_of, plan_jobs
from .report import Failures, progress, say, say_truncated, show_json, show_table

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..audio import AudioReader
    from ..inference import EncodedClip
    from ..modeling import CodecEncoderModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `l3ac encode`."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help="audio files, folders, or - for WAV from stdin")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a .l3ac, .npy, .json or .txt file, a folder, or - for stdout",
    )
    add_model(parser)
    parser.add_argument(
        "--coding",
        choices=("packed", "entropy"),
        default="packed",
        help="of .l3ac files; entropy: smaller ones by an adaptive model of the ids, slower (default: %(default)s)",
    )
    add_lufs(parser)
    add_truncated(parser)
    add_outside(parser)
    add_compute(parser)


def run(options: argparse.Namespace) -> int:
    """Encode every input; one that cannot be read is reported, and the others continue."""
    if options.json and options.output == "-":
        raise UsageError("--json and -o - would both write to standard output: choose one.")
    suffixes = (".l3ac", *PLAIN_SUFFIXES)
    jobs = plan_jobs(options.inputs, options.output, None, suffixes, allow_outside=options.allow_outside)
    if options.coding != "packed" and is_plain(jobs[0].target):
        raise UsageError(f"--coding is for .l3ac files, and {options.output} is not one: leave it out.")
    encoding = _Encoding(load_encoder(options.model, options.device), options)
    encoding.encode(jobs)
    encoding.show(jobs)
    return 1 if encoding.failures.reasons else 0


class _Encoding:
    """One run of the command: its options, results and failures."""

    def __init__(self, model: CodecEncoderModel, options: argparse.Namespace) -> None:
        self.model = model
        self.options = options
        self.digest = model.weights_digest()
        self.level_lufs = level_of(options.model, options.lufs)
        self.failures = Failures()
        self.truncated: dict[str, str] = {}
        self.results: dict[FileJob, dict[str, Any]] = {}

    def encode(self, jobs: Sequence[FileJob]) -> None:
        """Encode and write every file; short ones in batches, long ones in chunks."""
        from ..inference import encode_audio

        with progress(0, "encoding") as bar:
            openers = [functools.partial(self._open, job, bar) for job in jobs]
            for position, clip in encode_audio(
                self.model, openers, self.options.chunk_seconds, bar.update, self.level_lufs
            ):
                job = jobs[position]
                if clip.error is None:
                    with self.failures.of(job.source):
                        self._write(job, clip)
                        if clip.truncated is not None:
                            self.truncated[job.source] = clip.truncated
                            say(clip.truncated)
                else:
                    self.failures.add(job.source, clip.error)

    def _open(self, job: FileJob, bar: tqdm) -> AudioReader:
        from ..audio import AudioReader

        reader = AudioReader(job.source, self.model.config.sampling_rate, allow_truncated=self.options.allow_truncated)
        bar.total += reader.duration or 0.0
        if reader.note:
            say(f"{reader.name}: {reader.note}.")
        return reader

    def show(self, jobs: Sequence[FileJob]) -> None:
        """Show the results on standard output, in the order of the inputs."""
        results = [self.results[job] for job in jobs if job in self.results]
        if self.options.json:
            show_json({"files": results, "failed": self.failures.reasons, "truncated": self.truncated})
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
        if len(jobs) > 1:
            say_truncated(len(self.truncated), next(iter(self.truncated), None))

    def _write(self, job: FileJob, clip: EncodedClip) -> None:
        from ..container import Header, write_l3ac
        from ..id_files import write_ids

        config = self.model.config
        header = Header(
            model_name(self.options.model),
            self.digest,
            config.frame_levels,
            config.sampling_rate,
            config.hop_length,
            clip.num_samples,
            self.options.coding,
            clip.audio_scale,
        )
        make_folder_of(job.target)
        if is_plain(job.target):
            size = write_ids(job.target, header, clip.ids)
            if clip.audio_scale != 1 and not job.target.endswith(".json"):
                say(f"{job.target} cannot hold the level of {job.source}, which decoding will not restore.")
        else:
            size = write_l3ac(sys.stdout.buffer if job.target == "-" else job.target, header, clip.ids)
        self.results[job] = {
            "source": job.source,
            "target": job.target,
            "seconds": header.duration,
            "num_samples": clip.num_samples,
            "num_ids": len(clip.ids),
            "bytes": size,
        }
