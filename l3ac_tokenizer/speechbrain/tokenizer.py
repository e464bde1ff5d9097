"""The codec with the interfaces that SpeechBrain and its benchmark DASB give to audio tokenizers.

Axes: B batch, T samples, N ids of a stream, K streams of ids (one, unless the codec's ids are decomposed), H features
of the codec. Lengths are SpeechBrain's: parts (B,) of the longest clip, from 0 to 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..modeling import CodecModel


class L3AC(nn.Module):
    """A codec in the form of SpeechBrain's `integrations.audio_tokenizers`, as `WavTokenizer` there has it.

    Source papers: https://arxiv.org/abs/2504.04949 (L3AC), https://arxiv.org/abs/2411.19842 (TAAE)

    Args:
        source: Preset (`"l3ac-1k"`), folder, or name on the Hugging Face hub.
        save_path: Folder that keeps what is downloaded; None: the hub's cache.
        sample_rate: Rate of the audio in Hz, which must be the codec's.
        freeze: Leave the codec as it is when what it is part of is trained.

    Raises:
        ValueError: `sample_rate` is not the codec's.

    Example:
        >>> model = L3AC("l3ac-1k")
        >>> tokens, embeddings = model.encode(torch.randn(4, 16000), torch.tensor([1.0, 0.5, 0.75, 1.0]))
        >>> tokens.shape, embeddings.shape
        (torch.Size([4, 1, 60]), torch.Size([4, 60, 128]))
        >>> model.decode(tokens).shape
        torch.Size([4, 16200])
    """

    def __init__(
        self, source: str = "l3ac-1k", save_path: str | None = None, sample_rate: int = 16_000, freeze: bool = True
    ):
        super().__init__()
        self.model: CodecModel = CodecModel.from_pretrained(source, cache_dir=save_path).eval()
        rate = self.model.config.sampling_rate
        if sample_rate != rate:
            raise ValueError(f"`sample_rate` is {sample_rate} and the codec {source} works at {rate} Hz: resample.")
        self.sample_rate = rate
        self.freeze = freeze
        if freeze:
            self.model.requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Number of different ids of a stream."""
        return self.model.config.codebook_size

    def train(self, mode: bool = True) -> L3AC:
        """As of any module; a frozen codec stays in evaluation mode."""
        super().train(mode)
        if self.freeze:
            self.model.eval()
        return self

    def forward(self, inputs: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (B, K, N), embeddings (B, N, H) and decoded audio (B, T) of audio (B, T)."""
        tokens, embeddings = self.encode(inputs, length)
        return tokens, embeddings, self.decode(tokens, length)[:, : inputs.shape[-1]]

    @torch.no_grad()
    def encode(self, inputs: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Audio to ids, and to the features that the codec decodes them from.

        Args:
            inputs: Waveforms (B, T) or (B, 1, T).
            length: Relative lengths (B,); None: no padding.

        Returns:
            Ids (B, K, N), int64, and features (B, N, H). The ids of a clip are those of the clip alone, whatever
            follows it in the batch; from its own ceil(samples / hop) on, ids and features are 0.
        """
        wave = inputs[:, None] if inputs.ndim == 2 else inputs
        mask = None if length is None else _mask(length, wave.shape[-1])
        output: Any = self.model.encode(wave, padding_mask=mask)
        quantizer = self.model.quantizer
        features = quantizer.ids_to_features(quantizer.codebooks_to_ids(output.audio_codes))
        return output.audio_codes, features.masked_fill(~output.audio_codes_mask[:, 0, :, None], 0.0)

    @torch.no_grad()
    def decode(self, tokens: Tensor, length: Tensor | None = None) -> Tensor:
        """Ids (B, K, N) to audio (B, T), 0 after the end of a clip.

        Args:
            tokens: Ids.
            length: Relative lengths (B,); None: no padding.
        """
        mask = None if length is None else _mask(length, tokens.shape[-1])
        output: Any = self.model.decode(tokens, audio_codes_mask=mask)
        return output.audio_values[:, 0]

    def num_tokens(self, num_samples: int) -> int:
        """Frames of ids of a clip of so many samples."""
        return -(-num_samples // self.model.config.hop_length)


class L3ACTokenizer(L3AC):
    """A codec for DASB: the methods of its `BaseTokenizer`.

    Example:
        >>> model = L3ACTokenizer("l3ac-1k")
        >>> tokens = model.sig_to_tokens(torch.randn(4, 16000), torch.tensor([1.0, 0.5, 0.75, 1.0]))
        >>> tokens.shape, model.tokens_to_sig(tokens).shape, model.get_pretrained_embeddings().shape
        (torch.Size([4, 60, 1]), torch.Size([4, 16200]), torch.Size([117649, 128]))
    """

    def sig_to_tokens(
        self, signal: Tensor, lengths: Tensor | None = None, num_codebooks: int | None = None, **kwargs: Any
    ) -> Tensor:
        """Audio (B, T) to ids (B, N, K), int64; padding becomes no ids but 0.

        Args:
            signal: Waveforms.
            lengths: Relative lengths (B,); None: no padding.
            num_codebooks: K or None.
            kwargs: What DASB passes to other tokenizers; without effect.

        Raises:
            ValueError: Another number of codebooks is asked for.
        """
        self._check_codebooks(num_codebooks)
        return self.encode(signal, lengths)[0].movedim(1, 2)

    def tokens_to_sig(self, tokens: Tensor, length: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Ids (B, N, K) to audio (B, T).

        Args:
            tokens: Ids.
            length: Relative lengths (B,), under the name that DASB gives them; None: no padding.
            kwargs: What DASB passes to other tokenizers; without effect.
        """
        return self.decode(tokens.movedim(2, 1), length)

    @torch.no_grad()
    def get_pretrained_embeddings(
        self, vocab_size: int | None = None, num_codebooks: int | None = None, **kwargs: Any
    ) -> Tensor:
        """The feature (C, H) that the codec decodes each of its C ids from.

        Args:
            vocab_size: C or None.
            num_codebooks: K or None.
            kwargs: What DASB passes to other tokenizers; without effect.

        Raises:
            ValueError: Another number is asked for, or ids of several streams make a feature together.
        """
        self._check_codebooks(num_codebooks)
        if self.model.config.num_quantizers > 1:
            raise ValueError("Ids of several streams have no features of their own: call model.decompose(1) first.")
        if vocab_size not in (None, self.vocab_size):
            raise ValueError(f"`vocab_size` is {vocab_size} and the codec has {self.vocab_size} ids: give that.")
        return self.model.quantizer.ids_to_features(torch.arange(self.vocab_size, device=self.model.device))

    def _check_codebooks(self, num_codebooks: int | None) -> None:
        streams = self.model.config.num_quantizers
        if num_codebooks not in (None, streams):
            raise ValueError(f"`num_codebooks` is {num_codebooks} and the codec has {streams}: give that or None.")


def _mask(lengths: Tensor, size: int) -> Tensor:
    """Relative lengths (B,) → True (B, size) where there is no padding."""
    ends = (lengths * size).round().long()
    return torch.arange(size, device=lengths.device) < ends[:, None]
