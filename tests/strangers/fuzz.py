"""Fuzzing: every reader of files from outside on mutated files, under the limits of the tests in this folder.

    make fuzz                                        # 52,000 executions, a quarter of an hour of one core
    PYTHONPATH=tests python tests/strangers/fuzz.py [--share 0.1] [--keep FOLDER] [READER ...]

Hypothesis draws edits of small valid files: bits, numbers at their bounds, pieces cut, repeated, inserted and swapped,
long runs of digits and brackets. Each execution may take 1 GiB beyond what the imports took and ten seconds, and must
end in a value or in an error of ours, one sentence. What does not is printed and kept; it becomes a test. Line coverage
is that of the functions in the modules that read the format.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import coverage
import hostile
import numpy as np
import soundfile
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from limited import GIBIBYTE, SECONDS, Outcome
from networks import tiny
from test_sizes import ENTRANCES

import l3ac_tokenizer
from l3ac_tokenizer import CodecFeatureExtractor
from l3ac_tokenizer.cli.loading import load_model
from l3ac_tokenizer.container import Header, dump_l3ac
from l3ac_tokenizer.id_files import SUFFIXES, write_ids
from l3ac_tokenizer.tokenization import open_source, tokenize_corpus

PACKAGE = Path(l3ac_tokenizer.__file__).parent


# --- valid files ----------------------------------------------------------------------------------------------


def sound(suffix: str, kind: str, subtype: str, samples: int = 900) -> bytes:
    """A short sound as a file of one format."""
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(samples)
    soundfile.write(file, noise.astype(np.float32), 16_000, subtype, format=kind)
    return file.getvalue()


def film(container: str, codec: str) -> bytes:
    """A short sound in a container that PyAV writes."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000 if codec == "libopus" else 16_000)
        noise = (3_000 * np.random.default_rng(0).standard_normal((1, 4_800))).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate = stream.rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()


def l3ac_file(coding: str) -> bytes:
    ids = np.arange(400) % 343
    return dump_l3ac(Header("x", "0" * 64, (7, 7, 7), 16_000, 270, 270 * len(ids), coding), ids)


