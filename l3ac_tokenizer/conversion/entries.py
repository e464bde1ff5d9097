"""Mapping of published tensors to parameters of our models, and the checks of a published state against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

NORMED = ("parametrizations.weight.original0", "parametrizations.weight.original1")
OLD_NORMED = ("weight_g", "weight_v")

StateDicts = Mapping[str, Mapping[str, Tensor]]
"""Published file → name → tensor."""


@dataclass(frozen=True)
class Entry:
    """Source of one parameter of ours: a published tensor, or several stacked.

    Attributes:
        module: Published file, without suffix.
        sources: Published names, without the parts in `normed`; several are stacked along the first axis.
        target: Name of our parameter.
        normed: Names of the magnitude g and the direction v if the sources are weight-normed layers. The tensor is then
            g·v/‖v‖, with the norm over all axes but the first.
    """

    module: str
    sources: tuple[str, ...]
    target: str
    normed: tuple[str, str] | None = None

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return the values of the parameter, with its sources stacked."""
        return torch.cat([self._effective(state, source) if self.normed else state[source] for source in self.sources])

    def _effective(self, state: Mapping[str, Tensor], layer: str) -> Tensor:
        assert self.normed
        magnitude, direction = (state[f"{layer}.{part}"].float() for part in self.normed)
        return torch._weight_norm(direction, magnitude, 0)


def layer(
    module: str, sources: tuple[str, ...], target: str, normed: tuple[str, str] = NORMED, bias: bool = True
) -> Iterator[Entry]:
    """Yield the entries of a weight-normed layer."""
    yield Entry(module, sources, f"{target}.weight", normed)
    if bias:
        yield Entry(module, tuple(f"{source}.bias" for source in sources), f"{target}.bias")


def plain(module: str, source: str, target: str, parts: tuple[str, ...] = ("weight", "bias")) -> Iterator[Entry]:
    """Yield the entries of a layer whose tensors are stored as in our model."""
    for part in parts:
        yield Entry(module, (f"{source}.{part}",), f"{target}.{part}")


@dataclass(frozen=True)
class Published:
    """Specification of the complete published state of one network.

    Attributes:
        entries: Source of each parameter of ours.
        shapes: File → name → shape of every required tensor.
        constants: File → name → optional tensor, which must have these values if it is present.
    """

    entries: list[Entry]
    shapes: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    constants: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def problems(self, given: StateDicts) -> list[str]:
        """Return a message for each missing, unknown or wrong key of a state; empty if the state fits."""
        problems = [f"unknown file {name!r}" for name in given if name not in self.shapes]
        for module, wanted in self.shapes.items():
            if module not in given:
                problems.append(f"missing file {module!r}")
                continue
            state, constants = given[module], self.constants.get(module, {})
            problems += [f"missing {module}.{name}" for name in wanted if name not in state]
            problems += [f"unknown {module}.{name}" for name in state if name not in wanted and name not in constants]
            shapes = wanted | {name: tuple(value.shape) for name, value in constants.items()}
            misshapen = {name for name in shapes if name in state and tuple(state[name].shape) != shapes[name]}
            problems += [
                f"{module}.{name} has shape {tuple(state[name].shape)} instead of {shapes[name]}"
                for name in sorted(misshapen)
            ]
            problems += [
                f"{module}.{name} holds other values than the constants of this network"
                for name, value in constants.items()
                if name in state and name not in misshapen and not torch.allclose(state[name].float(), value, rtol=1e-4)
            ]
        return problems

    @torch.no_grad()
    def load(self, model: nn.Module, state_dicts: StateDicts) -> None:
        """Copy a state without `problems` into the parameters of our model."""
        parameters = dict(model.named_parameters())
        for entry in self.entries:
            target = parameters.pop(entry.target)
            target.copy_(entry.read(state_dicts[entry.module]).reshape(target.shape))
        assert not parameters, f"no published tensor fills {sorted(parameters)}"


def shape_of_sources(entry: Entry, parameter: Tensor) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the published tensors of an entry, derived from our parameter."""
    shape = tuple(parameter.shape)
    each = (shape[0] // len(entry.sources), *shape[1:])
    if entry.normed is None:
        return {source: each for source in entry.sources}
    magnitude, direction = entry.normed
    of_magnitude = (each[0], *(1 for _ in each[1:]))
    return {f"{s}.{magnitude}": of_magnitude for s in entry.sources} | {f"{s}.{direction}": each for s in entry.sources}
