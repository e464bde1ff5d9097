"""Speed of tokenizing a corpus, by format, beside what its parts allow: decoding alone and the network alone.

    OMP_NUM_THREADS=1 python -m benchmarks.tokenization FOLDER [--clips 48] [--rounds 3] [--url s3://BUCKET/PREFIX]

The same clips are written in every format, and tokenized by one process with one thread, from and to local disk and,
with `--url`, object storage. Rounds go through all formats, so that other work on the machine affects all alike;
results are medians of processor time, which such work hardly changes. Figures go to a JSON file, tables to the output.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import soxr
import torch

from benchmarks.report import machine, machine_line
from l3ac_tokenizer import CodecEncoderModel, L3ACConfig, L3ACEncoderModel, preset_config
from l3ac_tokenizer.audio import AUDIO_SUFFIXES, read_audio
from l3ac_tokenizer.evaluation.report.tables import table
from l3ac_tokenizer.evaluation.timing import Timing, median, timed
from l3ac_tokenizer.files import atomic_write
from l3ac_tokenizer.inference import encode_clips, group_by_length
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus
from l3ac_tokenizer.tokenization.engines import LocalEngine, Window, WindowEncoder
from l3ac_tokenizer.tokenization.spec import TokenizationOptions

RATE = 16_000
BUDGET = 30.0
FIGURES = Path("docs/reports/tokenization.json")
MODELS = ("l3ac-1k-light", "l3ac-1k")
PRESETS = tuple(f"l3ac-{rate}{kind}" for kind in ("-light", "") for rate in ("0k75", "1k", "1k5", "3k"))
"""Networks that are timed alone, those without weights with random ones, on which the speed does not depend."""


def _file(samples: np.ndarray, suffix: str, rate: int, **how: Any) -> tuple[str, bytes]:
    data = io.BytesIO()
    soundfile.write(data, samples if rate == RATE else soxr.resample(samples, RATE, rate), rate, **how)
    return suffix, data.getvalue()


FILES: dict[str, Callable[[np.ndarray], tuple[str, bytes]]] = {
    "FLAC, 16 kHz": lambda samples: _file(samples, "flac", RATE, format="FLAC"),
    "MP3, 44.1 kHz": lambda samples: _file(samples, "mp3", 44_100, format="MP3"),
    "Opus, 48 kHz": lambda samples: _file(samples, "opus", 48_000, format="OGG", subtype="OPUS"),
    "WAV, 44.1 kHz": lambda samples: _file(samples, "wav", 44_100, format="WAV", subtype="PCM_16"),
}
"""Format → function of samples (T,) that gives suffix and content of a file."""


def write_corpora(waves: Sequence[np.ndarray], folder: Path) -> dict[str, Path]:
    """The clips in every format, each in a folder of its own below `folder`: title → folder."""
    places: dict[str, Path] = {}
    for title, encode in FILES.items():
        places[title] = folder / title.partition(",")[0].lower()
        places[title].mkdir()
        for number, samples in enumerate(waves):
            suffix, data = encode(samples)
            (places[title] / f"{number:05d}.{suffix}").write_bytes(data)
    flac = sorted(places["FLAC, 16 kHz"].iterdir())
    for title in ("tar of FLAC", "Parquet of FLAC"):
        places[title] = folder / title.partition(" ")[0].lower()
        places[title].mkdir()
    with tarfile.open(places["tar of FLAC"] / "0.tar", "w") as tar:
        for path in flac:
            tar.add(path, path.name)
    pq.write_table(pa.table({"audio": [path.read_bytes() for path in flac]}), places["Parquet of FLAC"] / "0.parquet")
    return places


def network_alone(waves: Sequence[np.ndarray], model: Any) -> None:
    """Run the network on clips in memory, in batches like those of tokenization."""
    for group in group_by_length([len(wave) / RATE for wave in waves], BUDGET):
        encode_clips(model, [waves[position] for position in group])


def decoding_alone(place: str) -> None:
    """Read and resample all clips of a corpus."""
    source = open_source(place)
    for record in source.records(0, len(source)):
        audio = io.BytesIO(record.audio) if isinstance(record.audio, bytes) else record.audio
        read_audio(audio, RATE)


def tokenization(place: str, model: Any, outputs: Iterator[str]) -> None:
    """The whole way, from files to shards in the next output."""
    tokenize_corpus(open_source(place), model, next(outputs), chunk_seconds=BUDGET)


def measure(waves: Sequence[np.ndarray], names: Sequence[str], rounds: int, url: str | None) -> dict[str, Any]:
    """Seconds of processor time of every part, for all clips together."""
    torch.set_num_threads(1)
    models = {name: CodecEncoderModel.from_pretrained(name).eval() for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        corpora = {title: str(place) for title, place in write_corpora(waves, Path(scratch)).items()}
        sizes = {title: sum(file.stat().st_size for file in Path(place).iterdir()) for title, place in corpora.items()}
        outputs = (f"{scratch}/out{number}" for number in itertools.count())
        calls: dict[str, Callable[[], None]] = {}
        for title, place in corpora.items():
            calls[f"{title}: decoding"] = functools.partial(decoding_alone, place)
            for name, model in models.items():
                calls[f"{title}: {name}"] = functools.partial(tokenization, place, model, outputs)
        if url is not None:
            remote = _uploaded(corpora, url)
            copies = (f"{url}/out{os.getpid()}-{number}" for number in itertools.count())
            for title, place in remote.items():
                for name, model in models.items():
                    calls[f"{title}, by URL: {name}"] = functools.partial(tokenization, place, model, copies)
        for name in PRESETS:
            preset = models.get(name) or L3ACEncoderModel(cast(L3ACConfig, preset_config(name))).eval()
            calls[f"{name}: alone"] = functools.partial(network_alone, waves, preset)
            network_alone(waves[:2], preset)
        timings: dict[str, list[Timing]] = {call: [] for call in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                timings[name].append(timed(call)[1])
    return {
        "machine": machine(1),
        "clips": len(waves),
        "audio_seconds": sum(map(len, waves)) / RATE,
        "rounds": rounds,
        "models": list(names),
        "bytes": sizes,
        "by_url": url is not None,
        "seconds": {name: vars(median(values)) for name, values in timings.items()},
    }


def _uploaded(corpora: dict[str, str], url: str) -> dict[str, str]:
    """Copy corpora to object storage; title → URL."""
    import fsspec

    filesystem, root = fsspec.url_to_fs(url)
    for place in corpora.values():
        filesystem.put(f"{place}/", f"{root}/{Path(place).name}/", recursive=True)
    return {title: f"{url}/{Path(place).name}" for title, place in corpora.items()}


class _Watched(WindowEncoder):
    """Notes when it works: lines of process and seconds in a file."""

    def __init__(self, work: WindowEncoder, notes: str) -> None:
        super().__init__(work.source, work.encoder)
        self._notes = notes

    def __call__(self, start: int, stop: int, rank: int | None = None) -> pa.Table:
        began = time.time()
        result = super().__call__(start, stop, rank)
        with open(self._notes, "a") as file:
            file.write(json.dumps([os.getpid(), began, time.time()]) + "\n")
        return result


class _WatchedEngine:
    def __init__(self, num_proc: int, notes: str) -> None:
        self._engine, self._notes = LocalEngine(num_proc), notes

    def run(self, work: WindowEncoder, windows: Iterable[Window]) -> Any:
        return self._engine.run(_Watched(work, self._notes), windows)


def idle_share(name: str, num_proc: int, hour_seconds: float = 3600.0) -> float:
    """Share of their time for which workers wait, of one clip of an hour among 999 of half a second."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    model = CodecEncoderModel.from_pretrained(name).eval()
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "in"
        corpus.mkdir()
        for number in range(1000):
            seconds = hour_seconds if number == 500 else 0.5
            with soundfile.SoundFile(corpus / f"{number:04d}.flac", "w", RATE, 1, "PCM_16") as file:
                for _ in range(max(1, round(seconds / 60))):
                    file.write(0.1 * random.standard_normal(round(min(seconds, 60) * RATE)))
        notes = f"{scratch}/notes"
        tokenize_corpus(
            open_source(str(corpus)),
            model,
            f"{scratch}/out",
            TokenizationOptions(),
            engine=_WatchedEngine(num_proc, notes),
            chunk_seconds=BUDGET,
        )
        spans = [json.loads(line) for line in Path(notes).read_text().splitlines()]
    whole = max(stop for _, _, stop in spans) - min(start for _, start, _ in spans)
    return 1 - sum(stop - start for _, start, stop in spans) / (num_proc * whole)


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    cpu = {name: each["cpu"] for name, each in result["seconds"].items()}
    audio = result["audio_seconds"]
    titles = list(result["bytes"])
    if result["by_url"]:
        titles += [f"{title}, by URL" for title in result["bytes"]]
    cells = [["corpus", "kB a second", "decoding alone"]]
    for name in result["models"]:
        cells[0] += [name, "of the network alone", "of both in turn"]
    cells.append(["network alone", "", ""])
    for name in result["models"]:
        cells[-1] += [f"{audio / cpu[f'{name}: alone']:.0f}", "100 %", ""]
    for title in titles:
        local = title.removesuffix(", by URL")
        decoding = cpu[f"{local}: decoding"]
        cells.append([title, f"{result['bytes'][local] / audio / 1000:.1f}", f"{audio / decoding:.0f}"])
        for name in result["models"]:
            own, alone = cpu[f"{title}: {name}"], cpu[f"{name}: alone"]
            cells[-1] += [f"{audio / own:.0f}", f"{alone / own:.0%}", f"{(alone + decoding) / own:.0%}"]
    lines = [
        f"{result['clips']} clips, {audio / 60:.1f} minutes, medians of {result['rounds']} rounds of processor time. "
        f"{machine_line(result['machine'])}",
        "",
        "Hours of audio a core-hour:",
        "",
        table(cells),
    ]
    lines += ["", "The network alone, of every preset:", ""]
    rows = [[name, f"{audio / cpu[f'{name}: alone']:.0f}"] for name in PRESETS]
    lines.append(table([["preset", "hours a core-hour"], *rows]))
    if "idle" in result:
        idle = result["idle"]
        lines += [
            "",
            f"One clip of an hour among 999 of half a second, {idle['model']}, {idle['num_proc']} processes: workers "
            f"wait for {idle['share']:.1%} of their time.",
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, store the figures and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of audio files")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="object storage to read from and write to as well")
    parser.add_argument("--processes", type=int, default=2, help="of the run with one long clip; 1: leave it out")
    parser.add_argument("-o", "--output", type=Path, default=FIGURES, help="JSON of the figures (default: %(default)s)")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    waves = [read_audio(path, RATE)[0] for path in paths[: options.clips]]
    result = measure(waves, options.models, options.rounds, options.url)
    if options.processes > 1:
        share = idle_share(options.models[0], options.processes)
        result["idle"] = {"model": options.models[0], "num_proc": options.processes, "share": share}
    with atomic_write(options.output) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    print(markdown(result))


if __name__ == "__main__":
    main()
