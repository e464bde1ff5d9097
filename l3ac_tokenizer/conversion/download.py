"""Download of published weights: fetched, verified, converted, tried, and kept as a checkpoint directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from ..audio import AudioReader, read_audio, readable_suffixes
from ..files import explained, files_below, make_folder
from ..hub_card import complete_card, license_of
from ..logs import get_logger
from ..modeling import CodecModel
from ..published import OF_REPOSITORY, PUBLISHED, RECORD, SUFFIX, cache_folder, preset_of, read_record
from ..version import __version__
from .convert import convert_checkpoint
from .fetching import Fetched, Place, fetch
from .trial import try_weights

logger = get_logger(__name__)

CALIBRATION_MINUTES = 10
"""Least audio for the statistics of `time_norm="frozen"`."""

CLIP_SECONDS = 30
"""Longer recordings are cut into clips of at most this length for the calibration, equal within a recording."""


def download(
    name: str,
    output: str | os.PathLike[str] | None = None,
    *,
    preset: str | None = None,
    calibrate: str | os.PathLike[str] | None = None,
    any_sound: bool = False,
) -> Path:
    """Download published weights and convert them to a checkpoint directory; return the directory.

    Files come from the Hugging Face hub by its own client, which respects `HF_TOKEN`, `HF_ENDPOINT` and
    `HF_HUB_OFFLINE`. The directory appears as a whole or not at all. It has the configuration, the weights, the feature
    extractor's configuration, the card, the license file of the repository, and `source.json` with the commit and the
    SHA-256 of every file. A directory that is complete stays as it is; a damaged one is made again. Of two calls at
    once the second waits for the first.

    Args:
        name: Preset with published weights, e.g. `"l3ac-1k"`, or a place on the hub, `owner/repo[@revision][:folder]`.
        output: Directory to write; None: in the cache, from which `from_pretrained("l3ac-1k-published")` loads.
        preset: Network of the weights, for a place on the hub.
        calibrate: Folder with ten minutes of audio or more, similar to what will be decoded, for the statistics of
            `time_norm="frozen"`. Without it, that decoding is refused.
        any_sound: Keep weights that decode speech to other sounds, see `try_weights`.

    Raises:
        ValueError: The name, the preset or the calibration audio is wrong, or the weights are those of another network
            (ConversionError) or fail their trial.
        OSError: The hub does not give the files, they are damaged, or the directory cannot be written.
    """
    preset, place, key = _which(name, preset)
    folder = (cache_folder() / key if output is None else Path(output)).absolute()
    make_folder(folder.parent)
    lock = folder.parent / f".{folder.name}.lock"
    if lock.is_symlink():  # filelock would empty the file that it leads to
        raise OSError(f"{lock} is a link: remove it.")
    with explained(f"cannot lock {lock}", "choose another output"), FileLock(lock):
        state = _state(folder, preset, place)
        if state == "damaged":
            logger.warning("%s is damaged and is made again, without the statistics of a calibration.", folder)
        if state != "complete":
            _make(folder, preset, place, name, any_sound)
        if calibrate is not None:
            _calibrate(folder, Path(calibrate))
    return folder


def _which(name: str, preset: str | None) -> tuple[str, Place, str]:
    """Preset, place on the hub, and name of the directory in the cache."""
    known = preset_of(name) or name
    if known in PUBLISHED:
        if preset not in (None, known):
            raise ValueError(f"{name} has the preset {known}; leave the preset {preset} out.")
        return known, Place(PUBLISHED[known].repository, PUBLISHED[known].folder), f"{known}{SUFFIX}"
    place = Place.parse(name)
    if place is None:
        raise ValueError(
            f"{name!r} has no published weights: give one of {', '.join(PUBLISHED)}, or a place on the hub, "
            "owner/repo[@revision][:folder]."
        )
    if preset is None or preset not in PUBLISHED:
        raise ValueError(f"Give the preset of the network in {name}, one of {', '.join(PUBLISHED)}.")
    parts = [place.repository, place.revision or "main", place.folder, preset]
    return preset, place, "--".join(part.replace("/", "-") for part in parts if part)


def _state(folder: Path, preset: str, place: Place) -> str:
    """`"absent"`, `"damaged"` or `"complete"`.

    Raises:
        OSError: The folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return "absent"
    record = read_record(folder)
    if record is None:
        if (folder / RECORD).is_file():
            return "damaged"
        raise OSError(f"{folder} exists and is not a downloaded checkpoint: choose another output, or remove it.")
    if [record.get(key) for key in ("preset", "repository", "folder", "revision")] != [
        preset,
        place.repository,
        place.folder,
        place.revision,
    ]:
        raise OSError(f"{folder} holds other weights, of {record.get('repository')}: choose another output.")
    intact = all(
        (folder / name).is_file() and _digest(folder / name) == digest for name, digest in record["files"].items()
    )
    return "complete" if intact else "damaged"


