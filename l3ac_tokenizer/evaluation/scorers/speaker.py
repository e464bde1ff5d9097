"""Voices before and after a codec: similarity of embeddings, and the equal error rate of trials.

Axes: T samples, D features, C clips.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..codecs.base import SCORING_RATE
from ..scoring import Metric, Trial, Value
from ..statistics import NO_MEAN, SEED, Mean

RESAMPLES = 300
"""Of clips, for the interval of the EER."""

Embed = Callable[[np.ndarray], np.ndarray]


def open_embedder(name: str, device: str = "cpu") -> Embed:
    """A function from a clip (T,) at 16 kHz to the embedding (D,) of its voice, of length 1.

    Args:
        name: `resemblyzer` (GE2E, bundled with its package), `speechbrain:SOURCE` (an `EncoderClassifier`), or a model
            of transformers for x-vectors.
        device: of torch.

    Raises:
        OSError: the model cannot be found.
        ModuleNotFoundError: a package is missing.
    """
    kind, _, source = name.partition(":")
    if name == "resemblyzer":
        return _resemblyzer(device)
    if kind == "speechbrain" and source:
        return _speechbrain(source, device)
    return _transformers(name, device)


def _resemblyzer(device: str) -> Embed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on pkg_resources, of webrtcvad
        from resemblyzer import VoiceEncoder

    encoder = VoiceEncoder(device, verbose=False)
    return lambda audio: _unit(encoder.embed_utterance(audio))


def _speechbrain(source: str, device: str) -> Embed:
    from speechbrain.inference.classifiers import EncoderClassifier

    model: Any = EncoderClassifier.from_hparams(source=source, run_opts={"device": device})

    def embed(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return _unit(model.encode_batch(torch.from_numpy(audio)[None])[0, 0].float().cpu().numpy())

    return embed


def _transformers(name: str, device: str) -> Embed:
    from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

    model: Any = AutoModelForAudioXVector.from_pretrained(name).eval()
    model.to(device)
    extractor: Any = AutoFeatureExtractor.from_pretrained(name)

    def embed(audio: np.ndarray) -> np.ndarray:
        inputs = extractor(audio, sampling_rate=SCORING_RATE, return_tensors="pt").to(device)
        with torch.inference_mode():
            return _unit(model(**inputs).embeddings[0].float().cpu().numpy())

    return embed


def _unit(embedding: np.ndarray) -> np.ndarray:
    return embedding / max(float(np.linalg.norm(embedding)), 1e-12)


class SpeakerSimilarity:
    """Cosine of the voice's embedding in the decoded clip and in the original, of clips of speech."""

    def __init__(self, embed: Embed, label: str) -> None:
        self.embed = embed
        self._originals: dict[str, np.ndarray] = {}
        proxy = " (proxy)" if label == "resemblyzer" else ""
        self.metrics: Mapping[str, Metric] = {
            "speaker_similarity": Metric("speaker similarity", 3, True, f"Codec-SUPERB; {label}{proxy}")
        }

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """The cosine."""
        if trial.clip.domain != "speech":
            return {}
        if trial.clip.key not in self._originals:
            self._originals[trial.clip.key] = self.embed(trial.reference)
        return {"speaker_similarity": float(self._originals[trial.clip.key] @ self.embed(trial.estimate))}


def equal_error_rate(embeddings: Sequence[Sequence[float]], speakers: Sequence[str]) -> Mean:
    """Error rate of "is it the same speaker?" over all pairs of clips, where both errors are as frequent.

    The cosine decides; between thresholds the rates are interpolated. The interval is of 300 resamples of clips, whose
    pairs with themselves are left out; `count` is the number of pairs.

    Args:
        embeddings: (C, D) of decoded clips, of length 1.
        speakers: of each clip.
    """
    scores = np.asarray(embeddings) @ np.asarray(embeddings).T if len(embeddings) else np.zeros((0, 0))
    names = np.asarray(speakers)
    same = names[:, None] == names[None]
    clips = np.arange(len(names))
    value = _eer_of(scores, same, clips)
    if value is None:
        return NO_MEAN
    random = np.random.default_rng(SEED)
    resampled = [_eer_of(scores, same, random.choice(clips, clips.size)) for _ in range(RESAMPLES)]
    low, high = np.percentile([rate for rate in resampled if rate is not None], [2.5, 97.5])
    return Mean(clips.size * (clips.size - 1) // 2, value, (float(low), float(high)))


def _eer_of(scores: np.ndarray, same: np.ndarray, clips: np.ndarray) -> float | None:
    first, second = np.triu_indices(clips.size, 1)
    first, second = clips[first], clips[second]
    pairs = first != second
    chosen, target = scores[first[pairs], second[pairs]], same[first[pairs], second[pairs]]
    if target.all() or not target.any():
        return None
    order = np.argsort(-chosen, kind="stable")
    target = target[order]
    ends = np.flatnonzero(np.diff(chosen[order], append=-np.inf))  # equal scores are accepted together
    accepted = np.concatenate([[0], np.cumsum(target)[ends]])
    false_accepts = np.concatenate([[0], np.cumsum(~target)[ends]]) / (~target).sum()
    false_rejects = 1 - accepted / target.sum()
    after = int(np.argmax(false_accepts >= false_rejects))
    gap_before = false_rejects[after - 1] - false_accepts[after - 1]
    gap_after = false_accepts[after] - false_rejects[after]
    share = gap_before / (gap_before + gap_after) if gap_before + gap_after else 0.0
    return float(false_accepts[after - 1] + share * (false_accepts[after] - false_accepts[after - 1]))
