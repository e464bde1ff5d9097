"""Codecs of signal processing that need no weights: Opus and Codec 2, where a table is anchored.

Axes: T samples.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from .base import Code, Codec, CodecUnavailable

OPUS_KBPS = (6.0, 256.0)
"""What libsndfile lets Opus use, of one channel."""

CODEC2_MODES = {
    "3200": (160, 64, 160),
    "2400": (160, 48, 160),
    "1600": (320, 64, 160),
    "1400": (320, 56, 160),
    "1300": (320, 52, 160),
    "1200": (320, 48, 160),
    "700C": (320, 28, 240),
    "450": (320, 18, 240),
}
"""Mode → samples and bits of a frame, samples of delay (measured: where the envelopes of speech in and out agree)."""


class Opus(Codec):
    """Opus in Ogg through libsndfile: variable rate around a target, 16 kHz, packets of 20 ms.

    The bits are those of the audio packets, without Ogg's pages and headers. libopus may miss the target: what it
    used is measured.

    Args:
        setting: target in kb/s, 6 to 256; 6 where it is empty.

    Raises:
        CodecUnavailable: no such target, or a libsndfile without Opus.
    """

    sampling_rate = output_rate = 16_000

    def __init__(self, setting: str = "") -> None:
        try:
            self.kbps = float(setting or OPUS_KBPS[0])
        except ValueError:
            self.kbps = float("nan")
        if not OPUS_KBPS[0] <= self.kbps <= OPUS_KBPS[1]:
            raise CodecUnavailable(f"opus has no rate {setting!r}: write opus@KBPS, 6 to 256.")
        if "OPUS" not in soundfile.available_subtypes("OGG"):
            raise CodecUnavailable("this libsndfile has no Opus: install soundfile 0.13 or newer.")
        self.name = f"opus@{self.kbps:g}" if setting else "opus"
        self.title = f"Opus {self.kbps:g} kb/s"

    def encode(self, audio: np.ndarray) -> Code:
        """An Ogg Opus file in memory."""
        lowest, highest = OPUS_KBPS
        file = io.BytesIO()
        soundfile.write(
            file,
            audio,
            self.sampling_rate,
            format="OGG",
            subtype="OPUS",
            compression_level=(highest - self.kbps) / (highest - lowest),
        )
        return Code(file.getvalue(), bits=8.0 * opus_payload_bytes(file.getvalue()))

    def decode(self, code: Code) -> np.ndarray:
        """As many samples as went in: the Ogg file knows."""
        return soundfile.read(io.BytesIO(code.payload), dtype="float32")[0]


def opus_payload_bytes(ogg: bytes) -> int:
    """Bytes of the audio packets of an Ogg Opus file (RFC 3533, RFC 7845), both header packets left out."""
    packets, size, place = [], 0, 0
    while place < len(ogg):
        segments = ogg[place + 27 : place + 27 + ogg[place + 26]]  # lacing values
        for lacing in segments:
            size += lacing
            if lacing < 255:
                packets.append(size)
                size = 0
        place += 27 + len(segments) + sum(segments)
    return sum(packets[2:])


class Codec2(Codec):
    """Codec 2 through the programs `c2enc` and `c2dec`: 8 kHz, so nothing above 4 kHz is left.

    Its delay is taken back, and the bits are those of its frames: the programs fill each to whole bytes.

    Args:
        setting: mode, which is its rate in bits a second; 3200 where it is empty.

    Raises:
        CodecUnavailable: no such mode, or the programs are not installed.
    """

    sampling_rate = output_rate = 8_000

    def __init__(self, setting: str = "") -> None:
        self.mode = setting or "3200"
        if self.mode not in CODEC2_MODES:
            raise CodecUnavailable(f"codec2 has no mode {setting!r}: write one of {', '.join(CODEC2_MODES)}.")
        if not (shutil.which("c2enc") and shutil.which("c2dec")):
            raise CodecUnavailable("the programs c2enc and c2dec are not installed: on Debian, apt install codec2.")
        self.name = f"codec2@{self.mode}" if setting else "codec2"
        self.title = f"Codec 2 {self.mode}"

    def encode(self, audio: np.ndarray) -> Code:
        """Whole frames, with silence behind the clip for the delay."""
        size, bits, delay = CODEC2_MODES[self.mode]
        frames = -(-(audio.size + delay) // size)
        samples = np.pad((np.clip(audio, -1, 1) * 32767).round().astype("<i2"), (0, frames * size - audio.size))
        return Code(self._run("c2enc", samples.tobytes()), bits=float(bits * frames))

    def decode(self, code: Code) -> np.ndarray:
        """What comes after the delay."""
        samples = np.frombuffer(self._run("c2dec", code.payload), dtype="<i2")
        return samples[CODEC2_MODES[self.mode][2] :].astype(np.float32) / 32768

    def _run(self, program: str, data: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in"), Path(folder, "out")
            source.write_bytes(data)
            subprocess.run([program, self.mode, source, target], check=True, capture_output=True)
            return target.read_bytes()
