"""What recipes read instead of audio: the ids of an utterance, by its name.

Axes: N ids, F features of a frame.
"""

from __future__ import annotations

import logging
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
from ..modeling import CodecModel
from ..tokenization.errors import CorpusError
from ..tokenization.reader import TokenizedCorpus
from ..tokenization.spec import CorpusMetadata

logger = logging.getLogger(__name__)

CODEC_NOTE = "codec.json"
"""In the folder of a run's checkpoints: whose ids it is trained on."""

MADE_FOR = "l3ac"
"""In the metadata of a file of frames: whose ids they stand beside."""


class Store(ABC):
    """What each utterance is, by its name.

    Attributes:
        where: it was read from.
        made_by: the script of the recipe that makes it.
    """

    where: str | os.PathLike[str]
    made_by: str

    @abstractmethod
    def __contains__(self, name: object) -> bool: ...

    @abstractmethod
    def __getitem__(self, name: str) -> Tensor:
        """The frames of an utterance, the first axis of which is time."""

    def known(self, names: Sequence[str], what: str) -> list[str]:
        """Those of some names that are there; how many are not is said.

        Raises:
            CorpusError: none is.
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
    """The ids of a tokenized corpus in memory, four bytes each.

    Args:
        folder: of id shards, as `extract_ids` and `l3ac tokenize` write them.
        codec: the one that must have made them: preset, folder, or name on the hub; None: any.

    Raises:
        CorpusError: there are no shards.
        ModelMismatchError: another codec made them.
        OSError: they cannot be read.
    """

    made_by = "extract.py"

    def __init__(self, folder: str | os.PathLike[str], codec: str | None) -> None:
        if not Path(folder).exists():
            raise FileNotFoundError(f"There are no ids in {folder}: run extract.py with the same arguments first.")
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
        """The ids (N,) int64 of an utterance."""
        row = self._row[name]
        return torch.from_numpy(self._ids[self._starts[row] : self._starts[row + 1]].astype(np.int64))


class FrameStore(Store):
    """Frames (N, F) of features in memory, from a file that `FrameStore.write` made.

    Args:
        path: of the file.
        codec: the one that they were made for: preset, folder, or name on the hub. Anchors that are none of its latents
            have its hop and its levels.

    Raises:
        ModelMismatchError: they were made for another codec.
        OSError: there is no such file.
    """

    made_by = "anchors.py"

    def __init__(self, path: str | os.PathLike[str], codec: str) -> None:
        if not Path(path).exists():
            raise FileNotFoundError(f"There is no {path}: run anchors.py with the same arguments first.")
        self.where = path
        with safe_open(path, "pt") as file:
            made_for = IdMetadata.from_json(file.metadata()[MADE_FOR])
            made_for.require(
                CodecModel.from_pretrained(codec), codec, f"{path} was made for a codec with", "run anchors.py again"
            )
            self._frames = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping

    @property
    def width(self) -> int:
        """Features F of a frame."""
        return next(iter(self._frames.values())).shape[1]

    @staticmethod
    def write(path: str | os.PathLike[str], frames: Mapping[str, np.ndarray], codec: CodecModel) -> None:
        """Write frames (N, F) float32 by name of utterance, and for which codec they are."""
        arrays = {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in frames.items()}
        with atomic_write(path) as file:
            file.write(save(arrays, {MADE_FOR: IdMetadata.of(codec).to_json()}))

    def __contains__(self, name: object) -> bool:
        return name in self._frames

    def __getitem__(self, name: str) -> Tensor:
        """The frames (N, F) float32 of an utterance."""
        return self._frames[name]


def check_codec(metadata: CorpusMetadata, codec: str, folder: str | os.PathLike[str]) -> None:
    """Refuse ids that another codec made.

    Raises:
        ModelMismatchError: the levels or the weights are others.
    """
    remedy = "give the codec that made them, or run extract.py into another folder"
    what = f"{folder} has ids of {metadata.model} with"
    metadata.made_by.require(CodecModel.from_pretrained(codec), codec, what, remedy)


def note_codec(run: str | os.PathLike[str], codec: str) -> None:
    """Write down whose ids a run is trained on, in the folder of its checkpoints, before there are any.

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
        file.write(IdMetadata.of(CodecModel.from_pretrained(codec)).to_json().encode())


def check_run(run: str | os.PathLike[str], codec: str) -> None:
    """Refuse checkpoints of a run that was trained on the ids of other weights than a codec's.

    Raises:
        ModelMismatchError: it was.
        FileNotFoundError: `note_codec` wrote nothing there.
    """
    note = Path(run, CODEC_NOTE)
    if not note.exists():
        raise FileNotFoundError(f"There is no {note}, which says whose ids the run reads: train it again.")
    remedy = "give the codec that made them, or train in another folder"
    trained_on = IdMetadata.from_json(note.read_text("utf-8"))
    trained_on.require(CodecModel.from_pretrained(codec), codec, f"{run} was trained on ids of", remedy)
