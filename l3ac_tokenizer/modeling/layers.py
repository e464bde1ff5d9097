"""Convolutional building blocks on (B, T, C): batch, time, channels. Mathematics: arXiv 2504.04949, Section 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu_kernels import Product, product, sine
from .span import Span

NORM_EPS = 1e-8
SNAKE_EPS = 1e-8
KERNEL = 7
TILE = 2048
"""Columns whose intermediate results fit in a core's cache, and make matrix products large enough."""

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """A module list that tells type checkers what is in it."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Layer]: ...


def in_tiles(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function` of inputs (B, T, C), one column at a time → (B, T, C').

    Without gradients on a CPU it gets `TILE` columns at once: element-wise work on what lies in the cache costs a
    fraction of that on what does not.
    """
    first = inputs[0]
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or first.device.type != "cpu":
        return function(*inputs)
    batch, length, _ = first.shape
    if batch * length <= TILE:
        return function(*inputs)
    tiles = zip(*(x.reshape(batch * length, -1).split(TILE) for x in inputs), strict=True)
    answer = function(*next(tiles))
    result = answer.new_empty(batch * length, answer.shape[-1])
    result[:TILE] = answer
    for place, tile in zip(result[TILE:].split(TILE), tiles, strict=True):
        place.copy_(function(*tile))
    return result.view(batch, length, -1)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int = 1, groups: int = 1, stride: int = 1
) -> Tensor:
    """1-D convolution of x (B, T, C) → (B, T', C') that never leaves this layout.

    (B, T, C) is a (B, C, 1, T) image in channels-last memory, for which the backends have fast kernels.
    """
    image = x.transpose(1, 2).unsqueeze(2)
    image = F.conv2d(image, weight.unsqueeze(2), bias, (1, stride), (0, padding), (1, dilation), groups)
    return image.squeeze(2).transpose(1, 2)


