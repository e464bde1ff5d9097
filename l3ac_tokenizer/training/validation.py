"""Scores of a codec on clips kept out of training."""

from __future__ import annotations

import functools
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
from ..causes import failure
from ..id_stability import changed_ids
from ..listing.layouts import librispeech_transcripts
from ..logs import get_logger
from ..metrics import MetricError
from ..modeling import CodecModel, L3ACModel
from ..modeling.l3ac.spectral import LogMels
from ..modeling.span import WholeSpan
from ..quantization import ids_to_digits
from .data.corpus import Corpus, TrainingClip
from .network import SpectralHead
from .perceptual import WHISPER_BANDS, whisper_mel

logger = get_logger(__name__)

MAX_SECONDS = 6.0
MAX_TRANSCRIBED = 40
STABILITY_CLIPS = 8
TRANSCRIBED_SECONDS = 30.0
"""Whisper's window; few utterances of LibriSpeech are longer."""

WITHOUT_WORDS = ("music", "general", "mtg_jamendo", "fsd50k")
"""Domains that are not scored as speech."""


class HeldOut(NamedTuple):
    """A clip kept out of training."""

    domain: str
    audio: np.ndarray
    """(T,) at its original level."""
    text: str | None = None
    """Transcript of the whole clip."""


class Candidate(NamedTuple):
    """Model with averaged weights, to be scored."""

    model: CodecModel
    head: SpectralHead | None = None
    """Spectral head of stages without a waveform; its log-mels are scored instead of audio."""
    teacher: CodecModel | None = None
    """Teacher of stage `distill`, whose ids the model should have."""


def held_out_clips(corpus: Corpus, clips: Sequence[TrainingClip], most: int) -> list[HeldOut]:
    """At most `most` clips, evenly spread and cut to `MAX_SECONDS`; unreadable ones are logged and left out.

    Added to these are at most `MAX_TRANSCRIBED` clips with a transcript (LibriSpeech's layout), uncut, for word errors.

    Raises:
        ValueError: The packages that score clips are not installed.
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
        except Exception as error:
            logger.warning("not scored: %s", failure(error))
    return held


def _spread(clips: Sequence[TrainingClip], most: int) -> list[TrainingClip]:
    return [clips[i] for i in np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)]


def _transcript(clip: TrainingClip) -> str | None:
    """Transcript of an utterance in LibriSpeech's layout; None for other clips and for parts of files."""
    path = Path(clip.path)
    return None if clip.seconds is not None else _chapter(path.parent).get(path.stem)


@functools.cache
def _chapter(folder: Path) -> dict[str, str]:
    return librispeech_transcripts(folder, folder)


