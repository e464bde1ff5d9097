"""`IdMetadata`: the weights and codebook that made ids, and the check that a model can read them."""

from __future__ import annotations

import json
import math
import numbers
import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .parsing import parse_json

if TYPE_CHECKING:
    from .modeling import CodecEncoding


def checked_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Levels of FSQ dimensions, checked before anything is made of their product.

    Raises:
        ValueError: they are not 1 to 255 whole numbers from 2 to 65535, or make ids of more than 64 bits.
    """
    if not 1 <= len(levels) <= 255 or not all(
        isinstance(level, numbers.Integral) and 2 <= level < 2**16 for level in levels
    ):
        raise ValueError(f"levels must be 1 to 255 numbers from 2 to 65535, not {reprlib.repr(levels)}.")
    if math.prod(map(int, levels)) > 2**63:
        raise ValueError(f"levels {tuple(levels)} make ids that do not fit into 64 bits.")
    return tuple(map(int, levels))


class ModelMismatchError(ValueError):
    """Ids of one model were given to another."""


@dataclass(frozen=True)
class IdMetadata:
    """The model that made ids.

    Attributes:
        weights_digest: `CodecModel.weights_digest()`.
        levels: levels of each FSQ dimension.
    """

    weights_digest: str
    levels: tuple[int, ...]

    @classmethod
    def of(cls, model: CodecEncoding) -> IdMetadata:
        """The metadata of a model's ids."""
        return cls(model.weights_digest(), tuple(model.config.frame_levels))

    @classmethod
    def from_json(cls, text: str) -> IdMetadata:
        """The inverse of `to_json`."""
        values = parse_json(text)
        return cls(values["weights_digest"], checked_levels(values["levels"]))

    def to_json(self) -> str:
        """The metadata as a JSON object."""
        return json.dumps(asdict(self))

    def require(
        self, model: CodecEncoding, name: str, what: str, remedy: str, digests: Sequence[str] | None = None
    ) -> None:
        """Refuse a model whose ids have another meaning.

        Args:
            model: the model that is to read the ids.
            name: of the model, in the message.
            what: beginning of the message, up to the weights or levels: "x.l3ac holds ids of l3ac-1k with".
            remedy: end of the message.
            digests: `model.id_digests()`, where they are at hand; they take time to compute.

        Raises:
            ModelMismatchError: the model has other levels, or reads the ids of other weights.
        """
        levels = tuple(model.config.frame_levels)
        if self.levels != levels:
            ours, others = (",".join(map(str, each)) for each in (self.levels, levels))
            raise ModelMismatchError(f"{what} the levels {ours} and the codec {name} has {others}: {remedy}.")
        digests = model.id_digests() if digests is None else digests
        if self.weights_digest not in digests:
            raise ModelMismatchError(
                f"{what} the weights {self.weights_digest[:12]}… and the codec {name} has {digests[0][:12]}…: {remedy}."
            )
