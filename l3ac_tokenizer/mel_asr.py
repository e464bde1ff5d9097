"""Speech recognition of log-mel spectrograms, for the words in audio that was never synthesized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

FRAMES = 3000
"""Frames of Whisper's window of 30 s."""

BEAM_SIZE, NO_SPEECH, LOW_LOG_PROBABILITY = 5, 0.6, -1.0
"""Defaults of faster-whisper's `transcribe`; a window beyond both thresholds has no words."""


def transcribe_mel(model: WhisperModel, mel: np.ndarray) -> str:
    """The English words in a log-mel spectrogram, by beam search at temperature 0, without timestamps.

    Args:
        model: faster-whisper's model.
        mel: Whisper's input (bands, frames), normalized, a frame each 10 ms; padded with zeros, or cut, to 30 s.
    """
    from faster_whisper.tokenizer import Tokenizer

    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language="en")
    mel = np.asarray(mel, dtype=np.float32)[:, :FRAMES]
    mel = np.pad(mel, ((0, 0), (0, FRAMES - mel.shape[1])))
    result = model.model.generate(
        model.encode(mel),
        [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
        beam_size=BEAM_SIZE,
        return_scores=True,
        return_no_speech_prob=True,
    )[0]
    ids = result.sequences_ids[0]
    log_probability = result.scores[0] * len(ids) / (len(ids) + 1)  # the end of the text counts
    if result.no_speech_prob > NO_SPEECH and log_probability < LOW_LOG_PROBABILITY:
        return ""
    return tokenizer.decode(ids).strip()
