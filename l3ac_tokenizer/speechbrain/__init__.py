"""Building blocks of SpeechBrain recipes on ids; needs the extras `speechbrain` and `data`.

`L3ACTokenizer` has the interface of DASB's tokenizers, and `L3AC` that of SpeechBrain's
`integrations.audio_tokenizers`. Names are imported on first use, because these two only need torch and transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .embedding import CodecEmbedding, Frontend, IdJitter, StackFrames, id_embedding, levels_of
    from .encoders import Branchformer, sequence_encoder
    from .extraction import extract_ids
    from .ids import FrameStore, IdStore, check_run, note_codec
    from .manifests import Utterance, read_manifest, write_manifest
    from .recognition import TokenRecognizer
    from .recurrent import BiLSTM
    from .tokenizer import L3AC, L3ACTokenizer
    from .tts import TokenTTS

_HOME = {
    "BiLSTM": "recurrent",
    "Branchformer": "encoders",
    "CodecEmbedding": "embedding",
    "FrameStore": "ids",
    "Frontend": "embedding",
    "IdJitter": "embedding",
    "IdStore": "ids",
    "L3AC": "tokenizer",
    "L3ACTokenizer": "tokenizer",
    "StackFrames": "embedding",
    "TokenRecognizer": "recognition",
    "TokenTTS": "tts",
    "Utterance": "manifests",
    "check_run": "ids",
    "extract_ids": "extraction",
    "id_embedding": "embedding",
    "levels_of": "embedding",
    "note_codec": "ids",
    "read_manifest": "manifests",
    "sequence_encoder": "encoders",
    "write_manifest": "manifests",
}

__all__ = [
    "L3AC",
    "BiLSTM",
    "Branchformer",
    "CodecEmbedding",
    "FrameStore",
    "Frontend",
    "IdJitter",
    "IdStore",
    "L3ACTokenizer",
    "StackFrames",
    "TokenRecognizer",
    "TokenTTS",
    "Utterance",
    "check_run",
    "extract_ids",
    "id_embedding",
    "levels_of",
    "note_codec",
    "read_manifest",
    "sequence_encoder",
    "write_manifest",
]


__getattr__ = lazy_names(__name__, _HOME)