def ids_files() -> dict[str, bytes]:
    """The same ids in every plain format."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in SUFFIXES:
            header = Header("x", "0" * 64, (7, 7, 7), 16_000, 270, 270 * 400)
            write_ids(Path(folder) / f"x{suffix}", header, np.arange(400) % 343)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def l3ac_with_checksums(data: bytes) -> bytes:
    """The same with all checksums corrected, so that what they protect is looked at."""
    head = 64 + 2 * data[7] + data[6] if len(data) > 7 else len(data)
    checksum = zlib.crc32(data[:head])
    fixed, place = [data[:head], struct.pack("<I", checksum)], head + 4
    while place + 4 <= len(data):
        block = data[place : place + 4 + int.from_bytes(data[place : place + 4], "little")]
        checksum = zlib.crc32(block, checksum)
        fixed += [block, struct.pack("<I", checksum)]
        place += len(block) + 4
    return b"".join(fixed)


def extractor(path: Path) -> CodecFeatureExtractor:
    """The extractor of a folder; an unknown key of its file is an unknown argument of the class."""
    try:
        return CodecFeatureExtractor.from_pretrained(path)
    except TypeError as error:
        if "does not take" in str(error):
            raise ValueError(str(error)) from error
        raise


OTHERS: dict[str, Callable[[Path], Any]] = {"extractor": extractor, "model": lambda folder: load_model(str(folder))}


def tables() -> dict[str, bytes]:
    rows = [{"path": "a.wav", "id": "a", "text": "so it is", "start": 0.0, "seconds": 0.02}, {"path": "b.wav"}]
    lines = "\n".join(map(json.dumps, rows)) + "\n"
    nemo = '{"audio_filepath": "a.wav", "offset": 0.01, "duration": 0.02, "text": "é"}\n'
    return {
        "x.jsonl": lines.encode(),
        "y.jsonl": nemo.encode("utf-16"),
        "x.json": json.dumps(rows).encode(),
        "x.csv": b'path,id,text\na.wav,a,"so, it is"\nb.wav,b,\n',
        "x.tsv": b"\xef\xbb\xbfpath\tid\ttext\na.wav\ta\tso it is\n",
    }


def tar_file(folder: Path) -> bytes:
    wav = sound(".wav", "WAV", "PCM_16", 200)
    members = [("a.wav", wav), ("a.json", b'{"text": "so"}'), ("b.flac", hostile.flac_bytes(200)), ("b.txt", b"no")]
    blocks = [hostile.tar_member(name, len(data), data) for name, data in members]
    return hostile.tar(folder / "x.tar", *blocks, good=False).read_bytes()


def parquet_file(folder: Path) -> bytes:
    import pyarrow as pa

    audio = [{"bytes": hostile.flac_bytes(200), "path": "a.flac"}, {"bytes": None, "path": None}]
    table = pa.table({"audio": audio, "text": ["so", None], "score": [1, 2]})
    return hostile.parquet(folder / "x.parquet", table).read_bytes()


def corpus_file(folder: Path) -> bytes:
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, 0.1 * np.ones(600, np.float32), 16_000)
    output = folder / "out"
    tokenize_corpus(open_source(str(folder)), tiny("tiny"), output)
    (shard,) = output.glob("*.parquet")
    return shard.read_bytes()


def recipe() -> bytes:
    return b"preset: l3ac-1k\nmax_steps: 10\nphases: [{crop_seconds: 1.0, batch_size: 2}]\nweights: {l1: 2}\nlr: 1e-3\n"


# --- readers --------------------------------------------------------------------------------------------------


class Reader(NamedTuple):
    """What is fuzzed.

    Attributes:
        entrance: name in `ENTRANCES`.
        seeds: valid files by name.
        modules: paths in the package, or folders, whose lines are counted.
        executions: number of mutated files.
        beside: files that are not mutated but stand beside them.
        repair: applied to mutated files.
        folder: whether the entrance takes the folder of the file.
    """

    entrance: str
    seeds: dict[str, bytes]
    modules: tuple[str, ...]
    executions: int
    beside: Mapping[str, bytes] = MappingProxyType({})
    repair: Callable[[bytes], bytes] = bytes
    folder: bool = False


def readers(scratch: Path) -> dict[str, Reader]:
    sounds = {
        "x.wav": sound(".wav", "WAV", "PCM_16"),
        "x.flac": sound(".flac", "FLAC", "PCM_16"),
        "x.ogg": sound(".ogg", "OGG", "VORBIS"),
        "x.opus": sound(".opus", "OGG", "OPUS"),
        "x.mp3": sound(".mp3", "MP3", "MPEG_LAYER_III", 4_000),
        "x.aiff": sound(".aiff", "AIFF", "PCM_24"),
        "x.au": sound(".au", "AU", "FLOAT"),
        "x.w64": sound(".w64", "W64", "PCM_16"),
        "x.caf": sound(".caf", "CAF", "PCM_16"),
        "x.rf64": sound(".rf64", "RF64", "PCM_16"),
    }
    layouts = {
        "x.wav": "chunks", "x.flac": "flac", "x.ogg": "ogg", "x.opus": "ogg", "x.mp3": "mpeg", "x.aiff": "chunks",
        "x.au": "chunks", "x.w64": "chunks", "x.caf": "chunks", "x.rf64": "chunks",
    }  # fmt: skip
    model = tiny("tiny")
    model.save_pretrained(scratch / "model")
    weights = (scratch / "model" / "model.safetensors").read_bytes()
    config = (scratch / "model" / "config.json").read_bytes()
    settings_of = b'{"feature_extractor_type": "CodecFeatureExtractor", "sampling_rate": 16000}'
    tables_of = tables()
    wav = {"a.wav": sounds["x.wav"], "b.wav": sounds["x.wav"]}
    source = "tokenization/sources/"
    found: dict[str, Reader] = {}
    for name, data in sounds.items():
        modules = (f"audio_formats/{layouts[name]}.py", "audio_formats/layout.py", "audio.py")
        found[f"audio {name[2:]}"] = Reader("audio", {name: data}, modules, 2_500)
    for name, container, codec in (
        ("x.m4a", "mp4", "aac"),
        ("x.webm", "webm", "libopus"),
        ("x.mka", "matroska", "pcm_s16le"),
    ):
        modules = ("audio_formats/ffmpeg.py",)
        found[f"audio {name[2:]}"] = Reader("audio", {name: film(container, codec)}, modules, 1_500)
    for name, data in tables_of.items():
        modules = ("listing/manifest.py", "listing/table.py", "listing/text.py", "listing/columns.py")
        found[f"manifest {name}"] = Reader("manifest", {name: data}, modules, 1_500, wav)
    for name in ("tar", "parquet"):
        (scratch / name).mkdir()
    files = {"tar": tar_file(scratch / "tar"), "parquet": parquet_file(scratch / "parquet")}
    for name, module in (("tar", "webdataset.py"), ("parquet", "parquet.py")):
        found[name] = Reader("source", {f"x.{name}": files[name]}, (source + module,), 3_000)
    (scratch / "corpus").mkdir()
    shard = corpus_file(scratch / "corpus")
    found["corpus"] = Reader("corpus", {"x.parquet": shard}, ("tokenization/reader.py", "id_metadata.py"), 2_500)
    for coding in ("packed", "entropy"):
        name, modules = f"l3ac {coding}", ("container.py", "range_coder.py")
        found[name] = Reader("read_l3ac", {"x.l3ac": l3ac_file(coding)}, modules, 3_000, repair=l3ac_with_checksums)
        found[f"{name}, info"] = Reader("l3ac info", {"x.l3ac": l3ac_file(coding)}, (*modules, "cli/info.py"), 1_000)
    for name, data in ids_files().items():
        found[f"ids {name[2:]}"] = Reader("plain ids", {name: data}, ("id_files.py",), 1_500)
    networks = ("configuration.py", "modeling/codec.py")
    found["weights"] = Reader(
        "model", {"model.safetensors": weights}, networks, 1_500, {"config.json": config}, folder=True
    )
    found["config of weights"] = Reader(
        "model", {"config.json": config}, networks, 1_500, {"model.safetensors": weights}, folder=True
    )
    found["config"] = Reader("configuration", {"config.json": config}, networks, 3_000, folder=True)
    found["extractor"] = Reader(
        "extractor", {"preprocessor_config.json": settings_of}, ("feature_extraction.py",), 2_000, folder=True
    )
    found["YAML"] = Reader(
        "YAML", {"x.yaml": recipe()}, ("training/config.py", "training/config_files.py", "parsing.py"), 4_000
    )
    return found


# --- mutations ------------------------------------------------------------------------------------------------

BOUNDS = [0, 1, 2, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
TEXTS = [
    b"9" * 400,
    b"-1",
    b"1e308",
    b"nan",
    b"[" * 3_000,
    b"{" * 300,
    b'"',
    b"\0",
    b"\xff\xfe",
    b"\n",
    b"../../x",
    b"&a *a",
]


@st.composite
def edits(draw: st.DrawFn, seed: bytes) -> bytes:
    """A file that differs from a valid one by one to six edits."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from([1, 2, 4, 8, 16, 64, 512]))
        match draw(st.integers(0, 7)):
            case 0:
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                width, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
                value = draw(st.sampled_from(BOUNDS)) & (1 << 8 * width) - 1
                data[place : place + width] = value.to_bytes(width, order)
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length] * draw(st.sampled_from([1, 2, 50]))
            case 4:
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case 5:
                other = draw(st.integers(0, max(0, len(data) - 1)))
                data[place : place + length] = data[other : other + length]
            case 6:
                data[place : place + draw(st.sampled_from([0, 1, 4]))] = draw(st.sampled_from(TEXTS))
            case _:
                del data[place:]
    return bytes(data)


