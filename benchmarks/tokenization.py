"""Speed and memory of tokenizing a corpus, compared with the model alone on the same clips.

    OMP_NUM_THREADS=1 python -m benchmarks.tokenization FOLDER [--clips 48] [--rounds 3]

Each round processes the same clips in every setting, in one process with one thread; results are medians over rounds.
Speed is seconds of audio per second of wall time, and per second of processor time, which other work on the machine
hardly affects. Peak memory is measured in a separate process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from l3ac_tokenizer import CodecModel, inference
from l3ac_tokenizer.audio import read_audio
from l3ac_tokenizer.children import spawn_context
from l3ac_tokenizer.inference import encode_clips, group_by_length
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine
from l3ac_tokenizer.tokenization.sources.audio_folder import open_audio_folder
from l3ac_tokenizer.tokenization.sources.base import Source
from l3ac_tokenizer.tokenization.spec import WINDOW_ROWS

BUDGET = 30.0


class FirstClips:
    """The first clips of a source, as a source."""

    def __init__(self, source: Source, count: int) -> None:
        self.kind, self.columns, self.remarks, self.digest = source.kind, source.columns, source.remarks, source.digest
        self.records = source.records
        self._count = min(count, len(source))

    def __len__(self) -> int:
        return self._count


def in_order(seconds: Sequence[float], budget: float) -> list[list[int]]:
    """Batches of `group_by_length` without sorting: what bucketing is compared with."""
    groups: list[list[int]] = []
    for position, length in enumerate(seconds):
        longest = max([length, *(seconds[member] for member in groups[-1])]) if groups else length
        if groups and (len(groups[-1]) + 1) * longest <= budget:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def one_by_one(seconds: Sequence[float], budget: float) -> list[list[int]]:
    """A batch for each clip."""
    return [[position] for position in range(len(seconds))]


def pipeline(
    source: Source, model: CodecModel, budget: float = BUDGET, groups: Callable = group_by_length, num_proc: int = 1
) -> None:
    """The whole way: files to shards."""
    with tempfile.TemporaryDirectory() as out, mock.patch.object(inference, "group_by_length", groups):
        tokenize_corpus(source, model, out, engine=LocalEngine(num_proc), chunk_seconds=budget)


def model_alone(waves: Sequence[np.ndarray], model: CodecModel) -> None:
    """Run the network on clips in memory, in the batches of the pipeline."""
    for start in range(0, len(waves), WINDOW_ROWS):
        window = waves[start : start + WINDOW_ROWS]
        for group in group_by_length([len(wave) / 16_000 for wave in window], BUDGET):
            encode_clips(model, [window[position] for position in group])


def processor_seconds() -> float:
    """Processor time of this process and of the child processes it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def peak_megabytes(folder: str, count: int, name: str, budget: float) -> float:
    """Peak memory of the pipeline in MB, measured in a separate process."""
    with spawn_context().Pool(1) as pool:
        return pool.apply(_peak, (folder, count, name, budget))


def _peak(folder: str, count: int, name: str, budget: float) -> float:
    torch.set_num_threads(1)
    pipeline(FirstClips(open_audio_folder(folder), count), CodecModel.from_pretrained(name).eval(), budget)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of the process that began this one
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Parse the arguments, measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of audio files")
    parser.add_argument("--model", default="l3ac-1k")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(1)
    model = CodecModel.from_pretrained(options.model).eval()
    source: Source = FirstClips(open_source(options.folder), options.clips)
    waves = [read_audio(record.audio, 16_000)[0] for record in source.records(0, len(source))]
    seconds = sum(map(len, waves)) / 16_000
    settings: dict[str, Callable[[], None]] = {
        "model alone, clips in memory": lambda: model_alone(waves, model),
        f"pipeline, batches of {BUDGET:g} s by length": lambda: pipeline(source, model),
        f"batches of {BUDGET:g} s in the files' order": lambda: pipeline(source, model, groups=in_order),
        "one clip at a time": lambda: pipeline(source, model, groups=one_by_one),
        "batches of 60 s": lambda: pipeline(source, model, 60.0),
        "batches of 120 s": lambda: pipeline(source, model, 120.0),
        "2 processes, including their start": lambda: pipeline(source, model, num_proc=2),
    }
    clock: dict[str, list[float]] = {name: [] for name in settings}
    processor: dict[str, list[float]] = {name: [] for name in settings}
    model_alone(waves[:4], model)  # warm-up
    for _ in range(options.rounds):
        for name, run in settings.items():
            began, began_processor = time.perf_counter(), processor_seconds()
            run()
            clock[name].append(time.perf_counter() - began)
            processor[name].append(processor_seconds() - began_processor)
    print(f"{len(source)} clips, {seconds / 60:.1f} minutes, {options.rounds} rounds, one thread\n")
    print("| setting | × real time | share of the model alone | × real time, processor | share of the model alone |")
    print("|---|---|---|---|---|")
    speeds = [{name: seconds / statistics.median(times[name]) for name in settings} for times in (clock, processor)]
    first = next(iter(settings))
    for name in settings:
        cells = [f"{speed[name]:.1f} | {speed[name] / speed[first]:.0%}" for speed in speeds]
        print(f"| {name} | {cells[0]} | {cells[1]} |")
    print("\n| batches | peak memory, MB |\n|---|---|")
    for budget in (10.0, 30.0, 120.0):
        print(f"| {budget:g} s | {peak_megabytes(options.folder, options.clips, options.model, budget):.0f} |")


if __name__ == "__main__":
    main()
