"""Range coder for ids, driven by an adaptive model of the FSQ digits; needs no training.

An id is written as its digits, first dimension first. Each digit is predicted from two tables of counts, which encoder
and decoder both update after it: occurrences of each level of this dimension, and occurrences of each level after the
level that the dimension had in the previous frame. The first table is the Dirichlet prior of the second (the
hierarchical mixing of MacKay and Peto, "A hierarchical Dirichlet language model", 1995), so that few counts suffice for
short clips. All arithmetic is on integers: the same bytes on every machine.

The coder is the range coder of Martin (1979); Python's long integers take care of carries.
"""

from __future__ import annotations

import numpy as np

PRIOR_WEIGHT = 8
"""Weight of the prior in a context, in occurrences."""
COUNT_LIMIT = 1 << 12
"""Sum of a dimension's counts at which they are halved, so that the model follows a changing signal."""

_RANGE_BITS = 64
_SHIFT = 16  # bits written at a time
_BOTTOM = 1 << (_RANGE_BITS - _SHIFT)  # far above any sum of frequencies


class RangeEncoder:
    """Encodes symbols, each an interval [start, start + size) of `total`, into bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._range = (1 << _RANGE_BITS) - 1
        self._shifted = 0

    def encode(self, start: int, size: int, total: int) -> None:
        """Narrow the interval to the symbol's share of it."""
        unit = self._range // total
        self._low += unit * start
        self._range = unit * size
        while self._range < _BOTTOM:
            self._low <<= _SHIFT
            self._range <<= _SHIFT
            self._shifted += _SHIFT

    def finish(self) -> bytes:
        """The shortest bytes that denote a number in the interval (followed by implicit zeros)."""
        bits = self._shifted + _RANGE_BITS
        drop = self._range.bit_length() - 1
        value = -(-self._low >> drop) << drop  # rounded up, still below low + range
        return value.to_bytes(bits // 8, "big").rstrip(b"\0")


class RangeDecoder:
    """Decodes the bytes of a `RangeEncoder`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = _RANGE_BITS // 8
        self._offset = int.from_bytes(data[: self._next].ljust(self._next, b"\0"), "big")
        self._range = (1 << _RANGE_BITS) - 1

    def position(self, total: int) -> int:
        """A position in [0, total) inside the next symbol's interval."""
        return min(self._offset // (self._range // total), total - 1)

    def consume(self, start: int, size: int, total: int) -> None:
        """Narrow the interval as the encoder did."""
        unit = self._range // total
        self._offset -= unit * start
        self._range = unit * size
        while self._range < _BOTTOM:
            chunk = self._data[self._next : self._next + _SHIFT // 8].ljust(_SHIFT // 8, b"\0")
            self._offset = (self._offset << _SHIFT) | int.from_bytes(chunk, "big")
            self._range <<= _SHIFT
            self._next += _SHIFT // 8


class AdaptiveDigitCoder:
    """Codes consecutive blocks of ids; counts learned in one block are used in the next.

    A coder either encodes or decodes, from the first block on: decoding repeats the encoder's updates.

    Args:
        levels: number of levels of each FSQ dimension.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        self._levels = levels
        self._counts = [[1] * size for size in levels]
        self._after = [[[0] * size for _ in range(size)] for size in levels]  # [dimension][level before]
        self._before = [size // 2 for size in levels]

    def encode(self, ids: np.ndarray) -> bytes:
        """Encode the next block of ids (N,) int64 as bytes."""
        coder = RangeEncoder()
        strides = np.cumprod((1, *self._levels[:-1]), dtype=np.int64)
        for digits in (ids[:, None] // strides % np.array(self._levels)).tolist():
            for dimension, digit in enumerate(digits):
                counts = self._counts[dimension]
                after = self._after[dimension][self._before[dimension]]
                total, seen = sum(counts), sum(after)
                coder.encode(
                    total * sum(after[:digit]) + PRIOR_WEIGHT * sum(counts[:digit]),
                    total * after[digit] + PRIOR_WEIGHT * counts[digit],
                    total * (seen + PRIOR_WEIGHT),
                )
                self._update(dimension, digit, total, seen)
        return coder.finish()

    def decode(self, data: bytes, num_ids: int) -> np.ndarray:
        """Decode the next `num_ids` ids (N,) int64 from the bytes of their block."""
        coder = RangeDecoder(data)
        ids = np.empty(num_ids, dtype=np.int64)
        for position in range(num_ids):
            identity, stride = 0, 1
            for dimension, size in enumerate(self._levels):
                counts = self._counts[dimension]
                after = self._after[dimension][self._before[dimension]]
                total, seen = sum(counts), sum(after)
                scale = total * (seen + PRIOR_WEIGHT)
                target = coder.position(scale)
                digit, end, width = -1, 0, 0
                while end <= target:
                    digit += 1
                    width = total * after[digit] + PRIOR_WEIGHT * counts[digit]
                    end += width
                coder.consume(end - width, width, scale)
                self._update(dimension, digit, total, seen)
                identity += digit * stride
                stride *= size
            ids[position] = identity
        return ids

    def _update(self, dimension: int, digit: int, total: int, seen: int) -> None:
        counts = self._counts[dimension]
        after = self._after[dimension][self._before[dimension]]
        counts[digit] += 1
        after[digit] += 1
        if total >= COUNT_LIMIT:
            counts[:] = [(count + 1) // 2 for count in counts]
        if seen >= COUNT_LIMIT:
            after[:] = [count // 2 for count in after]
        self._before[dimension] = digit
