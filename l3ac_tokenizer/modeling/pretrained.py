"""The weights of a codec: how they start, are split for training, and are named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedAudioTokenizerBase

ENCODER = ("encoder.", "quantizer.project_in.")
"""Name prefixes of the tensors that determine ids."""


class CodecPreTrainedModel(PreTrainedAudioTokenizerBase):
    """Weight initialisation, weight norm, and the digest that names a tokenizer."""

    main_input_name = "input_values"
    input_modalities = "audio"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)):
            module.reset_parameters()
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def _weight_normed_layers(self) -> Iterator[nn.Module]:
        """The layers whose weights training splits in magnitude and direction: all convolutions."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                yield module

    def apply_weight_norm(self) -> None:
        """Split the weights of the convolutional parts in magnitude and direction, as training has them.

        Frozen weights stay whole, so that training leaves them as they were to the last bit.
        """
        for layer in list(self._weight_normed_layers()):
            if layer.weight.requires_grad:
                parametrizations.weight_norm(layer)

    def remove_weight_norm(self) -> None:
        """Join magnitudes and directions again; checkpoints are stored so."""
        for layer in list(self._weight_normed_layers()):
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight")

    def weights_digest(self) -> str:
        """SHA-256 (hexadecimal) over names, shapes and float32 values of all weights: names a tokenizer.

        Statistics of the decoder's time normalization are left out.
        """
        return self._digest(dict(self.named_parameters()) | self._encoder_tensors())

    def encoder_digest(self) -> str:
        """The same over the tensors alone that determine ids."""
        return self._digest(self._encoder_tensors())

    def _encoder_tensors(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.state_dict(keep_vars=True).items() if name.startswith(ENCODER)}

    @staticmethod
    def _digest(tensors: Mapping[str, Tensor]) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(tensors.items()):
            values = tensor.detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{name} {list(values.shape)}\n".encode())
            digest.update(values.numpy().astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def id_digests(self) -> tuple[str, ...]:
        """Digests of weights whose ids this model reads as its own; its own digest is the first.

        Others are those of `config.ids_of`, as long as the encoder is the one for which they stand there.
        """
        others = self.config.ids_of if self.config.encoder_digest == self.encoder_digest() else ()
        return (self.weights_digest(), *others)
