"""The codec in its training form, with weight norm and whitened latents, and its conversion to a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from ..families import preset_config
from ..hub import resolve
from ..logs import get_logger
from ..modeling import CodecModel, L3ACModel
from ..modeling.l3ac.spectral import MEL_BANDS, SpectralAnalysis
from ..modeling.span import WholeSpan
from .config import ConfigError, TrainingConfig, network_fields
from .stages import FIXED_LATENTS, MEL_STAGES, STAGES
from .whitening import Whitened

logger = get_logger(__name__)

HEAD_FILE = "head.safetensors"
"""The spectral head in a checkpoint directory, from which later stages continue."""


class Prediction(NamedTuple):
    """Output of the codec for a micro-batch; the optional parts depend on the stage."""

    ids: Tensor
    """(B, N)."""
    latents: Tensor
    """(B, N, L)."""
    audio: Tensor | None = None
    """Reconstruction (B, T)."""
    log_mels: Tensor | None = None
    """Output of the spectral head (B, J, M), log10 of power."""
    features: Tensor | None = None
    """Input of the encoder's transformers (B, J, D)."""


class SpectralHead(nn.Module):
    """Output of the decoder's transformers (B, J, D) → both log-mels (B, J, M); for training and scores only."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, MEL_BANDS)

    def forward(self, features: Tensor) -> Tensor:
        """(B, J, D) → (B, J, M), log10 of power."""
        return self.project(self.norm(features))


class TrainableCodec(nn.Module):
    """A codec in training; forward returns plain tensors, as compilers and wrappers expect.

    Args:
        model: The network to train.
        stage: Determines which parameters are trained and what forward returns, see `STAGES`.
        whiten: Whiten the latents in stages that may change their scale.
        weight_norm: Split the weights of convolutions into magnitude and direction.
    """

    def __init__(self, model: CodecModel, *, stage: str = "joint", whiten: bool, weight_norm: bool = True):
        super().__init__()
        self.model = model
        self.stage = stage
        self.weight_norm = weight_norm
        self.head = SpectralHead(model.config.feature_dim) if stage in MEL_STAGES else None
        if stage == "distill" and self.head is not None:
            self.head.requires_grad_(False)
        self._split_weights(model)
        if whiten and stage not in FIXED_LATENTS:
            quantizer = model.quantizer
            quantizer.project_in = Whitened(quantizer.project_in, len(quantizer.levels))  # type: ignore[assignment]

    def _split_weights(self, model: CodecModel) -> None:
        """Freeze what the stage does not train, and apply weight norm to the rest."""
        trained = STAGES[self.stage]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(trained))
        if self.weight_norm:
            model.apply_weight_norm()

    def like(self) -> TrainableCodec:
        """A codec of the same structure with new weights."""
        model = type(self.model)(self.model.config)
        return TrainableCodec(model, stage=self.stage, whiten=self.whitening is not None, weight_norm=self.weight_norm)

    @property
    def whitening(self) -> Whitened | None:
        """The whitening of the latents, if any."""
        projection = self.model.quantizer.project_in
        return projection if isinstance(projection, Whitened) else None

    def forward(self, samples: Tensor) -> Prediction:
        """Audio (B, 1, T) → prediction; in `MEL_STAGES` T must be a multiple of the hop."""
        if self.stage == "joint":
            output = self.model(samples)
            ids = self.model.quantizer.codebooks_to_ids(output.audio_codes)
            return Prediction(ids, output.latents, audio=output.audio_values.squeeze(1))
        if self.stage == "decode":
            # Without autocast and noise, so that the decoder learns from the ids it will get.
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

    @property
    def unstandardized(self) -> SpectralAnalysis | None:
        """The spectral analysis that this stage trains, if its means and standard deviations are still to be set."""
        analysis = getattr(self.model.encoder, "analysis", None)
        return (
            analysis if analysis is not None and self.stage not in FIXED_LATENTS and not analysis.mean.any() else None
        )

    @torch.no_grad()
    def standardize(self, samples: Tensor) -> None:
        """Set the means and standard deviations of an `unstandardized` analysis to those of audio (B, 1, T)."""
        analysis = self.unstandardized
        if analysis is not None:
            mels = analysis.log_mels(samples.transpose(1, 2), WholeSpan()).flatten(0, 1)
            analysis.mean.copy_(mels.mean(0))
            analysis.std.copy_(mels.std(0).clamp_min(1e-3))

    def plain_state(self) -> dict[str, Tensor]:
        """State of the plain network in float32, with weight norm and whitening folded in."""
        plain = type(self.model)(self.model.config)
        self._split_weights(plain)
        state = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        whitening, prefix = self.whitening, "quantizer.project_in."
        if whitening is not None:
            own = {prefix + name for name, _ in whitening.named_buffers(recurse=False)}
            state = {
                name.replace(f"{prefix}linear.", prefix): tensor for name, tensor in state.items() if name not in own
            }
        plain.load_state_dict(state)
        plain.remove_weight_norm()
        if whitening is not None:
            whitening.fold_into(plain.latent_layer)
        return plain.state_dict()


def build_codec(config: TrainingConfig) -> TrainableCodec:
    """The codec of `config`, with seeded random weights or those of `init_from`.

    Raises:
        ConfigError: The stage lacks `init_from` or `teacher`, the network has no part that the stage trains, or, in
            stage `decode`, the encoder differs from that of `init_from`.
    """
    torch.manual_seed(config.seed)
    model = AutoModel.from_config(preset_config(config.preset, **config.model))
    if config.stage != "joint" and not isinstance(model, L3ACModel):
        raise ConfigError(
            f"Stage {config.stage} is for networks of the L3AC family, and {config.preset} is not: use joint."
        )
    if config.stage == "tokens" and model.config.analysis != "spectral":
        raise ConfigError(
            "Stage tokens trains a spectral analysis: set model.analysis to spectral, or use stage encode."
        )
    if config.stage == "distill" and model.config.analysis != "waveform":
        raise ConfigError("Stage distill trains a convolutional encoder: set model.analysis to waveform.")
    if config.stage == "distill" and config.teacher is None:
        raise ConfigError("Stage distill needs a teacher: set teacher to the checkpoint of a finished tokens run.")
    if config.stage == "decode" and config.init_from is None:
        raise ConfigError("Stage decode needs a codec whose ids stay: set init_from to its name or checkpoint.")
    if config.init_from is not None:
        load_fitting(model, config.init_from)
        if config.stage == "decode":
            _keep_ids(model, config.init_from)
    else:
        _initialize(model, config)
    codec = TrainableCodec(model, stage=config.stage, whiten=config.whiten_latents, weight_norm=config.weight_norm)
    if codec.head is not None and config.init_from is not None:
        load_companion(codec.head, config.init_from, HEAD_FILE)
    return codec


def load_companion(network: nn.Module, source: str | Path, file: str) -> None:
    """Load a network that only training needs from the file beside the weights `source`, if it is there and fits."""
    path = Path(resolve(source)) / file
    if not path.is_file():
        return
    given, own = load_file(path), network.state_dict()
    if {name: tensor.shape for name, tensor in given.items()} != {name: tensor.shape for name, tensor in own.items()}:
        logger.warning("not taken, keeps its initial values: %s has another size than the configuration's", path)
        return
    network.load_state_dict(given)
    logger.info("taken: %s", path)


def _keep_ids(model: CodecModel, source: str) -> None:
    """Record in the model's configuration that its ids are those of the codec `source`, whose encoder it has."""
    given = CodecModel.from_pretrained(source)
    fields = {"model_type", *network_fields(type(model.config))} - {"noise_probability", "training_levels"}
    for name in sorted(field for field in fields if not field.startswith(("decoder_", "synthesis"))):
        values = [getattr(config, name, None) for config in (model.config, given.config)]
        ours, theirs = (list(value) if isinstance(value, tuple) else value for value in values)
        if ours != theirs:
            raise ConfigError(
                f"{name} is {ours} and that of {source} is {theirs}; in stage decode only the decoder can differ."
            )
    model.config.ids_of = list(given.id_digests())
    model.config.encoder_digest = given.encoder_digest()


@torch.no_grad()
def _initialize(model: CodecModel, config: TrainingConfig) -> None:
    """Scale the initial weights as configured."""
    model.decoder.output_layer.weight.mul_(config.output_gain)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and "position_bias" not in name and not name.startswith("quantizer"):
            parameter.mul_(config.bias_gain)


def load_fitting(model: CodecModel, source: str | Path) -> list[str]:
    """Copy every tensor whose name and shape fit from a bundled name or checkpoint directory.

    Returns:
        Names of the model's tensors that keep their initial values; they are logged as well.
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
