"""Speaker similarity of original and decoded speech, and the equal error rate (EER) of speaker verification.

Axes: T samples, D features, C clips.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...names import public_name
from ...trust import require_trust
from ..codecs.base import SCORING_RATE
from ..statistics import NO_MEAN, SEED, Mean
from .base import Metric, Scorer, Trial, Value

EER = Metric("EER, %", 1, False, "Codec-SUPERB; all pairs of decoded clips of a domain", 100)

EER_RESAMPLES = 300
"""Bootstrap resamples of clips for the interval of the EER."""

SpeakerEmbedder = Callable[[np.ndarray], np.ndarray]
"""Clip (T,) at 16 kHz → speaker embedding (D,) of unit length."""


def open_embedder(name: str, device: str = "cpu", *, trust: bool = False) -> SpeakerEmbedder:
    """Open a speaker encoder.

    Args:
        name: `resemblyzer` (GE2E, bundled with its package), `speechbrain:SOURCE` (an `EncoderClassifier`), or an
            x-vector model of transformers by hub name or directory.
        device: torch device.
        trust: run the code that a model of SpeechBrain brings in its `hyperparams.yaml`.

    Raises:
        UntrustedCodeError: the model is one of SpeechBrain, and `trust` is False.
        OSError: the model cannot be found.
        ModuleNotFoundError: a package is missing.
    """
    kind, _, source = name.partition(":")
    if name == "resemblyzer":
        return _resemblyzer(device)
    if kind == "speechbrain" and source:
        require_trust(source, trust)
        return _speechbrain(source, device)
    return _transformers(name, device)


def _resemblyzer(device: str) -> SpeakerEmbedder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # webrtcvad's, about pkg_resources
        from resemblyzer import VoiceEncoder

    encoder = VoiceEncoder(device, verbose=False)
    return lambda audio: _unit(encoder.embed_utterance(audio))


def _speechbrain(source: str, device: str) -> SpeakerEmbedder:
    from speechbrain.inference.classifiers import EncoderClassifier

    model: Any = EncoderClassifier.from_hparams(source=source, run_opts={"device": device})

    def embed(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return _unit(model.encode_batch(torch.from_numpy(audio)[None])[0, 0].float().cpu().numpy())

    return embed


def _transformers(name: str, device: str) -> SpeakerEmbedder:
    from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

    model: Any = AutoModelForAudioXVector.from_pretrained(name, trust_remote_code=False).eval()
    model.to(device)
    extractor: Any = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)

    def embed(audio: np.ndarray) -> np.ndarray:
        inputs = extractor(audio, sampling_rate=SCORING_RATE, return_tensors="pt").to(device)
        with torch.inference_mode():
            return _unit(model(**inputs).embeddings[0].float().cpu().numpy())

    return embed


def _unit(embedding: np.ndarray) -> np.ndarray:
    return embedding / max(float(np.linalg.norm(embedding)), 1e-12)


class SpeakerSimilarityScorer(Scorer):
    """Cosine similarity of the speaker embeddings of the decoded clip and of the original; speech only.

    Args:
        embed: speaker encoder.
        label: its name in tables.
    """

    def __init__(self, embed: SpeakerEmbedder, label: str) -> None:
        self.embed = embed
        self._originals: dict[str, np.ndarray] = {}
        proxy = " (proxy)" if label == "resemblyzer" else ""
        self.metrics = {"speaker_similarity": Metric("speaker similarity", 3, True, f"Codec-SUPERB; {label}{proxy}")}

    def score(self, trial: Trial) -> Mapping[str, Value]:
        """The cosine similarity, -1 to 1."""
        if trial.clip.domain != "speech":
            return {}
        if trial.clip.key not in self._originals:
            self._originals[trial.clip.key] = self.embed(trial.reference)
        return {"speaker_similarity": float(self._originals[trial.clip.key] @ self.embed(trial.estimate))}


def open_speaker_scorer(name: str, device: str, *, trust: bool = False) -> SpeakerSimilarityScorer:
    """Speaker similarity by the speaker encoder of this name, see `open_embedder`."""
    return SpeakerSimilarityScorer(open_embedder(name, device, trust=trust), public_name(name))


def equal_error_rate(embeddings: Sequence[Sequence[float]], speakers: Sequence[str]) -> Mean:
    """Equal error rate of speaker verification over all pairs of clips.

    Pairs are scored by cosine similarity; between thresholds the error rates are interpolated. The interval is a
    bootstrap over clips (300 resamples), without pairs of a clip with itself; `count` is the number of pairs.

    Args:
        embeddings: (C, D) of decoded clips, of unit length.
        speakers: speaker of each clip.
    """
    scores = np.asarray(embeddings) @ np.asarray(embeddings).T if len(embeddings) else np.zeros((0, 0))
    names = np.asarray(speakers)
    same = names[:, None] == names[None]
    clips = np.arange(len(names))
    value = _eer_of(scores, same, clips)
    if value is None:
        return NO_MEAN
    random = np.random.default_rng(SEED)
    resampled = [_eer_of(scores, same, random.choice(clips, clips.size)) for _ in range(EER_RESAMPLES)]
    low, high = np.percentile([rate for rate in resampled if rate is not None], [2.5, 97.5])
    return Mean(clips.size * (clips.size - 1) // 2, value, (float(low), float(high)))


def _eer_of(scores: np.ndarray, same: np.ndarray, clips: np.ndarray) -> float | None:
    """EER over the pairs of these clips (indices), given scores and same-speaker flags (C, C); None if undefined."""
    first, second = np.triu_indices(clips.size, 1)
    first, second = clips[first], clips[second]
    pairs = first != second
    chosen, target = scores[first[pairs], second[pairs]], same[first[pairs], second[pairs]]
    if target.all() or not target.any():
        return None
    order = np.argsort(-chosen, kind="stable")
    target = target[order]
    ends = np.flatnonzero(np.diff(chosen[order], append=-np.inf))  # pairs of equal score are accepted together
    accepted = np.concatenate([[0], np.cumsum(target)[ends]])
    false_accepts = np.concatenate([[0], np.cumsum(~target)[ends]]) / (~target).sum()
    false_rejects = 1 - accepted / target.sum()
    after = int(np.argmax(false_accepts >= false_rejects))
    gap_before = false_rejects[after - 1] - false_accepts[after - 1]
    gap_after = false_accepts[after] - false_rejects[after]
    share = gap_before / (gap_before + gap_after) if gap_before + gap_after else 0.0
    return float(false_accepts[after - 1] + share * (false_accepts[after] - false_accepts[after - 1]))
