"""Records of a run: settings, `log.jsonl`, Accelerate's trackers, audio and spectrograms in TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from torch import Tensor

from ..codebook_usage import usage
from ..files import atomic_write, open_own
from ..names import without_folders
from ..plots import spectrogram_image
from ..quantization import ids_to_digits
from .network import Prediction


def keep_settings(path: Path, config: Mapping[str, Any], audio: Mapping[str, Any]) -> list[str]:
    """Write the configuration, with the audio of the run in a comment on the first line.

    Returns:
        The dotted keys of all values that differ from the file's previous content.
    """
    text = f"# {json.dumps(audio, ensure_ascii=False)}\n{yaml.safe_dump(config, sort_keys=False, allow_unicode=True)}"
    now = _settings(text)
    before = _settings(path.read_text(encoding="utf-8")) if path.exists() else now
    with atomic_write(path) as file:
        file.write(text.encode())
    return list(_differing(before, now))


def _settings(text: str) -> dict[str, Any]:
    head = text.partition("\n")[0]
    return (json.loads(head[2:]) if head.startswith("# {") else {}) | yaml.safe_load(text)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differing(old, new, f"{prefix}{name}.")
        elif old != new:
            yield prefix + name


def plain_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Settings in the form that trackers accept: dotted keys; numbers, booleans and strings as values.

    Of paths only the last part stays, since trackers publish them; `keep_settings` keeps them whole.
    """
    plain: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            plain |= plain_settings(value, f"{prefix}{name}.")
        else:
            plain[prefix + name] = value if isinstance(value, bool | int | float) else without_folders(str(value))
    return plain


class Figures:
    """Measurements on the micro-batches since the last log record; they stay on the device until they are taken.

    Args:
        levels: Number of levels of each digit of a frame.
        audio_seconds: Seconds of audio that all processes had trained on before.
    """

    def __init__(self, levels: Sequence[int], audio_seconds: float = 0.0) -> None:
        self.levels = tuple(levels)
        self.values: dict[str, list[Tensor]] = {}
        self.ids: list[Tensor] = []
        self.began, self.audio_seconds = time.monotonic(), audio_seconds

    def add(self, **values: Tensor | float) -> None:
        """Add values to be averaged by name."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float32).detach())

    def add_prediction(self, x: Tensor, prediction: Prediction) -> None:
        """Add the levels of reference (B, T) and output, the standard deviation of the latents, and the ids."""
        latents = prediction.latents.detach().float().flatten(0, 1)
        self.add(input_rms=x.square().mean().sqrt(), latents_std=latents.std(0).mean())
        if prediction.audio is not None:
            self.add(output_rms=prediction.audio.detach().float().square().mean().sqrt())
        self.ids.append(prediction.ids.flatten())

    def take(self, accelerator: Accelerator, audio_seconds: float) -> dict[str, float]:
        """Return averages over micro-batches and processes, codebook usage and speed, and start again.

        `audio_seconds` is the total that all processes have trained on. Codebook usage is the number of distinct ids
        (`ids_in_use`) among how many (`frames`), and for each latent dimension the entropy of its levels, 1 if uniform.
        """
        means = torch.stack([torch.stack(values).mean().to(accelerator.device) for values in self.values.values()])
        record = dict(zip(self.values, accelerator.reduce(means, "mean").tolist(), strict=True))
        ids = accelerator.gather(torch.cat(self.ids))
        now = time.monotonic()
        record["audio_seconds_per_second"] = (audio_seconds - self.audio_seconds) / (now - self.began)
        self.values, self.ids, self.began, self.audio_seconds = {}, [], now, audio_seconds
        digits = ids_to_digits(ids, self.levels).cpu().numpy()
        entropies = {
            f"entropy/dimension_{number}": usage(digits[:, number - 1], size).normalized_entropy
            for number, size in enumerate(self.levels, 1)
        }
        return record | {"ids_in_use": float(ids.unique().numel()), "frames": float(ids.numel())} | entropies


class RunLog:
    """Appends records to `log.jsonl` in the run folder and passes them to the tracker, in the main process only."""

    def __init__(self, accelerator: Accelerator, folder: Path):
        self.accelerator = accelerator
        self.path = folder / "log.jsonl"

    def write(self, step: int, record: dict[str, float]) -> None:
        """Write one record of numbers."""
        self.accelerator.log(record, step=step)
        if self.accelerator.is_main_process:
            rounded = {key: float(f"{value:.6g}") for key, value in record.items()}
            with open_own(self.path, "ab") as file:
                file.write(f"{json.dumps({'step': step, **rounded})}\n".encode())

    def forget_after(self, step: int) -> None:
        """Drop the lines that an interrupted session wrote after the state that is resumed."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        whole = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        with atomic_write(self.path) as file:
            file.write("".join(f"{line}\n" for line in whole).encode())

    def sound(self, step: int, name: str, audio: np.ndarray, sampling_rate: int) -> None:
        """Write audio (T,) and its spectrogram if the tracker is TensorBoard."""
        board = self._board()
        if board is not None:
            board.add_audio(name, audio[None], step, sample_rate=sampling_rate)
            board.add_image(f"{name}/spectrogram", spectrogram_image(audio), step, dataformats="HW")

    def _board(self) -> Any:
        """TensorBoard's writer, or None."""
        found = [tracker for tracker in self.accelerator.trackers if tracker.name == "tensorboard"]
        return found[0].tracker if found and self.accelerator.is_main_process else None
