"""`CodecModel`: `decode` and `forward` of all codecs, including masks, alignment, chunks and lengths.

Axes: B batch, T samples, K codebooks (more than one only with residual stages), N frames, D features, L latent
dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.utils import TransformersKwargs
from typing_extensions import Unpack

from ..checks import as_audio_codes
from ..published import command_to_calibrate
from .chunked import CodecDecoder, DecoderStepper, padded_chunks
from .encoding import CodecEncoding
from .inputs import (
    as_latents,
    as_scales,
    at_level,
    clip_bounds,
    frame_counts,
    output_lengths,
    undo_alignment,
    zero_after,
)
from .outputs import CodecDecoderOutput, CodecOutput
from .span import Statistics, TimeNormMode, WholeSpan
from .time_norm import Moments, TimeNorm, collected_statistics


class CodecModel(CodecEncoding, PreTrainedAudioTokenizerBase):
    """Base class of all codecs; subclasses provide `encoder`, `quantizer` and `decoder`.

    The encoder maps waveforms to features, the FSQ quantizer maps features to ids and back, and the decoder maps
    features to waveforms. Layers with temporal context take a `Span`.
    """

    decoder: CodecDecoder
    how_to_calibrate = "call model.calibrate_time_norm(clips)"
    """Advice of the error for checkpoints without the statistics of `time_norm="frozen"`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; `CodecModel.from_pretrained` loads those of any family.

        Raises:
            ValueError: The checkpoint is of a model that is not a codec of this package.
            OSError: The checkpoint does not exist.
        """
        if cls is not CodecModel:
            cls._check_weights_are_there(pretrained_model_name_or_path, kwargs)
            loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
            model = loaded[0] if isinstance(loaded, tuple) else loaded  # with `output_loading_info`
            if model.config.architectures == [cls.__name__.replace("Model", "EncoderModel")]:
                raise ValueError(
                    f"{pretrained_model_name_or_path} holds an encoder without its decoder; load it with "
                    f"{model.config.architectures[0]}.from_pretrained."
                )
            if command := command_to_calibrate(model.name_or_path):
                model.how_to_calibrate = f"run `{command}`"
            return loaded
        from transformers import AutoModel

        kwargs = {"trust_remote_code": False, **kwargs}
        model = AutoModel.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if not isinstance(model, CodecModel):
            raise ValueError(
                f"{pretrained_model_name_or_path} holds a {type(model).__name__}; give a codec of this package."
            )
        return model

    @property
    def decoder_lookahead(self) -> int:
        """Number of samples by which streamed decoding lags behind the ids, with frozen time normalization."""
        return self.decoder.lookahead

    def decode(
        self,
        audio_codes: Tensor | None = None,
        audio_codes_mask: Tensor | None = None,
        latents: Tensor | None = None,
        time_norm: TimeNormMode | None = None,
        chunk_seconds: float | None = None,
        num_samples: int | Tensor | None = None,
        padding_mask: Tensor | None = None,
        return_dict: bool | None = None,
        audio_scales: Tensor | None = None,
    ) -> CodecDecoderOutput:
        """Decode ids, or continuous latents, to audio.

        `decode(**encode(x))` decodes the ids. With the padding mask of x as well, the audio has the length of x.

        Args:
            audio_codes: Ids (B, K, N), integers below `config.codebook_size`.
            audio_codes_mask: Mask (B, 1, N) or (B, N), non-zero for the frames of a clip, which come first; None: all.
            latents: Latents (B, N, L) from `encode`, to decode without rounding where no `audio_codes` are given;
                beside `audio_codes`, which decide, they are not used, as in DAC and X-Codec2.
            time_norm: `"clip"` (default) normalizes over the clip, as published; `"frozen"` uses the statistics of the
                checkpoint, so that a sample depends on nearby ids only. Without effect if the decoder has no time
                normalization.
            chunk_seconds: Decode in chunks of this length, which needs less memory and gives the same audio up to
                rounding: within 1e-4 of full scale in float32, within 1e-9 in float64.
            num_samples: Number of samples of each clip, an integer or (B,), less than one hop below the samples of its
                frames; None: all.
            padding_mask: Mask (B, 1, T) or (B, T) of the audio that was encoded, instead of `num_samples`: the audio
                becomes (B, 1, T), each clip where it was in its row, 0 in padding. Without `audio_codes_mask`, it also
                tells the frames of each clip.
            return_dict: False returns a plain tuple in the order of `CodecDecoderOutput`.
            audio_scales: Scales (B, 1) of the levels, from a feature extractor with `level_lufs`; the audio is
                multiplied by them.

        Raises:
            ValueError: Neither `audio_codes` nor `latents` is given, or both `num_samples` and `padding_mask`; a
                shape, type or value is wrong, or masks do not fit each other; or statistics for `time_norm="frozen"`
                are missing.
        """
        source = self._decoder_source(audio_codes, latents)
        scales = as_scales(audio_scales, source.shape[0], source.device)
        frames, starts, width = None, None, None
        if audio_codes_mask is not None:
            frames = frame_counts(audio_codes_mask, source.shape[:2], source.device)
        if padding_mask is not None:
            if num_samples is not None:
                raise ValueError("`decode` takes either `num_samples` or `padding_mask`; give one of them.")
            width, num_samples, starts = self._bounds_of_encoded(padding_mask, source)
            if audio_codes_mask is None and isinstance(num_samples, Tensor):
                frames = self.get_encoded_length(num_samples)
        time_norm = self.check_time_norm(time_norm)
        if chunk_seconds is None:
            audio = self.decoder(self.to_features(source), WholeSpan(frames, time_norm=time_norm))
        else:
            chunks = self._decode_chunks(source, frames, time_norm, chunk_seconds)
            audio = torch.cat(list(chunks), dim=1)
        lengths = output_lengths(num_samples, frames, source, self.config.hop_length)
        if width is None and num_samples is not None and lengths is not None:
            width = lengths if isinstance(lengths, int) else int(lengths.max())
        audio = audio if width is None else audio[:, :width]
        if isinstance(lengths, Tensor):
            audio = undo_alignment(zero_after(audio, lengths), starts)
        output = CodecDecoderOutput(audio_values=at_level(audio.transpose(1, 2), scales))
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    def iter_decode(
        self, audio_codes: Tensor, chunk_seconds: float, time_norm: TimeNormMode | None = None
    ) -> Iterator[Tensor]:
        """Decode chunk by chunk: yield audio (B, 1, T') whose concatenation is the output of `decode`.

        The memory needed depends on the length of a chunk only. `"frozen"` decodes the ids once. `"clip"` adds a pass
        over the ids for each time normalization of the decoder: five passes in all for `l3ac-1k`.

        Raises:
            ValueError: As in `decode`.
        """
        source = self._decoder_source(audio_codes, None)
        mode = self.check_time_norm(time_norm)
        for chunk in self._decode_chunks(source, None, mode, chunk_seconds):
            yield chunk.transpose(1, 2)

    def forward(
        self,
        input_values: Tensor | None = None,
        padding_mask: Tensor | None = None,
        audio_codes: Tensor | None = None,
        return_dict: bool | None = None,
        audio_scales: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CodecOutput:
        """Encode and decode audio, with gradients through the straight-through quantizer; or decode ids.

        Args:
            input_values: Waveforms (B, 1, T) at `config.sampling_rate`.
            padding_mask: Mask (B, 1, T) or (B, T), non-zero for the samples of a clip, which are contiguous; None: all.
            audio_codes: Ids (B, K, N) to decode, as `decode` does, instead of `input_values`.
            return_dict: False returns a plain tuple in the order of `CodecOutput`.
            audio_scales: Scales (B, 1) of the levels, from a feature extractor with `level_lufs`; the decoded audio is
                multiplied by them.
            kwargs: Common arguments of transformers models; ignored.

        Raises:
            ValueError: Not exactly one of `input_values` and `audio_codes` is given; or as in `encode` and `decode`.
        """
        if (input_values is None) == (audio_codes is None):
            raise ValueError(
                "`forward` takes either `input_values`, to encode and decode them, or `audio_codes`, to decode them; "
                "give exactly one of them."
            )
        if input_values is None:
            decoded = self.decode(audio_codes, padding_mask=padding_mask, return_dict=True, audio_scales=audio_scales)
            output = CodecOutput(
                audio_values=decoded.audio_values,
                audio_codes=audio_codes,  # type: ignore[arg-type]
                audio_scales=audio_scales,
            )
            return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]
        wave, lengths, starts = self._clips(input_values, padding_mask)
        scales = as_scales(audio_scales, wave.shape[0], wave.device)
        latents = self.quantizer.project_in(self._encode_features(wave, lengths, None))
        codes, mask = self._audio_codes(latents.detach(), lengths)
        features = self.quantizer.straight_through(latents).to(self.dtype)
        frames = None if lengths is None else mask[:, 0].sum(dim=1)
        audio = self.decoder(features, WholeSpan(frames))[:, : wave.shape[1]]
        if lengths is not None:
            audio = undo_alignment(zero_after(audio, lengths), starts)
            latents = latents.masked_fill(~mask[:, 0, :, None], 0.0)
        output = CodecOutput(
            audio_values=at_level(audio.transpose(1, 2), scales),
            audio_codes=codes,
            audio_codes_mask=None if padding_mask is None else mask,
            latents=latents,
            audio_scales=scales,
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()  # type: ignore[return-value]

    @torch.no_grad()
    def calibrate_time_norm(self, clips: Iterable[Tensor]) -> int:
        """Store average statistics of the decoder's time normalizations, for `time_norm="frozen"`.

        Args:
            clips: Waveforms (T,) at `config.sampling_rate`, similar to those to be decoded; not read if the decoder has
                no time normalization.

        Returns:
            Number of clips used.

        Raises:
            ValueError: `clips` is empty.
        """
        norms = self.time_norms()
        if not norms:
            return 0
        count = 0
        with collected_statistics(norms) as sums:
            for clip in clips:
                self.decode(self.encode(clip.to(self.device).reshape(1, 1, -1)).audio_codes, time_norm="clip")
                count += 1
        if count == 0:
            raise ValueError("`clips` is empty; calibration needs at least one clip.")
        for norm, (mean, variance) in sums.items():
            norm.running_mean.copy_(mean / count)
            norm.running_var.copy_(variance / count)
            norm.num_clips_tracked.fill_(count)
        return count

    def codes_to_features(self, audio_codes: Tensor) -> Tensor:
        """Ids (B, K, N) → the features (B, N, D) that the decoder takes: a vector for each frame, in the model's dtype.

        A model with continuous inputs, such as `inputs_embeds` of a language model, takes them through a linear layer.

        Raises:
            ValueError: The ids are of another type, shape or range.
        """
        return self.to_features(self._decoder_source(audio_codes, None))

    def to_features(self, source: Tensor) -> Tensor:
        """Ids of whole frames (B, N), or latents (B, N, L) → input of the decoder (B, N, D), in the model's dtype."""
        is_latents = source.ndim == 3
        convert = self.quantizer.latents_to_features if is_latents else self.quantizer.ids_to_features
        return convert(source).to(self.dtype)

    def time_norms(self) -> list[TimeNorm]:
        """Time normalizations of the decoder, in the order of computation."""
        return [module for module in self.decoder.modules() if isinstance(module, TimeNorm)]

    def check_time_norm(self, time_norm: TimeNormMode | None) -> TimeNormMode:
        """Return the mode of the time normalization, `"clip"` by default, after checking that the model supports it.

        Raises:
            ValueError: The mode is unknown, or is `"frozen"` and the statistics for it are missing.
        """
        if time_norm in (None, "clip"):
            return "clip"
        if time_norm != "frozen":
            raise ValueError(f"`time_norm` is {time_norm!r}; it must be 'clip' or 'frozen'.")
        if not torch.compiler.is_compiling() and not all(norm.is_calibrated for norm in self.time_norms()):
            raise ValueError(
                f"This checkpoint has no statistics for time_norm='frozen'; {self.how_to_calibrate}, or decode with "
                "time_norm='clip'."
            )
        return "frozen"

    def _bounds_of_encoded(self, padding_mask: Any, source: Tensor) -> tuple[int, int | Tensor, Tensor | None]:
        """Length T of the mask of encoded audio, the lengths of the clips, T or (B,), and their starts (B,) if padded.

        Raises:
            ValueError: The mask has a wrong shape, or is not that of the audio that became `source` (B, N, …).
        """
        mask = torch.as_tensor(padding_mask, device=source.device)
        width = mask.shape[-1] if mask.ndim else 0
        frames = self.get_encoded_length(width)
        if frames != source.shape[1]:
            raise ValueError(
                f"`padding_mask` has {width} samples, which make {frames} frames, but there are {source.shape[1]}; "
                "give the mask of the audio that was encoded."
            )
        lengths, starts = clip_bounds(mask, (source.shape[0], width), source.device)
        return width, width if lengths is None else lengths, starts

    def _decoder_source(self, audio_codes: Tensor | None, latents: Tensor | None) -> Tensor:
        """Checked ids of whole frames (B, N), or checked latents (B, N, L)."""
        if audio_codes is None and latents is None:
            raise ValueError("`decode` takes either `audio_codes` or `latents`; give one of them.")
        if audio_codes is None:
            values = as_latents(latents, len(self.config.levels))
            return values if values is latents else values.to(self.device)
        codes = as_audio_codes(audio_codes, self.config.num_quantizers, self.config.codebook_size)
        codes = codes if isinstance(audio_codes, Tensor) else codes.to(self.device)
        return self.quantizer.codebooks_to_ids(codes)

    def _decode_chunks(
        self, source: Tensor, frames: Tensor | None, time_norm: TimeNormMode, chunk_seconds: float
    ) -> Iterator[Tensor]:
        """Yield the waveform (B, T', 1) of ids (B, N) or latents (B, N, L) chunk by chunk, N · hop samples in all."""
        hop = self.config.hop_length
        batch, count = source.shape[:2]
        ends = [count] * batch if frames is None else frames.tolist()
        stepper = DecoderStepper(self.decoder, hop)
        flush = -(-stepper.delay // hop)
        size = self._chunk_frames(chunk_seconds)

        def feature_chunks() -> Iterator[Tensor]:
            for chunk in padded_chunks(source, size, count + flush):
                yield self.to_features(chunk)

        statistics: Statistics = {}
        if time_norm == "clip":
            for index, norm in enumerate(self.time_norms()):
                moments, state = Moments(), stepper.start(batch)
                for features in feature_chunks():
                    moments.add(*stepper.statistics_step(features, state, ends, statistics, index))
                statistics[norm] = moments.statistics()
        state = stepper.start(batch)
        for features in feature_chunks():
            wave, firsts = stepper.step(features, state, ends, time_norm, statistics)
            skip = max(0, -firsts[0])
            wave = wave[:, skip : max(skip, count * hop - firsts[0])]
            if wave.shape[1]:
                yield wave
