"""The codec as it is trained, weight-normed and its latents whitened, and the way back to a plain model."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel

from ..families import preset_config
from ..modeling import CodecModel
from ..modeling.pretrained import ENCODER
from .config import ConfigError, TrainingConfig, network_fields
from .whitening import Whitened

logger = logging.getLogger(__name__)


class TrainableCodec(nn.Module):
    """A codec under training; its forward gives plain tensors, which suits compilers and wrappers.

    Args:
        model: The published network, which becomes the one that is trained.
        whiten: Whiten its latents.
        frozen_encoder: Train what follows the ids alone, on the ids of evaluation; nothing is whitened.
        weight_norm: Split the weights of convolutions in magnitude and direction.
    """

    def __init__(self, model: CodecModel, *, whiten: bool, frozen_encoder: bool = False, weight_norm: bool = True):
        super().__init__()
        self.model = model
        self.frozen_encoder = frozen_encoder
        self.weight_norm = weight_norm
        self._split_weights(model)
        if whiten and not frozen_encoder:
            quantizer = model.quantizer
            quantizer.project_in = Whitened(quantizer.project_in, len(quantizer.levels))  # type: ignore[assignment]

    def _split_weights(self, model: CodecModel) -> None:
        if self.frozen_encoder:
            for name, parameter in model.named_parameters():
                if name.startswith(ENCODER):
                    parameter.requires_grad_(False)
        if self.weight_norm:
            model.apply_weight_norm()

    def like(self) -> TrainableCodec:
        """Another one of the same structure, with weights of its own."""
        model = type(self.model)(self.model.config)
        return TrainableCodec(
            model,
            whiten=self.whitening is not None,
            frozen_encoder=self.frozen_encoder,
            weight_norm=self.weight_norm,
        )

    @property
    def whitening(self) -> Whitened | None:
        """The whitening of the latents, where there is one."""
        projection = self.model.quantizer.project_in
        return projection if isinstance(projection, Whitened) else None

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, T) audio to reconstruction (B, T), ids (B, N), latents (B, N, 6)."""
        if self.frozen_encoder:
            # Not under autocast, nor with noise: the decoder is to learn from the ids that it will get.
            with torch.no_grad(), torch.autocast(samples.device.type, enabled=False):
                encoded = self.model.encode(samples)
            codes, latents = encoded.audio_codes, encoded.latents
            audio = self.model.decode(codes, num_samples=samples.shape[-1]).audio_values
        else:
            output = self.model(samples)
            audio, codes, latents = output.audio_values, output.audio_codes, output.latents
        return audio.squeeze(1), self.model.quantizer.codebooks_to_ids(codes), latents

    def plain_state(self) -> dict[str, Tensor]:
        """State of the published network: weight norm and whitening folded in, float32."""
        plain = type(self.model)(self.model.config)
        self._split_weights(plain)
        state = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        norm, prefix = self.whitening, "quantizer.project_in."
        if norm is not None:
            own = {prefix + name for name, _ in norm.named_buffers(recurse=False)}
            state = {
                name.replace(f"{prefix}linear.", prefix): tensor for name, tensor in state.items() if name not in own
            }
        plain.load_state_dict(state)
        plain.remove_weight_norm()
        if norm is not None:
            norm.fold_into(plain.latent_layer)
        return plain.state_dict()


def build_codec(config: TrainingConfig) -> TrainableCodec:
    """The codec of `config` with fresh or given weights, seeded.

    Raises:
        ConfigError: `frozen_encoder`, but the encoder of `init_from` is another one.
    """
    torch.manual_seed(config.seed)
    model = AutoModel.from_config(preset_config(config.preset, **config.model))
    if config.init_from is not None:
        load_fitting(model, config.init_from)
        if config.frozen_encoder:
            _keep_ids(model, config.init_from)
    else:
        _initialise(model, config)
    return TrainableCodec(
        model,
        whiten=config.whiten_latents,
        frozen_encoder=config.frozen_encoder,
        weight_norm=config.weight_norm,
    )


def _keep_ids(model: CodecModel, source: str) -> None:
    """Say in the model's configuration that its ids are those of the codec `source`, whose encoder it has."""
    given = CodecModel.from_pretrained(source)
    fields = {"model_type", *network_fields(type(model.config))} - {"noise_probability", "training_levels"}
    for name in sorted(field for field in fields if not field.startswith("decoder_")):
        values = [getattr(config, name, None) for config in (model.config, given.config)]
        ours, theirs = (list(value) if isinstance(value, tuple) else value for value in values)
        if ours != theirs:
            raise ConfigError(
                f"frozen_encoder: {name} is {ours} and that of {source} is {theirs}; only the decoder can differ."
            )
    model.config.ids_of = list(given.id_digests())
    model.config.encoder_digest = given.encoder_digest()


@torch.no_grad()
def _initialise(model: CodecModel, config: TrainingConfig) -> None:
    """Change the default initial weights as the configuration says."""
    model.decoder.output_layer.weight.mul_(config.output_gain)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and "position_bias" not in name and not name.startswith("quantizer"):
            parameter.mul_(config.bias_gain)


def load_fitting(model: CodecModel, source: str | Path) -> list[str]:
    """Copy every tensor of a checkpoint whose name and shape the model has; log and return those it lacks.

    `source` is a bundled name or a checkpoint directory. The list holds the model's tensors that keep their
    initial values.
    """
    given = CodecModel.from_pretrained(source).state_dict()
    own = model.state_dict()
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
    missing = sorted(set(own) - set(fitting))
    logger.info("%d of %d tensors taken from %s", len(fitting), len(own), source)
    for name in missing:
        logger.info("not taken, keeps its initial value: %s", name)
    return missing
