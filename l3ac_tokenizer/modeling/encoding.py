"""`CodecEncoding`: `encode` of codecs and of their encoders alone, with masks, alignment and chunks.

Axes: B batch, T samples, K codebooks (more than one only with residual stages), N frames, D features, L latent
dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_samples
from ..configuration import CodecConfig
from ..quantization import FSQ, residual_levels
from .chunked import CodecEncoder, EncoderStepper, padded_chunks
from .inputs import align_left, as_scales, as_waveforms
from .outputs import CodecEncoderOutput
from .pretrained import CodecPreTrainedModel
from .span import WholeSpan


class CodecEncoding(CodecPreTrainedModel):
    """Base class of `CodecModel` and `CodecEncoderModel`; subclasses provide `encoder` and `quantizer`.

    The encoder maps waveforms to features, and the FSQ quantizer maps features to ids.
    """

    config: CodecConfig
    encoder: CodecEncoder
    quantizer: FSQ

    @property
    def encoder_lookahead(self) -> int:
        """Number of samples after the frame of an id that the id depends on."""
        return self.encoder.lookahead

    @property
    def latent_layer(self) -> nn.Linear | nn.Conv1d:
        """Layer that outputs the latents: the projection of the quantizer, unless a subclass overrides it."""
        return self.quantizer.project_in  # type: ignore[return-value]

    def get_encoded_length(self, input_length: Any) -> Any:
        """Number of ids, ceil(n / hop), of a clip of n = `input_length` samples; an integer, or a tensor of them."""
        hop = self.config.hop_length
        return (input_length + hop - 1) // hop

    def decompose(self, num_quantizers: int) -> None:
        """Split the ids into K = `num_quantizers` residual codebooks with fewer levels; 1 joins them again.

        `audio_codes` have the shape (B, K, N) afterwards; weights, quantized values and audio do not change (arXiv
        2411.19842, Eq. 3 and 4). For example, an id of six digits with 17 = 4² + 1 levels becomes two ids of six digits
        with 5 levels. The choice is saved with checkpoints.

        Raises:
            ValueError: The number of levels of a dimension is not n^K + 1.
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
        audio_scales: Tensor | None = None,
    ) -> CodecEncoderOutput:
        """Encode audio to ids: ceil(n / hop) frames for a clip of n samples, independent of batch and padding.

        Args:
            input_values: Waveforms (B, 1, T) at `config.sampling_rate`.
            padding_mask: Mask (B, 1, T) or (B, T), non-zero for the samples of a clip, which are contiguous; None: all.
            chunk_seconds: Encode in chunks of this length, which needs less memory and gives the same ids.
            return_dict: False returns a plain tuple in the order of `CodecEncoderOutput`.
            audio_scales: Scales (B, 1) of the levels, from a feature extractor with `level_lufs`; returned as they are,
                for `decode`.

        Raises:
            ValueError: The input has a wrong shape or type, samples that are NaN, infinite or beyond ±`MAX_ABS_SAMPLE`,
                a clip without samples, or scales that are not positive.
        """
        wave, lengths, _ = self._clips(input_values, padding_mask)
        scales = as_scales(audio_scales, wave.shape[0], wave.device)
        latents = self.quantizer.project_in(self._encode_features(wave, lengths, chunk_seconds))
        codes, mask = self._audio_codes(latents, lengths)
        latents = latents.masked_fill(~mask[:, 0, :, None], 0.0)
        output = CodecEncoderOutput(audio_codes=codes, audio_codes_mask=mask, latents=latents, audio_scales=scales)
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    def padded_frames(self, frames: Any) -> Any:
        """Number of frames, including those of padding, that the encoder processes for a clip of `frames` frames."""
        return frames

    def _wants_dict(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict) if return_dict is None else return_dict

    def _clips(self, input_values: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Checked waveforms (B, T, 1), left-aligned, with their lengths (B,) and original start positions (B,)."""
        waves = as_waveforms(input_values)
        if waves is not input_values:
            waves = waves.to(self.device)
        wave, lengths, starts = waves.transpose(1, 2), None, None
        if padding_mask is not None:
            wave, lengths, starts = align_left(wave, padding_mask)
        check_samples(wave[..., 0], "`input_values`")
        return wave, lengths, starts

    def _encode_features(self, wave: Tensor, lengths: Tensor | None, chunk_seconds: float | None) -> Tensor:
        """Waveforms (B, T, 1), lengths (B,) → features (B, N, D), N = ceil(T / hop)."""
        hop = self.config.hop_length
        wave = wave.to(self.encoder_dtype)
        frames = self.get_encoded_length(wave.shape[1])
        padded = self.padded_frames(frames)
        ends = None if lengths is None else self.padded_frames(self.get_encoded_length(lengths)) * hop
        if chunk_seconds is None:
            wave = F.pad(wave, (0, 0, 0, padded * hop - wave.shape[1]))
            return self.encoder(wave, WholeSpan(ends))[:, :frames]
        stepper = EncoderStepper(self.encoder, hop)
        row_ends = [padded * hop] * wave.shape[0] if ends is None else ends.tolist()
        state = stepper.start(wave.shape[0])
        wave = F.pad(wave, (0, 0, stepper.lead, 0))
        chunks = padded_chunks(wave, self._chunk_frames(chunk_seconds) * hop, (frames + stepper.delay) * hop)
        features = [stepper.step(chunk, state, row_ends)[0] for chunk in chunks]
        return torch.cat(features, dim=1)[:, stepper.delay :]

    def _audio_codes(self, latents: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Latents (B, N, L), lengths (B,) → ids (B, K, N) and their mask (B, 1, N)."""
        ids = self.quantizer.latents_to_ids(latents)
        mask = torch.ones_like(ids, dtype=torch.bool)
        if lengths is not None:
            mask = torch.arange(ids.shape[1], device=ids.device) < self.get_encoded_length(lengths)[:, None]
            ids = ids.masked_fill(~mask, 0)
        return self.quantizer.ids_to_codebooks(ids), mask[:, None]

    def _chunk_frames(self, chunk_seconds: float) -> int:
        if not chunk_seconds > 0:
            raise ValueError(f"`chunk_seconds` is {chunk_seconds}; it must be greater than 0.")
        return max(1, round(chunk_seconds * self.config.frame_rate))
