"""Scorer registry: the metrics that need a model, each an option of `l3ac evaluate`.

To add a metric, write a subclass of `Scorer` in a file of this folder and add an entry to `SCORERS`: `l3ac evaluate`
then has an option of that name, and tables, pages and `summary.json` show the metrics that the scorer declares. This
module imports neither torch nor a scorer, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...causes import with_causes
from ...trust import UntrustedCodeError

if TYPE_CHECKING:
    from .base import Scorer


@dataclass(frozen=True)
class ScorerEntry:
    """A scorer that `l3ac evaluate` offers.

    Attributes:
        opener: `module:name` in this folder; called with a model's name and a torch device, it returns the scorer.
        help: Help of the command-line option.
        choices: Names of models; empty if it takes any name. A scorer with choices may be requested with several.
    """

    opener: str
    help: str
    choices: tuple[str, ...] = ()


SCORERS: Mapping[str, ScorerEntry] = {
    "asr": ScorerEntry(
        "asr:WordErrorScorer",
        "WER and dWER: a hub name (such as openai/whisper-small) or directory; offline, faster-whisper[:FOLDER] or "
        "pocketsphinx (proxy)",
    ),
    "speaker": ScorerEntry(
        "speaker:open_speaker_scorer",
        "speaker similarity and EER: speechbrain:speechbrain/spkrec-ecapa-voxceleb, or an x-vector model of "
        "transformers by hub name (such as microsoft/wavlm-base-plus-sv) or directory; offline, resemblyzer (proxy)",
    ),
    "emotion": ScorerEntry(
        "classifier:open_emotion_scorer", "emotion accuracy: a classifier (such as superb/wav2vec2-base-superb-er)"
    ),
    "events": ScorerEntry(
        "classifier:open_event_scorer",
        "audio event accuracy: a classifier (such as MIT/ast-finetuned-audioset-10-10-0.4593)",
    ),
    "features": ScorerEntry(
        "features:FeatureDistanceScorer", "distance of Whisper encoder features (proxy): a hub name or directory"
    ),
    "mos": ScorerEntry(
        "mos:PredictedMOSScorer",
        "predicted MOS, without the original; may be repeated; utmos takes its weights from the hub",
        ("dnsmos", "distillmos", "utmos"),
    ),
    "f0": ScorerEntry("pitch:PitchScorer", "F0 correlation, voicing errors and gross pitch errors", ("pyin",)),
}
"""Option → scorer."""


def requested_scorers(models: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(key of `SCORERS`, model) of each scorer that is asked for, in the order of the registry.

    Args:
        models: option → model, several models, or None; other keys are ignored.
    """
    requested = []
    for kind in SCORERS:
        named = models.get(kind) or []
        requested += [(kind, model) for model in dict.fromkeys([named] if isinstance(named, str) else named)]
    return tuple(requested)


def available_scorers(
    requested: Sequence[tuple[str, str]], device: str
) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Those of `requested` (see `requested_scorers`) that can be opened here, and why not, by model, of the others."""
    available, missing = [], {}
    for kind, model in requested:
        try:
            open_scorer(kind, model, device)
        except ValueError as error:
            missing[model] = str(error)
        else:
            available.append((kind, model))
    return tuple(available), missing


def open_scorer(kind: str, model: str, device: str, *, trust: bool = False) -> Scorer:
    """Open a scorer, its model loaded.

    Args:
        kind: key of `SCORERS`.
        model: name of the model, see the entry's help.
        device: torch device.
        trust: run the code that a model of SpeechBrain brings.

    Raises:
        UntrustedCodeError: the model brings code, and `trust` is False.
        ValueError: no scorer is named `kind`, its model cannot be loaded, or a package is missing.
    """
    if kind not in SCORERS:
        raise ValueError(f"{kind!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
    module, _, name = SCORERS[kind].opener.partition(":")
    opener = getattr(importlib.import_module(f".{module}", __package__), name)
    try:
        return opener(model, device, trust=trust) if kind == "speaker" else opener(model, device)
    except UntrustedCodeError:
        raise
    except ModuleNotFoundError as error:
        extra = "pip install 'l3ac-tokenizer[eval-offline]'"
        raise ValueError(f"{model} needs the package {error.name}, which is not installed: {extra}.") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # each library has its own
        remedy = "give a directory, or another name"
        if SCORERS[kind].choices:
            remedy = "its package is damaged, or the hub was out of reach"
        raise ValueError(f"the model {model!r} cannot be loaded ({with_causes(error)}): {remedy}.") from error
