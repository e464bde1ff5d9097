"""Convolutional building blocks on (B, T, C): batch, time, channels (arXiv 2504.04949, Section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu_kernels import Product, convolve_small, convolves_small, is_hooked, is_plain_linear, product, sine
from .span import Span

NORM_EPS = 1e-8
SNAKE_EPS = 1e-8
KERNEL = 7
TILE = 2048
"""Time steps in a tile: few enough to fit in the cache of a core, enough for efficient matrix products."""

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """Module list whose type states the class of its modules."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Layer]: ...


def in_tiles(function: Callable[..., Tensor], *inputs: Tensor, through: Iterable[nn.Module]) -> Tensor:
    """Apply a function that acts on each time step separately: inputs (B, T, C) → (B, T, C').

    For inference on a CPU, `TILE` time steps are processed at once, because element-wise operations on data in the
    cache take a fraction of the time. Hooks on the layers that the function goes `through` see whole inputs.
    """
    first = inputs[0]
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or first.device.type != "cpu":
        return function(*inputs)
    batch, length, _ = first.shape
    if batch * length <= TILE or any(is_hooked(part) for layer in through for part in layer.modules()):
        return function(*inputs)
    tiles = zip(*(x.reshape(batch * length, -1).split(TILE) for x in inputs), strict=True)
    first_output = function(*next(tiles))
    result = first_output.new_empty(batch * length, first_output.shape[-1])
    result[:TILE] = first_output
    for output, tile in zip(result[TILE:].split(TILE), tiles, strict=True):
        output.copy_(function(*tile))
    return result.view(batch, length, -1)


def is_short(x: Tensor) -> bool:
    """True if x (B, T, C) is a chunk at inference that is worth fewer operations at the price of more memory."""
    return x.shape[1] <= TILE and not torch.is_grad_enabled()


def constant(values: np.ndarray, like: Tensor) -> Tensor:
    """Fixed values as a tensor of the type and on the device of `like`; exported graphs hold it, others compute it."""
    return torch.from_numpy(values).to(like)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int = 1, groups: int = 1, stride: int = 1
) -> Tensor:
    """1-D convolution of x (B, T, C) → (B, T', C') without a change of memory layout.

    In memory, (B, T, C) is a channels-last image (B, C, 1, T), for which backends have fast kernels. In exported graphs
    of a fixed length, which are short, products and sums are faster.
    """
    if torch.compiler.is_exporting() and isinstance(x.shape[1], int) and stride == 1 and groups in (1, x.shape[2]):
        return _convolve_in_step(F.pad(x, (0, 0, padding, padding)), weight, bias, dilation, groups)
    if padding == 0 and stride == 1 and convolves_small(x, weight, groups):
        return convolve_small(x, weight, bias, dilation, groups)
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    image = F.conv2d(image, weight.unsqueeze(2), bias, (1, stride), (0, padding), (1, dilation), groups)
    return image.permute(0, 2, 3, 1).squeeze(1)


