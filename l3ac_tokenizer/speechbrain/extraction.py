"""Tokenization of the corpora that SpeechBrain manifests list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..modeling import CodecEncoderModel
from ..tokenization.run import tokenize_corpus
from ..tokenization.sources.audio_folder import FileSource
from .manifests import DATA_ROOT, read_manifest


def extract_ids(
    manifests: Sequence[str | os.PathLike[str]],
    data_folder: str | os.PathLike[str],
    tokens_folder: str | os.PathLike[str],
    codec: str,
    device: str = "cpu",
    chunk_seconds: float = 30.0,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Encode every utterance of the manifests into Parquet shards; an interrupted call can be repeated to resume.

    Args:
        manifests: CSV files from `write_manifest`; an utterance in several of them is encoded once.
        data_folder: Root folder of the audio.
        tokens_folder: Folder of the shards, created if necessary.
        codec: Preset, checkpoint directory, or name on the hub.
        device: Torch device.
        chunk_seconds: Seconds of audio that the network processes at once.
        allow_outside: Also read files outside `data_folder` that paths or links name; False: they are failures.

    Returns:
        The summary from `tokenize_corpus`.

    Raises:
        CorpusError: `tokens_folder` holds ids of another corpus or codec.
        OSError: A manifest or the codec cannot be read, or the shards cannot be written.
    """
    rows = {row.ID: row for manifest in manifests for row in read_manifest(manifest)}
    root = os.fspath(data_folder)
    source = FileSource(
        "SpeechBrain manifests",
        root,
        [
            {"id": row.ID, "path": row.wav.removeprefix(f"{DATA_ROOT}/"), "text": row.wrd, "speaker": row.spk_id}
            for row in rows.values()
        ],
        allow_outside=allow_outside,
    )
    model = CodecEncoderModel.from_pretrained(codec).eval()
    return tokenize_corpus(source, model, tokens_folder, device=device, chunk_seconds=chunk_seconds)
