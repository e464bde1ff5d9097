"""Evaluation data: clips of one or more data sets, from any corpus that `l3ac tokenize` reads.

A corpus is one data set, named after its folder or file; a manifest with a column `dataset` holds several. The domain
of a data set is `speech` or `audio`. It is taken from the column `domain`, else from a prefix `speech=` or `audio=` of
the corpus, else it is `audio` for the names in `AUDIO_NAMES` and `speech` for all others. The columns `text`,
`speaker`, `emotion` and `event` are labels for the scorers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import AudioError, AudioReader, AudioSegment, open_clip

if TYPE_CHECKING:
    from ..tokenization.sources.base import Source

DOMAINS = ("speech", "audio")
AUDIO_NAMES = frozenset(
    {"music", "general", "audio", "sound", "sounds", "environment", "noise", "audioset", "esc50", "esc-50", "esc10"}
    | {"fsd50k", "gunshot_triangulation", "mtg_jamendo", "musdb18"}
)
"""Names of data sets that do not hold speech, of Codec-SUPERB and of our recipes."""

LABELS = ("text", "speaker", "emotion", "event")


@dataclass(frozen=True)
class EvaluationClip:
    """A clip to evaluate on.

    Attributes:
        dataset: Name of its data set.
        name: Its name in the data set.
        domain: `"speech"` or `"audio"`.
        source: A path, the bytes of a file, or anything else that `l3ac_tokenizer.tokenization` reads.
        labels: Known labels, by name in `LABELS`.
        error: Reason why the audio is missing, if the corpus is damaged.
        allow_truncated: Use what is there of a truncated file.
    """

    dataset: str
    name: str
    domain: str
    source: Any = field(repr=False)
    labels: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    allow_truncated: bool = False

    @property
    def key(self) -> str:
        """`dataset/name`, unique in a run."""
        return f"{self.dataset}/{self.name}"

    def read(self, sampling_rate: int) -> np.ndarray:
        """The clip (T,) float32 at this sampling rate in Hz, downmixed to mono.

        Raises:
            AudioError: it is damaged or empty.
            OSError: it cannot be read.
        """
        with self.open(sampling_rate) as reader:
            return reader.read()

    def open(self, sampling_rate: int) -> AudioReader:
        """The clip, opened for reading; raises the errors of `read`."""
        if self.error is not None:
            raise AudioError(self.error)
        path = self.source.path if isinstance(self.source, AudioSegment) else self.source
        shown = os.path.basename(path) if isinstance(path, str) else self.name
        return open_clip(self.source, shown, sampling_rate, allow_truncated=self.allow_truncated)


@dataclass(frozen=True)
class EvaluationData:
    """Clips of one or more data sets, in order.

    Attributes:
        clips: of all data sets.
        remarks: what the corpora have and the clips do not, see `Source.remarks`.
    """

    clips: Sequence[EvaluationClip]
    remarks: Sequence[str] = ()

    @cached_property
    def domains(self) -> dict[str, str]:
        """Domain of each data set, by name."""
        return {clip.dataset: clip.domain for clip in self.clips}

    def spread(self, most: int) -> list[EvaluationClip]:
        """At most `most` clips of each data set, evenly spread over it."""
        chosen: list[EvaluationClip] = []
        for dataset in self.domains:
            members = [clip for clip in self.clips if clip.dataset == dataset]
            places = np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(int)
            chosen += [members[place] for place in places]
        return chosen


def open_data(
    corpora: Sequence[str], limit: int | None = None, *, allow_truncated: bool = False, allow_outside: bool = False
) -> EvaluationData:
    """The clips of all corpora.

    Args:
        corpora: folders, manifests, or any other corpus of `l3ac tokenize`, each as `PATH`, `speech=PATH` or
            `audio=PATH`.
        limit: maximum number of clips of each data set, evenly spread; None: all.
        allow_truncated: use what is there of truncated files; False: they count as not readable.
        allow_outside: also read what paths and links in a corpus name outside of it, see `open_source`.

    Raises:
        ValueError: a corpus holds no audio or names an unknown domain, or two corpora share a data set or clip.
        OSError: a corpus cannot be read.
    """
    clips: list[EvaluationClip] = []
    remarks: list[str] = []
    for corpus in corpora:
        found, about = _clips(corpus, {clip.dataset for clip in clips}, allow_outside)
        clips += found
        remarks += about
    return _checked(clips, remarks, limit, allow_truncated)


def as_data(
    dataset: Any, limit: int | None = None, *, allow_truncated: bool = False, allow_outside: bool = False
) -> EvaluationData:
    """The clips of data in any form.

    Args:
        dataset: a corpus of `open_data` or several in a list; a `datasets.Dataset` with a column of audio, and a domain
            and labels in the columns of these names; or a list of (audio (T,), sampling rate) or (audio, sampling rate,
            text), which are speech.
        limit, allow_truncated, allow_outside: see `open_data`.

    Raises:
        TypeError: `dataset` has none of these forms.
        ValueError, OSError: see `open_data`.
    """
    if isinstance(dataset, (str, os.PathLike)):
        dataset = [dataset]
    elif hasattr(dataset, "cast_column") and hasattr(dataset, "__len__"):
        from ..tokenization.sources.datasets import HubSource

        name = dataset.info.dataset_name or "dataset"
        source = HubSource(dataset, name, allow_outside=allow_outside)
        return _checked(_clips_of(source, name, ""), source.remarks, limit, allow_truncated)
    items = list(dataset) if isinstance(dataset, Iterable) and not isinstance(dataset, Mapping) else []
    if not items:
        raise TypeError(f"the data are {type(dataset).__name__}, or hold nothing: {_FORMS}.")
    if all(isinstance(item, (str, os.PathLike)) for item in items):
        paths = [os.fspath(item) for item in items]
        return open_data(paths, limit, allow_truncated=allow_truncated, allow_outside=allow_outside)
    return _checked([_of_array(item, number) for number, item in enumerate(items)], (), limit, allow_truncated)


_FORMS = "give a folder or manifest, a datasets.Dataset, or a list of (audio, sampling rate) or (audio, rate, text)"


def _of_array(item: Any, number: int) -> EvaluationClip:
    if not (isinstance(item, (tuple, list)) and len(item) in (2, 3)):
        raise TypeError(f"item {number} of the data is {type(item).__name__}: {_FORMS}.")
    audio, rate, *text = item
    labels = {"text": str(text[0])} if text and text[0] else {}
    return EvaluationClip("clips", f"clip {number}", "speech", {"array": audio, "sampling_rate": rate}, labels)


def _checked(
    clips: Sequence[EvaluationClip], remarks: Sequence[str], limit: int | None, allow_truncated: bool
) -> EvaluationData:
    keys: set[str] = set()
    domains: dict[str, str] = {}
    for clip in clips:
        if clip.key in keys:
            raise ValueError(f"there are two clips {clip.key}: rename one, or give one of them another data set.")
        if domains.setdefault(clip.dataset, clip.domain) != clip.domain:
            raise ValueError(f"the data set {clip.dataset} has clips of speech and of other audio: split it in two.")
        keys.add(clip.key)
    data = EvaluationData([replace(clip, allow_truncated=allow_truncated) for clip in clips], remarks)
    return data if limit is None else EvaluationData(data.spread(limit), remarks)


def _clips(corpus: str, taken: set[str], allow_outside: bool) -> tuple[list[EvaluationClip], Sequence[str]]:
    from ..tokenization import open_source

    kind, _, path = corpus.rpartition("=") if corpus.partition("=")[0] in DOMAINS else ("", "", corpus)
    source = open_source(path, allow_outside=allow_outside)
    name = Path(os.path.abspath(path)).stem
    if name in taken:
        raise ValueError(f"two corpora are called {name}: rename one.")
    return _clips_of(source, name, kind), source.remarks


def _clips_of(source: Source, name: str, kind: str) -> list[EvaluationClip]:
    """The clips of a source; `name` and `kind` are their data set and domain where its columns name none."""
    from ..tokenization.sources.base import safe_records

    clips = []
    for record in safe_records(source, 0, len(source)):
        dataset = str(record.columns.get("dataset") or name)
        domain = str(record.columns.get("domain") or kind or _domain_of(dataset))
        if domain not in DOMAINS:
            raise ValueError(f"the clip {record.id} has the domain {domain!r}: write {' or '.join(DOMAINS)}.")
        labels = {label: str(record.columns[label]) for label in LABELS if record.columns.get(label)}
        clips.append(EvaluationClip(dataset, record.id, domain, record.audio, labels, record.error))
    return clips


def _domain_of(dataset: str) -> str:
    return "audio" if dataset.lower() in AUDIO_NAMES else "speech"
