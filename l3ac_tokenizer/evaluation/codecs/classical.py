"""Codecs without weights, the reference points of a table: the original, Opus and Codec 2.

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

from .base import SCORING_RATE, Codec, CodecUnavailable, CompressedClip

OPUS_KBPS = (6.0, 256.0)
"""Range of libsndfile's rates for one channel of Opus, in kb/s."""

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
"""Mode → samples and bits per frame, and delay in samples (measured by aligning envelopes of speech in and out)."""


class Original(Codec):
    """The clip itself as 16-bit PCM: the upper bound of every metric."""

    name = title = "original"
    sampling_rate = output_rate = SCORING_RATE

    def encode(self, audio: np.ndarray) -> CompressedClip:
        """The clip itself, 16 bits a sample."""
        return CompressedClip(audio, bits=16.0 * audio.size)

    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """The clip."""
        return encoded.payload


class Opus(Codec):
    """Opus in Ogg through libsndfile: variable rate around a target, 16 kHz, packets of 20 ms.

    The bits are those of the audio packets, without Ogg's pages and headers. libopus may miss the target, so the rate
    is measured.

    Args:
        setting: target in kb/s, 6 to 256; "" for 6.

    Raises:
        CodecUnavailable: the target is invalid, or libsndfile was built without Opus.
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

    def encode(self, audio: np.ndarray) -> CompressedClip:
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
        return CompressedClip(file.getvalue(), bits=8.0 * opus_payload_bytes(file.getvalue()))

    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """Audio (T,) of the clip's length, which the Ogg file stores."""
        return soundfile.read(io.BytesIO(encoded.payload), dtype="float32")[0]


def opus_payload_bytes(ogg: bytes) -> int:
    """Bytes of the audio packets of an Ogg Opus file (RFC 3533, RFC 7845) without its two header packets."""
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
    """Codec 2 through the programs `c2enc` and `c2dec`, at 8 kHz: nothing above 4 kHz survives.

    Its delay is removed. The bits are those of its frames, which the programs pad to whole bytes.

    Args:
        setting: mode, named after its rate in bits per second; "" for 3200.

    Raises:
        CodecUnavailable: the mode is unknown, or the programs are not installed.
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

    def encode(self, audio: np.ndarray) -> CompressedClip:
        """Whole frames, with silence after the clip to make up for the delay."""
        size, bits, delay = CODEC2_MODES[self.mode]
        frames = -(-(audio.size + delay) // size)
        samples = np.pad((np.clip(audio, -1, 1) * 32767).round().astype("<i2"), (0, frames * size - audio.size))
        return CompressedClip(self._run("c2enc", samples.tobytes()), bits=float(bits * frames))

    def decode(self, encoded: CompressedClip) -> np.ndarray:
        """Audio at 8 kHz without the delay; up to a frame longer than the clip."""
        samples = np.frombuffer(self._run("c2dec", encoded.payload), dtype="<i2")
        return samples[CODEC2_MODES[self.mode][2] :].astype(np.float32) / 32768

    def _run(self, program: str, data: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in"), Path(folder, "out")
            source.write_bytes(data)
            subprocess.run([program, self.mode, source, target], check=True, capture_output=True)
            return target.read_bytes()
