"""Byte-pair encoding of ids: frequent sequences of ids become single tokens, which shortens the sequence.

The method is that for text (Sennrich et al., 2016; for acoustic units Ren et al., "Speech Pre-training with Acoustic
Piece", 2022, and Shen et al., "Acoustic BPE for Speech Generation with Discrete Tokens", 2024). The `tokenizers`
library learns and applies the merges: id k is the character U+10000 + k, and a clip is one word.

Pairs of ids from a large codebook hardly repeat: measure `compression` on clips outside the training set, and compare
it with that of groups of digits (`split_ids`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, models, trainers

from .causes import with_causes
from .files import atomic_write
from .quantization import check_ids

_FIRST_CHARACTER = 0x10000
"""First character after the basic plane: from here on, without surrogates, white space or other special characters."""
MAX_IDS = 0x110000 - _FIRST_CHARACTER


class AcousticBPE:
    """Byte-pair encoding of ids below `num_ids`: tokens below `num_ids` are single ids, the others are merges.

    Every id has a token, also if training never saw it, so encoding never fails and `decode` inverts `encode` exactly.

    ```python
    >>> bpe = AcousticBPE.train(clips, num_ids=model.config.codebook_size, num_merges=5000)
    >>> tokens = bpe.encode(ids)
    >>> ids = bpe.decode(tokens)
    ```
    """

    def __init__(self, tokenizer: Tokenizer, num_ids: int):
        self._tokenizer = tokenizer
        self.num_ids = num_ids

    @classmethod
    def train(cls, clips: Iterable[Sequence[int] | np.ndarray], num_ids: int, num_merges: int) -> AcousticBPE:
        """Learn at most `num_merges` merges of the most frequent adjacent pairs; pairs that occur once are not merged.

        Args:
            clips: Ids (N,) of each clip; merges do not cross clips.
            num_ids: Codebook size, or that of one group of `split_ids`.
            num_merges: Number of tokens to add.

        Raises:
            ValueError: An id is not below `num_ids`, or `num_ids` exceeds `MAX_IDS`.
        """
        if not 1 <= num_ids <= MAX_IDS:
            raise ValueError(f"`num_ids` is {num_ids}; it must be from 1 to {MAX_IDS}.")
        tokenizer = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=num_ids + num_merges,
            min_frequency=2,
            initial_alphabet=[_character(number) for number in range(num_ids)],
            show_progress=False,
        )
        tokenizer.train_from_iterator((_to_text(clip, num_ids) for clip in clips), trainer)
        return cls(tokenizer, num_ids)

    @property
    def vocab_size(self) -> int:
        """Number of tokens: ids and merges."""
        return self._tokenizer.get_vocab_size()

    def encode(self, ids: Sequence[int] | np.ndarray) -> list[int]:
        """Ids (N,) → at most N tokens.

        Raises:
            ValueError: An id is not below `num_ids`.
        """
        return self._tokenizer.encode(_to_text(ids, self.num_ids)).ids

    def decode(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """Tokens → ids (N,), int64; the inverse of `encode`.

        Raises:
            ValueError: A token is not below `vocab_size`.
        """
        tokens = _checked(tokens, self.vocab_size, "`tokens`")
        text = "".join(str(self._tokenizer.id_to_token(token)) for token in tokens.tolist())
        return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64) - _FIRST_CHARACTER

    def compression(self, clips: Iterable[Sequence[int] | np.ndarray]) -> float:
        """Mean number of ids per token over all clips; 1 if nothing merges.

        Raises:
            ValueError: The clips hold no ids.
        """
        pairs = [(len(clip), len(self.encode(clip))) for clip in clips]
        ids, tokens = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0, 0)
        if tokens == 0:
            raise ValueError("The clips hold no ids to measure compression on; give at least one clip with ids.")
        return ids / tokens

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the merges as a `tokenizer.json` file of the `tokenizers` library.

        Raises:
            OSError: The file cannot be written.
        """
        with atomic_write(path) as file:
            file.write(self._tokenizer.to_str().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AcousticBPE:
        """Read a file written by `save`.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file was not written by `save`.
        """
        with open(path, encoding="utf-8") as file:
            text = file.read()
        refusal = f"{os.fspath(path)} does not hold merges of ids; give a file written by `AcousticBPE.save`."
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"{refusal[:-1]} ({with_causes(error)}).") from error
        num_ids = sum(len(piece) == 1 for piece in tokenizer.get_vocab())
        if num_ids == 0 or any(tokenizer.id_to_token(number) != _character(number) for number in range(num_ids)):
            raise ValueError(refusal)
        return cls(tokenizer, num_ids)


def _character(number: int) -> str:
    return chr(_FIRST_CHARACTER + number)


def _to_text(ids: Sequence[int] | np.ndarray, num_ids: int) -> str:
    return (_checked(ids, num_ids, "`ids`") + _FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")


def _checked(numbers: Sequence[int] | np.ndarray, size: int, name: str) -> np.ndarray:
    """Validate integers (N,) below `size` and return them as int64."""
    array = np.asarray(numbers)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; give those of one clip, (N,).")
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    check_ids(array, size, name)
    return array.astype(np.int64)