def _convolve_in_step(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, groups: int) -> Tensor:
    """`convolve` with stride 1 and without padding, as sums (a channel a group) or a product (one group)."""
    channels, _, kernel = weight.shape
    length = x.shape[1] - dilation * (kernel - 1)
    taps = [x[:, tap * dilation : tap * dilation + length] for tap in range(kernel)]
    if groups == 1:
        return F.linear(torch.cat(taps, dim=-1), weight.transpose(1, 2).flatten(1), bias)
    if x.shape[2] != channels:  # several filters a channel
        taps = [tap.repeat_interleave(channels // groups, dim=-1) for tap in taps]
    total = taps[0] * weight[:, 0, 0]
    for index, tap in enumerate(taps[1:], 1):
        total = total + tap * weight[:, 0, index]
    return total if bias is None else total + bias


class TimeConv(nn.Conv1d):
    """Convolution over time with zero padding: (B, T, C) → (B, T / stride, C').

    Args:
        channels: C.
        out_channels: C'.
        kernel: Kernel size in time steps.
        dilation: Distance between the time steps of the kernel.
        groups: As in `nn.Conv1d`.
        stride: Time steps of the input for each of the output.
        lookahead: Number of time steps that the kernel sees after those of its output; None: as many as before them,
            which needs an odd kernel, or an even one with an even stride.
        bias: Whether a bias is added.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int = KERNEL,
        dilation: int = 1,
        groups: int = 1,
        stride: int = 1,
        lookahead: int | None = None,
        bias: bool = True,
    ):
        super().__init__(channels, out_channels, kernel, stride, dilation=dilation, groups=groups, bias=bias)
        reach = dilation * (kernel - 1) + 1 - stride
        self.after = reach // 2 if lookahead is None else lookahead
        self.before = reach - self.after

    def forward(self, x: Tensor, span: Span | None = None, crop: int = 0) -> Tensor:
        """x (B, T, C) and its span, or a window from `Span.around` and its `crop` → (B, T / stride, C')."""
        window, stride = x, self.stride[0]
        if span is not None:
            window, _, crop = span.around(x, self.before, self.after, self)
            if stride > 1:
                span.down(stride)
        padding = 0 if crop else self.before
        output = convolve(window, self.weight, self.bias, padding, self.dilation[0], self.groups, stride)
        # Whole clips are padded by `before` on both sides, which is too much at the end if `after` is smaller.
        return output if crop or self.after == self.before else output[:, : window.shape[1] // stride]


class PointConv(nn.Conv1d):
    """Convolution with kernel 1: a linear layer on each time step."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) → (B, T, C')."""
        return F.linear(x, self.weight[:, :, 0], self.bias)


class DownConv(nn.Conv1d):
    """Down-sampling convolution whose kernel equals its stride: a linear layer on each `rate` time steps."""

    def __init__(self, channels: int, out_channels: int, rate: int):
        super().__init__(channels, out_channels, rate, stride=rate)
        self.rate = rate

    def forward(self, x: Tensor, span: Span) -> Tensor:  # type: ignore[override]
        """x (B, T, C) → (B, T / rate, C')."""
        batch, length, channels = x.shape
        span.down(self.rate)
        groups = x.reshape(batch, length // self.rate, self.rate * channels)
        return F.linear(groups, self.weight.transpose(1, 2).flatten(1), self.bias)


class Interpolate(nn.Module):
    """Linear interpolation by an integer rate, with half-pixel centers and clamped edges.

    Output time step rate·i + k lies at i + (k + ½)/rate − ½, so there are `rate` fixed pairs of weights. They are
    exact, whereas the rounding errors of `torch.nn.functional.interpolate` depend on the position, so that chunks would
    differ from whole clips.
    """

    def __init__(self, rate: int):
        super().__init__()
        self.rate = rate
        self.delay = rate // 2

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T · rate, C)."""
        length = x.shape[1]
        window = span.with_neighbors(x, self)
        span.up(self.rate, self.delay)
        weights = span.prepared(self, x, lambda time_steps: self.weights(x))
        previous, following = window[:, :-1, None], window[:, 1:, None]
        if torch.compiler.is_exporting():  # `lerp` would compute both of its formulas and choose by element
            pairs = previous + (following - previous) * weights
        else:
            pairs = torch.lerp(previous, following, weights)
        pairs = pairs.flatten(1, 2)
        # Whole clips start with their first time step repeated, streams with the last one of the previous chunk.
        skip = self.delay if window.shape[1] == length + 2 else 0
        return pairs[:, skip : skip + length * self.rate]

    def weights(self, like: Tensor) -> Tensor:
        """Weights (1, 1, rate, 1) of the following time step, as in the type and on the device of `like`."""
        # Output time steps from the center of input time step i (exclusive) to that of i + 1 (inclusive).
        first = self.rate - self.delay
        steps = torch.arange(first, first + self.rate, device=like.device, dtype=torch.float32)
        return ((steps + 0.5) / self.rate - 0.5).to(like.dtype)[None, None, :, None]


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each time step."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=NORM_EPS)


class Snake(nn.Module):
    """Snake activation x + sin²(αx)/(α + ε), with an α for each channel (arXiv 2006.08195)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, C) → (…, C)."""
        wave = sine(self.alpha * x)
        amplitude = (self.alpha + SNAKE_EPS).reciprocal()
        if torch.is_grad_enabled():
            return x + wave.square() * amplitude
        return torch.addcmul(x, wave.square_(), amplitude)


class GlobalResponseNorm(nn.Module):
    """Global response normalization (GRN) as published, which is affine: (1 + γ)·x + β.

    The published response is a single number for each clip, divided by its own mean: 1, or 0 for a clip of zeros, where
    it has no effect. The layer can therefore be folded into the linear layer that follows it.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, C) → (…, C)."""
        return torch.addcmul(self.beta, 1 + self.gamma, x)

    def fold_into(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (C', C) and bias (C',) of the following linear layer → those that include this normalization."""
        return weight * (1 + self.gamma), torch.addmv(bias, weight, self.beta)


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block x + f(x): depth-wise convolution, normalization, and an MLP with Snake and GRN (arXiv 2301.00808).

    Args:
        channels: C.
        lookahead: Number of time steps after its own that the convolution sees; None: half the kernel.
    """

    def __init__(self, channels: int, lookahead: int | None = None):
        super().__init__()
        self.depthwise = TimeConv(channels, channels, groups=channels, lookahead=lookahead)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.activation = Snake(4 * channels)
        self.response_norm = GlobalResponseNorm(4 * channels)
        self.reduce = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        window, center, crop = span.around(x, self.depthwise.before, self.depthwise.after, self)
        expand, reduce = span.prepared(self, x, self.products)

        def mlp(hidden: Tensor, center: Tensor) -> Tensor:
            return center + reduce(self.activation(expand(self.norm(hidden))))

        layers = (self.norm, self.expand, self.activation, self.response_norm, self.reduce)
        return in_tiles(mlp, self.depthwise(window, crop=crop), center, through=layers)

    def products(self, time_steps: int) -> tuple[Product, Product]:
        """Both linear layers as functions for a total of `time_steps`, with the GRN folded into the second.

        Layers that are hooked, or replaced by quantized or adapted ones, are called as they are.
        """
        expand: Product = self.expand
        if is_plain_linear(self.expand):
            expand = product(self.expand.weight, self.expand.bias, time_steps)
        if not is_plain_linear(self.reduce) or is_hooked(self.response_norm):
            return expand, lambda x: self.reduce(self.response_norm(x))
        weight, bias = self.response_norm.fold_into(self.reduce.weight, self.reduce.bias)
        return expand, product(weight, bias, time_steps)


class ResidualUnit(nn.Module):
    """Residual unit x + f(x): Snake, dilated convolution, Snake, convolution with kernel 1."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.activation = Snake(channels)
        self.conv = TimeConv(channels, channels, dilation=dilation)
        self.point_activation = Snake(channels)
        self.point = PointConv(channels, channels)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        window, center, crop = span.around(x, self.conv.before, self.conv.after, self)
        hidden = self.conv(in_tiles(self.activation, window, through=[self.activation]), crop=crop)

        def point(hidden: Tensor, center: Tensor) -> Tensor:
            return center + self.point(self.point_activation(hidden))

        return in_tiles(point, hidden, center, through=(self.point_activation, self.point))


def tpooling(u: Tensor, kernel: int, inside: Tensor | None) -> Tensor:
    """TPooling (arXiv 2504.04949, Section 3): sliding maximum of |u|, then sliding mean; the identity for kernel 1.

    Args:
        u: Signal (B, 1, T), zero outside the clips.
        kernel: Odd size of both windows in samples.
        inside: Mask (B, 1, T) of samples within the clips; None: all.

    Returns:
        Envelope (B, 1, T).
    """
    if kernel == 1:
        return u
    pooled = _pool(F.pad(u.abs(), (kernel // 2, kernel // 2)), kernel)
    if inside is not None:
        pooled = pooled.masked_fill(~inside, 0.0)
    pooled = F.avg_pool1d(pooled, kernel, stride=1, padding=kernel // 2)
    return pooled if inside is None else pooled.masked_fill(~inside, 0.0)


def pooled_filters(weight: Tensor, kernel: int, dilation: int, radius: int) -> Tensor:
    """Filters (F, taps) of an envelope of `tpooling` → (2·radius + 1, F), those of its sliding maxima.

    The sliding mean in between is a filter as well, except next to the edges of clips.
    """
    spread = weight.new_zeros(weight.shape[0], dilation * (weight.shape[1] - 1) + 1)
    spread[:, ::dilation] = weight
    smooth = F.avg_pool1d(F.pad(spread, (kernel - 1, kernel - 1)), kernel, stride=1)
    margin = radius - smooth.shape[1] // 2
    return F.pad(smooth, (margin, margin)).T


def filtered_envelopes(u: Tensor, kernels: Sequence[int], filters: Tensor) -> Tensor:
    """Filters of the envelopes of `tpooling` in one go, for a short signal that lies within its clip.

    Args:
        u: Signal (B, T + context).
        kernels: That of each of S envelopes.
        filters: `pooled_filters` (S, taps, F); `max(kernels)` + taps − 2 samples are context.

    Returns:
        (B, T, S, F).
    """
    magnitude, margin = u.abs(), max(kernels) // 2
    maxima = []
    for kernel in kernels:
        cut = margin - kernel // 2
        signal = crop_center(u if kernel == 1 else magnitude, cut)
        maxima.append(signal if kernel == 1 else F.max_pool1d(signal, kernel, stride=1))
    windows = torch.stack(maxima, dim=1).unfold(2, filters.shape[1], 1)  # (B, S, T, taps)
    return (windows @ filters).transpose(1, 2)


def sliding_maximum(u: Tensor, kernel: int) -> Tensor:
    """Maximum over each window of `kernel` samples, u (…, T) → (…, T − kernel + 1), in log2(kernel) operations."""
    length, width = u.shape[-1] - kernel + 1, 1
    while 2 * width <= kernel:
        u = torch.maximum(u[..., : u.shape[-1] - width], u[..., width:])
        width *= 2
    rest = kernel - width
    return torch.maximum(u[..., :length], u[..., rest : rest + length]) if rest else u


def sliding_mean(u: Tensor, kernel: int) -> Tensor:
    """Mean over each window of `kernel` samples, u (…, T) → (…, T − kernel + 1)."""
    return u.unfold(-1, kernel, 1).mean(dim=-1)


_pool: Callable[[Tensor, int], Tensor] = sliding_maximum


@contextmanager
def means_for_maxima() -> Iterator[None]:
    """Context in which `tpooling` takes means instead of maxima, so that gradients reach every sample of a window."""
    global _pool
    _pool = sliding_mean
    try:
        yield
    finally:
        _pool = sliding_maximum


def crop_center(x: Tensor, crop: int) -> Tensor:
    """Remove `crop` time steps at both ends: x (…, T + 2·crop) → (…, T)."""
    return x[..., crop : x.shape[-1] - crop] if crop else x
