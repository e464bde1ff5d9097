"""Batches of token sequences: truncation, padding, masks and labels, under the names that tokenizers have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from transformers import BatchEncoding
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import TensorType

IGNORED_LABEL = -100
"""Label of padding, which the losses of transformers ignore."""


class BatchOptions(TypedDict, total=False):
    """Options of a batch of token sequences, as in tokenizers.

    Attributes:
        padding: True or `"longest"`, `"max_length"`, or False.
        padding_side: `"left"`, as `generate` needs it, or `"right"`; None: as the tokenizer.
        pad_to_multiple_of: pad to a multiple of this length.
        truncation: truncate to `max_length` tokens, at the tokenizer's `truncation_side`.
        max_length: length for `truncation` and `padding="max_length"`; None: the tokenizer's `model_max_length`.
        return_tensors: `"pt"` or `"np"`; None: lists.
        output_labels: also return `labels`: the tokens, and `IGNORED_LABEL` at padding.
    """

    padding: bool | str
    padding_side: str | None
    pad_to_multiple_of: int | None
    truncation: bool | str
    max_length: int | None
    return_tensors: str | TensorType | None
    output_labels: bool


def given_options(options: Mapping[str, Any]) -> list[str]:
    """Names of the options that ask for something."""
    return [name for name, value in options.items() if value not in (None, False, "do_not_pad", "do_not_truncate")]


def to_batch(
    tokenizer: Any,
    rows: list[list[int]],
    others: dict[str, list[list[int]]],
    *,
    padding: bool | str = False,
    padding_side: str | None = None,
    pad_to_multiple_of: int | None = None,
    truncation: bool | str = False,
    max_length: int | None = None,
    return_tensors: str | TensorType | None = None,
    output_labels: bool = False,
) -> BatchEncoding:
    """Token sequences as a batch.

    Args:
        tokenizer: has the padding token.
        rows: token sequences.
        others: further values of the batch, with a number for each token; padding is 0 in them.
        padding, padding_side, pad_to_multiple_of, truncation, max_length, return_tensors, output_labels: see
            `BatchOptions`.

    Returns:
        `input_ids` and `attention_mask` (B, N), what `others` has, and `labels` if asked for.

    Raises:
        ValueError: `max_length` has no effect, or is missing or out of range.
    """
    truncates = truncation not in (False, "do_not_truncate")
    length = _length(tokenizer, truncates or padding == "max_length", max_length)
    if truncates:
        kept = slice(-length, None) if tokenizer.truncation_side == "left" else slice(length)
        rows = [row[kept] for row in rows]
        others = {name: [row[kept] for row in values] for name, values in others.items()}
    padded = tokenizer.pad(
        {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]},
        padding=padding,
        max_length=length,
        pad_to_multiple_of=pad_to_multiple_of,
        padding_side=padding_side,
    )
    batch = dict(padded)
    for name, values in others.items():
        batch[name] = _aligned(values, batch["attention_mask"], 0)
    if output_labels:
        batch["labels"] = _aligned(rows, batch["attention_mask"], IGNORED_LABEL)
    return BatchEncoding(batch, tensor_type=return_tensors)


def first_row(batch: BatchEncoding) -> BatchEncoding:
    """The only sequence of a batch of lists, without the axis of the batch."""
    return BatchEncoding({name: values[0] for name, values in batch.items()})


def _length(tokenizer: Any, is_used: bool, max_length: int | None) -> Any:
    """Length for truncation and padding; None where neither needs one."""
    if not is_used:
        if max_length is not None:
            raise ValueError("`max_length` has no effect alone; give `truncation=True` or `padding='max_length'`, too.")
        return None
    length = tokenizer.model_max_length if max_length is None else max_length
    if length > LARGE_INTEGER:
        raise ValueError("The tokenizer states no maximum length; give `max_length`.")
    if length < 1:
        raise ValueError(f"`max_length` is {length}; it must be at least 1.")
    return length


def _aligned(rows: list[list[int]], masks: list[list[int]], fill: int) -> list[list[int]]:
    """Values of the tokens of each row at the places where its mask is 1, and `fill` at the others."""
    result = []
    for row, mask in zip(rows, masks, strict=True):
        values = iter(row)
        result.append([next(values) if is_token else fill for is_token in mask])
    return result
