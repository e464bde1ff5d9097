"""`prepare_audio`: the training clips, the held-out clips and their audio, from the paths that a user gives."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...logs import get_logger
from ..config import TrainingConfig
from ..validation import HeldOut, held_out_clips
from .corpus import AudioFiles, Corpus, TrainingClip, decode, split
from .readers import find_clips

logger = get_logger(__name__)


def prepare_audio(
    config: TrainingConfig,
    sources: Sequence[str | Path],
    held_out: Sequence[str | Path],
    cache: Path,
    sampling_rate: int,
) -> tuple[Corpus, list[TrainingClip], list[HeldOut]]:
    """The corpus, the clips to train on, and the held-out audio.

    Held out are the clips of `sources` that match `config.holdout`, and the validation parts of `held_out`. No file
    of either is trained on, however its path is written.

    Raises:
        DataError: a source is missing, empty or mostly unusable.
    """
    find = partial(
        find_clips,
        domains=list(config.domains),
        default_domain=config.default_domain,
        allow_outside=config.allow_outside,
    )
    train, held = split(find(sources), config.holdout)
    held += find(held_out, training=False)
    real = functools.cache(os.path.realpath)  # many clips may be segments of one file
    held_files = {real(clip.path) for clip in held}
    train = [clip for clip in train if real(clip.path) not in held_files]
    corpus: Corpus = AudioFiles(sampling_rate, config.augment.lufs, config.allow_truncated)
    if _gigabytes_within(train + held, config.decode_gigabytes):
        decoded = decode(
            train + held, cache, sampling_rate, config.max_unusable, config.augment.lufs, config.allow_truncated
        )
        train, held = ([clip for clip in part if clip in decoded.places] for part in (train, held))
        corpus = decoded
    for name, part in (("training", train), ("held out", held)):
        logger.info("%s: %s", name, dict(Counter(clip.domain for clip in part)))
    return corpus, train, held_out_clips(corpus, held, config.max_held_out)


def _gigabytes_within(clips: Sequence[TrainingClip], most: float) -> bool:
    """Whether the clips' files have at most `most` gigabytes; stops looking at files when they have more."""
    left = most * 1e9
    for path in {clip.path for clip in clips}:
        left -= os.path.getsize(path) if os.path.isfile(path) else 0
        if left < 0:
            return False
    return True
