"""Scores of the codec on clips that were kept out of training."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from .. import metrics
from ..asr import FasterWhisper, normalized_words, word_errors
from ..audio import AudioError
from ..listing.layouts import librispeech_transcripts
from ..metrics import MetricError
from ..modeling import CodecModel, L3ACModel
from ..modeling.l3ac.spectral import LogMels
from ..modeling.span import WholeSpan
from ..quantization import ids_to_digits
from .data.corpus import Corpus, TrainingClip
from .network import SpectralHead
from .perceptual import WHISPER_BANDS, whisper_mel

logger = logging.getLogger(__name__)

MAX_SECONDS = 6.0
MAX_TRANSCRIBED = 40
TRANSCRIBED_SECONDS = 30.0
"""Window of Whisper; no utterance of LibriSpeech is longer than a few seconds more."""

WITHOUT_WORDS = ("music", "general", "mtg_jamendo", "fsd50k")
"""Domains that are not scored as speech."""


class HeldOut(NamedTuple):
    """A clip kept out of training."""

    domain: str
    audio: np.ndarray
    """(T,) at its own level."""
    text: str | None = None
    """Transcript of all of it."""


class Candidate(NamedTuple):
    """Averaged weights to be scored."""

    model: CodecModel
    head: SpectralHead | None = None
    """Of stages without a waveform: their log-mels are scored in the place of audio."""
    teacher: CodecModel | None = None
    """Of stage `distill`: whose ids are to be met."""


def held_out_clips(corpus: Corpus, clips: Sequence[TrainingClip], most: int) -> list[HeldOut]:
    """At most `most` of the clips, evenly spread, each cut to `MAX_SECONDS`; what cannot be read is logged.

    Of clips with a transcript (LibriSpeech's layout) there are at most `MAX_TRANSCRIBED` more, whole, for word errors.

    Raises:
        ValueError: there are clips, but not the packages that score them.
    """
    missing = [name for name in ("pesq", "pystoi", "torchmetrics") if find_spec(name) is None]
    if clips and missing:
        raise ValueError(
            f"Held-out clips cannot be scored without {' and '.join(missing)}: pip install l3ac-tokenizer[eval], or "
            "hold nothing out."
        )
    texts = {clip: text for clip in clips if (text := _transcript(clip)) is not None}
    held = []
    for clip in [*_spread([clip for clip in clips if clip not in texts], most), *_spread(list(texts), MAX_TRANSCRIBED)]:
        text = texts.get(clip)
        try:
            held.append(
                HeldOut(clip.domain, corpus.beginning(clip, MAX_SECONDS if text is None else TRANSCRIBED_SECONDS), text)
            )
        except (AudioError, OSError) as error:
            logger.warning("not scored: %s", error)
    return held


def _spread(clips: Sequence[TrainingClip], most: int) -> list[TrainingClip]:
    return [clips[i] for i in np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)]


def _transcript(clip: TrainingClip) -> str | None:
    """Text of an utterance in LibriSpeech's layout."""
    path = Path(clip.path)
    return None if clip.seconds is not None else _chapter(path.parent).get(path.stem)


@functools.cache
def _chapter(folder: Path) -> dict[str, str]:
    return librispeech_transcripts(folder)


def decoded(model: nn.Module, clip: HeldOut) -> tuple[np.ndarray, set[int]]:
    """The clip as the model gives it back (T,), and the ids that it used."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model(torch.from_numpy(clip.audio)[None, None].to(device))
    return output.audio_values[0, 0].float().cpu().numpy(), set(output.audio_codes.flatten().tolist())


@torch.inference_mode()
def predicted_log_mels(candidate: Candidate, clip: HeldOut) -> tuple[Tensor, Tensor, set[int]]:
    """Log-mels (J, M) of the spectral head and of the clip, and the ids in between."""
    model, head = candidate.model, candidate.head
    assert head is not None and isinstance(model, L3ACModel)
    device = next(model.parameters()).device
    audio = torch.from_numpy(clip.audio)[None, None].to(device)
    ids = model.quantizer.codebooks_to_ids(model.encode(audio).audio_codes)
    features = model.decoder.transformer(model.quantizer.ids_to_features(ids), WholeSpan())
    padded = F.pad(audio, (0, ids.shape[1] * model.config.hop_length - audio.shape[-1]))
    target = LogMels(model.config).to(device)(padded.transpose(1, 2), WholeSpan())
    return head(features)[0], target[0], set(ids.flatten().tolist())


def validate(
    candidate: Candidate,
    clips: Sequence[HeldOut],
    sampling_rate: int,
    accelerator: Accelerator,
    asr: FasterWhisper | None = None,
) -> dict[str, float]:
    """Mean scores `<domain>/stoi`, `/si_sdr` (dB), `/pesq_wb`; `wer`; `ids`, the number of different ids; `unscored`.

    Without a waveform there are `<domain>/mel_error` (dB) and `wer` alone, in stage `distill`
    `<domain>/same_digits`. The measures are those of `metrics` and `asr`, STOI and PESQ for speech alone, WER (0 to 1)
    for clips with a transcript where there is a recognizer. Where one has no value for a clip (too short, silent), the
    clip is left out of its mean, and counted in `unscored`. `score` chooses the best weights, see `_score`. The
    processes share the clips; all get the result.
    """
    ids: set[int] = set()
    rows: list[dict[str, float]] = []
    unscored = 0
    errors = words = 0.0
    reasons: Counter[str] = Counter()
    for clip in clips[accelerator.process_index :: accelerator.num_processes]:
        answer, used = _answer(candidate, clip, sampling_rate)
        ids |= used
        rows.append({f"{clip.domain}/{name}": value for name, value in answer.values.items()})
        unscored += bool(answer.without)
        reasons.update(answer.without)
        if clip.text is not None and asr is not None and answer.heard is not None:
            of_clip = word_errors(normalized_words(clip.text), normalized_words(answer.heard(asr)))
            errors, words = errors + of_clip[0], words + of_clip[1]
    for reason, times in reasons.items():
        logger.warning("%d held-out clips: %s", times, reason)
    rows, used_ids, all_unscored = gather_object(rows), gather_object([ids]), gather_object([unscored])
    all_errors = gather_object([(errors, words)])
    scores: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            scores.setdefault(name, []).append(value)
    errors, words = (sum(values) for values in zip(*all_errors, strict=True))
    wer = {"wer": errors / words} if words else {}
    return (
        {name: float(np.mean(values)) for name, values in sorted(scores.items())}
        | wer
        | {"ids": float(len(set().union(*used_ids))), "unscored": float(sum(all_unscored))}
        | {"score": _score(scores, wer.get("wer"))}
    )


class _Answer(NamedTuple):
    """Values by name, why there are not more of them, and how a recognizer hears the clip."""

    values: dict[str, float]
    without: list[str]
    heard: Callable[[FasterWhisper], str] | None


def _answer(candidate: Candidate, clip: HeldOut, sampling_rate: int) -> tuple[_Answer, set[int]]:
    if candidate.teacher is not None:
        return _agreement(candidate.model, candidate.teacher, clip)
    if candidate.head is None:
        output, ids = decoded(candidate.model, clip)
        values, without = _scores(clip, output, sampling_rate)
        return _Answer(values, without, lambda asr: asr(output)), ids
    predicted, target, ids = predicted_log_mels(candidate, clip)
    config: Any = candidate.model.config
    mel = whisper_mel(predicted[None, :, :WHISPER_BANDS], config.fine_hop, sampling_rate)[0]
    error = float(10 * (predicted - target).abs().mean())
    return _Answer({"mel_error": error}, [], lambda asr: asr.hear_mel(mel.cpu().numpy())), ids


@torch.inference_mode()
def _agreement(model: CodecModel, teacher: CodecModel, clip: HeldOut) -> tuple[_Answer, set[int]]:
    """Share of the teacher's digits."""
    audio = torch.from_numpy(clip.audio)[None, None].to(next(model.parameters()).device)
    ids = [codec.quantizer.codebooks_to_ids(codec.encode(audio).audio_codes) for codec in (model, teacher)]
    ours, theirs = (ids_to_digits(of_codec, model.config.frame_levels) for of_codec in ids)
    return _Answer({"same_digits": float((ours == theirs).float().mean())}, [], None), set(ids[0].flatten().tolist())


def _scores(clip: HeldOut, output: np.ndarray, sampling_rate: int) -> tuple[dict[str, float], list[str]]:
    """Values by name, and why there are not more of them."""
    measures: dict[str, Callable[[], float]] = {"si_sdr": lambda: metrics.si_sdr(clip.audio, output)}
    if clip.domain not in WITHOUT_WORDS:
        measures["stoi"] = lambda: metrics.stoi(clip.audio, output, sampling_rate)
        measures["pesq_wb"] = lambda: metrics.pesq(clip.audio, output, sampling_rate)
    found, without = {}, []
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except MetricError as error:
            without.append(str(error))
    return found, without


def _score(scores: Mapping[str, Sequence[float]], wer: float | None = None) -> float:
    """STOI + PESQ / 4 - 2 WER, means over all speech: word errors first.

    Without a waveform, -WER, or where there is none -mel error; of the teacher's digits the share; SI-SDR where there
    is no speech, minus infinity where that has no value.
    """

    def mean(measure: str) -> float | None:
        values = [value for name, of_one in scores.items() if name.endswith(f"/{measure}") for value in of_one]
        return float(np.mean(values)) if values else None

    digits, mel_error = mean("same_digits"), mean("mel_error")
    if digits is not None:
        return digits
    if mel_error is not None:
        return -mel_error if wer is None else -wer
    stoi, si_sdr = mean("stoi"), mean("si_sdr")
    if stoi is not None:
        return stoi + (mean("pesq_wb") or 0.0) / 4 - 2 * (wer or 0.0)
    return -np.inf if si_sdr is None else si_sdr
