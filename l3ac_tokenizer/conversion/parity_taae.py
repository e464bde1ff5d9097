"""Parity of TAAE with golden files of the published classes, on weights made by a rule.

A golden file holds audio, stages, latents, ids for several numbers of levels, residual ids and values, decoded audio.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from l3ac_tokenizer import TAAEModel
from l3ac_tokenizer.conversion.convert import convert_state_dicts
from l3ac_tokenizer.conversion.parity import STAGE_TOLERANCE, deterministic_state
from l3ac_tokenizer.modeling.span import WholeSpan

GOLDEN = ("taae-tiny", "taae-tiny-12hz5")
_RESIDUAL = re.compile(r"(\d)x(\d+)")


@dataclass
class TAAEParity:
    """Deviations of one preset from its golden file, each relative to the golden array's largest value."""

    preset: str
    arrays: dict[str, float] = field(default_factory=dict)
    ids: int = 0
    changed_ids: int = 0
    changed_away_from_boundary: int = 0

    def holds(self) -> bool:
        """All tolerances are kept."""
        return max(self.arrays.values()) <= STAGE_TOLERANCE and self.changed_away_from_boundary == 0

    def compare(self, name: str, ours: Tensor, theirs: Tensor) -> None:
        """Note the deviation of one array."""
        assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
        self.arrays[name] = float((ours - theirs).abs().max() / theirs.abs().max())


def use(model: TAAEModel, levels: str) -> None:
    """Quantise as a golden key says: `17`, `8-8-8-5-5-5`, or `2x5` for stages of five levels."""
    width = len(model.config.levels)
    stages = _RESIDUAL.fullmatch(levels)
    if stages is None:
        each = [int(level) for level in levels.split("-")]
        model.set_levels(each * width if len(each) == 1 else each)
    else:
        count, level = map(int, stages.groups())
        model.set_levels([(level - 1) ** count + 1] * width)
        model.decompose(count)


@torch.no_grad()
def compare(preset: str, golden: dict[str, Tensor]) -> TAAEParity:
    """Run our network on a golden file's audio and ids."""
    model = convert_state_dicts(preset, deterministic_state(preset, golden))
    assert isinstance(model, TAAEModel)
    parity = TAAEParity(preset)
    for clip in ("short", "long"):
        audio = golden[f"{clip}.audio_int16"].float()[None, None] / 32768
        if f"{clip}.encoder_conv" in golden:
            _compare_encoder(parity, model, golden, clip, audio)
        latents = model.encode(audio).latents
        parity.compare(f"{clip}.latents", latents[0], golden[f"{clip}.latents"])
        for key, theirs in golden.items():
            if key.startswith((f"{clip}.ids.", f"{clip}.residual_ids.")):
                _compare_ids(parity, model, golden, key, audio)
            elif key == f"{clip}.decoded.continuous":
                parity.compare(key, model.decode(latents=latents).audio_values[0, 0], theirs)
            elif key.startswith(f"{clip}.decoded."):
                use(model, key.rsplit(".", 1)[-1])
                ids = model.encode(audio).audio_codes
                parity.compare(key, model.decode(ids).audio_values[0, 0], theirs)
    use(model, "2x5")
    random = golden["random.residual_ids.2x5"].T[None]
    values = model.quantizer.ids_to_codes(model.quantizer.streams_to_ids(random))
    parity.compare("random.residual_values.2x5", values[0], golden["random.residual_values.2x5"])
    parity.compare("random.decoded.2x5", model.decode(random).audio_values[0, 0], golden["random.decoded.2x5"])
    if "short.decoder_conv" in golden:
        _compare_decoder(parity, model, golden)
    return parity


def _compare_ids(parity: TAAEParity, model: TAAEModel, golden: dict[str, Tensor], key: str, audio: Tensor) -> None:
    theirs, levels = golden[key], key.rsplit(".", 1)[-1]
    use(model, levels)
    encoded = model.encode(audio)
    theirs = theirs.reshape(len(theirs), -1).T[None]  # (1, K, N)
    changed = (encoded.audio_codes != theirs).any(dim=1)
    near = model.quantizer.near_boundary(encoded.latents)
    if "residual" in key:
        values = key.replace("residual_ids", "residual_values")
        codes = model.quantizer.ids_to_codes(model.quantizer.streams_to_ids(encoded.audio_codes))
        parity.compare(values, codes[0], golden[values])
    parity.ids += theirs.numel()
    parity.changed_ids += int(changed.sum())
    parity.changed_away_from_boundary += int((changed & ~near).sum())


def _compare_encoder(parity: TAAEParity, model: TAAEModel, golden: dict[str, Tensor], clip: str, audio: Tensor) -> None:
    encoder: Any = model.encoder
    every = 1 if clip == "short" else 4
    wave = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % model.config.hop_length)).transpose(1, 2)
    patches = wave.reshape(1, -1, model.config.patch_size)
    if f"{clip}.patches" in golden:
        parity.compare(f"{clip}.patches", patches[0, :8].T, golden[f"{clip}.patches"])
    x = encoder.from_patches(patches, WholeSpan())
    parity.compare(f"{clip}.encoder_conv", x[0].T[::every], golden[f"{clip}.encoder_conv"])
    for index, block in enumerate(encoder.blocks):
        x = block(x, WholeSpan())
        key = f"{clip}.encoder_block{index}"
        parity.compare(key, x[0].T[::every], golden[key])


def _compare_decoder(parity: TAAEParity, model: TAAEModel, golden: dict[str, Tensor]) -> None:
    use(model, "17")
    decoder: Any = model.decoder
    x = decoder.project(model.quantizer.ids_to_features(golden["short.ids.17"][None]), WholeSpan())
    parity.compare("short.decoder_conv", x[0].T, golden["short.decoder_conv"])
    for index, block in enumerate(decoder.blocks):
        x = block(x, WholeSpan())
        parity.compare(f"short.decoder_block{index}", x[0].T, golden[f"short.decoder_block{index}"])


def report_taae(folder: Path) -> int:
    """Print a table of the deviations from each golden file there is; 0 if every one holds, else 1."""
    print("\n| preset | largest deviation | of | ids | changed | holds |\n" + "|---" * 6 + "|")
    status = 0
    for preset in GOLDEN:
        path = folder / f"{preset}.safetensors"
        if not path.is_file():
            print(f"no golden file {path}", file=sys.stderr)
            status = 1
            continue
        parity = compare(preset, load_file(path))
        worst = max(parity.arrays, key=lambda name: parity.arrays[name])
        row = [preset, f"{parity.arrays[worst]:.1e}", worst, str(parity.ids), str(parity.changed_ids)]
        print("| " + " | ".join([*row, "yes" if parity.holds() else "NO"]) + " |", flush=True)
        status = status if parity.holds() else 1
    return status
