"""What a family's table of published names is made of: entries, each for one parameter of ours."""

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
    """One published tensor set → one parameter of ours.

    Attributes:
        module: Published file.
        sources: Published names, without the parts in `normed`; several are stacked on the first axis.
        target: Our parameter's name.
        normed: Where the sources are weight-normed layers, what their magnitude g and direction v are called; the
            tensor is g·v/‖v‖, the norm over all but the first axis.
    """

    module: str
    sources: tuple[str, ...]
    target: str
    normed: tuple[str, str] | None = None

    def read(self, state: Mapping[str, Tensor]) -> Tensor:
        """The parameter's values, sources stacked."""
        return torch.cat([self._effective(state, source) if self.normed else state[source] for source in self.sources])

    def _effective(self, state: Mapping[str, Tensor], layer: str) -> Tensor:
        assert self.normed
        magnitude, direction = (state[f"{layer}.{part}"].float() for part in self.normed)
        return torch._weight_norm(direction, magnitude, 0)


def layer(
    module: str, sources: tuple[str, ...], target: str, normed: tuple[str, str] = NORMED, bias: bool = True
) -> Iterator[Entry]:
    """A weight-normed layer."""
    yield Entry(module, sources, f"{target}.weight", normed)
    if bias:
        yield Entry(module, tuple(f"{source}.bias" for source in sources), f"{target}.bias")


def plain(module: str, source: str, target: str, parts: tuple[str, ...] = ("weight", "bias")) -> Iterator[Entry]:
    """A layer whose tensors are ours."""
    for part in parts:
        yield Entry(module, (f"{source}.{part}",), f"{target}.{part}")


@dataclass(frozen=True)
class Published:
    """The whole published state of one network.

    Attributes:
        entries: Where each parameter of ours comes from.
        shapes: File → name → shape of every tensor that must be there.
        constants: File → name → tensor that may be there, and must then have these values.
    """

    entries: list[Entry]
    shapes: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    constants: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def problems(self, given: StateDicts) -> list[str]:
        """What is wrong with a state, each key by name."""
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
        """Fill all parameters of our model from a state that has no `problems`."""
        parameters = dict(model.named_parameters())
        for entry in self.entries:
            target = parameters.pop(entry.target)
            target.copy_(entry.read(state_dicts[entry.module]).reshape(target.shape))
        assert not parameters, f"no published tensor goes to {sorted(parameters)}"


def shape_of_sources(entry: Entry, parameter: Tensor) -> dict[str, tuple[int, ...]]:
    """Name → shape of an entry's published tensors, read off our parameter."""
    shape = tuple(parameter.shape)
    each = (shape[0] // len(entry.sources), *shape[1:])
    if entry.normed is None:
        return {source: each for source in entry.sources}
    magnitude, direction = entry.normed
    of_magnitude = (each[0], *(1 for _ in each[1:]))
    return {f"{s}.{magnitude}": of_magnitude for s in entry.sources} | {f"{s}.{direction}": each for s in entry.sources}
