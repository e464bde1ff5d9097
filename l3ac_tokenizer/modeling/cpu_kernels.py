"""What inference on a CPU computes faster than by the plain calls of torch, to rounding the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Product = Callable[[Tensor], Tensor]

PACKED_FROM = 1 << 15
"""Numbers in the smallest weight that is packed: below it, oneDNN's call costs more than its product saves."""

PACKED_FOR = 512
"""Columns that make up for the packing of a weight."""

SERIAL_THREADS = 2
"""Threads of torch up to which numpy's sine, on one, is as fast."""


def _at_inference(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and type(x) in (Tensor, torch.nn.Parameter)  # no stand-in without values
    )


def product(weight: Tensor, bias: Tensor | None, columns: int) -> Product:
    """x (…, D) ↦ x·weightᵀ + bias (…, D'), to be called for so many columns in all while the weight stays as it is.

    Where it pays, the weight is packed beforehand for oneDNN, whose products are faster than those of
    `torch.nn.functional.linear` (`python -m benchmarks.speed` prints both figures); its results differ by rounding.
    """
    if (
        _at_inference(weight)
        and columns >= PACKED_FOR
        and weight.numel() >= PACKED_FROM
        and torch.backends.mkldnn.is_available()
    ):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_FOR)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


def sine(x: Tensor) -> Tensor:
    """sin x; by numpy where it is faster: its vector code takes 0.4 of the time of torch's, but one thread."""
    if not _at_inference(x) or torch.get_num_threads() > SERIAL_THREADS:
        return torch.sin(x)
    result = torch.empty_like(x)
    np.sin(x.detach().numpy(), out=result.numpy())
    return result
