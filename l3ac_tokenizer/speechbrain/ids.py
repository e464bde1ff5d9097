"""Input of recipes instead of audio: the ids or frames of each utterance by its name, with checks of their codec.

Axes: N ids, F features of a frame.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from ..files import atomic_write
from ..id_metadata import IdMetadata
from ..logs import get_logger
from ..modeling import CodecEncoderModel, CodecEncoding
from ..tokenization.errors import CorpusError
from ..tokenization.reader import TokenizedCorpus
from ..tokenization.spec import CorpusMetadata

logger = get_logger(__name__)

CODEC_NOTE = "codec.json"
"""File in the checkpoint folder of a run that identifies the codec of its ids."""

MADE_FOR = "l3ac"
"""Metadata key in a file of frames that identifies the codec which they are compared with."""


class Store(ABC):
    """Base class: utterances by name.

    Attributes:
        where: File or folder that the store was read from.
        made_by: Script of the recipe that writes it.
    """

    where: str | os.PathLike[str]
    made_by: str

    @abstractmethod
    def __contains__(self, name: object) -> bool: ...

    @abstractmethod
    def __getitem__(self, name: str) -> Tensor:
        """Return the frames of an utterance; the first axis is time."""

    def known(self, names: Sequence[str], what: str) -> list[str]:
        """Return the names that are in the store, and log how many of `what` are missing.

        Raises:
            CorpusError: All of them are missing.
        """
        found = [name for name in names if name in self]
        if not found:
            raise CorpusError(
                f"{self.where} has none of the {len(names)} utterances of {what}: run {self.made_by} with the same "
                "arguments first."
            )
        if len(found) < len(names):
            logger.warning(
                "%s: %d of %d utterances are not in %s.", what, len(names) - len(found), len(names), self.where
            )
        return found


class IdStore(Store):
    """Ids of a tokenized corpus in memory, four bytes each.

    Args:
        folder: Folder of id shards from `extract_ids` or `l3ac tokenize`.
        codec: Codec that the ids must come from: preset, checkpoint directory, or name on the hub; None: any.

    Raises:
        CorpusError: there are no shards.
        ModelMismatchError: another codec made them.
        OSError: they cannot be read.
    """

    made_by = "extract.py"

    def __init__(self, folder: str | os.PathLike[str], codec: str | None) -> None:
        if not Path(folder).exists():
            raise FileNotFoundError(f"{folder} does not exist: run extract.py with the same arguments first.")
        corpus = TokenizedCorpus(folder)
        if codec is not None:
            check_codec(corpus.metadata, codec, folder)
        self.where = folder
        self.metadata = corpus.metadata
        names: list[str] = []
        pieces: list[np.ndarray] = []
        for table in corpus.tables(["id", "ids"]):
            names += table["id"].to_pylist()
            pieces += [ids.astype(np.int32) for ids in corpus.whole_ids(table)]
        self._row = {name: row for row, name in enumerate(names)}
        self._starts = np.cumsum([0, *map(len, pieces)])
        self._ids = np.concatenate([np.empty(0, dtype=np.int32), *pieces])

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, name: object) -> bool:
        return name in self._row

    def __getitem__(self, name: str) -> Tensor:
        """Return the ids (N,), int64, of an utterance."""
        row = self._row[name]
        return torch.from_numpy(self._ids[self._starts[row] : self._starts[row + 1]].astype(np.int64))


class FrameStore(Store):
    """Feature frames (N, F) of utterances in memory, from a file written by `FrameStore.write`.

    Args:
        path: The file.
        codec: Codec that the frames are compared with: preset, checkpoint directory, or name on the hub. Frames that
            are not its latents have at least its hop and its levels.

    Raises:
        ModelMismatchError: they were made for another codec.
        OSError: the file does not exist.
    """

    made_by = "anchors.py"

    def __init__(self, path: str | os.PathLike[str], codec: str) -> None:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist: run anchors.py with the same arguments first.")
        self.where = path
        with safe_open(path, "pt") as file:
            made_for = IdMetadata.from_json(file.metadata()[MADE_FOR])
            made_for.require(
                CodecEncoderModel.from_pretrained(codec),
                codec,
                f"{path} was made for a codec with",
                "run anchors.py again",
            )
            self._frames = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping

    @property
    def width(self) -> int:
        """Number of features F of a frame."""
        return next(iter(self._frames.values())).shape[1]

    @staticmethod
    def write(path: str | os.PathLike[str], frames: Mapping[str, np.ndarray], codec: CodecEncoding) -> None:
        """Write frames (N, F), float32, by utterance name, and identify the codec that they are compared with."""
        arrays = {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in frames.items()}
        with atomic_write(path) as file:
            file.write(save(arrays, {MADE_FOR: IdMetadata.of(codec).to_json()}))

    def __contains__(self, name: object) -> bool:
        return name in self._frames

    def __getitem__(self, name: str) -> Tensor:
        """Return the frames (N, F), float32, of an utterance."""
        return self._frames[name]


def check_codec(metadata: CorpusMetadata, codec: str, folder: str | os.PathLike[str]) -> None:
    """Refuse ids that another codec made.

    Raises:
        ModelMismatchError: the levels or the weights are others.
    """
    remedy = "give the codec that made them, or run extract.py into another folder"
    what = f"{folder} has ids of {metadata.model} with"
    metadata.made_by.require(CodecEncoderModel.from_pretrained(codec), codec, what, remedy)


def note_codec(run: str | os.PathLike[str], codec: str) -> None:
    """Record the codec of a new run in its checkpoint folder, or check that of a run with checkpoints.

    Raises:
        ModelMismatchError: the run was started on the ids of other weights.
        FileNotFoundError: there are checkpoints, and nothing says on whose ids they were trained.
        OSError: the note cannot be written.
    """
    note = Path(run, CODEC_NOTE)
    if note.exists() or any(Path(run).glob("CKPT+*")):
        check_run(run, codec)
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as file:
        file.write(IdMetadata.of(CodecEncoderModel.from_pretrained(codec)).to_json().encode())


def check_run(run: str | os.PathLike[str], codec: str) -> None:
    """Check that a run was trained on ids of a codec.

    Raises:
        ModelMismatchError: it was.
        FileNotFoundError: `note_codec` wrote nothing there.
    """
    note = Path(run, CODEC_NOTE)
    if not note.exists():
        raise FileNotFoundError(f"{note}, which records the codec of the run, does not exist: train the run again.")
    remedy = "give the codec that made them, or train in another folder"
    trained_on = IdMetadata.from_json(note.read_text("utf-8"))
    trained_on.require(CodecEncoderModel.from_pretrained(codec), codec, f"{run} was trained on ids of", remedy)
