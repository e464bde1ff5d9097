"""Peak speed of matrix products on a machine, and profiles of calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from l3ac_tokenizer.evaluation.timing import timed


def gemm_peaks(size: int = 2048) -> dict[str, float]:
    """GFLOP/s of square matrix products on torch's threads, the best of ten runs each.

    `torch.mm` in float32 and bfloat16, and oneDNN's float32 product with a prepacked weight, if this build of torch has
    it.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, size, generator=generator)
    half_a, half_b = a.bfloat16(), b.bfloat16()
    calls: dict[str, Callable[[], Tensor]] = {
        "float32, torch.mm": lambda: torch.mm(a, b),
        "bfloat16, torch.mm": lambda: torch.mm(half_a, half_b),
    }
    if torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(b, size)
        calls["float32, oneDNN, packed"] = lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
    with torch.no_grad():
        return {name: 2e-9 * size**3 / min(timed(call)[1].wall for call in [call] * 10) for name, call in calls.items()}


_PRODUCTS = frozenset(
    {
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_slow_conv2d_forward",
        "aten::addmm",
        "aten::baddbmm",
        "aten::bmm",
        "aten::mkldnn_convolution",
        "aten::mkldnn_rnn_layer",
        "aten::mm",
        "aten::slow_conv_dilated2d",
        "aten::slow_conv_transpose2d",
        "mkldnn::_convolution_pointwise",
        "mkldnn::_linear_pointwise",
    }
)
"""Names in a profile of the operations that are matrix products or convolutions."""


def profiled(call: Callable[[], Any]) -> tuple[dict[str, float], float]:
    """Self CPU seconds of each operation of a call, the most expensive first, and the wall seconds of the call."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as record:
        _, timing = timed(call)
    own = {event.key: event.self_cpu_time_total * 1e-6 for event in record.key_averages()}
    return dict(sorted(own.items(), key=lambda item: -item[1])), timing.wall


def seconds_in_products(operations: Mapping[str, float]) -> float:
    """Seconds of matrix products and convolutions in a profile."""
    return sum(seconds for name, seconds in operations.items() if name in _PRODUCTS)
