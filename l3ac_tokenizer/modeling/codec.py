"""What every codec of this package does around its network: the contract of `encode`, `decode` and `forward`.

A family gives an encoder (waveform → features), an FSQ quantizer and a decoder (features → waveform), whose layers
speak to a `Span`. Masks, left alignment, chunks, lengths and checks are here, once for all families.

Axes: B batch, T samples, K streams of ids (one, but for residual stages), N ids of a stream, D features, L latent
dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import TransformersKwargs
from typing_extensions import Unpack

from ..configuration import CodecConfig
from ..quantization import FSQ, residual_levels
from .chunked import DecoderHalf, DecoderStepper, EncoderHalf, EncoderStepper, padded_pieces
from .inputs import (
    align_left,
    align_right_again,
    check_codes,
    check_codes_mask,
    check_latents,
    check_waveform,
    wanted_samples,
    zero_after,
)
from .outputs import CodecDecoderOutput, CodecEncoderOutput, CodecOutput
from .pretrained import CodecPreTrainedModel
from .span import Statistics, TimeNormMode, WholeSpan
from .time_norm import Moments, TimeNorm, collected_statistics


class CodecModel(CodecPreTrainedModel):
    """A codec: `encoder`, `quantizer` and `decoder` are what a family adds."""

    config: CodecConfig
    encoder: EncoderHalf
    quantizer: FSQ
    decoder: DecoderHalf

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; `CodecModel` itself loads one of any family.

        Raises:
            ValueError: It is no codec of this package.
            OSError: There is no such checkpoint.
        """
        if cls is not CodecModel:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        from transformers import AutoModel

        model = AutoModel.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if not isinstance(model, CodecModel):
            raise ValueError(f"{pretrained_model_name_or_path} holds {type(model).__name__}, no codec of this package.")
        return model

    @property
    def encoder_lookahead(self) -> int:
        """Samples after an id's own that it depends on."""
        return self.encoder.lookahead

    @property
    def decoder_lookahead(self) -> int:
        """Samples that streamed decoding runs behind the ids (with frozen time normalisation)."""
        return self.decoder.lookahead

    @property
    def latent_layer(self) -> nn.Linear | nn.Conv1d:
        """The layer whose answers are the latents: the quantizer's projection, unless a family says otherwise."""
        return self.quantizer.project_in  # type: ignore[return-value]

    def decompose(self, num_quantizers: int) -> None:
        """Cut ids into residual stages of fewer levels each, by the same grid, or join them again (1).

        `audio_codes` are then (B, K, N); weights and audio stay as they are (arXiv 2411.19842, Eq. 3 and 4: six digits
        of 17 = 4² + 1 levels are two ids of six digits of 5). Saved checkpoints remember the choice.

        Raises:
            ValueError: A dimension's number of levels is not n^K + 1, as 7 is not.
        """
        self._use_levels(residual_levels(self.config.grid_levels, num_quantizers), num_quantizers)

    def _use_levels(self, levels: Sequence[int], num_quantizers: int) -> None:
        config = copy.deepcopy(self.config)
        config.levels, config.num_quantizers = list(levels), num_quantizers
        config.validate_architecture()
        self.config = config
        self.quantizer.levels, self.quantizer.num_quantizers = tuple(levels), num_quantizers

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        chunk_seconds: float | None = None,
        return_dict: bool | None = None,
    ) -> CodecEncoderOutput:
        """Audio to ids; a clip of n samples has ceil(n / hop) of them, in any batch and with any padding.

        Args:
            input_values: Waveforms (B, 1, T) at `config.sampling_rate`.
            padding_mask: Non-zero (B, 1, T) or (B, T) at a clip's samples, one run in each row; None: all.
            chunk_seconds: Encode in pieces of this length, for less memory; the ids are the same.
            return_dict: False for a plain tuple in the order of `CodecEncoderOutput`.

        Raises:
            ValueError: The input's shape or type is wrong, or a clip has no samples.
        """
        wave, lengths, _ = self._clips(input_values, padding_mask)
        latents = self.quantizer.project_in(self._encode_features(wave, lengths, chunk_seconds))
        codes, mask = self._codes(latents, lengths)
        latents = latents.masked_fill(~mask[:, 0, :, None], 0.0)
        output = CodecEncoderOutput(audio_codes=codes, audio_codes_mask=mask, latents=latents)
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
    ) -> CodecDecoderOutput:
        """Ids, or continuous latents, to audio.

        Args:
            audio_codes: Ids (B, K, N), whole numbers below `config.codebook_size`.
            audio_codes_mask: Non-zero (B, 1, N) or (B, N) at a clip's ids, from the first on; None: all.
            latents: Latents (B, N, L) from `encode`, decoded without rounding; instead of `audio_codes`.
            time_norm: `"clip"` (default) normalizes over the clip as published; `"frozen"` with the checkpoint's
                statistics, so that a sample depends on ids near it only. The same for a decoder without time
                normalization.
            chunk_seconds: Decode in pieces of this length, for less memory; the audio is the same but for rounding: to
                1e-4 of full scale in float32, to 1e-9 in float64.
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
        lengths = wanted_samples(num_samples, frames, source, self.config.hop_length)
        if isinstance(lengths, int):
            audio = audio[:, :lengths]
        elif lengths is not None:
            audio = audio[:, : int(lengths.max())] if num_samples is not None else audio
            audio = zero_after(audio, lengths)
        output = CodecDecoderOutput(audio_values=audio.transpose(1, 2))
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    def iter_decode(
        self, audio_codes: Tensor, chunk_seconds: float, time_norm: TimeNormMode | None = None
    ) -> Iterator[Tensor]:
        """`decode` piece by piece: yields audio (B, 1, T') whose concatenation is that of the whole.

        Memory depends on the piece. `"clip"` needs a pass over the ids for each time normalization of the decoder and
        one more: five for `l3ac-1k`, one for a decoder without. `"frozen"` needs one.

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
    ) -> CodecOutput:
        """Audio to ids and back, differentiable through the straight-through quantizer.

        Args:
            input_values: Waveforms (B, 1, T) at `config.sampling_rate`.
            padding_mask: Non-zero (B, 1, T) or (B, T) at a clip's samples, one run in each row; None: all.
            return_dict: False for a plain tuple in the order of `CodecOutput`.
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
            audio = align_right_again(zero_after(audio, lengths), starts)
            latents = latents.masked_fill(~mask[:, 0, :, None], 0.0)
        output = CodecOutput(
            audio_values=audio.transpose(1, 2),
            audio_codes=codes,
            audio_codes_mask=None if padding_mask is None else mask,
            latents=latents,
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    @torch.no_grad()
    def calibrate_time_norm(self, clips: Iterable[Tensor]) -> int:
        """Store the average statistics of the decoder's time normalizations, for `time_norm="frozen"`.

        Args:
            clips: Waveforms (T,) at `config.sampling_rate`, alike what will be decoded. Not read where the decoder has
                no time normalization.

        Returns:
            Number of clips used.

        Raises:
            ValueError: There is no clip.
        """
        norms = self._time_norms()
        if not norms:
            return 0
        count = 0
        with collected_statistics(norms) as sums:
            for clip in clips:
                self.decode(self.encode(clip.to(self.device).reshape(1, 1, -1)).audio_codes, time_norm="clip")
                count += 1
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
        """Frames that the network sees for a clip of so many."""
        return frames

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
        """Ids (B, K, N) and their mask (B, 1, N) for latents (B, N, L)."""
        ids = self.quantizer.latents_to_ids(latents)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if lengths is not None:
            mask = torch.arange(ids.shape[1], device=ids.device) < self._num_ids(lengths)[:, None]
            ids = ids.masked_fill(~mask, 0)
        return self.quantizer.ids_to_codebooks(ids), mask[:, None]

    def _chunk_frames(self, chunk_seconds: float) -> int:
        if not chunk_seconds > 0:
            raise ValueError(f"`chunk_seconds` is {chunk_seconds}; it must be more than 0.")
        return max(1, round(chunk_seconds * self.config.frame_rate))

    def _decoder_source(self, audio_codes: Tensor | None, latents: Tensor | None) -> tuple[Tensor, bool]:
        """Checked ids of frames (B, N) or latents (B, N, L)."""
        if (audio_codes is None) == (latents is None):
            raise ValueError("Give `decode` either `audio_codes` or `latents`.")
        if latents is not None:
            check_latents(latents, len(self.config.levels))
            return latents, True
        assert audio_codes is not None
        check_codes(audio_codes, self.config.num_quantizers, self.config.codebook_size)
        return self.quantizer.codebooks_to_ids(audio_codes), False

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
        return [module for module in self.decoder.modules() if isinstance(module, TimeNorm)]

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
