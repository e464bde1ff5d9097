"""Weights of a codec: initialization, weight normalization, and digests that identify them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel

from ..causes import shortened
from ..configuration import CodecConfig
from ..hub import refuse_remote_code
from ..limits import CONFIG_BOUNDS, EXTRA_WEIGHTS
from ..quantization import Float32Module

ENCODER = ("encoder.", "quantizer.project_in.")
"""Name prefixes of the tensors that determine ids."""


class CodecPreTrainedModel(PreTrainedModel):
    """Base class of all networks of the package: weight initialization, weight normalization and digests."""

    main_input_name = "input_values"
    input_modalities = "audio"
    _keep_in_fp32_modules_strict = ["encoder", "quantizer"]  # noqa: RUF012
    """Parts that are loaded in float32 where half precision is asked for; `Float32Module` keeps them so."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Always a ValueError that says how others load this class, see `hub.refuse_remote_code`."""
        refuse_remote_code(cls)

    def _upload_modified_files(self, working_dir: Any, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """Add what `push_to_hub` leaves out: the feature extractor, and in the card the lines that load the codec."""
        from ..feature_extraction import CodecFeatureExtractor
        from ..hub_card import complete_card

        # That of the checkpoint may level clips.
        source = self.name_or_path
        if source and (Path(source) / "preprocessor_config.json").is_file():
            extractor = CodecFeatureExtractor.from_pretrained(source)
        else:
            extractor = CodecFeatureExtractor(sampling_rate=self.config.sampling_rate)
        extractor.save_pretrained(working_dir)
        complete_card(Path(working_dir) / "README.md", self.weights_digest(), repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    @classmethod
    def _check_weights_are_there(cls, folder: Any, arguments: dict[str, Any]) -> None:
        """Refuse a checkpoint directory whose configuration states far more weights than its files hold.

        Raises:
            ValueError: it does, or a file is not complete; nothing has been allocated.
        """
        if not isinstance(folder, (str, os.PathLike)) or arguments.get("subfolder"):
            return
        files = list(Path(folder).glob("*.safetensors"))
        for path in files:
            try:
                safe_open(path, "pt")
            except Exception as error:  # SafetensorError, which derives from Exception alone
                raise ValueError(
                    f"{path} is not a complete safetensors file ({shortened(str(error), 200)}): copy or make it again."
                ) from error
        held = sum(path.stat().st_size for path in files)  # a byte a weight at least
        if not held or not (Path(folder) / "config.json").is_file():
            return
        config = arguments.get("config")
        if not isinstance(config, CodecConfig):
            known = {name: value for name, value in arguments.items() if name in CONFIG_BOUNDS}
            assert cls.config_class is not None
            config = cls.config_class.from_pretrained(folder, **known)
        with torch.device("meta"):
            network = cls(config)
            stated = sum(weight.numel() for weight in network.parameters())
        if stated > held + EXTRA_WEIGHTS:
            raise ValueError(
                f"{folder} has a configuration of {stated:,} weights and files of {held:,} bytes: give the files that "
                "belong together."
            )

    def post_init(self) -> None:
        """Finish the construction; weights that determine ids are in float32 where half precision is asked for."""
        super().post_init()
        for module in self.modules():
            if isinstance(module, Float32Module):
                module.float32_from_half()

    @property
    def dtype(self) -> torch.dtype:
        """Type of the decoder's weights and of decoded audio; the encoder is at least float32."""
        decoder = getattr(self, "decoder", self)
        return next(tensor.dtype for tensor in decoder.parameters() if tensor.is_floating_point())

    @property
    def encoder_dtype(self) -> torch.dtype:
        """Type of the encoder's weights."""
        encoder = getattr(self, "encoder", self)
        return next(tensor.dtype for tensor in encoder.parameters() if tensor.is_floating_point())

    @property
    def device(self) -> torch.device:
        """Device of the computations, also where weights are offloaded to memory or disk by accelerate."""
        device: torch.device = super().device
        if device.type == "meta":
            for module in self.modules():
                where = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
                if where is not None:
                    return torch.device(where)
        return device

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)):
            module.reset_parameters()
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def _weight_normed_layers(self) -> Iterator[nn.Module]:
        """Layers with weight normalization during training: by default, all convolutions."""
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                yield module

    def apply_weight_norm(self) -> None:
        """Split the weights of convolutional parts into magnitude and direction, for training (arXiv 1602.07868).

        Frozen weights are not split, so that they stay bit-identical.
        """
        for layer in list(self._weight_normed_layers()):
            if layer.weight.requires_grad:
                parametrizations.weight_norm(layer)

    def remove_weight_norm(self) -> None:
        """Join magnitudes and directions to plain weights, as stored in checkpoints."""
        for layer in list(self._weight_normed_layers()):
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight")

    def weights_digest(self) -> str:
        """SHA-256 (hexadecimal) of the names, shapes and float32 values of all weights; it identifies a tokenizer.

        The statistics of the decoder's time normalizations are not included.

        Raises:
            ValueError: Weights are offloaded.
        """
        return self._digest(sorted((dict(self.named_parameters()) | self._encoder_tensors()).items()))

    def encoder_digest(self) -> str:
        """SHA-256 of those tensors alone that determine ids, computed as in `weights_digest`."""
        return self._digest(sorted(self._encoder_tensors().items()))

    def _encoder_tensors(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.state_dict(keep_vars=True).items() if name.startswith(ENCODER)}

    @staticmethod
    def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
        """Digest of tensors in the order of their names."""
        digest = hashlib.sha256()
        for name, tensor in tensors:
            if tensor.is_meta:
                raise ValueError(
                    f"The weights of {name} are offloaded, so they have no digest here: load the model without "
                    "`device_map` or offloading."
                )
            values = tensor.detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{name} {list(values.shape)}\n".encode())
            digest.update(values.numpy().astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def id_digests(self) -> tuple[str, ...]:
        """Digests of all weights whose ids this model can decode, starting with its own.

        The others are `config.ids_of`, which counts only while the encoder has the digest `config.encoder_digest`.
        """
        others = self.config.ids_of if self.config.encoder_digest == self.encoder_digest() else ()
        return (self.weights_digest(), *others)
