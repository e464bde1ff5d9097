"""`PackedCorpus`: tokenized corpora as sequences of one length, for transformers' `Trainer` and any `DataLoader`."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .audio_tokens import AudioTokens
from .errors import CorpusError
from .npy_index import read_npy_index
from .reader import require_same_ids
from .token_stream import TokenStream, permutation

IGNORED = -100
"""Label that losses of transformers ignore."""

WINDOW = 1 << 14
"""Sequences that are shuffled among each other: enough to spread long documents, and few enough that what is read from
disk for one of them is still in memory for the next ones."""

_window = functools.lru_cache(maxsize=64)(permutation)


class PackedCorpus(Dataset[dict[str, Tensor]]):
    """Sequences of L tokens, each filled by as many documents, with their separators, as fit.

    A document that does not fit is continued in another sequence, and the last sequence of an epoch is padded: an epoch
    has every token of every document once. Documents are shuffled before they are joined, and the sequences among
    their `WINDOW` neighbors. Sequence i of an epoch depends on the corpora, the length, the tokens, the seed and the
    epoch alone, not on processes or workers.

    `len(corpus)` counts the sequences of all epochs, and `corpus[i]` is

        input_ids (L,) int64: tokens; 0 at padding
        labels (L,) int64: `input_ids`; -100 at padding, and at the first token of each document in the sequence, which
            nothing precedes
        position_ids (L,) int64: place in the document's part, from 0 on; padding counts as a document. With no
            `attention_mask` beside them, models of transformers attend within documents alone
        document_ids (L,) int64: number of the document in the sequence, from 0 on; -1 at padding

    Read the sequences in their order, each rank of R every R-th, and the state after n sequences, counted over all
    ranks, is `state_dict(n)`. A corpus that loads it is the rest, for any number of ranks.

    Args:
        folder: output of `l3ac tokenize --format npy-index`, or several of one model.
        length: L.
        audio_offset: token of the id 0, as the processor's `audio_offset`. Ids of a corpus that is split in groups
            become one token a group; see `AudioTokens`.
        audio_start_id: token before each document; None: none.
        audio_end_id: token after each document; None: none.
        seed: of the orders.
        epochs: number of epochs, one after another.
        multiple_of: sequences of padding alone are added at the end until this divides their number, so that samplers
            that share equally (with R ranks of batch size B: R · B) neither repeat nor drop any.

    Raises:
        CorpusError: a folder has no index, or an old one; two are of different models; the corpora have no tokens.
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        length: int,
        *,
        audio_offset: int = 0,
        audio_start_id: int | None = None,
        audio_end_id: int | None = None,
        seed: int = 0,
        epochs: int = 1,
        multiple_of: int = 1,
    ) -> None:
        for name, value in (("length", length), ("epochs", epochs), ("multiple_of", multiple_of)):
            if value < 1:
                raise ValueError(f"`{name}` is {value}; it must be at least 1.")
        folders = [folder] if isinstance(folder, (str, os.PathLike)) else list(folder)
        if not folders:
            raise ValueError("`folder` is empty; give one or more tokenized corpora.")
        sources = [read_npy_index(each) for each in folders]
        self.metadata = sources[0].metadata
        for source in sources[1:]:
            require_same_ids(self.metadata, sources[0].folder, source.metadata, source.folder)
        self.tokens = AudioTokens.of(
            self.metadata, audio_offset=audio_offset, audio_start_id=audio_start_id, audio_end_id=audio_end_id
        )
        self.length = length
        self._places = np.arange(length)
        self._stream = TokenStream(sources, self.tokens, seed)
        if not self._stream.size:
            raise CorpusError(f"{', '.join(map(str, folders))}: there are no tokens to pack.")
        self._seed = seed
        self._multiple_of = multiple_of
        self._an_epoch = -(-self._stream.size // length)
        self._all = epochs * self._an_epoch
        self._start = 0
        self._identity = {
            "corpus": hashlib.sha256("".join(source.digest for source in sources).encode()).hexdigest(),
            "length": length,
            "audio_offset": audio_offset,
            "audio_start_id": audio_start_id,
            "audio_end_id": audio_end_id,
            "seed": seed,
        }

    @property
    def num_tokens(self) -> int:
        """Number of tokens of an epoch, separators included."""
        return self._stream.size

    @property
    def vocab_size(self) -> int:
        """Least size of a vocabulary that has all of the tokens."""
        return self.tokens.vocab_size

    def __len__(self) -> int:
        """Number of sequences that are left of all epochs, with those of padding alone."""
        return -(-(self._all - self._start) // self._multiple_of) * self._multiple_of

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A sequence; see the class.

        Raises:
            IndexError: there are not as many.
            CorpusError: the index of a corpus is damaged.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"the sequence {index} of {len(self)}")
        tokens = np.zeros(self.length, np.int64)
        starts = np.zeros(self.length, bool)
        filled = 0
        for part, places in self._read(self._start + index % len(self)):
            rest = slice(filled, filled + len(part))
            tokens[rest], starts[rest] = part, places == 0
            filled = rest.stop
        starts[0] = True
        if filled < self.length:
            starts[filled] = True
        documents = np.cumsum(starts) - 1
        positions = self._places - np.flatnonzero(starts)[documents]
        documents[filled:] = -1
        labels = tokens.copy()
        labels[starts] = labels[filled:] = IGNORED
        arrays = {"input_ids": tokens, "labels": labels, "position_ids": positions, "document_ids": documents}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _read(self, number: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """Tokens of a sequence of all epochs, and their places in their documents; none beyond the last sequence."""
        if number >= self._all:
            return ()
        epoch, sequence = divmod(number, self._an_epoch)
        window, within = divmod(sequence, WINDOW)
        size = min(WINDOW, self._an_epoch - window * WINDOW)
        place = window * WINDOW + int(_window(size, self._seed, epoch, -1 - window)[within])
        start = place * self.length
        return self._stream.read(epoch, start, min(start + self.length, self._stream.size))

    def state_dict(self, consumed: int = 0) -> dict[str, Any]:
        """State after the first `consumed` sequences of this dataset; numbers and text, for JSON or `torch.save`."""
        return {"sequence": min(self._start + consumed, self._all), **self._identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep only the sequences after those of a state; `epochs` and `multiple_of` may differ.

        Raises:
            CorpusError: it is that of another corpus, length, seed or other tokens, or damaged.
        """
        differences = [
            "corpus" if name == "corpus" else f"`{name}` ({state.get(name)}, now {value})"
            for name, value in self._identity.items()
            if state.get(name) != value
        ]
        if differences:
            raise CorpusError(
                f"the state is that of other sequences, with another {', '.join(differences)}: use what it was made "
                "with, or start anew."
            )
        sequence = state.get("sequence")
        if type(sequence) is not int or sequence < 0:
            raise CorpusError(f"the state is damaged, its number of sequences is {sequence!r}: use an older one.")
        self._start = min(sequence, self._all)
