"""The codec as it is trained, weight-normed and its latents whitened, and the way back to a plain model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from ..families import preset_config
from ..modeling import CodecModel, L3ACModel
from ..modeling.l3ac.spectral import MEL_BANDS, SpectralAnalysis
from ..modeling.span import WholeSpan
from .config import ConfigError, TrainingConfig, network_fields
from .whitening import Whitened

logger = logging.getLogger(__name__)

HEAD_FILE = "head.safetensors"
"""Beside a checkpoint: the spectral head, for the stages that go on from there."""

STAGES = {
    "tokens": ("encoder.", "quantizer.", "decoder.transformer."),
    "distill": ("encoder.convolutions.",),
    "encode": ("encoder.", "quantizer.", "decoder.transformer."),
    "decode": ("quantizer.project_out.", "decoder."),
    "joint": ("",),
}
"""Stage → name prefixes of the parameters of the model that it trains.

- `tokens`: log-mels → ids → log-mels; no waveform is made.
- `distill`: the convolutional encoder learns the features and latents of a finished `tokens` run, the teacher.
- `encode`: as `tokens`, with an encoder of either kind.
- `decode`: the decoder alone, on ids that stay.
- `joint`: everything, end to end.
"""

MEL_STAGES = ("tokens", "distill", "encode")
"""With a spectral head, which `distill` passes on as it is."""

WITH_WAVEFORM = ("decode", "joint")

KEEPS_LATENTS = ("decode", "distill")
"""Stages in which the latents' scale is given."""


class Prediction(NamedTuple):
    """The codec's answer to a micro-batch; the stage decides what there is of it."""

    ids: Tensor
    """(B, N)."""
    latents: Tensor
    """(B, N, L)."""
    audio: Tensor | None = None
    """Reconstruction (B, T)."""
    log_mels: Tensor | None = None
    """Of the spectral head (B, J, M), log10 of power."""
    features: Tensor | None = None
    """In front of the encoder's transformers (B, J, D)."""


