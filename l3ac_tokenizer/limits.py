"""Limits on data from outside: sizes, lengths, rates and expansion, each a constant of this module.

Every reader checks the numbers of a file against them before it allocates or multiplies. A limit that valid data may
reach is a `Limit`, which the environment variable `L3AC_` and its name raises, for the library, the commands and their
worker processes alike; the error of a reader names it. `CONFIG_BOUNDS` are fixed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple


class LimitError(ValueError):
    """A number of a file is beyond a limit; the message names the option that raises it."""


class Limit(NamedTuple):
    """A limit with its default.

    Attributes:
        name: of the constant; the environment variable has `L3AC_` before it.
        default: value where that variable is not set.
    """

    name: str
    default: float

    @property
    def variable(self) -> str:
        """The environment variable that changes the limit."""
        return f"L3AC_{self.name}"

    @property
    def value(self) -> float:
        """The limit in force.

        Raises:
            LimitError: the environment variable is set to something else than a number of at least 0.
        """
        text = os.environ.get(self.variable)
        if not text:
            return self.default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not value >= 0:
            raise LimitError(f"{self.variable} is {text!r}: set it to a number.")
        return value

    def check(self, number: float, what: str, error: type[ValueError] = LimitError) -> None:
        """Refuse a number above the limit; `what` is the beginning of the message, with the number.

        Raises:
            ValueError: of the class `error`.
        """
        if not number <= self.value:  # NaN compares as wrong
            raise error(f"{what}, more than the {self.value:,.12g} allowed: {self.remedy}.")

    @property
    def remedy(self) -> str:
        """The end of messages: how to raise the limit."""
        return f"set the environment variable {self.variable} to allow it"


# --- audio ----------------------------------------------------------------------------------------------------

LOWEST_RATE = Limit("LOWEST_RATE", 1_000)
"""Lowest sampling rate of audio in Hz."""
HIGHEST_RATE = Limit("HIGHEST_RATE", 768_000)
"""Highest sampling rate of audio in Hz."""
CLIP_SECONDS = Limit("CLIP_SECONDS", 86_400)
"""Longest clip in seconds, where `max_seconds` says nothing else."""
CLIP_SAMPLES = Limit("CLIP_SAMPLES", 1 << 27)
"""Most samples of a clip that is read as a whole: 2.3 h at 16 kHz. Clips that are read in blocks have no such limit."""
CLIP_EXPANSION = Limit("CLIP_EXPANSION", 0.25)
"""Most seconds of audio that a byte of a file may hold, beyond the first ten minutes (silence in FLAC: 0.02)."""
CLIP_BYTES = Limit("CLIP_BYTES", 1 << 29)
"""Most bytes of an audio file that lies in a tar shard, a Parquet file or a dataset."""
WINDOW_BYTES = Limit("WINDOW_BYTES", 1 << 28)
"""Most bytes of such audio files that are in memory together, unless one alone has more."""
STREAM_BYTES = Limit("STREAM_BYTES", 1 << 34)
"""Most bytes of audio from standard input or another stream, which is copied to disk first."""
BATCH_CLIPS = 256
"""Most clips in a batch."""
BATCH_SAMPLES = Limit("BATCH_SAMPLES", 1 << 26)
"""Most samples, padding included, of a batch of the feature extractor of which more than three quarters are padding."""

# --- text -----------------------------------------------------------------------------------------------------

TEXT_BYTES = Limit("TEXT_BYTES", 1 << 28)
"""Most bytes of a manifest, table or file of transcripts."""
MEMBER_BYTES = Limit("MEMBER_BYTES", 1 << 20)
"""Most bytes of a text or JSON member of a tar shard."""
YAML_BYTES = Limit("YAML_BYTES", 1 << 18)
"""Most bytes of a YAML file."""
YAML_VALUES = Limit("YAML_VALUES", 100_000)
"""Most values of a YAML file, its aliases written out."""
YAML_DEPTH = 100
"""Deepest nesting of a YAML file, and longest chain of files by `base:`."""
NAME_CHARACTERS = Limit("NAME_CHARACTERS", 4_096)
"""Longest id or path of a clip in a tar shard or Parquet file."""
TRANSCRIPT_CHARACTERS = Limit("TRANSCRIPT_CHARACTERS", 1 << 17)
"""Longest transcript that is normalized for word errors."""
MESSAGE_CHARACTERS = 2_000
"""Longest error message; of longer ones the beginning and the end remain."""

# --- containers and tables ------------------------------------------------------------------------------------

L3AC_IDS = Limit("L3AC_IDS", 1 << 24)
"""Most ids of a `.l3ac` file: 28 h at 167 ids/s."""
L3AC_EXPANSION = Limit("L3AC_EXPANSION", 64)
"""Most ids that a byte of a `.l3ac` file may hold, beyond the first 8192 ids; entropy coding of silence is padded to
stay below it."""
ID_FILE_BYTES = Limit("ID_FILE_BYTES", 1 << 25)
"""Most bytes of a file of plain ids (`.npy`, `.json`, `.txt`): 20 h at 59 ids/s."""
ENTROPY_CELLS = Limit("ENTROPY_CELLS", 1 << 16)
"""Most counters of the entropy coder: the sum of the squares of all levels."""
CODEBOOK_SIZE = Limit("CODEBOOK_SIZE", 1 << 25)
"""Largest codebook whose ids are counted one by one (`l3ac stats`)."""
TAR_HEADER_BYTES = 1 << 20
"""Most bytes of one header of a tar file, extended ones included."""
PARQUET_ROWS = Limit("PARQUET_ROWS", 64)
"""Most rows of a Parquet file for each of its bytes, beyond the first 65,536 rows."""
PARQUET_EXPANSION = Limit("PARQUET_EXPANSION", 200)
"""Most bytes, and most values, of a column in a row group for each of its compressed bytes, beyond the first 16 MiB of
bytes and the first 4 million values."""
CORPUS_ROWS = 1 << 40
"""Most clips that the manifest of a tokenized corpus may state."""

# --- the page of `l3ac serve` ----------------------------------------------------------------------------------

SERVED_SECONDS = Limit("SERVED_SECONDS", 120)
"""Longest clip and recording in seconds on the page of `l3ac serve`."""
SERVED_BYTES = Limit("SERVED_BYTES", 1 << 26)
"""Most bytes of a file given to the page of `l3ac serve`."""

# --- networks -------------------------------------------------------------------------------------------------

CONFIG_BOUNDS: Mapping[str, int] = {
    "sampling_rate": 768_000,
    "levels": 65_535,
    "training_levels": 65_535,
    "num_quantizers": 64,
    "feature_dim": 16_384,
    "hidden_size": 16_384,
    "synthesis_dim": 16_384,
    "encoder_dims": 16_384,
    "decoder_dims": 16_384,
    "encoder_rates": 1_024,
    "decoder_rates": 1_024,
    "strides": 1_024,
    "compress_rate": 1_024,
    "patch_size": 65_536,
    "encoder_depths": 256,
    "decoder_depths": 256,
    "encoder_layers": 256,
    "decoder_layers": 256,
    "depths": 256,
    "analysis_depth": 256,
    "synthesis_depth": 256,
    "synthesis_lookahead": 1_024,
    "synthesis_lookahead_layers": 256,
    "num_attention_heads": 1_024,
    "attention_window": 65_536,
}
"""Largest value of each field of a codec's configuration, and of each entry where it is a list."""
CONFIG_ENTRIES = 64
"""Most entries of a list in a codec's configuration."""
CONFIG_IDS_OF = 1_024
"""Most entries of the list `ids_of`."""
HOP_SAMPLES = 1 << 20
"""Longest frame in samples."""
WINDOW_SAMPLES = 1 << 27
"""Longest attention window in samples: its frames times the samples of a frame."""
EXTRA_WEIGHTS = 1 << 24
"""Most weights that a checkpoint's configuration may state beyond those that its files hold."""


def check_rate(rate: object, what: str, error: type[ValueError] = LimitError) -> int:
    """A plausible sampling rate in Hz as an integer; `what` is the beginning of the message.

    Raises:
        ValueError: of the class `error`: it is not a whole number, or one outside `LOWEST_RATE` to `HIGHEST_RATE`.
    """
    low, high = LOWEST_RATE.value, HIGHEST_RATE.value
    try:
        number = float(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not (low <= number <= high and number == int(number)):
        shown = f"{number:g}" if number == number else "no number"
        raise error(
            f"{what} has a sampling rate of {shown} Hz, and plausible ones are {low:g} to {high:g}: correct it, or set "
            f"{(LOWEST_RATE if number < low else HIGHEST_RATE).variable} to allow it."
        )
    return int(number)
