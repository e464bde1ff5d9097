"""Log-likelihoods of clips of ids under a `SpeechLM`.

A clip that is longer than the model's context is read in windows of one context that overlap by half, so each of its
ids after the first window is predicted from at least half a context. Axes: N ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import trange

from .model import SpeechLM


class Window(NamedTuple):
    """A part of a clip that the model reads at once.

    Attributes:
        clip: its number.
        ids: (N,).
        first: position of the first id that is counted; those before it are context.
    """

    clip: int
    ids: torch.Tensor
    first: int


def windows(clips: Sequence[np.ndarray], context: int) -> Iterator[Window]:
    """The windows of clips (N,) of ids, in which every id is counted once."""
    half = max(1, context // 2)
    for number, clip in enumerate(clips):
        ids = torch.from_numpy(np.asarray(clip, dtype=np.int64))
        yield Window(number, ids[:context], 0)
        for counted in range(context, len(ids), half):
            start = max(0, counted + half - context)
            yield Window(number, ids[start : counted + half], counted - start)


@torch.no_grad()
def log_likelihoods(model: SpeechLM, clips: Sequence[np.ndarray], batch_size: int = 8) -> np.ndarray:
    """Log-likelihood, in nats, of each clip of ids: the sum over its ids, float64; 0 for a clip without ids.

    Args:
        model: The language model; it is put into evaluation mode.
        clips: Ids (N,) of each clip.
        batch_size: Windows in the network at once, which does not change the result beyond rounding.
    """
    model.eval()
    sums = np.zeros(len(clips))
    every = [window for window in windows(clips, model.config.max_position_embeddings) if len(window.ids)]
    every.sort(key=lambda window: len(window.ids))  # less padding
    for start in trange(0, len(every), batch_size, desc="likelihoods", unit="batch", disable=None):
        batch = every[start : start + batch_size]
        ids = pad_sequence([window.ids for window in batch], batch_first=True).to(model.device)
        features = model.features(ids)
        for row, window in enumerate(batch):
            counted = slice(window.first, len(window.ids))
            log_prob = model.lm_head.log_prob(features[row, counted], ids[row, counted])
            sums[window.clip] += float(log_prob.double().sum())
    return sums


def bits_per_id(model: SpeechLM, clips: Sequence[np.ndarray], batch_size: int = 8) -> float:
    """Return −log₂ p of the model per id, over all ids of clips (N,)."""
    return float(-log_likelihoods(model, clips, batch_size).sum() / np.log(2) / sum(map(len, clips)))