def _make(folder: Path, preset: str, place: Place, name: str, any_sound: bool) -> None:
    weights = PUBLISHED[preset]
    of_table = place.repository == weights.repository
    fetched = fetch(place, preset, weights.license if of_table and weights.gated else None)
    with _replaced(folder) as new:
        convert_checkpoint(fetched.snapshot / place.folder, preset, new)
        model = CodecModel.from_pretrained(new).eval()
        measured = try_weights(model, any_sound=any_sound)
        terms = _license(fetched, weights.license if of_table else None)
        for text in sorted(fetched.snapshot.glob("LICENSE*")):
            shutil.copyfile(text, new / text.name)
        command = f"l3ac download {shlex.quote(name)}"
        if name not in PUBLISHED and preset_of(name) is None:
            command += f" --preset {preset}"
        if folder.parent != cache_folder().absolute():
            command += f" -o {shlex.quote(str(folder))}"
        record = {
            "preset": preset,
            "repository": place.repository,
            "folder": place.folder,
            "revision": place.revision,
            "commit": fetched.commit,
            "license": terms,
            "source_sha256": fetched.digests,
            "weights_digest": model.weights_digest(),
            "trial": measured,
            "calibration": None,
            "command": command,
            "version": __version__,
        }
        _write_card(new, folder.name, record)
        _write_record(new, record)


def _license(fetched: Fetched, known: str | None) -> str:
    """The license that the repository's card states, else the known one."""
    if known in (None, OF_REPOSITORY):
        return license_of(fetched.snapshot) or OF_REPOSITORY
    return known


def _write_card(new: Path, name: str, record: dict[str, Any]) -> None:
    from huggingface_hub import constants

    page = f"{constants.ENDPOINT}/{record['repository']}"
    texts = sorted(path.name for path in new.glob("LICENSE*"))
    calibration = (
        'The statistics of `time_norm="frozen"` are not calibrated.'
        if record["calibration"] is None
        else 'The statistics of `time_norm="frozen"` come from {minutes:.1f} minutes of audio in {clips} clips.'.format(
            **record["calibration"]
        )
    )
    (new / "README.md").write_text(
        f"""---
license: other
license_name: {json.dumps(record["license"])}
license_link: {page}
base_model: {record["repository"]}
---
# {record["preset"]}, published weights

Converted by l3ac_tokenizer {record["version"]} from [{record["repository"]}]({page}), folder
`{record["folder"] or "/"}`, commit `{record["commit"]}`. License: {record["license"]}\
{f" ({', '.join(texts)})" if texts else ""}. The conversion does not change it. `{RECORD}` has the SHA-256 of every
file.

{calibration}
""",
        encoding="utf-8",
    )
    complete_card(new / "README.md", record["weights_digest"], name)


def _write_record(new: Path, record: dict[str, Any]) -> None:
    files = {path.name: _digest(path) for path in sorted(new.iterdir()) if path.name != RECORD}
    text = json.dumps(record | {"files": files}, indent=2, ensure_ascii=False)
    (new / RECORD).write_text(text + "\n", encoding="utf-8")


def _calibrate(folder: Path, audio: Path) -> None:
    """Store the statistics of `time_norm="frozen"` in a complete directory."""
    record = read_record(folder)
    assert record is not None
    model = CodecModel.from_pretrained(folder).eval()
    if not model.time_norms():
        raise ValueError(f"{record['preset']} has no time normalization: leave the calibration out.")
    rate = model.config.sampling_rate
    least = CALIBRATION_MINUTES * 60
    clips, seconds = _clips(audio, rate)
    if seconds < least:
        raise ValueError(
            f"{audio} has {seconds / 60:.1f} minutes of audio; calibration needs {CALIBRATION_MINUTES}: give a folder "
            "with more."
        )
    with _replaced(folder) as new:
        count = model.calibrate_time_norm(clips)
        shutil.copytree(folder, new, dirs_exist_ok=True)
        model.save_pretrained(new)
        record["calibration"] = {"folder": audio.absolute().name, "clips": count, "minutes": seconds / 60}
        _write_card(new, folder.name, record)
        _write_record(new, record)


def _clips(audio: Path, rate: int) -> tuple[Iterator[torch.Tensor], float]:
    """Clips of all audio below a folder, read one file at a time, and their total length in seconds."""
    if not audio.is_dir():
        raise OSError(f"{audio} is not a folder: give one with audio files.")

    def unreadable(error: OSError) -> None:
        raise error

    paths = sorted(files_below(audio, readable_suffixes(), unreadable))
    seconds = 0.0
    for path in paths:
        with AudioReader(path, rate) as reader:
            seconds += len(reader.read()) / rate if reader.duration is None else reader.duration

    def clips() -> Iterator[torch.Tensor]:
        for path in paths:
            samples, _ = read_audio(path, rate)
            for part in np.array_split(samples, -(-len(samples) // (CLIP_SECONDS * rate))):
                yield torch.from_numpy(part)

    return clips(), seconds


@contextlib.contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place if nothing fails; what killed calls left is removed."""
    prefix = f".{folder.name}.new-"
    for rest in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(rest, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        new = workplace / "new"
        new.mkdir()
        yield new
        for file in new.iterdir():  # safetensors creates files for the user alone
            file.chmod((new / RECORD).stat().st_mode)
        if folder.exists():
            os.replace(folder, workplace / "old")
        os.replace(new, folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
