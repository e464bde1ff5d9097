"""Timing of calls, and counts of their floating-point operations.

Axes: T frames, B batch, D, H widths.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

_OPS = torch.ops

Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: wall time, and CPU time of all threads."""

    wall: float
    cpu: float


def timed(call: Callable[[], Result]) -> tuple[Result, Timing]:
    """The result of `call` and its timing."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, Timing(time.perf_counter() - wall, time.process_time() - cpu)


def median(timings: Sequence[Timing]) -> Timing:
    """Medians of both clocks."""
    return Timing(*(statistics.median(getattr(timing, clock) for timing in timings) for clock in ("wall", "cpu")))


def growth_exponent(lengths: Sequence[float], costs: Sequence[float]) -> float | None:
    """Exponent x of cost ∝ length^x, a least-squares fit of the logarithms; None for fewer than two lengths."""
    if len(set(lengths)) < 2 or min(costs) <= 0:
        return None
    x, y = [math.log(length) for length in lengths], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


def _lstm_flops(x: tuple[int, ...], w_in: tuple[int, ...], w_hidden: tuple[int, ...], *_: Any, **__: Any) -> int:
    """x (T, B, D), weights (4H, D) and (4H, H)."""
    return 2 * x[0] * x[1] * (math.prod(w_in) + math.prod(w_hidden))


def _packed_linear_flops(x: tuple[int, ...], weight: tuple[int, ...], *_: Any, **__: Any) -> int:
    """x (…, D), weight (D', D)."""
    return 2 * math.prod(x) * weight[0]


def flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call; a multiply–add counts as two.

    torch's counter with formulas for CPU operations that it does not know: fused attention, oneDNN's LSTM and oneDNN's
    product with packed weights.
    """
    formulas = {
        _OPS.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        _OPS.aten.mkldnn_rnn_layer: _lstm_flops,
        _OPS.mkldnn._linear_pointwise: _packed_linear_flops,
    }
    # Under inference mode the counter breaks weight-normed layers.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping=formulas) as counter,
    ):
        call()
    return counter.get_total_flops()


def cpu_name() -> str:
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