# --- executions -----------------------------------------------------------------------------------------------


class HangError(BaseException):
    """An execution took longer than `SECONDS` of the processor."""


def _hang(*_: Any) -> None:
    raise HangError


def execute(reader: Reader, name: str, data: bytes, scratch: Path) -> None:
    """Read one file; anything but a value or a refusal is raised."""
    folder = scratch / "in"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for other, content in reader.beside.items():
        (folder / other).write_bytes(content)
    path = hostile.write(folder / name, data)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        (ENTRANCES | {"extractor": extractor, "model": lambda folder: load_model(str(folder))})[reader.entrance](
            folder if reader.folder else path
        )
    except Exception as error:
        if not Outcome(None, type(error).__name__, str(error)).is_refusal:
            raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def run(reader: Reader, executions: int, scratch: Path, counter: mmap.mmap, pipe: Any) -> None:
    """All executions of a reader, in a process of its own; sends the error, if any, and lines run and in all."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _hang)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIBIBYTE, used + GIBIBYTE))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    lines = coverage.Coverage(data_file=None, include=[f"{PACKAGE}/*"])
    error = None
    with lines.collect():
        for name, seed in reader.seeds.items():

            @settings(
                max_examples=executions // len(reader.seeds),
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            )
            @given(edits(seed))
            def each(data: bytes) -> None:
                counter[:8] = (int.from_bytes(counter[:8], "little") + 1).to_bytes(8, "little")
                execute(reader, name, reader.repair(data), scratch)  # noqa: B023 - called in this turn

            try:
                each()
            except BaseException as caught:
                import traceback

                error = "".join(traceback.format_exception(caught)[-6:])
    ran = total = 0
    for module in reader.modules:
        path = PACKAGE / module
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        inside = {line for node in functions for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}
        _, statements, _, missing, _ = lines.analysis2(str(path))
        ran, total = ran + len(inside & {*statements} - {*missing}), total + len(inside & {*statements})
    pipe.send((error, ran, total))


def fuzz(name: str, reader: Reader, executions: int, scratch: Path, keep: Path) -> tuple[str, bool]:
    """Fuzz one reader; returns a row of the table and whether all executions ended well."""
    counter = mmap.mmap(-1, 8)
    ours, theirs = multiprocessing.Pipe()
    begun = time.monotonic()
    child = multiprocessing.get_context("fork").Process(target=run, args=(reader, executions, scratch, counter, theirs))
    child.start()
    theirs.close()
    last, since, found = -1, begun, None
    while found is None and child.is_alive():
        if ours.poll(1):
            break
        count = int.from_bytes(counter[:8], "little")
        if count != last:
            last, since = count, time.monotonic()
        elif time.monotonic() - since > 6 * SECONDS:
            child.kill()
    try:
        error, ran, total = ours.recv()
    except EOFError:
        child.join()
        error, ran, total = f"killed by signal {-(child.exitcode or 0)}", 0, 0
    child.join()
    count = int.from_bytes(counter[:8], "little")
    if error:
        target = keep / name.replace(" ", "-").replace(",", "")
        print(f"\n{name}: {error}\nkept in {target}\n", file=sys.stderr, flush=True)
        shutil.rmtree(target, ignore_errors=True)
        if (scratch / "in").exists():
            shutil.copytree(scratch / "in", target)
    share = f"{100 * ran / total:.0f} %" if total else "–"
    seconds = time.monotonic() - begun
    return f"| {name} | {count:,} | {seconds:.0f} | {share} | {'**failed**' if error else 'none'} |", not error


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every reader of files from outside.")
    parser.add_argument("names", nargs="*", metavar="READER", help="readers (default: all)")
    parser.add_argument("--share", type=float, default=1.0, help="share of the executions (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder of what failed")
    options = parser.parse_args()
    well = True
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        known = readers(scratch)
        print(
            "| reader | executions | seconds | lines of its modules | failures |\n|---|---:|---:|---:|---|", flush=True
        )
        for name in options.names or known:
            row, ended = fuzz(
                name, known[name], max(1, round(known[name].executions * options.share)), scratch, options.keep
            )
            print(row, flush=True)
            well &= ended
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
