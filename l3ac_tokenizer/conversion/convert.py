"""Strict conversion of published state dicts to our models and checkpoint directories."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import AutoModel

from ..configuration import CodecConfig, L3ACConfig
from ..configuration_taae import TAAEConfig
from ..families import published_config
from ..feature_extraction import CodecFeatureExtractor
from ..modeling import CodecModel
from . import l3ac_names, taae_names
from .entries import Published, StateDicts
from .reading import ConversionError, read_state_dicts


def convert_checkpoint(source: Path, preset: str, output: Path) -> str:
    """Write the checkpoint directory `output` from the published files in the folder `source`.

    Returns:
        The digest of the weights.

    Raises:
        ConversionError: The files hold the weights of another network than `preset`.
        ValueError: `preset` is not a preset with published weights.
        OSError: A file is missing, is not a plain state dict, or `output` cannot be written.
    """
    model = convert_state_dicts(preset, read_state_dicts(source, preset))
    model.save_pretrained(output)
    lufs = taae_names.LEVEL_LUFS if isinstance(model.config, TAAEConfig) else None
    CodecFeatureExtractor(sampling_rate=model.config.sampling_rate, level_lufs=lufs).save_pretrained(output)
    return model.weights_digest()


def convert_state_dicts(preset: str, state_dicts: StateDicts) -> CodecModel:
    """Build our model from published state dicts.

    Args:
        preset: Name of a published network, e.g. `"l3ac-1k"`.
        state_dicts: File → name → tensor: five files for L3AC and SQCodec, the single file `model` for TAAE.

    Raises:
        ConversionError: Keys are missing, unknown, of the wrong shape, or differ from their required constant; the
            message names all of them.
        ValueError: `preset` is not a preset with published weights.
    """
    config = published_config(preset)
    model = AutoModel.from_config(config).eval()
    published = published_state(config, model)
    problems = published.problems(state_dicts)
    if problems:
        raise ConversionError(
            f"The weights do not fit {preset}: {'; '.join(problems)}; give the preset that they belong to."
        )
    published.load(model, state_dicts)
    return model


def published_state(config: CodecConfig, model: nn.Module) -> Published:
    """Return the published tensors of a network and the parameters of `model` that they fill."""
    if isinstance(config, TAAEConfig):
        return taae_names.published(config, model)
    assert isinstance(config, L3ACConfig)
    return l3ac_names.published(config, model)
