"""CPU inference kernels: faster than plain torch calls, and equal to them up to rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Product = Callable[[Tensor], Tensor]

MIN_PACKED_SIZE = 1 << 15
"""Minimum number of elements of a packed weight; for smaller ones, oneDNN's overhead exceeds its gain."""

MIN_PACKED_STEPS = 512
"""Minimum number of time steps for which packing a weight pays off."""

MAX_SINE_THREADS = 2
"""Maximum number of torch threads at which numpy's single-threaded sine is at least as fast as torch's."""


def _at_inference(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")  # inputs may come in half precision
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and type(x) in (Tensor, torch.nn.Parameter)  # not a fake tensor without values
    )


def is_hooked(module: nn.Module) -> bool:
    """True if calling the module does more than its `forward`: hooks, or a `forward` put in place, as by accelerate."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    ) or "forward" in vars(module)


def is_plain_linear(module: nn.Module) -> bool:
    """True for linear layers whose weight alone tells what they compute, also if it is parametrized or traced."""
    if type_before_parametrizations(module) is not nn.Linear or is_hooked(module):
        return False
    return not is_traceable_wrapper_subclass(module.weight)  # as of torchao


def product(weight: Tensor, bias: Tensor | None, time_steps: int) -> Product:
    """Return the function x (…, D) ↦ x·weightᵀ + bias (…, D'), valid while the weight does not change.

    If it pays off for the total number of `time_steps` of its inputs, the weight is packed for oneDNN, whose products
    are faster than those of `torch.nn.functional.linear` (`python -m benchmarks.speed` measures both) and equal to them
    up to rounding.
    """
    if (
        _at_inference(weight)
        and time_steps >= MIN_PACKED_STEPS
        and weight.numel() >= MIN_PACKED_SIZE
        and torch.backends.mkldnn.is_available()
    ):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), MIN_PACKED_STEPS)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


def sine(x: Tensor) -> Tensor:
    """sin x, by numpy where it is faster: its vectorized code takes 0.4 times as long as torch's on a single thread."""
    if not _at_inference(x) or torch.get_num_threads() > MAX_SINE_THREADS:
        return torch.sin(x)
    result = torch.empty_like(x)
    np.sin(x.detach().numpy(), out=result.numpy())
    return result