class TimeConv(nn.Conv1d):
    """Convolution over time of as many columns as come in, or one for each `stride` of them, on (B, T, C).

    Args:
        channels: C.
        out_channels: C'.
        kernel: Columns of the kernel.
        dilation: Distance of its columns.
        groups: As in `nn.Conv1d`.
        stride: Columns for each answer.
        lookahead: Columns after an answer's own that it sees, the others lie before; None: as many as before (an odd
            kernel, or an even one with an even stride).
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

    def on_window(self, window: Tensor, crop: int) -> Tensor:
        """Answer for the centre of a window from `Span.around`."""
        padding, stride = 0 if crop else self.before, self.stride[0]
        answer = convolve(window, self.weight, self.bias, padding, self.dilation[0], self.groups, stride)
        # Padding of `before` on both sides of a whole clip is too much at its end where fewer columns lie after.
        return answer if crop or self.after == self.before else answer[:, : window.shape[1] // stride]

    def forward(self, x: Tensor, span: Span) -> Tensor:  # type: ignore[override]
        """x (B, T, C) → (B, T / stride, C')."""
        window, _, crop = span.around(x, self.before, self.after, self)
        if self.stride[0] > 1:
            span.down(self.stride[0])
        return self.on_window(window, crop)


class PointConv(nn.Conv1d):
    """1×1 convolution, on (B, T, C)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) → (B, T, C')."""
        return F.linear(x, self.weight[:, :, 0], self.bias)


class DownConv(nn.Conv1d):
    """Convolution whose stride is its kernel: one matrix for each group of `rate` columns."""

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
    """Linear interpolation by a whole number, half-pixel centres, edges clamped.

    Output column rate·i + k lies at i + (k + ½)/rate − ½, so there are `rate` fixed pairs of weights. They are
    exact, where `torch.nn.functional.interpolate` drifts with the position; only so can chunks agree.
    """

    def __init__(self, rate: int):
        super().__init__()
        self.rate = rate
        self.delay = rate // 2

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T · rate, C)."""
        length = x.shape[1]
        window = span.neighbours(x, self)
        span.up(self.rate, self.delay)
        # The outputs after column i's centre, up to and including that of column i + 1.
        first = self.rate - self.delay
        steps = torch.arange(first, first + self.rate, device=x.device, dtype=torch.float32)
        weights = ((steps + 0.5) / self.rate - 0.5).to(x.dtype)[None, None, :, None]
        pairs = torch.lerp(window[:, :-1, None], window[:, 1:, None], weights).flatten(1, 2)
        # A whole clip has a column repeated before its first one, a stream has the one that came before.
        skip = self.delay if window.shape[1] == length + 2 else 0
        return pairs[:, skip : skip + length * self.rate]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each column."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=NORM_EPS)


class Snake(nn.Module):
    """x + sin²(αx)/(α + ε), one α for each channel (arXiv 2006.08195)."""

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
    """The published GRN, which is affine: (1 + γ)·x + β.

    Its response is one number for the whole clip, divided by its own mean: 1, or 0 for a clip of zeros, for
    which it makes no difference. So it is folded into the linear layer behind it.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def fold_into(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (out, C) and bias (out,) of a linear layer that also does this normalisation."""
        return weight * (1 + self.gamma), torch.addmv(bias, weight, self.beta)


class ConvNeXtBlock(nn.Module):
    """x + f(x): depth-wise convolution, norm, and a two-layer perceptron with Snake and GRN.

    Args:
        channels: C.
        lookahead: Columns after its own that the convolution sees; None: half of the kernel.
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
        window, centre, crop = span.around(x, self.depthwise.before, self.depthwise.after, self)
        expand, reduce = span.prepared(self, x, self.products)

        def perceptron(hidden: Tensor, centre: Tensor) -> Tensor:
            return centre + reduce(self.activation(expand(self.norm(hidden))))

        return in_tiles(perceptron, self.depthwise.on_window(window, crop), centre)

    def products(self, columns: int) -> tuple[Product, Product]:
        """Both linear layers, the response norm in the second, for so many columns."""
        expand: Product = self.expand
        if type(self.expand) is nn.Linear:  # no quantized or adapted layer in its place
            expand = product(self.expand.weight, self.expand.bias, columns)
        weight, bias = self.response_norm.fold_into(self.reduce.weight, self.reduce.bias)
        return expand, product(weight, bias, columns)


class ResidualUnit(nn.Module):
    """x + f(x), f = Snake, dilated convolution, Snake, 1×1 convolution."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.activation = Snake(channels)
        self.conv = TimeConv(channels, channels, dilation=dilation)
        self.point_activation = Snake(channels)
        self.point = PointConv(channels, channels)

    def forward(self, x: Tensor, span: Span) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        window, centre, crop = span.around(x, self.conv.before, self.conv.after, self)
        hidden = self.conv.on_window(in_tiles(self.activation, window), crop)
        return in_tiles(lambda hidden, centre: centre + self.point(self.point_activation(hidden)), hidden, centre)


def tpooling(u: Tensor, kernel: int, inside: Tensor | None) -> Tensor:
    """TPooling: the maximum of |u| around each sample, then its mean; kernel 1 is the identity.

    Args:
        u: Signal (B, 1, T), zero outside the clips.
        kernel: Odd number of samples of both pools.
        inside: Mask (B, 1, T) of samples within the clips; None: all are.
    """
    if kernel == 1:
        return u
    pooled = sliding_maximum(F.pad(u.abs(), (kernel // 2, kernel // 2)), kernel)
    if inside is not None:
        pooled = pooled.masked_fill(~inside, 0.0)
    pooled = F.avg_pool1d(pooled, kernel, stride=1, padding=kernel // 2)
    return pooled if inside is None else pooled.masked_fill(~inside, 0.0)


def sliding_maximum(u: Tensor, kernel: int) -> Tensor:
    """Maximum over each `kernel` samples of u (..., T) → (..., T − kernel + 1), in log2(kernel) steps."""
    length, width = u.shape[-1] - kernel + 1, 1
    while 2 * width <= kernel:
        u = torch.maximum(u[..., : u.shape[-1] - width], u[..., width:])
        width *= 2
    rest = kernel - width
    return torch.maximum(u[..., :length], u[..., rest : rest + length]) if rest else u


def crop_centre(x: Tensor, crop: int) -> Tensor:
    """x (..., T + 2·crop) → (..., T)."""
    return x[..., crop : x.shape[-1] - crop] if crop else x
