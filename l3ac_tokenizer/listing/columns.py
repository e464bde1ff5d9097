"""The names by which columns of manifests and datasets are recognized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "ID", "utt_id", "utterance_id"),
    "path": ("path", "audio_path", "audio_filepath", "file", "file_name", "filename", "wav", "audio"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text", "wrd"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id", "speaker_name"),
    "language": ("language", "locale", "lang"),
}
"""Names in use elsewhere for each of our columns; the first one present is taken."""


def renamed(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Map the columns of a table to our names.

    A column that `COLUMN_NAMES` does not list, or that comes second for one of our names, keeps its own name. Unnamed
    columns and those called like a `reserved` one are left out.
    """
    names = [name for name in names if name]
    ours: dict[str, str] = {}
    for known, others in COLUMN_NAMES.items():
        found = next((other for other in others if other in names and other not in ours), None)
        if found is not None:
            ours[found] = known
    for name in names:
        if name not in ours and name not in reserved and name not in ours.values():
            ours[name] = name
    return ours
