"""Parity with the published networks: stages, latents, ids and audio of our models compared with golden files.

A golden file `<preset>.safetensors` holds audio and the published code's results on it, computed with the weights of
`golden_weights`. That of TAAE has ids for several numbers of levels, and residual ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..modeling import CodecModel, L3ACModel, TAAEModel
from ..modeling.span import WholeSpan
from .convert import convert_state_dicts
from .golden_weights import deterministic_state

GOLDEN_L3AC = (
    "l3ac-0k75",
    "l3ac-1k",
    "l3ac-1k5",
    "l3ac-3k",
    "sqcodec-0k75",
    "sqcodec-1k5",
    "sqcodec-3k",
    "sqcodec-6k",
    "sqcodec-12k",
    "sqcodec-12k-24khz",
    "sqcodec-24k-24khz",
)
GOLDEN_TAAE = ("taae-tiny", "taae-tiny-12hz5")
GOLDEN = GOLDEN_L3AC + GOLDEN_TAAE
"""Presets that have a golden file."""

TOLERANCE = 1e-4
TOLERANCES = {"decoded_rms": 1e-4, "decoded_max": 5e-4, "published_max": 2e-2}
"""Largest permitted deviations: relative ones, and the absolute ones of L3AC's audio by name."""

_RESIDUAL = re.compile(r"(\d)x(\d+)")


