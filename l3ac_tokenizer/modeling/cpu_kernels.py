"""CPU kernels: faster than plain torch calls, and equal to them up to rounding."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

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

MIN_PACKED_PRODUCTS = 1 << 21
"""Minimum number of products of elements for a packed weight; fewer are done before oneDNN is ready."""

MAX_SMALL_SIZE = 1 << 14
"""Maximum number of elements of the input of a convolution that takes less time without oneDNN."""

ONEDNN_GAIN = 1.2
"""Minimum speed of oneDNN's products, relative to torch's default ones, to replace them in training: on machines where
both take about as long, the choice, and with it rounding, must not change from process to process."""

MAX_SINE_THREADS = 2
"""Maximum number of torch threads at which numpy's single-threaded sine is at least as fast as torch's."""


def _is_plain_float32(x: Tensor) -> bool:
    """True for float32 values on a CPU outside of compilation, tracing and autocast."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")  # inputs may come in half precision
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and type(x) in (Tensor, torch.nn.Parameter)  # not a fake tensor without values
    )


def _at_inference(x: Tensor) -> bool:
    return not torch.is_grad_enabled() and _is_plain_float32(x)


def convolves_small(x: Tensor, weight: Tensor, groups: int) -> bool:
    """True if `convolve_small` computes a convolution of x (B, T, C) faster than oneDNN: in short pushes of streams."""
    kind = groups == 1 or groups == x.shape[2] == weight.shape[0]
    return kind and x.numel() <= MAX_SMALL_SIZE and _at_inference(x) and _at_inference(weight)


def convolve_small(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, groups: int) -> Tensor:
    """Convolution of x (B, T, C) → (B, T', C') with one group, or a filter for each channel, over its windows."""
    windows = x.unfold(1, dilation * (weight.shape[2] - 1) + 1, 1)[..., ::dilation]  # (B, T', C, taps)
    if groups == 1:
        return F.linear(windows.flatten(2), weight.flatten(1), bias)
    total = (windows.transpose(2, 3) * weight[:, 0].T.contiguous()).sum(2)
    return total if bias is None else total + bias


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
        few = MIN_PACKED_PRODUCTS // weight.shape[0]  # elements of the short pushes of streams

        def packed_product(x: Tensor) -> Tensor:
            if x.numel() < few:
                return F.linear(x, weight, bias)
            return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

        return packed_product
    return lambda x: linear(x, weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (…, D) ↦ x·weightᵀ + bias (…, D'), in training by the library that is faster on this machine.

    The default of torch builds for x86, MKL, runs at half its speed on processors of AMD.
    """
    if (
        torch.is_grad_enabled()
        and _is_plain_float32(x)
        and _is_plain_float32(weight)
        and x.numel() >= MIN_PACKED_STEPS * x.shape[-1]
        and weight.numel() >= MIN_PACKED_SIZE
        and onednn_trains_faster()
    ):
        return onednn_linear(x, weight, bias)
    return F.linear(x, weight, bias)


def apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """`layer(x)`, in training by `linear` if the layer's weight alone tells what it computes."""
    if torch.is_grad_enabled() and is_plain_linear(layer):
        return linear(x, layer.weight, layer.bias)
    return layer(x)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (…, D) ↦ x·weightᵀ + bias (…, D') as a convolution with kernel 1, whose gradients oneDNN computes as well."""
    image = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # channels last in memory
    product = F.conv2d(image, weight[:, :, None, None], bias)
    return product.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


@functools.cache
def onednn_trains_faster() -> bool:
    """Measure once per process whether oneDNN takes less time for a product and its gradients; takes about 0.1 s."""
    if not torch.backends.mkldnn.is_available():
        return False
    default, onednn = training_times((F.linear, onednn_linear))
    return default > ONEDNN_GAIN * onednn


def training_times(products: Sequence[Callable[[Tensor, Tensor, Tensor | None], Tensor]]) -> list[float]:
    """Seconds that each function takes for a product of (256, 512) and (512, 512) and its gradients.

    It is processor time, the minimum of interleaved rounds: other processes disturb it less than elapsed time.
    """
    generator = torch.Generator().manual_seed(0)  # the random state of the caller stays as it is
    x, weight, gradient = (torch.randn(rows, 512, generator=generator) for rows in (256, 512, 256))
    x.requires_grad_(), weight.requires_grad_()
    times: list[list[float]] = [[] for _ in products]
    with torch.enable_grad():
        for _ in range(8):  # the first includes set-up
            for function, own in zip(products, times, strict=True):
                start = time.process_time()
                torch.autograd.grad(function(x, weight, None), (x, weight), gradient)
                own.append(time.process_time() - start)
    return [min(own) for own in times]


def sine(x: Tensor) -> Tensor:
    """sin x, by numpy where it is faster: its vectorized code takes 0.4 times as long as torch's on a single thread."""
    if not _at_inference(x) or torch.get_num_threads() > MAX_SINE_THREADS:
        return torch.sin(x)
    result = torch.empty_like(x)
    np.sin(x.detach().numpy(), out=result.numpy())
    return result
