"""Codecs with the audio tokenizer interfaces of SpeechBrain and its benchmark DASB.

Axes: B batch, T samples, N frames, K codebooks (one, unless the codec's ids are decomposed), C codebook size,
H features of the codec. As in SpeechBrain, lengths (B,) are relative to the longest clip, from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import as_ids, as_samples
from ..modeling import CodecEncoderModel, CodecEncoding, CodecModel


class L3AC(nn.Module):
    """Codec with the interface of SpeechBrain's `integrations.audio_tokenizers`, e.g. `WavTokenizer`.

    Source papers: https://arxiv.org/abs/2504.04949 (L3AC), https://arxiv.org/abs/2411.19842 (TAAE)

    Args:
        source: Preset (`"l3ac-1k"`), checkpoint directory, or name on the Hugging Face hub.
        save_path: Folder for downloads; None: the cache of the hub.
        sample_rate: Sampling rate of the audio in Hz, which must be that of the codec.
        freeze: Exclude the codec from training.
        encode_only: Load the encoder alone, without what decodes.

    Raises:
        ValueError: `sample_rate` is not that of the codec.

    Example:
        >>> model = L3AC("l3ac-1k")
        >>> tokens, embeddings = model.encode(0.1 * torch.randn(4, 16000), torch.tensor([1.0, 0.5, 0.75, 1.0]))
        >>> tokens.shape, embeddings.shape
        (torch.Size([4, 1, 60]), torch.Size([4, 60, 128]))
        >>> model.decode(tokens).shape
        torch.Size([4, 16200])
    """

    def __init__(
        self,
        source: str = "l3ac-1k",
        save_path: str | None = None,
        sample_rate: int = 16_000,
        freeze: bool = True,
        encode_only: bool = False,
    ):
        super().__init__()
        self.model: CodecEncoding
        if encode_only:
            self.model = CodecEncoderModel.from_pretrained(source, cache_dir=save_path).eval()
        else:
            self.model = CodecModel.from_pretrained(source, cache_dir=save_path).eval()
        rate = self.model.config.sampling_rate
        if sample_rate != rate:
            raise ValueError(f"`sample_rate` is {sample_rate} and the codec {source} works at {rate} Hz: resample.")
        self.sample_rate = rate
        self.freeze = freeze
        if freeze:
            self.model.requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Number of ids in each codebook."""
        return self.model.config.codebook_size

    def train(self, mode: bool = True) -> L3AC:
        """Set the training mode; a frozen codec stays in evaluation mode."""
        super().train(mode)
        if self.freeze:
            self.model.eval()
        return self

    def forward(self, inputs: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Audio (B, T) → ids (B, K, N), embeddings (B, N, H) and decoded audio (B, T)."""
        tokens, embeddings = self.encode(inputs, length)
        return tokens, embeddings, self.decode(tokens, length)[:, : inputs.shape[-1]]

    @torch.no_grad()
    def encode(self, inputs: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode audio to ids and to the features that the decoder reads for them.

        Args:
            inputs: Waveforms (B, T) or (B, 1, T).
            length: Relative lengths (B,); None: no padding.

        Returns:
            Ids (B, K, N), int64, and features (B, N, H). The ids of a clip do not depend on the batch; after the
            ceil(samples / hop) frames of a clip, ids and features are 0.
        """
        wave = as_samples(inputs, "`inputs`")
        wave = wave[:, None] if wave.ndim == 2 else wave
        mask = None if length is None else _mask(length, wave.shape[-1])
        output: Any = self.model.encode(wave, padding_mask=mask)
        quantizer = self.model.quantizer
        features = quantizer.ids_to_features(quantizer.codebooks_to_ids(output.audio_codes))
        return output.audio_codes, features.masked_fill(~output.audio_codes_mask[:, 0, :, None], 0.0)

    @torch.no_grad()
    def decode(self, tokens: Tensor, length: Tensor | None = None) -> Tensor:
        """Decode ids (B, K, N) to audio (B, T), which is 0 after the end of a clip.

        Args:
            tokens: Ids.
            length: Relative lengths (B,); None: no padding.

        Raises:
            ValueError: The codec was loaded with `encode_only`.
        """
        if not isinstance(self.model, CodecModel):
            raise ValueError("This codec has no decoder; make it without `encode_only`.")
        tokens = as_ids(tokens, "`tokens`")
        mask = None if length is None else _mask(length, tokens.shape[-1])
        output: Any = self.model.decode(tokens, audio_codes_mask=mask)
        return output.audio_values[:, 0]

    def num_tokens(self, num_samples: int) -> int:
        """Return the number of frames in a clip of `num_samples` samples."""
        return -(-num_samples // self.model.config.hop_length)


class L3ACTokenizer(L3AC):
    """Codec with the methods of DASB's `BaseTokenizer`, as speechbrain/benchmarks 563a645 has it.

    Example:
        >>> model = L3ACTokenizer("l3ac-1k")
        >>> tokens = model.sig_to_tokens(0.1 * torch.randn(4, 16000), torch.tensor([1.0, 0.5, 0.75, 1.0]))
        >>> tokens.shape, model.tokens_to_sig(tokens).shape, model.get_pretrained_embeddings().shape
        (torch.Size([4, 60, 1]), torch.Size([4, 16200]), torch.Size([117649, 128]))
    """

    def sig_to_tokens(
        self,
        signal: Tensor,
        lengths: Tensor | None = None,
        num_codebooks: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Encode audio (B, T) to ids (B, N, K), int64, which are 0 at padding.

        Args:
            signal: Waveforms.
            lengths: Relative lengths (B,); None: no padding.
            num_codebooks: Number of codebooks from the first on, or a list of their indices from 0 on; None: all. Only
                all together can be decoded.
            kwargs: Ignored; DASB passes them to other tokenizers.

        Raises:
            ValueError: The codec does not have these codebooks.
        """
        chosen = self._chosen_codebooks(num_codebooks)
        return self.encode(signal, lengths)[0][:, chosen].movedim(1, 2)

    def tokens_to_sig(self, tokens: Tensor, length: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Decode ids (B, N, K) to audio (B, T).

        Args:
            tokens: Ids.
            length: Relative lengths (B,), named as in DASB; None: no padding.
            kwargs: Ignored; DASB passes them to other tokenizers.
        """
        tokens = as_ids(tokens, "`tokens`")
        if tokens.ndim != 3:
            raise ValueError(f"`tokens` has shape {tuple(tokens.shape)}; it must be (batch, frames, codebooks).")
        return self.decode(tokens.movedim(2, 1), length)

    @torch.no_grad()
    def get_pretrained_embeddings(
        self, vocab_size: int | None = None, num_codebooks: int | Sequence[int] | None = None, **kwargs: Any
    ) -> Tensor:
        """Return the features (C, H) that the decoder reads for each id.

        Args:
            vocab_size: Must be C or None.
            num_codebooks: Number of codebooks or list of their indices; it must mean the one that there is.
            kwargs: Ignored; DASB passes them to other tokenizers.

        Raises:
            ValueError: An argument has another value, or the features depend on the ids of several codebooks together.
        """
        self._chosen_codebooks(num_codebooks)
        if self.model.config.num_quantizers > 1:
            raise ValueError("Ids of several codebooks have no features of their own: call model.decompose(1) first.")
        if vocab_size not in (None, self.vocab_size):
            raise ValueError(f"`vocab_size` is {vocab_size}; it must be {self.vocab_size} or None for this codec.")
        return self.model.quantizer.ids_to_features(torch.arange(self.vocab_size, device=self.model.device))

    @property
    def vocabulary(self) -> Tensor:
        """Features (1, C, H) that the decoder reads for each id, as DASB initializes embeddings from other codecs."""
        return self.get_pretrained_embeddings()[None]

    def _chosen_codebooks(self, num_codebooks: int | Sequence[int] | None) -> list[int]:
        """Indices of the codebooks that a `num_codebooks` of DASB means."""
        every = list(range(self.model.config.num_quantizers))
        if num_codebooks is None:
            return every
        if isinstance(num_codebooks, int):
            chosen = every[:num_codebooks] if 0 < num_codebooks <= len(every) else []
        else:
            chosen = list(num_codebooks)
        if not chosen or not set(chosen) <= set(every):
            raise ValueError(
                f"`num_codebooks` is {num_codebooks}, and this codec has {len(every)}: give at most so many, a list of "
                f"indices below {len(every)}, or None."
            )
        return chosen


def _mask(lengths: Tensor, size: int) -> Tensor:
    """Relative lengths (B,) → mask (B, size) that is False at padding."""
    if lengths.ndim != 1 or not bool(((lengths > 0) & (lengths <= 1)).all()):
        raise ValueError(f"Lengths are relative to the longest clip, above 0 and at most 1, (batch,), not {lengths}.")
    ends = (lengths * size).round().long()
    return torch.arange(size, device=lengths.device) < ends[:, None]
