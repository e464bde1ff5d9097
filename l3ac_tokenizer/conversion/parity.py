"""Parity with golden files of the published networks, on weights made by a rule.

A golden file `<preset>.safetensors` holds audio, ids, latents, stages and decoded audio of the published code; the
weights behind it are normal numbers seeded by the CRC-32 of each tensor's name.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

from l3ac_tokenizer import preset_config
from l3ac_tokenizer.conversion.convert import convert_state_dicts, published_state
from l3ac_tokenizer.modeling.span import WholeSpan
from l3ac_tokenizer.presets import L3AC_PRESETS, TAAE_PRESETS

STAGE_TOLERANCE = 1e-4
DECODED_RMS, DECODED_MAX, PUBLISHED_MAX = 1e-4, 5e-4, 2e-2


def deterministic_tensor(name: str, shape: tuple[int, ...], gamma_mean: float = 0.0) -> Tensor:
    """The rule's values for a published tensor; `name` is `preset/module.name`, or `preset/name` for TAAE.

    `gamma` is a small deviation in L3AC (mean 0) and the scale of a norm in TAAE (mean 1).
    """
    seed = zlib.crc32(name.encode())
    u = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    part = name.rsplit(".", 1)[-1]
    if part in ("original0", "weight_g") or (part == "weight" and len(shape) == 1):
        values = 1 + 0.1 * u
    elif part in ("original1", "weight_v"):
        values = u
    elif part == "scale":
        values = 0.3 + 0.1 * u
    elif part == "alpha":
        values = np.exp(0.3 * u)
    elif part == "gamma":
        values = 1 + 0.1 * u if gamma_mean else 0.2 * u
    elif part in ("beta", "bias"):
        values = 0.05 * u
    elif name.endswith("dynamic_pos_bias.mlp.0.weight"):
        values = 0.02 * u
    else:
        values = u / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values)).float()


def deterministic_state(preset: str, golden: dict[str, Tensor] | None = None) -> dict[str, dict[str, Tensor]]:
    """A whole published state by the rule, with the golden file's `override.*` tensors in place."""
    config = preset_config(preset)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    published = published_state(config, model)
    of_taae = preset in TAAE_PRESETS
    state = {
        module: {
            name: deterministic_tensor(f"{preset}/{name}" if of_taae else f"{preset}/{module}.{name}", shape, of_taae)
            for name, shape in names.items()
        }
        | published.constants.get(module, {})
        for module, names in published.shapes.items()
    }
    for key, value in (golden or {}).items():
        if key.startswith("override."):
            place = key.removeprefix("override.")
            module, name = ("model", place) if of_taae else place.split(".", 1)
            state[module][name] = value
    return state


@dataclass
class Parity:
    """Deviations of one preset from its golden file; stages relative to the golden array's largest value."""

    preset: str
    stages: dict[str, float] = field(default_factory=dict)
    decoded_rms: float = 0.0
    decoded_max: float = 0.0
    published_max: float = 0.0
    ids: int = 0
    changed_ids: int = 0
    changed_away_from_boundary: int = 0
    frames_near_boundary: int = 0

    def holds(self) -> bool:
        """All tolerances are kept."""
        return (
            all(value <= STAGE_TOLERANCE for value in self.stages.values())
            and self.decoded_rms <= DECODED_RMS
            and self.decoded_max <= DECODED_MAX
            and self.published_max <= PUBLISHED_MAX
            and self.changed_away_from_boundary == 0
        )


@torch.no_grad()
def compare(preset: str, golden: dict[str, Tensor]) -> Parity:
    """Run our network on a golden file's audio and ids."""
    model = convert_state_dicts(preset, deterministic_state(preset, golden))
    hop = model.config.hop_length
    parity = Parity(preset)

    def relative(name: str, ours: Tensor, theirs: Tensor) -> None:
        deviation = float((ours - theirs).abs().max() / theirs.abs().max())
        parity.stages[name] = max(parity.stages.get(name, 0.0), deviation)

    for clip in ("short", "long"):
        audio = golden[f"{clip}.audio_int16"].float()[None, None] / 32768
        count = -(-audio.shape[-1] // hop)
        ids = golden[f"{clip}.ids"].long()
        encoded = model.encode(audio)
        latents = encoded.latents[0]
        changed = encoded.audio_codes[0, 0] != ids[:count]
        boundary = model.quantizer.near_boundary(latents)
        parity.ids += count
        parity.changed_ids += int(changed.sum())
        parity.changed_away_from_boundary += int((changed & ~boundary).sum())
        parity.frames_near_boundary += int(boundary.sum())
        every = 1 if clip == "short" else 3
        wanted = golden[f"{clip}.latents"]
        ours = latents[::every]
        rows = min(len(ours), len(wanted))
        relative("latents", ours[:rows], wanted[:rows])
        if f"{clip}.encoder_features" in golden:
            _compare_stages(model, golden, clip, audio, ids, relative)
        decoded = model.decode(ids[None, None]).audio_values[0, 0]
        exact, published = golden[f"{clip}.decoded"], golden[f"{clip}.decoded_published"]
        step = 1 if len(exact) == len(decoded) else 7
        difference = decoded[::step] - exact
        parity.decoded_rms = max(parity.decoded_rms, float(difference.square().mean().sqrt()))
        parity.decoded_max = max(parity.decoded_max, float(difference.abs().max()))
        parity.published_max = max(parity.published_max, float((decoded[::7] - published).abs().max()))
    return parity


def _compare_stages(model, golden, clip, audio, ids, relative) -> None:
    config = model.config
    count = -(-audio.shape[-1] // config.hop_length)
    padded = int(model._padded_frames(count)) * config.hop_length
    wave = torch.nn.functional.pad(audio, (0, padded - audio.shape[-1])).transpose(1, 2)
    features = model.encoder.convolutions(wave, WholeSpan())
    wanted = golden[f"{clip}.encoder_features"].T
    relative("encoder_features", features[0, : len(wanted)], wanted)
    wanted = golden[f"{clip}.encoder_transformer"]
    relative("encoder_transformer", model.encoder.transformer(features, WholeSpan())[0, : len(wanted)], wanted)
    columns = model.decoder.transformer(model.quantizer.ids_to_features(ids[None]), WholeSpan())
    wanted = golden[f"{clip}.decoder_transformer"].T
    relative("decoder_transformer", columns[0, : len(wanted)], wanted)


def report(folder: Path) -> int:
    """Print a table of the largest deviations of L3AC and SQCodec; 0 if every preset holds, else 1."""
    names = ("encoder_features", "encoder_transformer", "latents", "decoder_transformer")
    print("Largest deviation from the golden files (stages relative to the array's largest value)\n")
    header = [
        "preset",
        *names,
        "decoded rms",
        "decoded max",
        "published max",
        "ids",
        "changed",
        "near boundary",
        "holds",
    ]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    status = 0
    for preset in L3AC_PRESETS:
        path = folder / f"{preset}.safetensors"
        if not path.is_file():
            print(f"no golden file {path}", file=sys.stderr)
            status = 1
            continue
        parity = compare(preset, load_file(path))
        stages = [f"{parity.stages[name]:.1e}" if name in parity.stages else "-" for name in names]
        row = [
            preset,
            *stages,
            *(f"{value:.1e}" for value in (parity.decoded_rms, parity.decoded_max, parity.published_max)),
            *(str(value) for value in (parity.ids, parity.changed_ids, parity.frames_near_boundary)),
            "yes" if parity.holds() else "NO",
        ]
        print("| " + " | ".join(row) + " |", flush=True)
        status = status if parity.holds() else 1
    return status