@dataclass
class Parity:
    """Deviations of one preset from its golden file.

    Attributes:
        preset: Name of the network.
        deviations: Largest deviation of each array: relative to the golden array's largest value, or absolute for the
            names in `TOLERANCES`.
        ids: Number of ids compared.
        changed_ids: Number of frames whose ids differ.
        changed_away_from_boundary: Those of them that rounding noise does not explain.
        frames_near_boundary: Number of frames whose latents lie on a rounding boundary.
    """

    preset: str
    deviations: dict[str, float] = field(default_factory=dict)
    ids: int = 0
    changed_ids: int = 0
    changed_away_from_boundary: int = 0
    frames_near_boundary: int = 0

    def holds(self) -> bool:
        """Return whether everything is within its tolerance."""
        return self.deviations[self.worst()] <= tolerance(self.worst()) and self.changed_away_from_boundary == 0

    def worst(self) -> str:
        """Return the name of the array that comes closest to its tolerance, or exceeds it most."""
        return max(self.deviations, key=lambda name: self.deviations[name] / tolerance(name))

    def compare(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        """Record the relative deviation of an array."""
        assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
        self.record(name, (ours - theirs).abs().max() / theirs.abs().max())

    def record(self, name: str, deviation: Tensor) -> None:
        """Keep the largest deviation of each name."""
        self.deviations[name] = max(self.deviations.get(name, 0.0), float(deviation))

    def count_ids(self, changed: Tensor, near: Tensor, ids: int) -> None:
        """Count ids that changed, and frames near a rounding boundary; masks of equal shape."""
        self.ids += ids
        self.changed_ids += int(changed.sum())
        self.changed_away_from_boundary += int((changed & ~near).sum())
        self.frames_near_boundary += int(near.sum())


def tolerance(name: str) -> float:
    """Return the largest permitted deviation of an array."""
    return TOLERANCES.get(name, TOLERANCE)


def verify(folder: Path) -> Iterator[tuple[Path, Parity | None]]:
    """Yield each golden file expected in `folder` and the parity of its network, None if the file is missing."""
    for preset in GOLDEN:
        path = folder / f"{preset}.safetensors"
        yield path, compare(preset, load_file(path)) if path.is_file() else None


def compare(preset: str, golden: dict[str, Tensor]) -> Parity:
    """Run our network with the weights of a golden file on its audio and ids."""
    return compare_model(preset, convert_state_dicts(preset, deterministic_state(preset, golden)), golden)


@torch.no_grad()
def compare_model(preset: str, model: CodecModel, golden: dict[str, Tensor]) -> Parity:
    """Run a network that has the weights of a golden file on its audio and ids."""
    parity = Parity(preset)
    if isinstance(model, TAAEModel):
        _compare_taae(parity, model, golden)
    else:
        assert isinstance(model, L3ACModel)
        _compare_l3ac(parity, model, golden)
    return parity


def _audio(golden: dict[str, Tensor], clip: str) -> Tensor:
    """Audio (1, 1, T) of a golden clip."""
    return golden[f"{clip}.audio_int16"].float()[None, None] / 32768


def _compare_l3ac(parity: Parity, model: L3ACModel, golden: dict[str, Tensor]) -> None:
    for clip in ("short", "long"):
        audio = _audio(golden, clip)
        count = -(-audio.shape[-1] // model.config.hop_length)
        ids = golden[f"{clip}.ids"].long()
        encoded = model.encode(audio)
        latents = encoded.latents[0]
        changed = encoded.audio_codes[0, 0] != ids[:count]
        parity.count_ids(changed, model.quantizer.near_boundary(latents), count)
        wanted = golden[f"{clip}.latents"]
        ours = latents[:: 1 if clip == "short" else 3]
        rows = min(len(ours), len(wanted))
        parity.compare("latents", ours[:rows], wanted[:rows])
        if f"{clip}.encoder_features" in golden:
            _compare_l3ac_stages(parity, model, golden, clip, audio, ids)
        decoded = model.decode(ids[None, None]).audio_values[0, 0]
        exact, published = golden[f"{clip}.decoded"], golden[f"{clip}.decoded_published"]
        difference = decoded[:: 1 if len(exact) == len(decoded) else 7] - exact
        parity.record("decoded_rms", difference.square().mean().sqrt())
        parity.record("decoded_max", difference.abs().max())
        parity.record("published_max", (decoded[::7] - published).abs().max())


def _compare_l3ac_stages(
    parity: Parity, model: CodecModel, golden: dict[str, Tensor], clip: str, audio: Tensor, ids: Tensor
) -> None:
    encoder: Any = model.encoder
    decoder: Any = model.decoder
    hop = model.config.hop_length
    padded = int(model.padded_frames(-(-audio.shape[-1] // hop))) * hop
    wave = F.pad(audio, (0, padded - audio.shape[-1])).transpose(1, 2)
    features = encoder.convolutions(wave, WholeSpan())
    wanted = golden[f"{clip}.encoder_features"].T
    parity.compare("encoder_features", features[0, : len(wanted)], wanted)
    wanted = golden[f"{clip}.encoder_transformer"]
    parity.compare("encoder_transformer", encoder.transformer(features, WholeSpan())[0, : len(wanted)], wanted)
    steps = decoder.transformer(model.quantizer.ids_to_features(ids[None]), WholeSpan())
    wanted = golden[f"{clip}.decoder_transformer"].T
    parity.compare("decoder_transformer", steps[0, : len(wanted)], wanted)


def _compare_taae(parity: Parity, model: TAAEModel, golden: dict[str, Tensor]) -> None:
    for clip in ("short", "long"):
        audio = _audio(golden, clip)
        if f"{clip}.encoder_conv" in golden:
            _compare_taae_encoder(parity, model, golden, clip, audio)
        latents = model.encode(audio).latents
        parity.compare(f"{clip}.latents", latents[0], golden[f"{clip}.latents"])
        for key, theirs in golden.items():
            if key.startswith((f"{clip}.ids.", f"{clip}.residual_ids.")):
                _compare_taae_ids(parity, model, golden, key, audio)
            elif key == f"{clip}.decoded.continuous":
                parity.compare(key, model.decode(latents=latents).audio_values[0, 0], theirs)
            elif key.startswith(f"{clip}.decoded."):
                set_golden_levels(model, key.rsplit(".", 1)[-1])
                ids = model.encode(audio).audio_codes
                parity.compare(key, model.decode(ids).audio_values[0, 0], theirs)
    set_golden_levels(model, "2x5")
    random = golden["random.residual_ids.2x5"].T[None]
    values = model.quantizer.ids_to_values(model.quantizer.codebooks_to_ids(random))
    parity.compare("random.residual_values.2x5", values[0], golden["random.residual_values.2x5"])
    parity.compare("random.decoded.2x5", model.decode(random).audio_values[0, 0], golden["random.decoded.2x5"])
    if "short.decoder_conv" in golden:
        _compare_taae_decoder(parity, model, golden)


def set_golden_levels(model: TAAEModel, levels: str) -> None:
    """Set a model's levels to those of a golden key: `17`, `8-8-8-5-5-5`, or `2x5` for two stages of five levels."""
    width = len(model.config.levels)
    stages = _RESIDUAL.fullmatch(levels)
    if stages is None:
        each = [int(level) for level in levels.split("-")]
        model.set_levels(each * width if len(each) == 1 else each)
    else:
        count, level = map(int, stages.groups())
        model.set_levels([(level - 1) ** count + 1] * width)
        model.decompose(count)


def _compare_taae_ids(parity: Parity, model: TAAEModel, golden: dict[str, Tensor], key: str, audio: Tensor) -> None:
    theirs = golden[key]
    set_golden_levels(model, key.rsplit(".", 1)[-1])
    encoded = model.encode(audio)
    theirs = theirs.reshape(len(theirs), -1).T[None]  # (1, K, N)
    changed = (encoded.audio_codes != theirs).any(dim=1)
    if "residual" in key:
        name = key.replace("residual_ids", "residual_values")
        values = model.quantizer.ids_to_values(model.quantizer.codebooks_to_ids(encoded.audio_codes))
        parity.compare(name, values[0], golden[name])
    parity.count_ids(changed, model.quantizer.near_boundary(encoded.latents), theirs.numel())


def _compare_taae_encoder(
    parity: Parity, model: TAAEModel, golden: dict[str, Tensor], clip: str, audio: Tensor
) -> None:
    encoder: Any = model.encoder
    every = 1 if clip == "short" else 4
    wave = F.pad(audio, (0, -audio.shape[-1] % model.config.hop_length)).transpose(1, 2)
    patches = wave.reshape(1, -1, model.config.patch_size)
    if f"{clip}.patches" in golden:
        parity.compare(f"{clip}.patches", patches[0, :8].T, golden[f"{clip}.patches"])
    x = encoder.from_patches(patches, WholeSpan())
    parity.compare(f"{clip}.encoder_conv", x[0].T[::every], golden[f"{clip}.encoder_conv"])
    for index, block in enumerate(encoder.blocks):
        x = block(x, WholeSpan())
        key = f"{clip}.encoder_block{index}"
        parity.compare(key, x[0].T[::every], golden[key])


def _compare_taae_decoder(parity: Parity, model: TAAEModel, golden: dict[str, Tensor]) -> None:
    set_golden_levels(model, "17")
    decoder: Any = model.decoder
    x = decoder.project(model.quantizer.ids_to_features(golden["short.ids.17"][None]), WholeSpan())
    parity.compare("short.decoder_conv", x[0].T, golden["short.decoder_conv"])
    for index, block in enumerate(decoder.blocks):
        x = block(x, WholeSpan())
        parity.compare(f"short.decoder_block{index}", x[0].T, golden[f"short.decoder_block{index}"])
