"""Published L3AC and SQCodec weights → a checkpoint directory of ours.

    python -m hf_integration.convert_checkpoint --preset l3ac-1k --weights FOLDER --output DIRECTORY
    python -m hf_integration.convert_checkpoint --verify REFERENCE_FOLDER

FOLDER holds the five published files `encoder`, `quantizer`, `decoder`, `en_encoder`, `en_decoder`, each `.pt`, `.pth`
(read with `weights_only=True`) or `.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from hf_integration.published_names import MODULES, entries, published_shapes
from l3ac_tokenizer import L3ACConfig, L3ACModel

StateDicts = Mapping[str, Mapping[str, Tensor]]


class ConversionError(ValueError):
    """The given state is not that of the preset's network."""


def convert_state_dicts(preset: str, state_dicts: StateDicts) -> L3ACModel:
    """Build our model from the published state.

    Args:
        preset: Name of a published network, e.g. `"l3ac-1k"`.
        state_dicts: File → name → tensor, for the five published files.

    Raises:
        ConversionError: A key is missing, unknown, or of another shape; all such keys are named.
        ValueError: There is no such preset.
    """
    config = L3ACConfig.from_preset(preset)
    model = L3ACModel(config).eval()
    _check(preset, published_shapes(config, model), state_dicts)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for entry in entries(config):
            state = state_dicts[entry.module]
            parts = [_effective(state, source) if entry.normed else state[source] for source in entry.sources]
            target = parameters.pop(entry.target)
            target.copy_(torch.cat(list(parts)).reshape(target.shape))
    assert not parameters, f"no published tensor goes to {sorted(parameters)}"
    return model


def _effective(state: Mapping[str, Tensor], layer: str) -> Tensor:
    """Weight g·v/‖v‖, the norm over all but the first axis."""
    magnitude = state[f"{layer}.parametrizations.weight.original0"]
    direction = state[f"{layer}.parametrizations.weight.original1"]
    return torch._weight_norm(direction.float(), magnitude.float(), 0)


def _check(preset: str, shapes: dict[str, dict[str, tuple[int, ...]]], state_dicts: StateDicts) -> None:
    problems = [f"unknown file {name!r}" for name in state_dicts if name not in shapes]
    for module in MODULES:
        if module not in state_dicts:
            problems.append(f"missing file {module!r}")
            continue
        given, wanted = state_dicts[module], shapes[module]
        problems += [f"missing {module}.{name}" for name in wanted if name not in given and name != "cache_token"]
        problems += [f"unknown {module}.{name}" for name in given if name not in wanted]
        problems += [
            f"{module}.{name} has shape {tuple(given[name].shape)} instead of {shape}"
            for name, shape in wanted.items()
            if name in given and tuple(given[name].shape) != shape
        ]
    if problems:
        raise ConversionError(f"These weights are not those of {preset}: {'; '.join(problems)}.")


def read_state_dicts(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Read the five published files of a folder without running any code in them.

    Raises:
        OSError: A file is missing or not a plain state dict.
    """
    state_dicts = {}
    for module in MODULES:
        found = [path for suffix in (".safetensors", ".pt", ".pth") if (path := folder / f"{module}{suffix}").is_file()]
        if not found:
            raise OSError(f"There is no {module}.safetensors, .pt or .pth in {folder}; all five files are needed.")
        try:
            if found[0].suffix == ".safetensors":
                state_dicts[module] = load_file(found[0])
            else:
                state_dicts[module] = torch.load(found[0], map_location="cpu", weights_only=True)
        except Exception as error:
            raise OSError(
                f"{found[0]} is not a plain file of tensors ({type(error).__name__}); nothing was run."
            ) from error
    return state_dicts


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Convert published L3AC or SQCodec weights.")
    parser.add_argument("--preset", help="published network, e.g. l3ac-1k")
    parser.add_argument("--weights", type=Path, help="folder with the five published files")
    parser.add_argument("--output", type=Path, help="directory to write")
    parser.add_argument("--verify", type=Path, metavar="REFERENCE", help="report the deviation from golden files")
    options = parser.parse_args(arguments)
    if options.verify is not None:
        from hf_integration.verify import report

        return report(options.verify)
    if not (options.preset and options.weights and options.output):
        parser.error("give --preset, --weights and --output, or --verify")
    try:
        model = convert_state_dicts(options.preset, read_state_dicts(options.weights))
        from l3ac_tokenizer import L3ACFeatureExtractor

        model.save_pretrained(options.output)
        L3ACFeatureExtractor(sampling_rate=model.config.sampling_rate).save_pretrained(options.output)
    except (OSError, ValueError) as error:
        print(f"convert_checkpoint: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {options.preset}, weights digest {model.weights_digest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