def decoded(model: nn.Module, clip: HeldOut) -> tuple[np.ndarray, set[int]]:
    """Decoded audio (T,) of the clip, and the distinct ids used."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        output = model(torch.from_numpy(clip.audio)[None, None].to(device))
    return output.audio_values[0, 0].float().cpu().numpy(), set(output.audio_codes.flatten().tolist())


@torch.inference_mode()
def predicted_log_mels(candidate: Candidate, clip: HeldOut) -> tuple[Tensor, Tensor, set[int]]:
    """Log-mels (J, M) predicted by the spectral head, log-mels of the clip, and the distinct ids used."""
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
    """Mean scores of held-out clips by name; the processes divide the clips, and all return the same result.

    - `<domain>/si_sdr` (dB) and, for speech, `<domain>/stoi` and `<domain>/pesq_wb`, as in `metrics`;
      in stages without a waveform `<domain>/mel_error` (dB) instead, and in `distill` `<domain>/same_digits`, the
      fraction of digits equal to the teacher's;
    - `wer`, the word error rate (1 for as many errors as words) of clips with a transcript, given a recognizer;
    - `ids`, the number of distinct ids used, and `ids_changed/<name>`, the fraction of ids that each perturbation of
      `id_stability` changes, over `STABILITY_CLIPS` clips;
    - `unscored`, the number of clips for which a measure has no value (too short, silent), left out of its mean;
    - `score`, by which the best weights are chosen, see `_score`.
    """
    ids: set[int] = set()
    rows: list[dict[str, float]] = []
    unscored = 0
    errors = words = 0.0
    reasons: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    stability = range(0, len(clips), max(1, len(clips) // STABILITY_CLIPS))
    for number in range(accelerator.process_index, len(clips), accelerator.num_processes):
        clip = clips[number]
        answer, used = _answer(candidate, clip, sampling_rate)
        ids |= used
        rows.append({f"{clip.domain}/{name}": value for name, value in answer.values.items()})
        if number in stability and isinstance(candidate.model, CodecModel):
            for name, (changed, of_all) in _changed(candidate.model, clip, sampling_rate).items():
                changes[name] += changed
                compared[name] += of_all
        unscored += bool(answer.missing)
        reasons.update(answer.missing)
        if clip.text is not None and asr is not None and answer.heard is not None:
            try:
                of_clip = word_errors(normalized_words(clip.text), normalized_words(answer.heard(asr)))
            except Exception as error:
                unscored += 1
                reasons[f"no word errors: {failure(error)}"] += 1
                continue
            errors, words = errors + of_clip[0], words + of_clip[1]
    for reason, times in reasons.items():
        logger.warning("%d held-out clips: %s", times, reason)
    rows, used_ids, all_unscored = gather_object(rows), gather_object([ids]), gather_object([unscored])
    all_errors, all_changes = gather_object([(errors, words)]), gather_object([(changes, compared)])
    scores: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            scores.setdefault(name, []).append(value)
    errors, words = (sum(values) for values in zip(*all_errors, strict=True))
    wer = {"wer": errors / words} if words else {}
    changes, compared = (sum(counts, Counter()) for counts in zip(*all_changes, strict=True))
    return (
        {name: float(np.mean(values)) for name, values in sorted(scores.items())}
        | wer
        | {"ids": float(len(set().union(*used_ids))), "unscored": float(sum(all_unscored))}
        | {f"ids_changed/{name}": changes[name] / count for name, count in compared.items()}
        | {"score": _score(scores, wer.get("wer"))}
    )


@torch.inference_mode()
def _changed(model: CodecModel, clip: HeldOut, sampling_rate: int) -> dict[str, tuple[int, int]]:
    device = next(model.parameters()).device

    def encode(audio: np.ndarray) -> np.ndarray:
        return model.encode(torch.from_numpy(audio)[None, None].to(device)).audio_codes[0].cpu().numpy()

    return changed_ids(encode, clip.audio, encode(clip.audio), sampling_rate, model.config.hop_length)


class _Answer(NamedTuple):
    """Scores of one clip by name, reasons for missing ones, and its recognition by a given recognizer."""

    values: dict[str, float]
    missing: list[str]
    heard: Callable[[FasterWhisper], str] | None


def _answer(candidate: Candidate, clip: HeldOut, sampling_rate: int) -> tuple[_Answer, set[int]]:
    if candidate.teacher is not None:
        return _agreement(candidate.model, candidate.teacher, clip)
    if candidate.head is None:
        output, ids = decoded(candidate.model, clip)
        values, missing = _scores(clip, output, sampling_rate)
        return _Answer(values, missing, lambda asr: asr(output)), ids
    predicted, target, ids = predicted_log_mels(candidate, clip)
    config: Any = candidate.model.config
    mel = whisper_mel(predicted[None, :, :WHISPER_BANDS], config.fine_hop, sampling_rate)[0]
    error = float(10 * (predicted - target).abs().mean())
    return _Answer({"mel_error": error}, [], lambda asr: asr.hear_mel(mel.cpu().numpy())), ids


@torch.inference_mode()
def _agreement(model: CodecModel, teacher: CodecModel, clip: HeldOut) -> tuple[_Answer, set[int]]:
    """Fraction of digits equal to the teacher's."""
    audio = torch.from_numpy(clip.audio)[None, None].to(next(model.parameters()).device)
    ids = [codec.quantizer.codebooks_to_ids(codec.encode(audio).audio_codes) for codec in (model, teacher)]
    ours, theirs = (ids_to_digits(of_codec, model.config.frame_levels) for of_codec in ids)
    return _Answer({"same_digits": float((ours == theirs).float().mean())}, [], None), set(ids[0].flatten().tolist())


def _scores(clip: HeldOut, output: np.ndarray, sampling_rate: int) -> tuple[dict[str, float], list[str]]:
    """Scores of decoded audio by name, and reasons for missing ones."""
    measures: dict[str, Callable[[], float]] = {"si_sdr": lambda: metrics.si_sdr(clip.audio, output)}
    if clip.domain not in WITHOUT_WORDS:
        measures["stoi"] = lambda: metrics.stoi(clip.audio, output, sampling_rate)
        measures["pesq_wb"] = lambda: metrics.pesq(clip.audio, output, sampling_rate)
    found, missing = {}, []
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except MetricError as error:
            missing.append(str(error))
    return found, missing


def _score(scores: Mapping[str, Sequence[float]], wer: float | None = None) -> float:
    """STOI + PESQ / 4 - 2 WER, means over all speech: word errors count most.

    Without speech it is SI-SDR; in stages without a waveform -WER or, without transcripts, -mel error; in stage
    `distill` the fraction of the teacher's digits; minus infinity if nothing has a value.
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
