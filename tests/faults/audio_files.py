"""Audio files with faults: truncated, of unknown or wrong length, joined. Each function returns a path or bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000

FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".aiff": ("AIFF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
    ".rf64": ("RF64", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
}
"""Suffix → format and subtype of soundfile."""

AV_FORMATS = {".m4a": ("ipod", "aac"), ".webm": ("webm", "libopus"), ".mka": ("matroska", "aac")}
"""Suffix → format and codec of FFmpeg."""


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A tone in noise, (samples, channels)."""
    rng = np.random.default_rng(seed)
    tone = 0.4 * np.sin(2 * np.pi * 440 / RATE * np.arange(samples))[:, None]
    return (tone + 0.05 * rng.standard_normal((samples, channels))).astype(np.float32)


def file_bytes(
    suffix: str, samples: int = RATE, rate: int = RATE, channels: int = 1, subtype: str | None = None
) -> bytes:
    """A whole file of `FORMATS` or `AV_FORMATS`."""
    if suffix in AV_FORMATS:
        return _av_bytes(*AV_FORMATS[suffix], samples, 48_000 if suffix == ".webm" else rate)
    form, default = FORMATS[suffix]
    file = io.BytesIO()
    soundfile.write(file, noise(samples, channels), rate, subtype or default, format=form)
    return file.getvalue()


def _av_bytes(form: str, codec: str, samples: int, rate: int) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=form) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(noise(samples).T), format="fltp", layout="mono")
        frame.sample_rate = rate
        size, kind = stream.codec_context.frame_size or 1024, stream.codec_context.format.name
        change = av.AudioResampler(format=kind, layout="mono", rate=rate, frame_size=size)
        for block in [*change.resample(frame), *change.resample(None), None]:
            output.mux(stream.encode(block))
    return file.getvalue()


def truncated_file(folder: Path, suffix: str, share: float = 0.5, samples: int = RATE) -> Path:
    """A file that was cut after a share of its bytes."""
    data = file_bytes(suffix, samples)
    path = folder / f"truncated{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    return path


def with_number(data: bytes, mark: bytes, offset: int, form: str, value: int) -> bytes:
    """The data with a number of `struct` format `form` written `offset` bytes after the first `mark`."""
    changed = bytearray(data)
    struct.pack_into(form, changed, data.index(mark) + offset, value)
    return bytes(changed)


def with_flac_total(data: bytes, samples: int) -> bytes:
    """FLAC whose header states this number of samples; 0: unknown."""
    (packed,) = struct.unpack_from(">Q", data, 18)
    changed = bytearray(data)
    struct.pack_into(">Q", changed, 18, packed >> 36 << 36 | samples)
    return bytes(changed)


def with_flac_block(data: bytes, kind: int, content: bytes) -> bytes:
    """FLAC with a further metadata block behind STREAMINFO."""
    return data[:42] + bytes([kind]) + len(content).to_bytes(3, "big") + content + data[42:]


def flac_frames(data: bytes) -> int:
    """Where the frames of FLAC begin."""
    position, last = 4, False
    while not last:
        last, position = data[position] > 127, position + 4 + int.from_bytes(data[position + 1 : position + 4], "big")
    return position


def flac_as_samples(inner: bytes, place: int) -> bytes:
    """FLAC of noise with the bytes of another file among its samples, which are stored as they are."""
    noise_bytes = np.random.default_rng(1).integers(0, 256, 6 * 8192, dtype=np.uint8).tobytes()
    content = noise_bytes[:place] + inner + noise_bytes[place + len(inner) :]
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(content, ">i2").astype(np.int16), RATE, "PCM_16", format="FLAC")
    assert inner in file.getvalue()
    return file.getvalue()


def of_unknown_length(suffix: str, samples: int = RATE) -> dict[str, bytes]:
    """Whole files whose headers do not know it, as programs write to a pipe; by what the header states."""
    data = file_bytes(suffix, samples)
    marks = {
        ".wav": ("<I", b"data", 4, (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFDB)),
        ".aiff": (">I", b"SSND", 4, (0, 8, 0xFFFFFFFF, 0x7FFFFFFF)),
        ".au": ("<I" if data[:4] == b"dns." else ">I", data[:4], 8, (0, 0xFFFFFFFF, 0x7FFFFFFF)),
        ".caf": (">q", b"data", 4, (-1, 0)),
        ".w64": ("<q", b"data", 16, (0, 24, -1)),
        ".rf64": ("<Q", b"ds64", 16, (0, 2**64 - 1)),
    }
    if suffix == ".flac":
        return {"0": with_flac_total(data, 0)}
    form, mark, offset, values = marks[suffix]
    return {str(value): with_number(data, mark, offset, form, value) for value in values}


def stating_less(suffix: str, samples: int = RATE) -> bytes:
    """A whole file whose header states 1000 samples."""
    data = file_bytes(suffix, samples)
    if suffix == ".flac":
        return with_flac_total(data, 1000)
    form, mark, offset, extra = {
        ".wav": ("<I", b"data", 4, 0),
        ".aiff": (">I", b"SSND", 4, 8),
        ".au": ("<I" if data[:4] == b"dns." else ">I", data[:4], 8, 0),
        ".caf": (">q", b"data", 4, 4),
        ".w64": ("<q", b"data", 16, 24),
        ".rf64": ("<Q", b"ds64", 16, 0),
    }[suffix]
    return with_number(data, mark, offset, form, 2000 + extra)


def huge(suffix: str) -> bytes:
    """A short file whose header states far more than 4 GiB."""
    data = file_bytes(suffix)
    if suffix == ".flac":
        return with_flac_total(data, 2**36 - 1)
    form, mark, offset = {".rf64": ("<Q", b"ds64", 16), ".w64": ("<q", b"data", 16), ".caf": (">q", b"data", 4)}[suffix]
    return with_number(data, mark, offset, form, 10**13)


def variable_mp3_without_count(samples: int = RATE) -> bytes:
    """MP3 of variable bit rate without a Xing header; its length can only be counted."""
    data = file_bytes(".mp3", samples)
    place = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    second = data.index(data[:2], place)
    return data[second:]