class SpectralHead(nn.Module):
    """Features behind the decoder's transformers (B, J, D) → both log-mels (B, J, M); in training and scoring only."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, MEL_BANDS)

    def forward(self, features: Tensor) -> Tensor:
        """(B, J, D) → (B, J, M), log10 of power."""
        return self.project(self.norm(features))


class TrainableCodec(nn.Module):
    """A codec under training; its forward gives plain tensors, which suits compilers and wrappers.

    Args:
        model: The network that is trained.
        stage: Decides what is trained, and what forward gives, see `STAGES`.
        whiten: Whiten its latents, in stages that train the encoder.
        weight_norm: Split the weights of convolutions in magnitude and direction.
    """

    def __init__(self, model: CodecModel, *, stage: str = "joint", whiten: bool, weight_norm: bool = True):
        super().__init__()
        self.model = model
        self.stage = stage
        self.weight_norm = weight_norm
        self.head = SpectralHead(model.config.feature_dim) if stage in MEL_STAGES else None
        if stage == "distill" and self.head is not None:
            self.head.requires_grad_(False)  # goes on to the next stage as it is
        self._split_weights(model)
        if whiten and stage not in KEEPS_LATENTS:
            quantizer = model.quantizer
            quantizer.project_in = Whitened(quantizer.project_in, len(quantizer.levels))  # type: ignore[assignment]

    def _split_weights(self, model: CodecModel) -> None:
        trained = STAGES[self.stage]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(trained))
        if self.weight_norm:
            model.apply_weight_norm()

    def like(self) -> TrainableCodec:
        """Another one of the same structure, with weights of its own."""
        model = type(self.model)(self.model.config)
        return TrainableCodec(model, stage=self.stage, whiten=self.whitening is not None, weight_norm=self.weight_norm)

    @property
    def whitening(self) -> Whitened | None:
        """The whitening of the latents, where there is one."""
        projection = self.model.quantizer.project_in
        return projection if isinstance(projection, Whitened) else None

    def forward(self, samples: Tensor) -> Prediction:
        """(B, 1, T) audio, T a multiple of the hop in stages without a waveform."""
        if self.stage == "joint":
            output = self.model(samples)
            ids = self.model.quantizer.codebooks_to_ids(output.audio_codes)
            return Prediction(ids, output.latents, audio=output.audio_values.squeeze(1))
        if self.stage == "decode":
            # Not under autocast, nor with noise: the decoder is to learn from the ids that it will get.
            with torch.no_grad(), torch.autocast(samples.device.type, enabled=False):
                encoded = self.model.encode(samples)
            audio = self.model.decode(encoded.audio_codes, num_samples=samples.shape[-1]).audio_values
            ids = self.model.quantizer.codebooks_to_ids(encoded.audio_codes)
            return Prediction(ids, encoded.latents, audio=audio.squeeze(1))
        return self._without_waveform(samples)

    def _without_waveform(self, samples: Tensor) -> Prediction:
        encoder, quantizer = self.model.encoder, self.model.quantizer
        span = WholeSpan()
        features = encoder.front_end(samples.transpose(1, 2), span)  # type: ignore[attr-defined]
        latents = quantizer.project_in(encoder.transformer(features, span))  # type: ignore[attr-defined]
        ids = quantizer.latents_to_ids(latents.detach())
        if self.stage == "distill":
            return Prediction(ids, latents, features=features)
        decoded = self.model.decoder.transformer(  # type: ignore[attr-defined]
            quantizer.straight_through(latents).to(features.dtype), WholeSpan()
        )
        assert self.head is not None
        return Prediction(ids, latents, log_mels=self.head(decoded))

    @torch.no_grad()
    def standardize(self, samples: Tensor) -> None:
        """Take the means and deviations of the spectral analysis, where there is one, over audio (B, 1, T)."""
        front_end = getattr(self.model.encoder, "front_end", None)
        if isinstance(front_end, SpectralAnalysis):
            mels = front_end.log_mels(samples.transpose(1, 2), WholeSpan()).flatten(0, 1)
            front_end.mean.copy_(mels.mean(0))
            front_end.std.copy_(mels.std(0).clamp_min(1e-3))

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
        ConfigError: The stage lacks what it starts from, the encoder of `init_from` is another one than that of a
            decoder in training, or the network has not the parts that the stage is about.
    """
    torch.manual_seed(config.seed)
    model = AutoModel.from_config(preset_config(config.preset, **config.model))
    if config.stage != "joint" and not isinstance(model, L3ACModel):
        raise ConfigError(f"stage {config.stage} is for networks of the L3AC family; {config.preset} is of another.")
    if config.stage == "tokens" and model.config.analysis != "spectral":
        raise ConfigError("stage tokens has no convolutional encoder: set model.analysis to spectral.")
    if config.stage == "decode" and config.init_from is None:
        raise ConfigError("stage decode needs init_from: the codec whose ids are to stay as they are.")
    if config.stage == "distill" and config.teacher is None:
        raise ConfigError("stage distill needs teacher: the checkpoint of a finished tokens run.")
    if config.init_from is not None:
        load_fitting(model, config.init_from)
        if config.stage == "decode":
            _keep_ids(model, config.init_from)
    else:
        _initialize(model, config)
    codec = TrainableCodec(model, stage=config.stage, whiten=config.whiten_latents, weight_norm=config.weight_norm)
    if codec.head is not None and config.init_from is not None:
        load_head(codec.head, config.init_from)
    return codec


def load_head(head: SpectralHead, source: str | Path) -> None:
    """Take up the spectral head that a stage left beside the checkpoint, if there is one."""
    path = Path(source) / HEAD_FILE
    if path.is_file():
        head.load_state_dict(load_file(path))
        logger.info("the spectral head is that of %s", path)


def _keep_ids(model: CodecModel, source: str) -> None:
    """Say in the model's configuration that its ids are those of the codec `source`, whose encoder it has."""
    given = CodecModel.from_pretrained(source)
    fields = {"model_type", *network_fields(type(model.config))} - {"noise_probability", "training_levels"}
    for name in sorted(field for field in fields if not field.startswith("decoder_")):
        values = [getattr(config, name, None) for config in (model.config, given.config)]
        ours, theirs = (list(value) if isinstance(value, tuple) else value for value in values)
        if ours != theirs:
            raise ConfigError(
                f"stage decode: {name} is {ours} and that of {source} is {theirs}; only the decoder can differ."
            )
    model.config.ids_of = list(given.id_digests())
    model.config.encoder_digest = given.encoder_digest()


@torch.no_grad()
def _initialize(model: CodecModel, config: TrainingConfig) -> None:
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
