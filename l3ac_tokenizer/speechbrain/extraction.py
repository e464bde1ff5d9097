"""`extract_ids`: the utterances of some manifests to id shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..modeling import CodecModel
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
) -> dict[str, Any]:
    """Encode every utterance of some manifests into Parquet shards; the same call resumes after an interruption.

    Args:
        manifests: CSV files of `write_manifest`; an utterance in several of them is encoded once.
        data_folder: of the corpus.
        tokens_folder: of the shards, created if necessary.
        codec: preset, folder, or name on the hub.
        device: torch device.
        chunk_seconds: seconds of audio in the network at once.

    Returns:
        The summary that `tokenize_corpus` gives.

    Raises:
        CorpusError: `tokens_folder` holds ids of another corpus or codec.
        OSError: a manifest or the codec cannot be read, or the shards not be written.
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
    )
    model = CodecModel.from_pretrained(codec).eval()
    return tokenize_corpus(source, model, tokens_folder, device=device, chunk_seconds=chunk_seconds)
