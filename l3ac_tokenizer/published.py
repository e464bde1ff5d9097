"""Published weights: where each preset's weights lie on the hub, and the folder in which converted ones are kept.

The names of repositories and files are those from which the authors' packages download. `download` converts the weights
of a preset into the folder `PRESET-published` of `cache_folder`, which `from_pretrained("PRESET-published")` loads.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIX = "-published"
"""Appended to a preset, the name of its converted published weights."""

RECORD = "source.json"
"""File of a downloaded checkpoint that records its origin, and the SHA-256 of every file."""


@dataclass(frozen=True)
class PublishedWeights:
    """Weights on the hub.

    Attributes:
        repository: Name on the hub.
        folder: Folder in it that holds the files; empty: the repository itself.
        license: License, as far as it is known without a network.
        megabytes: Size of the parameters in float32.
        gated: Whether the hub gives the files only to those who accepted the license.
    """

    repository: str
    folder: str
    license: str
    megabytes: int
    gated: bool = False


OF_REPOSITORY = "terms of the repository"
"""License of weights whose repository states none by name."""


def _l3ac(version: str, megabytes: int) -> PublishedWeights:
    return PublishedWeights("zhai-lw/L3AC", f"weights/{version}.v1", OF_REPOSITORY, megabytes)


def _sqcodec(version: str, megabytes: int) -> PublishedWeights:
    return PublishedWeights("zhai-lw/SQCodec", f"weights/{version}.v0", OF_REPOSITORY, megabytes)


PUBLISHED = {
    "l3ac-0k75": _l3ac("0k75bps", 45),
    "l3ac-1k": _l3ac("1kbps", 45),
    "l3ac-1k5": _l3ac("1k5bps", 45),
    "l3ac-3k": _l3ac("3kbps", 41),
    "sqcodec-0k75": _sqcodec("0k75bps", 61),
    "sqcodec-1k5": _sqcodec("1k5bps", 60),
    "sqcodec-3k": _sqcodec("3kbps", 45),
    "sqcodec-6k": _sqcodec("6kbps", 45),
    "sqcodec-12k": _sqcodec("12kbps", 45),
    "sqcodec-12k-24khz": _sqcodec("12kbps_24khz", 45),
    "sqcodec-24k-24khz": _sqcodec("24kbps_24khz", 45),
    "taae-950m": PublishedWeights(
        "stabilityai/stable-codec-speech-16k", "", "Stability AI Community License", 3800, gated=True
    ),
}
"""Preset → its published weights."""


def preset_of(name: Any) -> str | None:
    """The preset of a name such as `"l3ac-1k-published"`; None for any other name."""
    preset = name.removesuffix(SUFFIX) if isinstance(name, str) and name.endswith(SUFFIX) else None
    return preset if preset in PUBLISHED else None


def cache_folder() -> Path:
    """Folder of downloaded checkpoints: `L3AC_CACHE`, or `l3ac_tokenizer` in `XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("L3AC_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "l3ac_tokenizer"


def read_record(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record of a downloaded checkpoint; None where there is none that can be read."""
    try:
        record = json.loads(Path(folder, RECORD).read_text(encoding="utf-8"))
        return record if isinstance(record["files"], dict) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def is_downloaded(preset: str) -> bool:
    """Whether the published weights of a preset were downloaded, with all files; their digests are not checked."""
    folder = cache_folder() / f"{preset}{SUFFIX}"
    record = read_record(folder)
    return record is not None and all((folder / name).is_file() for name in record["files"])


def downloaded_folder(preset: str) -> str:
    """The folder of the downloaded published weights of a preset.

    Raises:
        OSError: They were not downloaded, or files are missing.
    """
    folder = cache_folder() / f"{preset}{SUFFIX}"
    if is_downloaded(preset):
        return str(folder)
    weights = PUBLISHED[preset]
    state = "is damaged" if folder.exists() else "is not downloaded yet"
    raise OSError(
        f"{preset}{SUFFIX} {state}: run `l3ac download {preset}` once, with a network ({weights.megabytes} MB of "
        f"{weights.repository}, {weights.license}; expected in {folder})."
    )


def command_to_calibrate(folder: str | None) -> str | None:
    """The command that calibrates a downloaded checkpoint for `time_norm="frozen"`; None for any other folder."""
    record = read_record(folder) if folder else None
    return f"{record['command']} --calibrate FOLDER" if record else None
