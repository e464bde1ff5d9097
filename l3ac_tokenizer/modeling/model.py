"""`L3ACModel`: audio to one stream of ids and back (arXiv 2504.04949).

Axes: B batch, T samples, N ids, D features, L latent dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.utils import ModelOutput, TransformersKwargs
from typing_extensions import Unpack

from ..configuration import L3ACConfig
from ..hub import takes_bundled_names
from ..quantization import FSQ
from .decoder import Decoder
from .encoder import Encoder
from .layers import ConvUnit, GlobalResponseNorm, Snake
from .lengths import align_left, align_right_again, check_codes_mask, check_waveform
from .span import Statistics, TimeNormMode, WholeSpan
from .stepping import DecoderStepper, EncoderStepper, padded_pieces
from .time_norm import Moments, TimeNorm


@dataclass
class L3ACEncoderOutput(ModelOutput):
    """What `encode` returns.

    Attributes:
        audio_codes: Ids (B, 1, N), int64; 0 at padded places.
        audio_codes_mask: True (B, 1, N) where an id belongs to the clip; clips are left-aligned.
        latents: Latents (B, N, L) before tanh and rounding, float32.
    """

    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor = None  # type: ignore[assignment]
    latents: Tensor = None  # type: ignore[assignment]


@dataclass
class L3ACDecoderOutput(ModelOutput):
    """What `decode` returns.

    Attributes:
        audio_values: Waveform (B, 1, T) in [-1, 1]; 0 after a clip's end.
    """

    audio_values: Tensor = None  # type: ignore[assignment]


@dataclass
class L3ACOutput(ModelOutput):
    """What `forward` returns.

    Attributes:
        audio_values: Reconstruction (B, 1, T) of the input's length, in the input's places.
        audio_codes: Ids (B, 1, N), int64; 0 at padded places.
        audio_codes_mask: True (B, 1, N) where an id belongs to the clip; None without a padding mask.
        latents: Latents (B, N, L) before tanh and rounding, float32.
    """

    audio_values: Tensor = None  # type: ignore[assignment]
    audio_codes: Tensor = None  # type: ignore[assignment]
    audio_codes_mask: Tensor | None = None
    latents: Tensor = None  # type: ignore[assignment]


class L3ACPreTrainedModel(PreTrainedAudioTokenizerBase):
    """Weight initialisation and loading."""

    config: L3ACConfig
    config_class = L3ACConfig
    base_model_prefix = "l3ac"
    main_input_name = "input_values"
    input_modalities = "audio"
    _no_split_modules = ["ConvUnit", "TransformerLayer", "EnhanceBlock", "ResidualUnit"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            module.reset_parameters()
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, Snake):
            init.ones_(module.alpha)
        elif isinstance(module, GlobalResponseNorm):
            init.zeros_(module.gamma)
            init.zeros_(module.beta)
        elif isinstance(module, TimeNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_clips_tracked)

    def _weight_normed_layers(self) -> Iterator[nn.Module]:
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                yield module
            elif isinstance(module, ConvUnit):
                yield from (module.expand, module.reduce)

    def apply_weight_norm(self) -> None:
        """Split the weights of the convolutional parts in magnitude and direction, as training has them."""
        for layer in list(self._weight_normed_layers()):
            parametrizations.weight_norm(layer)

    def remove_weight_norm(self) -> None:
        """Join magnitudes and directions again; checkpoints are stored so."""
        for layer in list(self._weight_normed_layers()):
            parametrize.remove_parametrizations(layer, "weight")


@takes_bundled_names
class L3ACModel(L3ACPreTrainedModel):
    """L3AC and SQCodec: one FSQ quantizer between convolutional and local-transformer stages.

    ```python
    >>> model = AutoModel.from_pretrained("l3ac-1k")
    >>> extractor = AutoFeatureExtractor.from_pretrained("l3ac-1k")
    >>> inputs = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    >>> codes = model.encode(**inputs).audio_codes           # (B, 1, N)
    >>> audio = model.decode(codes).audio_values             # (B, 1, T)
    ```
    """

    def __init__(self, config: L3ACConfig):
        super().__init__(config)
        self.encoder = Encoder(config)
        self.quantizer = FSQ(config.feature_dim, config.levels, config.quantizer, config.noise_probability)
        self.decoder = Decoder(config)
        self.post_init()

    @property
    def encoder_lookahead(self) -> int:
        """Samples after an id's own that it depends on."""
        return self.encoder.lookahead

    @property
    def decoder_lookahead(self) -> int:
        """Samples that streamed decoding runs behind the ids (with frozen time normalisation)."""
        return self.decoder.lookahead

    def weights_digest(self) -> str:
        """SHA-256 (hexadecimal) over names, shapes and float32 values of the parameters: names a tokenizer."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.named_parameters()):
            values = parameter.detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{name} {list(values.shape)}\n".encode())
            digest.update(values.numpy().astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        chunk_seconds: float | None = None,
        return_dict: bool | None = None,
    ) -> L3ACEncoderOutput:
        """Audio to ids; a clip of n samples has ceil(n / hop) of them, in any batch and with any padding.

        Args:
            input_values: Waveforms (B, 1, T) at `config.sampling_rate`.
            padding_mask: Non-zero (B, 1, T) or (B, T) at a clip's samples, one run in each row; None: all.
            chunk_seconds: Encode in pieces of this length, for less memory; the ids are the same.
            return_dict: False for a plain tuple in the order of `L3ACEncoderOutput`.

        Raises:
            ValueError: The input's shape or type is wrong, or a clip has no samples.
        """
        wave, lengths, _ = self._clips(input_values, padding_mask)
        latents = self.quantizer.project_in(self._encode_features(wave, lengths, chunk_seconds))
        codes, mask = self._codes(latents, lengths)
        latents = latents.masked_fill(~mask[:, 0, :, None], 0.0)
        output = L3ACEncoderOutput(audio_codes=codes, audio_codes_mask=mask, latents=latents)
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    def decode(
        self,
        audio_codes: Tensor | None = None,
        audio_codes_mask: Tensor | None = None,
        latents: Tensor | None = None,
        time_norm: TimeNormMode | None = None,
        chunk_seconds: float | None = None,
        num_samples: int | Tensor | None = None,
        return_dict: bool | None = None,
    ) -> L3ACDecoderOutput:
        """Ids, or continuous latents, to audio.

        Args:
            audio_codes: Ids (B, 1, N), whole numbers below `config.codebook_size`.
            audio_codes_mask: Non-zero (B, 1, N) or (B, N) at a clip's ids, from the first on; None: all.
            latents: Latents (B, N, L) from `encode`, decoded without rounding; instead of `audio_codes`.
            time_norm: `"clip"` (default) normalises over the clip as published; `"frozen"` with the checkpoint's
                statistics, so that a sample depends on ids near it only.
            chunk_seconds: Decode in pieces of this length, for less memory; the audio is the same to 1e-5.
            num_samples: Samples of each clip, a number or (B,), at most a hop less than its ids give; None: all.
            return_dict: False for a plain tuple.

        Raises:
            ValueError: Not exactly one of `audio_codes` and `latents`, or wrong shapes, types or values, or
                `time_norm="frozen"` without stored statistics.
        """
        source, is_latents = self._decoder_source(audio_codes, latents)
        frames = None
        if audio_codes_mask is not None:
            frames = check_codes_mask(audio_codes_mask, source.shape[:2])
        time_norm = self._checked_time_norm(time_norm)
        if chunk_seconds is None:
            audio = self._decode_features(self._to_features(source, is_latents), frames, time_norm)
        else:
            pieces = self._decode_pieces(source, is_latents, frames, time_norm, chunk_seconds)
            audio = torch.cat(list(pieces), dim=1)
        lengths = self._wanted_samples(num_samples, frames, source)
        if isinstance(lengths, int):
            audio = audio[:, :lengths]
        elif lengths is not None:
            audio = audio[:, : int(lengths.max())] if num_samples is not None else audio
            beyond = torch.arange(audio.shape[1], device=audio.device) >= lengths[:, None]
            audio = audio.masked_fill(beyond[..., None], 0.0)
        output = L3ACDecoderOutput(audio_values=audio.transpose(1, 2))
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    def iter_decode(
        self, audio_codes: Tensor, chunk_seconds: float, time_norm: TimeNormMode | None = None
    ) -> Iterator[Tensor]:
        """`decode` piece by piece: yields audio (B, 1, T') whose concatenation is that of the whole.

        Memory depends on the piece. `"clip"` needs five passes over the ids, `"frozen"` one.

        Raises:
            ValueError: As `decode`.
        """
        source, is_latents = self._decoder_source(audio_codes, None)
        mode = self._checked_time_norm(time_norm)
        for piece in self._decode_pieces(source, is_latents, None, mode, chunk_seconds):
            yield piece.transpose(1, 2)

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> L3ACOutput:
        """Audio to ids and back, differentiable through the straight-through quantizer.

        Args:
            input_values: Waveforms (B, 1, T) at `config.sampling_rate`.
            padding_mask: Non-zero (B, 1, T) or (B, T) at a clip's samples, one run in each row; None: all.
            return_dict: False for a plain tuple in the order of `L3ACOutput`.
            kwargs: What every transformers model is called with; without effect here.

        Raises:
            ValueError: As `encode`.
        """
        wave, lengths, starts = self._clips(input_values, padding_mask)
        latents = self.quantizer.project_in(self._encode_features(wave, lengths, None))
        codes, mask = self._codes(latents.detach(), lengths)
        features = self.quantizer.straight_through(latents).to(self.dtype)
        frames = None if lengths is None else mask[:, 0].sum(dim=1)
        audio = self._decode_features(features, frames, "clip")[:, : wave.shape[1]]
        if lengths is not None:
            beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
            audio = align_right_again(audio.masked_fill(beyond[..., None], 0.0), starts)
            latents = latents.masked_fill(~mask[:, 0, :, None], 0.0)
        output = L3ACOutput(
            audio_values=audio.transpose(1, 2),
            audio_codes=codes,
            audio_codes_mask=None if padding_mask is None else mask,
            latents=latents,
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    @torch.no_grad()
    def calibrate_time_norm(self, clips: Iterable[Tensor]) -> int:
        """Store the average statistics of the decoder's time normalisations, for `time_norm="frozen"`.

        Args:
            clips: Waveforms (T,) at `config.sampling_rate`, alike what will be decoded.

        Returns:
            Number of clips.
        """
        norms = self._time_norms()
        sums = {norm: torch.zeros(2, len(norm.weight), dtype=torch.float64) for norm in norms}
        count = 0

        def collect(norm: nn.Module, inputs: tuple[Tensor, Any], output: Tensor) -> None:
            moments = Moments()
            moments.add(inputs[0], None)
            sums[norm] += torch.stack(moments.statistics())[:, 0].double().cpu()  # type: ignore[index]

        handles = [norm.register_forward_hook(collect) for norm in norms]
        try:
            for clip in clips:
                self.decode(self.encode(clip.to(self.device).reshape(1, 1, -1)).audio_codes, time_norm="clip")
                count += 1
        finally:
            for handle in handles:
                handle.remove()
        if count == 0:
            raise ValueError("There is no clip to calibrate the time normalisation on; give at least one.")
        for norm, (mean, variance) in sums.items():
            norm.running_mean.copy_(mean / count)
            norm.running_var.copy_(variance / count)
            norm.num_clips_tracked.fill_(count)
        return count

    def _wants_dict(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict) if return_dict is None else return_dict

    def _clips(self, input_values: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Waveforms (B, T, 1) from each clip's first sample on, zero after its end; lengths; old first samples."""
        check_waveform(input_values)
        wave = input_values.transpose(1, 2).to(self.dtype)
        return (wave, None, None) if padding_mask is None else align_left(wave, padding_mask)

    def _num_ids(self, samples: Any) -> Any:
        hop = self.config.hop_length
        return (samples + hop - 1) // hop

    def _padded_frames(self, frames: Any) -> Any:
        """Frames that the network sees for a clip of so many: SQCodec pads to whole windows with zeros.

        Zeros beyond the look-ahead of the clip's last id change none of its ids and are left out.
        """
        if not self.config.pad_to_window:
            return frames
        window, hop = self.config.attention_window, self.config.hop_length
        whole = (frames + window - 1) // window * window
        enough = frames + (self.encoder.lookahead + hop - 1) // hop
        if isinstance(whole, Tensor):
            return torch.minimum(whole, enough)
        return torch.sym_min(whole, enough)

    def _encode_features(self, wave: Tensor, lengths: Tensor | None, chunk_seconds: float | None) -> Tensor:
        """Waveforms (B, T, 1) → features (B, N, D), N = ceil(T / hop)."""
        hop = self.config.hop_length
        frames = self._num_ids(wave.shape[1])
        padded = self._padded_frames(frames)
        ends = None if lengths is None else self._padded_frames(self._num_ids(lengths)) * hop
        if chunk_seconds is None:
            wave = F.pad(wave, (0, 0, 0, padded * hop - wave.shape[1]))
            return self.encoder(wave, WholeSpan(ends))[:, :frames]
        stepper = EncoderStepper(self.encoder, hop)
        row_ends = [padded * hop] * wave.shape[0] if ends is None else ends.tolist()
        state = stepper.start(wave.shape[0])
        wave = F.pad(wave, (0, 0, stepper.lead, 0))
        pieces = padded_pieces(wave, self._chunk_frames(chunk_seconds) * hop, (frames + stepper.delay) * hop)
        features = [stepper.step(piece, state, row_ends)[0] for piece in pieces]
        return torch.cat(features, dim=1)[:, stepper.delay :]

    def _codes(self, latents: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Ids (B, 1, N) and their mask (B, 1, N) for latents (B, N, L)."""
        ids = self.quantizer.latents_to_ids(latents)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if lengths is not None:
            mask = torch.arange(ids.shape[1], device=ids.device) < self._num_ids(lengths)[:, None]
            ids = ids.masked_fill(~mask, 0)
        return ids[:, None], mask[:, None]

    def _chunk_frames(self, chunk_seconds: float) -> int:
        if not chunk_seconds > 0:
            raise ValueError(f"`chunk_seconds` is {chunk_seconds}; it must be more than 0.")
        return max(1, round(chunk_seconds * self.config.frame_rate))

    def _decoder_source(self, audio_codes: Tensor | None, latents: Tensor | None) -> tuple[Tensor, bool]:
        """Checked ids (B, N) or latents (B, N, L)."""
        if (audio_codes is None) == (latents is None):
            raise ValueError("Give `decode` either `audio_codes` or `latents`.")
        if latents is not None:
            width = len(self.config.levels)
            if latents.ndim != 3 or latents.shape[2] != width or latents.shape[1] == 0:
                raise ValueError(f"`latents` has shape {tuple(latents.shape)}; it must be (batch, ids, {width}).")
            return latents, True
        assert audio_codes is not None
        if audio_codes.ndim != 3 or audio_codes.shape[1] != 1 or audio_codes.shape[2] == 0:
            raise ValueError(
                f"`audio_codes` has shape {tuple(audio_codes.shape)}; it must be (batch, 1, ids) with at least one id."
            )
        if audio_codes.dtype.is_floating_point or audio_codes.dtype.is_complex or audio_codes.dtype == torch.bool:
            raise ValueError(f"`audio_codes` is of type {audio_codes.dtype}; ids are whole numbers (torch.int64).")
        if not torch.compiler.is_compiling():
            low, high = (int(value) for value in audio_codes.aminmax())
            size = self.config.codebook_size
            if low < 0 or high >= size:
                raise ValueError(
                    f"`audio_codes` has id {low if low < 0 else high}; the ids of this model are 0 to {size - 1}."
                )
        return audio_codes[:, 0], False

    def _to_features(self, source: Tensor, is_latents: bool) -> Tensor:
        convert = self.quantizer.latents_to_features if is_latents else self.quantizer.ids_to_features
        return convert(source).to(self.dtype)

    def _decode_features(self, features: Tensor, frames: Tensor | None, time_norm: TimeNormMode) -> Tensor:
        """Features (B, N, D), frames of each clip (B,) → waveform (B, N · hop, 1)."""
        return self.decoder(features, WholeSpan(frames, time_norm=time_norm))

    def _decode_pieces(
        self,
        source: Tensor,
        is_latents: bool,
        frames: Tensor | None,
        time_norm: TimeNormMode,
        chunk_seconds: float,
    ) -> Iterator[Tensor]:
        """Waveform (B, T', 1) piece by piece, N · hop samples in all."""
        hop = self.config.hop_length
        batch, count = source.shape[:2]
        ends = [count] * batch if frames is None else frames.tolist()
        stepper = DecoderStepper(self.decoder, hop)
        flush = -(-stepper.delay // hop)
        size = self._chunk_frames(chunk_seconds)
        columns = source if is_latents else source[..., None]

        def feature_pieces() -> Iterator[Tensor]:
            for piece in padded_pieces(columns, size, count + flush):
                yield self._to_features(piece if is_latents else piece[..., 0], is_latents)

        statistics: Statistics = {}
        if time_norm == "clip":
            for index, norm in enumerate(self._time_norms()):
                moments, state = Moments(), stepper.start(batch)
                for features in feature_pieces():
                    moments.add(*stepper.statistics_step(features, state, ends, statistics, index))
                statistics[norm] = moments.statistics()
        state = stepper.start(batch)
        for features in feature_pieces():
            wave, firsts = stepper.step(features, state, ends, time_norm, statistics)
            skip = max(0, -firsts[0])
            wave = wave[:, skip : max(skip, count * hop - firsts[0])]
            if wave.shape[1]:
                yield wave

    def _time_norms(self) -> list[TimeNorm]:
        return [stage.enhance.norm for stage in self.decoder.convolutions.stages]

    def _checked_time_norm(self, time_norm: TimeNormMode | None) -> TimeNormMode:
        if time_norm in (None, "clip"):
            return "clip"
        if time_norm != "frozen":
            raise ValueError(f"`time_norm` is {time_norm!r}; it must be 'clip' or 'frozen'.")
        if not torch.compiler.is_compiling() and not all(int(norm.num_clips_tracked) for norm in self._time_norms()):
            raise ValueError(
                "This checkpoint has no statistics for time_norm='frozen'; call model.calibrate_time_norm(clips) "
                "with some audio, or decode with time_norm='clip'."
            )
        return "frozen"

    def _wanted_samples(
        self, num_samples: int | Tensor | None, frames: Tensor | None, source: Tensor
    ) -> int | Tensor | None:
        """Samples of each clip: a number for all, (B,), or None for all that the ids give."""
        hop = self.config.hop_length
        if num_samples is None:
            return None if frames is None else frames * hop
        if isinstance(num_samples, int) and frames is None:
            wanted, ids = num_samples, source.shape[1]
            if not torch.compiler.is_compiling() and not (ids - 1) * hop < wanted <= ids * hop:
                raise ValueError(
                    f"`num_samples` is {wanted}; {ids} ids stand for {(ids - 1) * hop + 1} to {ids * hop}."
                )
            return wanted
        lengths = torch.as_tensor(num_samples, device=source.device).expand(source.shape[0])
        ids_each = torch.full_like(lengths, source.shape[1]) if frames is None else frames
        if not torch.compiler.is_compiling() and not torch.equal(self._num_ids(lengths), ids_each.to(lengths.dtype)):
            raise ValueError(
                f"`num_samples` is {lengths.tolist()}; rows of {ids_each.tolist()} ids stand for at most {hop} samples "
                "an id, and for fewer by less than that."
            )
        return lengths


__all__ = ["L3ACDecoderOutput", "L3ACEncoderOutput", "L3ACModel", "L3ACOutput", "L3ACPreTrainedModel"]
